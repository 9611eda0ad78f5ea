//! KMS to try keyward on: LocalStack's, in a folder of its own that goes with it, on a port of the
//! loopback that the system picked; and a server that answers what a test wants, for what LocalStack
//! never does (`fake`). LocalStack lets everybody do everything: what IAM and STS have a say in is
//! tried on [`Fakecloud`].
//!
//! And Google Cloud (`gcp`): nobody has an emulator of its KMS, so this package has one.
//!
//! `cargo xtask` installs what is not ours once and tells the tests where it is.

pub mod fake;
pub mod fakecloud;
pub mod gcp;
pub mod http;
pub mod localstack;
pub mod shared;

use std::path::PathBuf;

use test_kit::cache;

pub use fake::FakeAws;
pub use fakecloud::{Credentials, Fakecloud};
pub use gcp::FakeGcp;
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

/// Where `cargo xtask` tells the tests that the Python is which has Google's client of Cloud KMS.
pub const GOOGLE_VARIABLE: &str = "KEYWARD_GOOGLE_CLOUD_KMS";

/// The Python with Google's client; nothing where there is none.
#[must_use]
pub fn google_python() -> Option<PathBuf> {
    cache::find(GOOGLE_VARIABLE, "google-cloud-kms-3.18.0/bin/python")
}
