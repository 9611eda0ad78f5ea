//! What went wrong with a call, in words for an operator: told from the chain of causes, of which
//! only the innermost says more than "error sending request".

#![forbid(unsafe_code)]

use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, CertificateError};

use super::TlsAdvice;
use super::tls::OldVersion;
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

/// What a peer that breaks off the handshake of one who shows a certificate has against us.
const NO_COMMON_SUITE: &str = "it and we have no TLS cipher suite in common: it probably offers for its \
    certificate only suites with RSA key exchange or CBC, such as AES128-SHA256";
/// What all of ours are (RFC 9325 section 4.2 recommends them).
const ALLOW_SUITES: &str = "allow TLS 1.3 there, or for TLS 1.2 one of \
    ECDHE-RSA-AES128-GCM-SHA256, ECDHE-RSA-AES256-GCM-SHA384, ECDHE-RSA-CHACHA20-POLY1305 (of the same \
    with ECDSA where its key is ECDSA)";

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
        rustls::Error::InvalidCertificate(Bad::Other(other)) if other.0.is::<OldVersion>() => (
            "its certificate is of X.509 version 1, which TLS has no use for",
            "have one of version 3 made of the same key and request: printf \
             'subjectAltName=DNS:NAME' > v3.ext; openssl x509 -req -in server.csr -CA ca.pem -CAkey \
             ca.key -CAcreateserial -days 365 -extfile v3.ext -out server.pem",
        ),
        rustls::Error::InvalidCertificate(_) => {
            ("its certificate is not valid", "look at it with `openssl s_client`")
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            ("it wants a client certificate", advice.client)
        }
        rustls::Error::AlertReceived(AlertDescription::HandshakeFailure) if advice.certified => {
            (NO_COMMON_SUITE, ALLOW_SUITES)
        }
        // TLS 1.2 has one alert for both.
        rustls::Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            let words = format!("it wants a client certificate, or {NO_COMMON_SUITE}");
            let advice = format!("{}; where it wants none, {ALLOW_SUITES}", advice.client);
            return Error::new(Kind::Untrusted, format!("cannot trust {place}: {words}"))
                .advise(advice);
        }
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            ("it speaks neither TLS 1.2 nor TLS 1.3", "allow one of them there")
        }
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
