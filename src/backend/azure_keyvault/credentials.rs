//! Where our credentials are. What is secret of them lives for one operation, in memory that is wiped when it
//! is freed (ADR 51). The command of Azure's own (`az`) is not run: ADR 104.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use super::super::http::{METADATA, Url, is_loopback, is_metadata};
use super::settings::Settings;
use crate::error::{Error, Kind, Result};

/// What proves who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    /// An application and its secret.
    Secret { client_id: String, file: PathBuf },
    /// An application and its certificate with the key.
    Certificate { client_id: String, certificate: PathBuf, key: PathBuf },
    /// Who has a token of an issuer that Entra ID trusts ("workload identity").
    Federated { client_id: String, file: PathBuf },
    /// An access token that somebody else gets.
    Token(PathBuf),
    /// A machine of Azure Arc's, by its agent.
    Arc { endpoint: Url, tokens: PathBuf },
    /// The machine's own ("managed identity"), by its metadata service.
    Machine { base: Url, client_id: Option<String> },
}

impl Credentials {
    /// Those that `settings` name, else those of the environment, else the machine's own.
    pub(super) fn find(settings: &Settings) -> Result<Self> {
        if let Some(file) = &settings.access_token_file {
            return Ok(Self::Token(file.clone()));
        }
        let environment = &settings.environment;
        let named = settings.client_id.as_ref();
        let client_id = named.or(environment.client_id.as_ref()).cloned();
        if let Some(client_id) = &client_id {
            let client_id = client_id.clone();
            if let Some(file) = settings.client_secret_file.clone() {
                return Ok(Self::Secret { client_id, file });
            }
            if let Some(certificate) = settings.client_certificate_file.clone() {
                let key = settings.client_key_file.clone().unwrap_or_else(|| certificate.clone());
                return Ok(Self::Certificate { client_id, certificate, key });
            }
            if let Some(file) = settings.federated_token_file.clone() {
                return Ok(Self::Federated { client_id, file });
            }
            if let Some(certificate) = environment.client_certificate.clone() {
                let key = certificate.clone();
                return Ok(Self::Certificate { client_id, certificate, key });
            }
            if let Some(file) = environment.federated_token.clone() {
                return Ok(Self::Federated { client_id, file });
            }
        }
        if let Some(endpoint) = &environment.arc {
            let tokens = environment.arc_tokens.clone();
            return Ok(Self::Arc { endpoint: arc(endpoint)?, tokens });
        }
        Ok(Self::Machine { base: metadata(environment.metadata.as_deref())?, client_id })
    }

    /// Where they are, for people.
    pub(super) fn place(&self) -> String {
        let of = |file: &Path| file.display().to_string();
        match self {
            Self::Secret { file, .. } | Self::Federated { file, .. } | Self::Token(file) => {
                of(file)
            }
            Self::Certificate { certificate, .. } => of(certificate),
            Self::Arc { .. } => "Azure Arc's agent".to_owned(),
            Self::Machine { .. } => "the machine's metadata service".to_owned(),
        }
    }

    /// Whose they are, if that is known.
    pub(super) fn account(&self) -> Option<&str> {
        match self {
            Self::Secret { client_id, .. }
            | Self::Certificate { client_id, .. }
            | Self::Federated { client_id, .. } => Some(client_id),
            Self::Machine { client_id, .. } => client_id.as_deref(),
            Self::Token(_) | Self::Arc { .. } => None,
        }
    }
}

/// Where Azure Arc's agent is: on this machine, since it speaks no TLS.
fn arc(text: &str) -> Result<Url> {
    Url::parse(text).ok().filter(is_loopback).ok_or_else(|| {
        Error::new(Kind::Config, "IDENTITY_ENDPOINT names another machine, which would see our key")
            .advise("unset it, or set it to http://127.0.0.1:40342/metadata/identity/oauth2/token")
    })
}

/// Where the metadata service is: link-local, or on this machine, since it speaks no TLS.
fn metadata(named: Option<&str>) -> Result<Url> {
    let usual = format!("http://{METADATA}");
    Url::parse(named.unwrap_or(&usual)).ok().filter(is_metadata).ok_or_else(|| {
        let what =
            "AZURE_POD_IDENTITY_AUTHORITY_HOST names another machine, which would see our token";
        Error::new(Kind::Config, what)
            .advise(format!("unset it, or set it to {usual} or an address of this machine"))
    })
}
