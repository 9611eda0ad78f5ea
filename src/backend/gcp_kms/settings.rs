//! The section of a key in Cloud KMS.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::super::http::{IN_THE_CLEAR, TlsConfig, USE_TLS, Url, is_private};
use super::line::FOR_GOOGLE;
use super::name::KeyName;
use crate::config::Section;
use crate::error::{Error, Kind, Result};

/// Where Cloud KMS is.
const ENDPOINT: &str = "https://cloudkms.googleapis.com";

/// Where IAM gives tokens of service accounts.
const IAM: &str = "https://iamcredentials.googleapis.com";

/// What the configuration says of a key in Cloud KMS.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The key.
    pub key: KeyName,
    /// Where Cloud KMS is.
    pub endpoint: Url,
    /// Where IAM gives tokens of service accounts.
    pub iam: Url,
    /// Read in place of the files that the environment names.
    pub credentials_file: Option<PathBuf>,
    /// The service accounts to become one after the other; what the key's policy names is the last.
    pub impersonate: Vec<String>,
    /// The project that the calls are counted for, if not that of the credentials.
    pub quota_project: Option<String>,
    /// Of a key that we make.
    pub protection_level: ProtectionLevel,
    /// Whom to trust.
    pub trust: TlsConfig,
    /// What the environment says.
    pub environment: Environment,
}

/// What holds a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProtectionLevel {
    /// Google's software.
    #[default]
    Software,
    /// Google's HSMs.
    Hsm,
}

impl ProtectionLevel {
    /// As Cloud KMS calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Software => "SOFTWARE",
            Self::Hsm => "HSM",
        }
    }
}

impl FromStr for ProtectionLevel {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "software" => Ok(Self::Software),
            "hsm" => Ok(Self::Hsm),
            _ => Err(Error::new(Kind::Config, "is no protection level that keyward makes keys of")
                .advise("use software or hsm; make others with gcloud")),
        }
    }
}

/// What the environment says of who we are.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `GOOGLE_APPLICATION_CREDENTIALS`: a file of credentials.
    pub credentials: Option<PathBuf>,
    /// Where gcloud keeps its files: `CLOUDSDK_CONFIG`, or below `HOME`.
    pub gcloud: Option<PathBuf>,
    /// `GOOGLE_CLOUD_QUOTA_PROJECT`.
    pub quota_project: Option<String>,
    /// `GCE_METADATA_HOST`: where the metadata service is.
    pub metadata: Option<String>,
}

impl Environment {
    /// What the variables say; an empty one says nothing.
    #[must_use]
    pub fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let text = |name| set(name).and_then(|value| value.into_string().ok());
        let home = || set("HOME").map(|home| Path::new(&home).join(".config/gcloud"));
        Self {
            credentials: set("GOOGLE_APPLICATION_CREDENTIALS").map(PathBuf::from),
            gcloud: set("CLOUDSDK_CONFIG").map(PathBuf::from).or_else(home),
            quota_project: text("GOOGLE_CLOUD_QUOTA_PROJECT"),
            metadata: text("GCE_METADATA_HOST"),
        }
    }
}

impl Settings {
    /// All else as it is without a setting, for a key in Cloud KMS at `endpoint`.
    #[must_use]
    pub fn on(key: KeyName, endpoint: Url) -> Self {
        Self {
            key,
            iam: endpoint.clone(),
            endpoint,
            credentials_file: None,
            impersonate: Vec::new(),
            quota_project: None,
            protection_level: ProtectionLevel::default(),
            trust: TlsConfig { advice: &FOR_GOOGLE, ..TlsConfig::default() },
            environment: Environment::default(),
        }
    }

    /// What a `[[provider]]` section says.
    pub fn read(section: &Section) -> Result<Self> {
        for secret in ["credentials", "private_key", "access_token", "token"] {
            if section.has(secret) {
                return Err(section
                    .wrong(secret, "credentials may not stand in the configuration")
                    .advise("give the machine a service account, or name a `credentials_file`"));
            }
        }
        let key = section.parsed("key")?.ok_or_else(|| section.lacks("key"))?;
        let endpoint = section.text("endpoint")?.unwrap_or_else(|| ENDPOINT.to_owned());
        let mut settings = Self::on(key, endpoint_of(section, &endpoint)?);
        settings.iam = Url::parse(IAM)
            .map_err(|_| Error::new(Kind::Internal, "Google's address cannot be read"))?;
        settings.credentials_file = section.path("credentials_file")?;
        settings.impersonate = section.texts("impersonate")?.unwrap_or_default();
        if !settings.impersonate.iter().all(|account| is_account(account)) {
            return Err(section
                .wrong("impersonate", "is no service account")
                .advise("write it as NAME@PROJECT.iam.gserviceaccount.com"));
        }
        settings.quota_project = section.text("quota_project")?;
        settings.protection_level = section.parsed("protection_level")?.unwrap_or_default();
        settings.trust.ca_file = section.path("ca_file")?;
        settings.trust.ca_folder = section.path("ca_folder")?;
        settings.environment = Environment::of(|name| std::env::var_os(name));
        Ok(settings)
    }
}

/// Whether `text` may be a service account's email address or number, and is safe in a path.
pub(super) fn is_account(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.@".contains(c))
}

fn endpoint_of(section: &Section, text: &str) -> Result<Url> {
    let wrong = |what| -> Error {
        section
            .wrong("endpoint", what)
            .advise("write it as https://cloudkms.europe-west3.rep.googleapis.com")
    };
    let url = Url::parse(text).map_err(|_| wrong("is no address"))?;
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.username().is_empty();
    match url.scheme() {
        "http" if !is_private(&url) => Err(section.wrong("endpoint", IN_THE_CLEAR).advise(USE_TLS)),
        "https" | "http" if url.has_host() && bare => Ok(url),
        "https" | "http" => Err(wrong("has more than a scheme, a host and a port")),
        _ => Err(wrong("is not https")),
    }
}
