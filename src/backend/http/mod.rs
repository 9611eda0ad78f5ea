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
mod validity;

use std::time::Duration;

use zeroize::Zeroizing;

#[cfg(not(fuzzing))]
pub use connection::Connection;
pub(super) use failure::broken_off;
pub use failure::told;
pub use reqwest::header::{HeaderMap, HeaderName};
pub use reqwest::{Method, Url};
#[cfg(fuzzing)]
pub use scripted::Connection;
pub use tls::{TlsAdvice, TlsConfig, judge_authorities};
#[cfg(fuzzing)]
pub use validity::certificate_as_fuzzed;

use crate::error::{Error, Kind, Result};

/// One request. Header values are taken for secrets.
pub struct Request {
    /// What to do.
    pub method: Method,
    /// With whom.
    pub url: Url,
    /// Names and values.
    pub headers: Vec<(HeaderName, Zeroizing<String>)>,
    /// What is sent with it.
    pub body: Option<Body>,
}

/// What is sent with a request.
pub enum Body {
    /// JSON.
    Json(Zeroizing<Vec<u8>>),
    /// A form as [`form`] writes it.
    Form(Zeroizing<Vec<u8>>),
}

impl Body {
    fn into_parts(self) -> (&'static str, Zeroizing<Vec<u8>>) {
        match self {
            Self::Json(bytes) => ("application/json", bytes),
            Self::Form(bytes) => ("application/x-www-form-urlencoded", bytes),
        }
    }
}

/// The fields of a form, names and values (HTML's `application/x-www-form-urlencoded`).
#[must_use]
pub fn form(fields: &[(&str, &str)]) -> Body {
    let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
    for (n, (name, value)) in fields.iter().enumerate() {
        if n > 0 {
            bytes.push(b'&');
        }
        push_escaped(&mut bytes, name);
        bytes.push(b'=');
        push_escaped(&mut bytes, value);
    }
    Body::Form(bytes)
}

fn push_escaped(bytes: &mut Vec<u8>, text: &str) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' => bytes.push(byte),
            _ => {
                let digit = |of: u8| DIGITS[usize::from(of)];
                bytes.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
}

/// What came back, whatever its status.
pub struct Reply {
    /// The HTTP status (RFC 9110 section 15).
    pub status: u16,
    /// Where a redirect leads.
    pub location: Option<Url>,
    /// How long the store asks to be left alone.
    pub retry_after: Option<Duration>,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, at most 8 MiB.
    pub body: Zeroizing<Vec<u8>>,
}

impl Reply {
    /// The value of the header `name`, which is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
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

/// The address of a cloud's metadata service. It is the hypervisor's or the node's: link-local, on no
/// network, and without TLS.
pub const METADATA: &str = "169.254.169.254";

/// Whether `url` is where a cloud's machine learns who it is, or stands for it on this machine.
#[must_use]
pub fn is_metadata(url: &Url) -> bool {
    is_loopback(url) || (url.scheme() == "http" && url.host_str() == Some(METADATA))
}

/// Refuses to send anything past the proxies but to this machine and its metadata service.
fn check_metadata(url: &Url) -> Result<()> {
    match is_metadata(url) {
        true => Ok(()),
        false => {
            let what = format!("{} is neither this machine nor its metadata service", place(url));
            Err(Error::new(Kind::Config, what).advise(format!("use http://{METADATA}")))
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
