//! The section of a key in KMS.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use super::super::http::{IN_THE_CLEAR, USE_TLS, Url, is_private};
use super::arn::region_of;
use crate::config::Section;
use crate::error::{Error, Result};

/// What the configuration says of a key in KMS.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The key: its ARN, its id, or an alias (`alias/keyward`).
    pub key: String,
    /// The region; without it that of the key's ARN, else what the SDK finds.
    pub region: Option<String>,
    /// The region where nothing else names one.
    pub default_region: Option<&'static str>,
    /// Where KMS is, if not where the SDK knows it to be.
    pub endpoint: Option<Url>,
    /// Whether to use the region's FIPS 140 endpoint.
    pub fips: bool,
    /// The profile in the files below; else `AWS_PROFILE`, else `default`.
    pub profile: Option<String>,
    /// Read in place of `~/.aws/config`.
    pub config_file: Option<PathBuf>,
    /// Read in place of `~/.aws/credentials`.
    pub credentials_file: Option<PathBuf>,
    /// Whether it is for the plugin that we stand in for, which looks at no file's owner.
    pub as_original: bool,
}

impl Settings {
    /// What a `[[provider]]` section says.
    pub fn read(section: &Section) -> Result<Self> {
        for secret in ["access_key_id", "secret_access_key", "session_token"] {
            if section.has(secret) {
                return Err(section
                    .wrong(secret, "credentials may not stand in the configuration")
                    .advise("give the machine a role, or name a `credentials_file`"));
            }
        }
        let key = section.required("key")?;
        if key.is_empty() || key.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(section
                .wrong("key", "is no key of KMS")
                .advise("write its ARN, its id, or alias/NAME"));
        }
        let region = section.text("region")?;
        if let (Some(said), Some(own)) = (&region, region_of(&key))
            && said != own
        {
            return Err(section
                .wrong("region", &format!("is {said}, and the key's ARN is of {own}"))
                .advise("leave `region` out, or name the key of that region"));
        }
        let endpoint = section.text("endpoint")?;
        let endpoint = endpoint.map(|text| endpoint_of(section, &text)).transpose()?;
        let fips = section.boolean("fips")?.unwrap_or(false);
        if fips && endpoint.is_some() {
            return Err(section
                .wrong("fips", "chooses between addresses of AWS's, and `endpoint` names one")
                .advise("leave one of them out; `endpoint` may be a FIPS endpoint's address"));
        }
        Ok(Self {
            key,
            region,
            default_region: None,
            endpoint,
            fips,
            profile: section.text("profile")?,
            config_file: section.path("config_file")?,
            credentials_file: section.path("credentials_file")?,
            as_original: false,
        })
    }
}

fn endpoint_of(section: &Section, text: &str) -> Result<Url> {
    let wrong = |what| -> Error {
        section.wrong("endpoint", what).advise("write it as https://vpce-....amazonaws.com")
    };
    let url = Url::parse(text).map_err(|_| wrong("is no address"))?;
    match url.scheme() {
        "https" if url.has_host() => Ok(url),
        "http" if is_private(&url) => Ok(url),
        "http" => Err(section.wrong("endpoint", IN_THE_CLEAR).advise(USE_TLS)),
        _ => Err(wrong("is not https")),
    }
}
