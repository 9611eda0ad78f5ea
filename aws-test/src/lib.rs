//! KMS to try keyward on: LocalStack's, in a folder of its own that goes with it, on a port of the
//! loopback that the system picked; and a server that answers what a test wants, for what LocalStack
//! never does (`fake`).
//!
//! `cargo xtask` installs LocalStack once and tells the tests where it is.

pub mod fake;
pub mod http;
pub mod localstack;
pub mod shared;

use std::path::PathBuf;

pub use fake::FakeAws;
pub use http::{Reply, Request};
pub use localstack::{LocalStack, REGION};
pub use shared::Shared;

/// Where `cargo xtask` tells the tests that the Python is which has LocalStack.
pub const PYTHON_VARIABLE: &str = "KEYWARD_LOCALSTACK";

/// The Python with LocalStack: what the variable says, or what the user's cache has; nothing where
/// there is none.
#[must_use]
pub fn python() -> Option<PathBuf> {
    if let Some(python) = std::env::var_os(PYTHON_VARIABLE) {
        return Some(python.into());
    }
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
    let python = cache.join("keyward/localstack-4.6.0/bin/python");
    python.exists().then_some(python)
}
