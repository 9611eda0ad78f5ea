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

use test_kit::cache;

pub use fake::FakeAws;
pub use fakecloud::{Credentials, Fakecloud};
pub use http::{Reply, Request};
pub use localstack::{LocalStack, REGION};
pub use shared::Shared;

/// Where `cargo xtask` tells the tests that the Python is which has LocalStack.
pub const PYTHON_VARIABLE: &str = "KEYWARD_LOCALSTACK";

/// The Python with LocalStack; nothing where there is none.
#[must_use]
pub fn python() -> Option<PathBuf> {
    cache::find(PYTHON_VARIABLE, "localstack-4.6.0/bin/python")
}
