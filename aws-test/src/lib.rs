//! KMS to try keyward on: LocalStack's, in a folder of its own that goes with it, on a port of the
//! loopback that the system picked; and a server that answers what a test wants, for what LocalStack
//! never does (`fake`). LocalStack lets everybody do everything: what IAM and STS have a say in is
//! tried on [`Fakecloud`].
//!
//! `cargo xtask` installs both once and tells the tests where they are.

pub mod fake;
pub mod fakecloud;
pub mod http;
pub mod localstack;
pub mod shared;

use std::path::PathBuf;

pub use fake::FakeAws;
pub use fakecloud::{Credentials, Fakecloud};
pub use http::{Reply, Request};
pub use localstack::{LocalStack, REGION};
pub use shared::Shared;

/// Where `cargo xtask` tells the tests that the Python is which has LocalStack.
pub const PYTHON_VARIABLE: &str = "KEYWARD_LOCALSTACK";

/// The Python with LocalStack: what the variable says, or what the user's cache has; nothing where
/// there is none.
#[must_use]
pub fn python() -> Option<PathBuf> {
    tool(PYTHON_VARIABLE, "localstack-4.6.0/bin/python")
}

/// A file of `cargo xtask`'s: what the variable says, or what is in the user's cache.
fn tool(variable: &str, within: &str) -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(variable) {
        return Some(named.into());
    }
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
    let file = cache.join("keyward").join(within);
    file.exists().then_some(file)
}
