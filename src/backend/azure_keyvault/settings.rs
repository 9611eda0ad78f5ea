//! The section of a key in Key Vault or Managed HSM.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use super::super::http::{IN_THE_CLEAR, TlsConfig, USE_TLS, Url, is_private};
use super::line::FOR_AZURE;
use super::name::KeyName;
use crate::config::Section;
use crate::error::{Error, Kind, Result};

/// Where Azure Arc's agent keeps its keys, and where it is itself.
const ARC_TOKENS: &str = "/var/opt/azcmagent/tokens";
const ARC_AGENT: &str = "/opt/azcmagent/bin/himds";
const ARC_ENDPOINT: &str = "http://127.0.0.1:40342/metadata/identity/oauth2/token";

/// What the configuration says of a key in Key Vault or Managed HSM.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The key.
    pub key: KeyName,
    /// How it wraps; without it as its kind has it.
    pub algorithm: Option<Algorithm>,
    /// Of a key that we make; without it what the vault makes best.
    pub key_type: Option<KeyType>,
    /// Whether keys that can be purged at once are accepted.
    pub allow_purge: bool,
    /// The tenant that the vault must be of; without it the one that it names.
    pub tenant: Option<String>,
    /// Where Entra ID gives tokens, where the vault's address does not tell.
    pub authority_host: Option<Url>,
    /// The application or the user-assigned identity.
    pub client_id: Option<String>,
    /// The application's secret.
    pub client_secret_file: Option<PathBuf>,
    /// The application's certificate, in PEM.
    pub client_certificate_file: Option<PathBuf>,
    /// Its private key, where that is in another file.
    pub client_key_file: Option<PathBuf>,
    /// The token of somebody whom Entra ID trusts.
    pub federated_token_file: Option<PathBuf>,
    /// An access token that somebody else gets.
    pub access_token_file: Option<PathBuf>,
    /// Whom to trust.
    pub trust: TlsConfig,
    /// What the environment says.
    pub environment: Environment,
}

/// How a key wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA (RFC 8017, OAEP with SHA-256). Whoever has the public key can wrap.
    RsaOaep256,
    /// AES key wrap (RFC 3394).
    A256Kw,
    /// AES-GCM.
    A256Gcm,
}

/// What Azure calls its kinds of keys (RFC 7517, `kty`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// RSA, held by software.
    Rsa,
    /// RSA, held by an HSM.
    RsaHsm,
    /// AES, in a Managed HSM.
    OctHsm,
}

impl Algorithm {
    /// As Azure calls it (RFC 7518).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RsaOaep256 => "RSA-OAEP-256",
            Self::A256Kw => "A256KW",
            Self::A256Gcm => "A256GCM",
        }
    }
}

impl FromStr for Algorithm {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let all = [Self::RsaOaep256, Self::A256Kw, Self::A256Gcm];
        all.into_iter().find(|one| one.name() == text).ok_or_else(|| {
            Error::new(Kind::Config, "is no algorithm that keyward wraps by")
                .advise("use RSA-OAEP-256, or in a Managed HSM A256KW or A256GCM")
        })
    }
}

impl KeyType {
    /// As Azure calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rsa => "RSA",
            Self::RsaHsm => "RSA-HSM",
            Self::OctHsm => "oct-HSM",
        }
    }

    /// How such a key wraps, where nobody says how.
    pub(super) fn algorithm(self) -> Algorithm {
        match self {
            Self::Rsa | Self::RsaHsm => Algorithm::RsaOaep256,
            Self::OctHsm => Algorithm::A256Kw,
        }
    }

    /// Its length in bits, where we make it.
    pub(super) fn bits(self) -> u32 {
        match self {
            Self::Rsa | Self::RsaHsm => 3072,
            Self::OctHsm => 256,
        }
    }
}

impl FromStr for KeyType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let all = [Self::Rsa, Self::RsaHsm, Self::OctHsm];
        all.into_iter().find(|one| one.name() == text).ok_or_else(|| {
            Error::new(Kind::Config, "is no kind of key that keyward makes")
                .advise("use RSA, RSA-HSM, or in a Managed HSM oct-HSM")
        })
    }
}

/// What the environment says of who we are.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `AZURE_CLIENT_ID`: the application or the user-assigned identity.
    pub client_id: Option<String>,
    /// `AZURE_FEDERATED_TOKEN_FILE`: the token that AKS writes for a pod.
    pub federated_token: Option<PathBuf>,
    /// `AZURE_CLIENT_CERTIFICATE_PATH`: the application's certificate and key, in PEM.
    pub client_certificate: Option<PathBuf>,
    /// `AZURE_AUTHORITY_HOST`: where Entra ID gives tokens.
    pub authority_host: Option<String>,
    /// `AZURE_POD_IDENTITY_AUTHORITY_HOST`: where the metadata service is.
    pub metadata: Option<String>,
    /// `IDENTITY_ENDPOINT`, where `IMDS_ENDPOINT` says that it is Azure Arc's, or its agent's usual one.
    pub arc: Option<String>,
    /// Where Azure Arc's agent writes the keys that it wants to see.
    pub arc_tokens: PathBuf,
}

impl Environment {
    /// What the variables say; an empty one says nothing.
    #[must_use]
    pub fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let text = |name| set(name).and_then(|value| value.into_string().ok());
        let named = text("IDENTITY_ENDPOINT").filter(|_| set("IMDS_ENDPOINT").is_some());
        let usual = || std::path::Path::new(ARC_AGENT).exists().then(|| ARC_ENDPOINT.to_owned());
        Self {
            client_id: text("AZURE_CLIENT_ID"),
            federated_token: set("AZURE_FEDERATED_TOKEN_FILE").map(PathBuf::from),
            client_certificate: set("AZURE_CLIENT_CERTIFICATE_PATH").map(PathBuf::from),
            authority_host: text("AZURE_AUTHORITY_HOST"),
            metadata: text("AZURE_POD_IDENTITY_AUTHORITY_HOST"),
            arc: named.or_else(usual),
            arc_tokens: PathBuf::from(ARC_TOKENS),
        }
    }
}

impl Settings {
    /// All else as it is without a setting.
    #[must_use]
    pub fn on(key: KeyName) -> Self {
        Self {
            key,
            algorithm: None,
            key_type: None,
            allow_purge: false,
            tenant: None,
            authority_host: None,
            client_id: None,
            client_secret_file: None,
            client_certificate_file: None,
            client_key_file: None,
            federated_token_file: None,
            access_token_file: None,
            trust: TlsConfig { advice: &FOR_AZURE, ..TlsConfig::default() },
            environment: Environment::default(),
        }
    }

    /// What a `[[provider]]` section says.
    pub fn read(section: &Section) -> Result<Self> {
        for secret in ["client_secret", "client_key", "access_token", "password", "token"] {
            if section.has(secret) {
                return Err(section
                    .wrong(secret, "credentials may not stand in the configuration")
                    .advise(
                        "give the machine a managed identity, or name a `client_secret_file`",
                    ));
            }
        }
        let key = section.parsed("key")?.ok_or_else(|| section.lacks("key"))?;
        let mut settings = Self::on(key);
        settings.algorithm = section.parsed("algorithm")?;
        settings.key_type = section.parsed("key_type")?;
        settings.allow_purge = section.boolean("allow_purge")?.unwrap_or_default();
        settings.tenant = section.text("tenant")?;
        settings.client_id = section.text("client_id")?;
        for name in ["tenant", "client_id"] {
            let value = if name == "tenant" { &settings.tenant } else { &settings.client_id };
            if value.as_deref().is_some_and(|value| !is_id(value)) {
                return Err(section
                    .wrong(name, "is no id")
                    .advise("write it as 00000000-0000-0000-0000-000000000000"));
            }
        }
        if let Some(host) = section.text("authority_host")? {
            let url = authority(&host)
                .map_err(|(what, advice)| section.wrong("authority_host", what).advise(advice))?;
            settings.authority_host = Some(url);
        }
        settings.client_secret_file = section.path("client_secret_file")?;
        settings.client_certificate_file = section.path("client_certificate_file")?;
        settings.client_key_file = section.path("client_key_file")?;
        settings.federated_token_file = section.path("federated_token_file")?;
        settings.access_token_file = section.path("access_token_file")?;
        settings.check_one_way(section)?;
        settings.trust.ca_file = section.path("ca_file")?;
        settings.trust.ca_folder = section.path("ca_folder")?;
        settings.environment = Environment::of(|name| std::env::var_os(name));
        Ok(settings)
    }

    /// Refuses two ways to log in, and half of one.
    fn check_one_way(&self, section: &Section) -> Result<()> {
        let named = [
            ("client_secret_file", &self.client_secret_file),
            ("client_certificate_file", &self.client_certificate_file),
            ("federated_token_file", &self.federated_token_file),
            ("access_token_file", &self.access_token_file),
        ];
        let named: Vec<_> = named.iter().filter(|(_, file)| file.is_some()).collect();
        if let [_, (second, _), ..] = named[..] {
            let what = "is a second way to log in";
            return Err(section.wrong(second, what).advise("leave one of them"));
        }
        if self.client_key_file.is_some() && self.client_certificate_file.is_none() {
            return Err(section.lacks("client_certificate_file"));
        }
        match named[..] {
            [(name, _)] if *name != "access_token_file" && self.client_id.is_none() => {
                Err(section.lacks("client_id"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether `text` may be the id of a tenant or an application, or a tenant's domain, and is safe in a path.
pub(super) fn is_id(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    (1..=255).contains(&text.len()) && !text.starts_with('.') && text.chars().all(plain)
}

/// An authority's address: a scheme, a host and a port. Else what is wrong with it, and what to do.
pub(super) fn authority(text: &str) -> Result<Url, (&'static str, &'static str)> {
    const WRITE: &str = "write it as https://login.microsoftonline.com";
    let full = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url = Url::parse(&full).map_err(|_| ("is no address", WRITE))?;
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.username().is_empty();
    match is_private(&url) {
        false => Err((IN_THE_CLEAR, USE_TLS)),
        true if bare && url.has_host() => Ok(url),
        true => Err(("has more than a scheme, a host and a port", WRITE)),
    }
}
