//! A real KMIP server, PyKMIP, to try keyward on, in a folder of its own that goes with it: with TLS on
//! both sides, on a port of the loopback that the system picked, its objects in a file.
//!
//! Debian has it as `python3-pykmip`; `cargo xtask` installs that.

pub mod server;
pub mod shared;

use std::path::Path;

pub use server::Kmip;
pub use shared::Shared;

/// The program that the package brings.
pub const PROGRAM: &str = "/usr/bin/pykmip-server";

/// Whether it is installed.
#[must_use]
pub fn is_installed() -> bool {
    Path::new(PROGRAM).exists()
}
