//! `gcp-kms`: wraps with a symmetric key of Google Cloud KMS, which never gives it out.
//!
//! Plain REST on this library's HTTP: see ADR 103. Nothing is kept between operations, no token either.

#![forbid(unsafe_code)]

mod adc;
mod client;
mod crc32c;
mod failure;
mod jwt;
mod line;
mod login;
mod name;
mod settings;
mod setup;
mod wrapper;

#[cfg(fuzzing)]
pub use self::adc::read_as_fuzzed;
pub use self::name::KeyName;
pub use self::settings::{Environment, ProtectionLevel, Settings};
pub use self::wrapper::KmsWrapper;
use super::{Backend, Custody};
use crate::provider::Provider;

/// `gcp-kms` in the table of backends.
pub(super) static BACKEND: Backend = Backend {
    kind: "gcp-kms",
    custody: Custody::Service,
    environment: &["GOOGLE_*", "CLOUDSDK_CONFIG", "GCE_METADATA_HOST"],
    groups: &[],
    open: |section, rng| Ok(Provider::Wraps(Box::new(KmsWrapper::of(section, rng)?))),
    create_key: Some(|section, order| {
        KmsWrapper::of(section, order.rng)?.create_key(order.now, order.by)
    }),
    set_up: None,
};

#[cfg(test)]
mod tests;
