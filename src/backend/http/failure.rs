//! What went wrong with a call, in words for an operator: told from the chain of causes, of which
//! only the innermost says more than "error sending request".

#![forbid(unsafe_code)]

use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, CertificateError};

use super::TlsAdvice;
use crate::error::{Error, Kind};

/// Puts what `cause` means into an error about `place`.
pub(super) fn failed(place: &str, cause: &reqwest::Error, advice: &TlsAdvice) -> Error {
    if cause.is_timeout() {
        return super::late(place);
    }
    if let Some(error) = told(place, cause, advice) {
        return error;
    }
    let words = if cause.is_dns() {
        "its name is not known"
    } else if cause.is_connect() {
        "no connection"
    } else {
        "the connection broke off"
    };
    unreached(place, words)
}

/// The error about `place` where TLS or the system says in `cause`, or in one of its own causes, what
/// it was.
#[must_use]
pub fn told(place: &str, cause: &(dyn StdError + 'static), advice: &TlsAdvice) -> Option<Error> {
    let mut next = Some(cause);
    let mut words = None;
    while let Some(here) = next {
        if let Some(tls) = tls_error(here) {
            return Some(untrusted(place, tls, advice));
        }
        if let Some(io) = here.downcast_ref::<io::Error>() {
            words = words.or_else(|| spoken(io));
        }
        next = here.source();
    }
    words.map(|words| unreached(place, &words))
}

fn unreached(place: &str, words: &str) -> Error {
    Error::new(Kind::Unavailable, format!("cannot reach {place}: {words}"))
}

/// Puts what `cause`, which ended a connection, means into an error about `place`: for protocols other
/// than HTTP.
pub(in crate::backend) fn broken_off(place: &str, cause: &io::Error, advice: &TlsAdvice) -> Error {
    if let Some(tls) = tls_error(cause) {
        return untrusted(place, tls, advice);
    }
    if matches!(cause.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) {
        return super::late(place);
    }
    let words = spoken(cause).unwrap_or_else(|| "the connection broke off".to_owned());
    Error::new(Kind::Unavailable, format!("cannot reach {place}: {words}"))
}

/// The error of TLS in `error`. One in another of the system's does not show as its source.
fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(tls);
    }
    tls_error(error.downcast_ref::<io::Error>()?.get_ref()?)
}

/// The system's words, where it was the system that failed.
fn spoken(error: &io::Error) -> Option<String> {
    if let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<io::Error>()) {
        return spoken(inner);
    }
    let words = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "the connection was reset",
        io::ErrorKind::UnexpectedEof => "the connection was closed in the middle of the answer",
        io::ErrorKind::HostUnreachable => "no route to the host",
        io::ErrorKind::NetworkUnreachable => "the network cannot be reached",
        _ => return None,
    };
    Some(words.to_owned())
}

fn untrusted(place: &str, error: &rustls::Error, advice: &TlsAdvice) -> Error {
    use CertificateError as Bad;
    let (words, advice) = match error {
        rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            ("its certificate has expired", "renew the certificate there")
        }
        rustls::Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            ("its certificate is not valid yet", "compare the clocks of both machines")
        }
        // A signature that is wrong is that of another authority of the same name.
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
            ("its certificate is from an authority that is not trusted here", advice.authority)
        }
        rustls::Error::InvalidCertificate(
            Bad::NotValidForName | Bad::NotValidForNameContext { .. },
        ) => ("its certificate is for another name", advice.name),
        rustls::Error::InvalidCertificate(_) => {
            ("its certificate is not valid", "look at it with `openssl s_client`")
        }
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure,
        ) => ("it wants a client certificate", advice.client),
        rustls::Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnknownCA,
        ) => ("it refuses our client certificate", "renew the client certificate"),
        rustls::Error::InvalidMessage(_) => ("it does not speak TLS", "is the port right?"),
        _ => ("TLS with it fails", "look at it with `openssl s_client`"),
    };
    Error::new(Kind::Untrusted, format!("cannot trust {place}: {words}")).advise(advice)
}
