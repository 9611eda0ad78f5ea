//! KMS to try keyward on: LocalStack's, in a folder of its own that goes with it, on a port of the
//! loopback that the system picked; and a server that answers what a test wants, for what LocalStack
//! never does (`fake`). LocalStack lets everybody do everything: what IAM and STS have a say in is
//! tried on [`Fakecloud`].
//!
//! And Google Cloud (`gcp`) and Azure (`azure`): nobody has an emulator of Cloud KMS or of Key Vault, so this
//! package has one of each.
//!
//! `cargo xtask` installs what is not ours once and tells the tests where it is.

pub mod azure;
pub mod fake;
pub mod fakecloud;
pub mod gcp;
pub mod http;
pub mod life;
pub mod localstack;
pub mod outage;
pub mod shared;
mod tls;

use std::path::PathBuf;

use test_kit::cache;

pub use azure::FakeAzure;
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

/// Where `cargo xtask` tells the tests that the Python is which has Microsoft's client of Key Vault.
pub const MICROSOFT_VARIABLE: &str = "KEYWARD_AZURE_KEYVAULT";

/// The Python with Microsoft's client; nothing where there is none.
#[must_use]
pub fn microsoft_python() -> Option<PathBuf> {
    cache::find(MICROSOFT_VARIABLE, "azure-keyvault-keys-4.11.3/bin/python")
}
