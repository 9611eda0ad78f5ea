//! The sections of a KMIP server: how it is reached, and what it is for.

#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr as _;
use std::time::Duration;

use super::super::http::TlsConfig;
use super::message::Version;
use crate::config::Section;
use crate::error::{Error, Kind, Result};
use crate::key::PageMode;

/// The port that IANA has registered for KMIP.
pub(super) const PORT: u16 = 5696;

/// How often new versions are looked for when the configuration does not say.
const REFRESH: Duration = Duration::from_secs(10);

/// How a key store that speaks KMIP is reached.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its servers, in order of preference.
    pub servers: Vec<Address>,
    /// Whom to trust, and who we are.
    pub trust: TlsConfig,
    /// The release of the protocol, where the servers are not to be asked.
    pub version: Option<Version>,
}

impl Settings {
    /// What a `[[provider]]` section says.
    pub fn read(section: &Section) -> Result<Self> {
        let port = match section.number("port")? {
            None => PORT,
            Some(number) => u16::try_from(number)
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| section.wrong("port", "is not a port from 1 to 65535"))?,
        };
        let address = |text: &String| {
            Address::parse(text, port).map_err(|error| {
                section.wrong("server", error.what()).advise("write it as kms.example:5696")
            })
        };
        let texts = section.texts("server")?.filter(|texts| !texts.is_empty());
        let texts = texts.ok_or_else(|| section.lacks("server"))?;
        let servers = texts.iter().map(address).collect::<Result<_>>()?;
        let (trust, version) = (TlsConfig::read(section)?, section.parsed("version")?);
        Ok(Self { servers, trust, version })
    }
}

/// What a `[[provider]]` section is for.
pub enum Use {
    /// Keeping the data keys.
    Serve,
    /// Wrapping the store key.
    Wrap,
}

impl Use {
    /// What the section says.
    pub fn read(section: &Section) -> Result<Self> {
        match section.text("use")?.as_deref() {
            None | Some("wrap") => Ok(Self::Wrap),
            Some("serve") => Ok(Self::Serve),
            Some(_) => Err(section.wrong("use", "must be \"wrap\" or \"serve\"")),
        }
    }
}

/// What the configuration says of a wrapping key.
pub struct WrapperSettings {
    /// The servers.
    pub kmip: Settings,
    /// Which of their keys wraps.
    pub key: KeyChoice,
    /// How it wraps; otherwise the best way that the server has.
    pub way: Option<WrapMechanism>,
}

impl WrapperSettings {
    /// What a `[[provider]]` section says.
    pub fn read(section: &Section) -> Result<Self> {
        let kmip = Settings::read(section)?;
        let said = [
            section.text("key")?.map(KeyChoice::Name),
            section.text("key_id")?.map(KeyChoice::Id),
            section.text("master_key")?.map(KeyChoice::Either),
        ];
        let mut said = said.into_iter().flatten();
        let key = match (said.next(), said.next()) {
            (Some(key), None) if !key.text().is_empty() => key,
            (Some(_), Some(_)) => {
                return Err(section
                    .wrong("key", "the key is named twice")
                    .advise("keep one of key, key_id and master_key"));
            }
            _ => return Err(section.lacks("key")),
        };
        Ok(Self { kmip, key, way: section.parsed("mechanism")? })
    }
}

/// Which key of the server wraps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyChoice {
    /// The newest of this name.
    Name(String),
    /// The one with this unique identifier.
    Id(String),
    /// Either: the one with this unique identifier, or else the newest of this name.
    Either(String),
}

impl fmt::Display for KeyChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(text) | Self::Either(text) => write!(f, "key {text:?}"),
            Self::Id(id) => write!(f, "key with the id {id:?}"),
        }
    }
}

/// How a key wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrapMechanism {
    /// The server encrypts by AES-GCM, with what the wrapped key is bound to as additional data: KMIP 1.4.
    Gcm,
    /// The server encrypts a key of 256 bits that is used once, by AES-CBC; under that one the store key
    /// is sealed here, by AES-GCM. KMIP 1.2.
    Cbc,
    /// The wrapping key is fetched for each use, and AES-GCM done here: for servers that cannot encrypt, and
    /// only where the configuration asks for it, because the key leaves the server.
    Get,
}

/// What the configuration says of the keys.
pub struct ServerSettings {
    /// The servers.
    pub kmip: Settings,
    /// What the keys' names begin with, and the object group they are in.
    pub prefix: String,
    /// How the server encrypts pages with keys that do not say.
    pub mode: PageMode,
    /// How often new versions are looked for.
    pub refresh: Duration,
}

impl ServerSettings {
    /// What a `[[provider]]` section says.
    pub fn read(section: &Section) -> Result<Self> {
        let prefix = section.text("prefix")?.unwrap_or_else(|| "keyward".to_owned());
        if prefix.is_empty() || prefix.chars().any(char::is_control) {
            return Err(section.wrong("prefix", "is empty, or has what cannot be seen"));
        }
        Ok(Self {
            kmip: Settings::read(section)?,
            prefix,
            mode: super::super::page_mode(section)?,
            refresh: section.duration("refresh")?.unwrap_or(REFRESH),
        })
    }
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Its name or its address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl Address {
    /// `host`, `host:port`, `[::1]:port` or `::1`; without a port, `port`.
    pub fn parse(text: &str, port: u16) -> Result<Self> {
        let wrong = || Error::new(Kind::Config, "is no host name and no address");
        let number = |text: &str| text.parse().ok().filter(|port| *port > 0).ok_or_else(wrong);
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, port),
            Some((host, rest)) => (host, number(rest.strip_prefix(':').ok_or_else(wrong)?)?),
            None if std::net::Ipv6Addr::from_str(text).is_ok() => (text, port),
            None => match text.split_once(':') {
                Some((host, text)) => (host, number(text)?),
                None => (text, port),
            },
        };
        rustls::pki_types::ServerName::try_from(host).map_err(|_| wrong())?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}
