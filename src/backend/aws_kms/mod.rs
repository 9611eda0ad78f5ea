//! `aws-kms`: wraps with a key of AWS Key Management Service, which never gives it out. Under the name
//! of MariaDB's plugin it serves that plugin's key files, too.
//!
//! The official SDK is asynchronous: each operation runs it to its end (`client`) and leaves nothing
//! behind.

#![forbid(unsafe_code)]

pub mod arn;
mod client;
mod failure;
mod files;
mod server;
mod settings;
mod setup;
mod wrapper;

pub use self::server::{FileSettings, KeyFiles, version_in};
pub use self::settings::Settings;
pub use self::wrapper::KmsWrapper;
use super::{Backend, Custody};
use crate::provider::Provider;

/// `aws-kms` in the table of backends.
pub(super) static BACKEND: Backend = Backend {
    kind: "aws-kms",
    custody: Custody::Service,
    environment: &["AWS_*"],
    groups: &[],
    open: |section, rng| Ok(Provider::Wraps(Box::new(KmsWrapper::of(section, rng)?))),
    create_key: Some(|section, order| KmsWrapper::of(section, order.rng)?.create_key(order.by)),
    set_up: None,
};

/// The longest ciphertext that KMS takes, in bytes (API reference, `Decrypt`).
const MAX_CIPHERTEXT: usize = 6144;

#[cfg(test)]
mod tests;
