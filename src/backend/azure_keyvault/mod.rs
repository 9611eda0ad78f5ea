//! `azure-keyvault`: wraps with a key of Azure Key Vault or Managed HSM, which never gives it out.
//!
//! Plain REST on this library's HTTP: see ADR 104. Nothing is kept between operations, no token either.

#![forbid(unsafe_code)]

mod challenge;
mod client;
mod credentials;
mod failure;
mod jwt;
mod line;
mod login;
mod name;
mod payload;
mod refusal;
mod settings;
mod setup;
mod wrapper;

#[cfg(fuzzing)]
pub use self::jwt::signs_as_fuzzed;
pub use self::name::KeyName;
pub use self::settings::{Algorithm, Environment, KeyType, Settings};
pub use self::wrapper::KeyVaultWrapper;
use super::{Backend, Custody};
use crate::provider::Provider;

/// `azure-keyvault` in the table of backends.
pub(super) static BACKEND: Backend = Backend {
    kind: "azure-keyvault",
    custody: Custody::Service,
    environment: &["AZURE_*", "IDENTITY_ENDPOINT", "IMDS_ENDPOINT"],
    groups: &[],
    open: |section, rng| Ok(Provider::Wraps(Box::new(KeyVaultWrapper::of(section, rng)?))),
    create_key: Some(|section, order| {
        KeyVaultWrapper::of(section, order.rng)?.create_key(order.now, order.by)
    }),
    set_up: None,
};

#[cfg(test)]
mod tests;
