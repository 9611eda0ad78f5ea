//! A real MySQL server to try keyward on, in a folder of its own that goes with it.
//!
//! The server is Debian's, unpacked in a root folder of its own; its programs run from there with
//! their own loader and libraries, so nothing is installed on the machine. `cargo xtask test mysql`
//! makes that folder once.

pub mod root;
pub mod server;
pub mod site;

pub use server::{Server, complaints};
pub use site::{Keyring, Site};
