//! Vault and OpenBao, which speak the same HTTP API: `vault-kv` serves keys from a KV engine of
//! version 2, `vault-transit` wraps with a key that never leaves the transit engine.

#![forbid(unsafe_code)]

mod client;
mod jwt;
mod login;
mod lookup;
mod namespace;
mod nodes;
mod returning;
mod rights;
mod secrets;
mod server;
mod session;
mod settings;
mod setup;
mod wrapper;

pub use self::client::Client;
pub use self::login::{Jwt, Login, RoleId};
pub use self::lookup::{Keys as OriginalKeys, Lookup, Mounted, Place, is_path};
pub use self::server::KvServer;
pub use self::settings::{KvSettings, Settings, TransitSettings};
pub use self::wrapper::TransitWrapper;
use super::{Backend, Custody};
use crate::config::Section;
use crate::error::Result;
use crate::provider::Provider;

/// `vault-kv` in the table of backends.
pub(super) static KV: Backend = Backend {
    kind: "vault-kv",
    custody: Custody::Service,
    environment: ENVIRONMENT,
    groups: &[],
    open: |section, rng| Ok(Provider::Serves(Box::new(KvServer::of(section, rng)?))),
    create_key: None,
    set_up: Some(&setup::KV),
};

/// `vault-transit` in the table of backends.
pub(super) static TRANSIT: Backend = Backend {
    kind: "vault-transit",
    custody: Custody::Service,
    environment: ENVIRONMENT,
    groups: &[],
    open: |section, rng| Ok(Provider::Wraps(Box::new(TransitWrapper::of(section, rng)?))),
    create_key: Some(|section, order| TransitWrapper::of(section, order.rng)?.create_key(order.by)),
    set_up: Some(&setup::TRANSIT),
};

/// What Vault's own tools read, and configurations of ours name as `*_env` by habit.
const ENVIRONMENT: &[&str] = &["VAULT_*"];

/// A path within Vault, without slashes at its ends. What would need escaping is refused, so that a
/// name means the same in a path and in a policy.
fn checked(section: &Section, key: &'static str, text: &str) -> Result<String> {
    let path = text.trim_matches('/');
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_part =
        |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(is_plain);
    if path.split('/').all(is_part) {
        return Ok(path.to_owned());
    }
    Err(section.wrong(key, "may have letters, digits, - _ . and / between them"))
}

/// The text at `key` as a path within Vault, or `default`.
fn path(section: &Section, key: &'static str, default: &str) -> Result<String> {
    let text = section.text(key)?.unwrap_or_else(|| default.to_owned());
    checked(section, key, &text)
}

#[cfg(test)]
mod tests;
