//! The sections of a Vault: how it is reached, and of which engine.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::super::http::{IN_THE_CLEAR, TlsConfig, USE_TLS, Url, is_private};
use super::login::Login;
use super::{checked, path};
use crate::config::Section;
use crate::error::{Error, Result};
use crate::key::PageMode;

/// How often new versions are looked for when the configuration does not say.
const REFRESH: Duration = Duration::from_secs(10);

/// How a Vault is reached and logged in to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its nodes, in order of preference: `https://vault:8200`.
    pub addresses: Vec<Url>,
    /// The namespace (Vault Enterprise, OpenBao), where that is not the root.
    pub namespace: Option<String>,
    /// Whom to trust, and who we are.
    pub trust: TlsConfig,
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
        let trust = TlsConfig::read(section)?;
        let login = Login::read(section, &trust)?;
        Ok(Self { addresses, namespace, trust, login })
    }
}

/// What the configuration says of a KV engine.
pub struct KvSettings {
    /// The Vault.
    pub vault: Settings,
    /// Where the engine is mounted.
    pub mount: String,
    /// The folder of the keys within it; empty where they are at its top.
    pub prefix: String,
    /// How the server encrypts pages with keys whose secret does not say.
    pub mode: PageMode,
    /// How often new versions are looked for.
    pub refresh: Duration,
}

impl KvSettings {
    /// What a `[[provider]]` section says.
    pub fn read(section: &Section) -> Result<Self> {
        Ok(Self {
            vault: Settings::read(section)?,
            mount: path(section, "mount", "secret")?,
            prefix: match section.text("prefix")?.as_deref() {
                Some("") => String::new(),
                _ => path(section, "prefix", "keyward")?,
            },
            mode: super::super::page_mode(section)?,
            refresh: section.duration("refresh")?.unwrap_or(REFRESH),
        })
    }
}

/// What the configuration says of a transit key.
#[derive(Clone, Debug)]
pub struct TransitSettings {
    /// The Vault.
    pub vault: Settings,
    /// Where the engine is mounted.
    pub mount: String,
    /// The name of the key in it.
    pub key: String,
}

impl TransitSettings {
    /// What a `[[provider]]` section says.
    pub fn read(section: &Section) -> Result<Self> {
        Ok(Self {
            vault: Settings::read(section)?,
            mount: path(section, "mount", "transit")?,
            key: path(section, "key", "keyward")?,
        })
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
