//! Real KMIP servers to try keyward on, each in a folder of its own that goes with it: with TLS on both
//! sides, on a port of the loopback that the system picked, its objects in a file.
//!
//! PyKMIP is in Debian as `python3-pykmip`, and `cargo xtask` installs that; Cosmian's is built by it.

pub mod cosmian;
pub mod server;
pub mod shared;

use std::fs;
use std::path::Path;

use test_kit::{Certificates, account};
use test_kit::{Result, files};

pub use cosmian::Cosmian;
pub use server::Kmip;
pub use shared::Shared;

/// The program that the package of PyKMIP brings.
pub const PROGRAM: &str = "/usr/bin/pykmip-server";

/// Whether it is installed.
#[must_use]
pub fn is_installed() -> bool {
    Path::new(PROGRAM).exists()
}

/// Copies what a client needs into `folder`, for the server's user alone: `ca.pem`, `client.pem`,
/// `client.key`.
pub fn give_client_files(certificates: &Certificates, folder: &Path) -> Result<()> {
    for name in ["ca.pem", "client.pem", "client.key"] {
        let to = folder.join(name);
        fs::copy(certificates.path(name), &to)?;
        files::chmod(&to, 0o640)?;
        account::give_to_server(&to)?;
    }
    Ok(())
}
