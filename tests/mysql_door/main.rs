//! Drives the library as MySQL does: opens the file, asks for its component, and calls the services'
//! functions with the arguments that a server gives.
//!
//! The tables are written down here once more, from the server's headers, so that a mistake in how
//! the library lays them out cannot hide in the test.

#![allow(unsafe_code, clippy::undocumented_unsafe_blocks)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod abi;
mod keys;
mod loading;
mod server;
