//! Vault and OpenBao, which speak the same HTTP API: `vault-kv` serves keys from a KV engine of
//! version 2, `vault-transit` wraps with a key that never leaves the transit engine.

mod client;
mod kv;
mod login;
mod original;
mod rights;
mod secrets;
mod setup;
mod transit;

use std::sync::Arc;

use super::Backend;
use super::http::{IN_THE_CLEAR, Trust, USE_TLS, Url, is_private};
use crate::config::Section;
use crate::env::Rng;
use crate::error::{Error, Result};
use crate::provider::Provider;
pub use client::Client;
pub use kv::{KvServer, Settings as KvSettings};
pub use login::{Jwt, Login, RoleId};
pub use original::{Keys as OriginalKeys, Lookup, Mounted, Place, is_path};
pub use transit::{Settings as TransitSettings, TransitWrapper};

/// `vault-kv` in the table of backends.
pub(super) static KV: Backend = Backend {
    kind: "vault-kv",
    environment: ENVIRONMENT,
    groups: &[],
    open: |section, rng| Ok(Provider::Serves(Box::new(KvServer::of(section, rng)?))),
    create_key: None,
    set_up: Some(&setup::KV),
};

/// `vault-transit` in the table of backends.
pub(super) static TRANSIT: Backend = Backend {
    kind: "vault-transit",
    environment: ENVIRONMENT,
    groups: &[],
    open: |section, rng| Ok(Provider::Wraps(Box::new(TransitWrapper::of(section, rng)?))),
    create_key: Some(|section, order| TransitWrapper::of(section, order.rng)?.create_key(order.by)),
    set_up: Some(&setup::TRANSIT),
};

/// What Vault's own tools read, and configurations of ours name as `*_env` by habit.
const ENVIRONMENT: &[&str] = &["VAULT_*"];

/// How a Vault is reached and logged in to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its nodes, in order of preference: `https://vault:8200`.
    pub addresses: Vec<Url>,
    /// The namespace (Vault Enterprise, OpenBao), where that is not the root.
    pub namespace: Option<String>,
    /// Whom to trust, and who we are.
    pub trust: Trust,
    /// How to log in.
    pub login: Login,
}

impl Settings {
    /// What a `[[provider]]` section says.
    pub fn read(section: &Section) -> Result<Self> {
        let texts = section.texts("address")?.filter(|texts| !texts.is_empty());
        let texts = texts.ok_or_else(|| section.lacks("address"))?;
        let addresses =
            texts.iter().map(|text| address(section, text)).collect::<Result<Vec<_>>>()?;
        let namespace = section.text("namespace")?;
        let namespace = namespace.map(|name| checked(section, "namespace", &name)).transpose()?;
        let trust = Trust::read(section)?;
        let login = Login::read(section, &trust)?;
        Ok(Self { addresses, namespace, trust, login })
    }

    /// A client that has called nobody yet.
    pub fn client(self, rng: Arc<dyn Rng>) -> Arc<Client> {
        Arc::new(Client::new(self, rng))
    }
}

fn address(section: &Section, text: &str) -> Result<Url> {
    let wrong =
        |what| -> Error { section.wrong("address", what).advise("write it as https://vault:8200") };
    let url = Url::parse(text).map_err(|_| wrong("is no address"))?;
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.username().is_empty();
    match url.scheme() {
        "http" if !is_private(&url) => Err(section.wrong("address", IN_THE_CLEAR).advise(USE_TLS)),
        "https" | "http" if url.has_host() && bare => Ok(url),
        "https" | "http" => Err(wrong("has more than a scheme, a host and a port")),
        _ => Err(wrong("is neither https nor http")),
    }
}

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
