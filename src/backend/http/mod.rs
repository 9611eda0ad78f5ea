//! The one way in which key stores are called over HTTP: TLS verified, every call bounded in time
//! and length, redirects handed back to the caller, nothing of a body in an error. Plain HTTP is for
//! this machine alone, and goes through no proxy; HTTPS goes through one by CONNECT.
//!
//! No thread and no connection outlives an operation. A [`Connection`] is opened for it, runs its requests
//! apart from the caller, whose stack may be a server's, and leaves nothing behind for a fork, for a
//! core file or for the unloading of the library.

#![forbid(unsafe_code)]

#[cfg(not(fuzzing))]
mod connection;
mod failure;
#[cfg(fuzzing)]
pub mod scripted;
mod tls;

use std::time::Duration;

use zeroize::Zeroizing;

#[cfg(not(fuzzing))]
pub use connection::Connection;
pub(super) use failure::broken_off;
pub use failure::told;
pub use reqwest::{Method, Url};
#[cfg(fuzzing)]
pub use scripted::Connection;
pub use tls::{TlsAdvice, TlsConfig, judge_authorities};

use crate::error::{Error, Kind, Result};

/// One request. Header values are taken for secrets.
pub struct Request {
    /// What to do.
    pub method: Method,
    /// With whom.
    pub url: Url,
    /// Names in lower case, and values.
    pub headers: Vec<(&'static str, Zeroizing<String>)>,
    /// A body in JSON.
    pub body: Option<Zeroizing<Vec<u8>>>,
}

/// What came back, whatever its status.
pub struct Reply {
    /// The HTTP status (RFC 9110 section 15).
    pub status: u16,
    /// Where a redirect leads.
    pub location: Option<Url>,
    /// How long the store asks to be left alone.
    pub retry_after: Option<Duration>,
    /// The body, at most 8 MiB.
    pub body: Zeroizing<Vec<u8>>,
}

/// `https://vault:8200`: an address without path, user and query.
#[must_use]
pub fn place(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// A timeout that names neither path nor body.
fn late(place: &str) -> Error {
    Error::new(Kind::Timeout, format!("calling {place}: no answer in time"))
}

/// Whether nobody on a network can read what is sent to `url`: it is TLS, or does not leave this machine.
#[must_use]
pub fn is_private(url: &Url) -> bool {
    match url.scheme() {
        "https" => true,
        "http" => is_loopback(url),
        _ => false,
    }
}

/// What is wrong with an address that is not [private](is_private), to follow the setting's name.
pub const IN_THE_CLEAR: &str = "is not https: secrets would cross the network in the clear";

/// What to do about it.
pub const USE_TLS: &str =
    "write it as https://...; plain http is for 127.0.0.1, [::1] and localhost";

/// Refuses to send anything to an address that is not private, whoever named it.
fn check_private(url: &Url) -> Result<()> {
    match is_private(url) {
        true => Ok(()),
        false => {
            let what = format!("{} {IN_THE_CLEAR}", place(url));
            Err(Error::new(Kind::Config, what).advise(USE_TLS))
        }
    }
}

/// Whether `url` is on this machine, by its address or as `localhost`, which then means the loopback
/// addresses whatever a resolver says. As the tools of this field have it, no proxy is asked for it.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
        None => false,
    }
}

#[cfg(test)]
mod tests;
