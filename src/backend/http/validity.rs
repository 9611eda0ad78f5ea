//! When a certificate ends (RFC 5280 section 4.1.2.5) and which version it has, read from its DER (X.690)
//! without a library: TLS judges certificates, this is only for a warning ahead of time, and for saying
//! what TLS has against one.

#![forbid(unsafe_code)]

use crate::env::Timestamp;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0] EXPLICIT Version`, which the first version lacks.
const VERSION: u8 = 0xa0;

/// The DER of version 3.
const V3: [u8; 3] = [INTEGER, 1, 2];

/// Whether a certificate may be of version 3: what is no certificate may, too.
pub(super) fn is_of_version_3(certificate: &[u8]) -> bool {
    let version = || {
        let (tag, version) = fields(certificate)?.next()?;
        Some((tag == VERSION).then_some(version))
    };
    version().is_none_or(|version| version == Some(&V3))
}

/// The `notAfter` of a certificate; none where this is no certificate.
pub(super) fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let mut fields = fields(certificate)?;
    let (tag, _) = fields.clone().next()?;
    if tag == VERSION {
        fields.next()?;
    }
    // Serial number, signature algorithm, issuer.
    fields.next_of(INTEGER)?;
    fields.next_of(SEQUENCE)?;
    fields.next_of(SEQUENCE)?;
    let mut validity = Elements(fields.next_of(SEQUENCE)?);
    validity.next()?;
    let (tag, time) = validity.next()?;
    let text = std::str::from_utf8(time).ok()?.strip_suffix('Z')?;
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match (tag, text.len()) {
        // Two digits of the year: 50 to 99 are of the twentieth century.
        (UTC_TIME, 12) if digits => {
            let century = if text < "50" { "20" } else { "19" };
            moment(&format!("{century}{text}"))
        }
        (GENERALIZED_TIME, 14) if digits => moment(text),
        _ => None,
    }
}

/// Whether it may be of version 3, and when it ends.
#[cfg(fuzzing)]
pub fn certificate_as_fuzzed(certificate: &[u8]) -> (bool, Option<Timestamp>) {
    (is_of_version_3(certificate), not_after(certificate))
}

/// What is signed, field by field.
fn fields(certificate: &[u8]) -> Option<Elements<'_>> {
    let mut all = Elements(certificate);
    let mut certificate = Elements(all.next_of(SEQUENCE)?);
    Some(Elements(certificate.next_of(SEQUENCE)?))
}

/// `YYYYMMDDHHMMSS` as a moment.
fn moment(digits: &str) -> Option<Timestamp> {
    let part = |from: usize, to: usize| digits.get(from..to);
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(8, 10)?, part(10, 12)?, part(12, 14)?);
    format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z").parse().ok()
}

/// Elements of DER, one after the other: tag and content.
#[derive(Clone)]
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    fn next_of(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.next().filter(|(tag, _)| *tag == wanted).map(|(_, content)| content)
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[tag, first], rest) = self.0.split_first_chunk::<2>()?;
        let (len, rest) = match usize::from(first) {
            short @ 0..=0x7f => (short, rest),
            // So many bytes have the length; certificates are shorter than 16 MiB.
            long @ 0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(long - 0x80)?;
                (bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, content))
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    use test_kit::{Certificates, run};

    use super::*;

    #[test]
    fn says_what_openssl_says() {
        let folder = tempfile::tempdir().unwrap();
        let made = Certificates::make(folder.path()).unwrap();
        made.issue("late", "", "20000").unwrap();
        made.issue_expired("early", "").unwrap();
        for name in ["ca.pem", "client.pem", "late.pem", "early.pem"] {
            let path = made.path(name);
            let words = ["x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in"];
            let text = path.to_str().unwrap();
            let said = run("openssl", words.into_iter().chain([text])).unwrap();
            let said = said.trim().strip_prefix("notAfter=").unwrap().replace(' ', "T");
            let der = CertificateDer::from_pem_file(&path).unwrap();
            assert_eq!(not_after(&der).unwrap().to_string(), said, "{name}");
            assert!(is_of_version_3(&der), "{name}");
            // What is cut is none, whatever is left.
            for len in 0..der.len().min(120) {
                assert_eq!(not_after(&der[..len]), None, "{name}, {len} bytes");
            }
        }
    }

    #[test]
    fn no_bytes_make_it_fall() {
        let certificate = |time: &[u8]| {
            let wrap = |tag: u8, content: &[u8]| {
                [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
            };
            let validity = wrap(SEQUENCE, &[wrap(UTC_TIME, b""), time.to_vec()].concat());
            let [serial, empty] = [wrap(INTEGER, b"\x01"), wrap(SEQUENCE, b"")];
            let fields = [serial, empty.clone(), empty, validity].concat();
            wrap(SEQUENCE, &wrap(SEQUENCE, &fields))
        };
        let utc = |text: &[u8]| [&[UTC_TIME, u8::try_from(text.len()).unwrap()], text].concat();
        let at = |text: &[u8]| not_after(&certificate(&utc(text))).map(|at| at.to_string());
        assert_eq!(at(b"491231235959Z").as_deref(), Some("2049-12-31T23:59:59Z"));
        // Before 1970 there is no moment of ours.
        for wrong in [
            &b"500101000000Z"[..],
            b"4912312359Z",
            b"491331235959Z",
            b"+91231235959Z",
            b"\xff91231235959Z",
            b"",
        ] {
            assert_eq!(at(wrong), None, "{wrong:?}");
        }
        for der in [&b"\x30\x84\x00\x00\x00\x01"[..], b"\x30\x80", b"\x30\x83\xff\xff\xff", b"\x30"]
        {
            assert_eq!(not_after(der), None);
        }
    }
}
