//! `kmip`: any server that speaks KMIP 1.0 to 1.4, 2.0 or 2.1 over TLS. It wraps the store key with a key that
//! stays there, or (`use = "serve"`) keeps the data keys themselves.
//!
//! A connection lasts for one operation; nothing outlives it. See `docs/adr/0065-kmip-of-our-own.md` for why.

mod attributes;
mod calls;
mod client;
mod failure;
mod frame;
mod kek;
#[cfg(not(fuzzing))]
mod link;
pub mod message;
mod requests;
#[cfg(fuzzing)]
pub mod scripted;
mod seal;
mod server;
mod tags;
pub mod ttlv;
mod wrapper;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use self::message::Version;
#[cfg(fuzzing)]
use self::scripted as link;
use super::http::Trust;
use super::{Backend, Order};
use crate::config::Section;
use crate::env::Rng;
use crate::error::{Error, Kind, Result};
use crate::provider::{KekInfo, Provider};
pub use kek::KeyChoice;
pub use server::{KmipServer, Settings as ServerSettings};
pub use wrapper::{KmipWrapper, Settings as WrapperSettings, Way};

/// `kmip` in the table of backends.
pub(super) static BACKEND: Backend = Backend {
    kind: "kmip",
    environment: &[],
    groups: &[],
    open,
    create_key: Some(create_key),
    set_up: None,
};

/// The port that IANA has registered for KMIP.
const PORT: u16 = 5696;

fn open(section: &Section, rng: &Arc<dyn Rng>) -> Result<Provider> {
    Ok(match Use::read(section)? {
        Use::Wrap => Provider::Wraps(Box::new(KmipWrapper::of(section, rng)?)),
        Use::Serve => {
            let settings = ServerSettings::read(section)?;
            Provider::Serves(Box::new(KmipServer::new(settings, Arc::clone(rng))))
        }
    })
}

fn create_key(section: &Section, order: &Order<'_>) -> Result<KekInfo> {
    match Use::read(section)? {
        Use::Wrap => KmipWrapper::of(section, order.rng)?.create_key(order.by),
        Use::Serve => Err(BACKEND.makes_no_key()),
    }
}

/// How a key store that speaks KMIP is reached.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its servers, in order of preference.
    pub servers: Vec<Address>,
    /// Whom to trust, and who we are.
    pub trust: Trust,
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
        let (trust, version) = (Trust::read(section)?, section.parsed("version")?);
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

#[cfg(test)]
mod tests;
