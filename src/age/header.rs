//! The header: who can open the file, and a check over it.

#![forbid(unsafe_code)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::damaged;
use crate::error::{Error, Kind, Result};
use crate::secret::SecretBytes;

const FIRST: &str = "age-encryption.org/v1";
/// What begins a stanza.
const ARROW: &str = "-> ";
/// What begins the last line.
const END: &str = "---";
/// How wide lines are, in characters.
const WIDTH: usize = 64;
/// The longest header, in bytes: that of a hundred recipients has 200,000.
const MAX_LEN: usize = 1 << 20;

/// The file's key as it was wrapped for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stanza {
    pub(super) kind: String,
    pub(super) arguments: Vec<String>,
    pub(super) body: Vec<u8>,
}

pub(super) struct Header {
    pub(super) stanzas: Vec<Stanza>,
}

impl Header {
    /// The text, with the check under the file's `key`.
    pub(super) fn to_bytes(&self, key: &SecretBytes) -> Result<Vec<u8>> {
        let mut text = format!("{FIRST}\n");
        for Stanza { kind, arguments, body } in &self.stanzas {
            text += ARROW;
            text += kind;
            arguments.iter().for_each(|argument| text += &format!(" {argument}"));
            text.push('\n');
            let body = STANDARD_NO_PAD.encode(body);
            let mut rest = body.as_str();
            // The last line is shorter than the others, if need be empty.
            while rest.len() >= WIDTH {
                let (line, more) = rest.split_at(WIDTH);
                text += &format!("{line}\n");
                rest = more;
            }
            text += &format!("{rest}\n");
        }
        text += END;
        let sum = mac(key, text.as_bytes())?;
        text += &format!(" {}\n", STANDARD_NO_PAD.encode(sum));
        Ok(text.into_bytes())
    }

    /// The header that `file` begins with, and what follows it.
    pub(super) fn parse(file: &[u8]) -> Result<(Self, &[u8])> {
        let mut at = 0;
        let mut line = || {
            let rest = &file[at..file.len().min(MAX_LEN)];
            let len = rest.iter().position(|byte| *byte == b'\n')?;
            at += len + 1;
            str::from_utf8(&rest[..len]).ok()
        };
        if line() != Some(FIRST) {
            return Err(Error::new(Kind::Config, "it is no age file")
                .advise("name a file that `keyward keystore backup` wrote"));
        }
        let cut = || damaged("its header is cut off");
        let (mut stanzas, mut next) = (Vec::new(), line().ok_or_else(cut)?);
        while let Some(words) = next.strip_prefix(ARROW) {
            let mut words = words.split(' ').map(str::to_owned);
            let kind = words.next().filter(|kind| !kind.is_empty()).ok_or_else(cut)?;
            let mut body = String::new();
            loop {
                let part = line().ok_or_else(cut)?;
                body += part;
                match part.len() {
                    WIDTH => {}
                    0..WIDTH => break,
                    _ => return Err(damaged("a line of its header is too long")),
                }
            }
            let body = STANDARD_NO_PAD.decode(body);
            let body = body.map_err(|_| damaged("its header is no base64"))?;
            stanzas.push(Stanza { kind, arguments: words.collect(), body });
            next = line().ok_or_else(cut)?;
        }
        if !next.starts_with(END) || stanzas.is_empty() {
            return Err(damaged("its header has no end"));
        }
        Ok((Self { stanzas }, &file[at..]))
    }

    /// Checks that the header of `file` is as it was written by who knows the file's `key`.
    pub(super) fn check(&self, key: &SecretBytes, file: &[u8]) -> Result<()> {
        let end = file.windows(END.len() + 1).position(|part| part == b"\n---").unwrap_or_default();
        let (signed, rest) = file.split_at((end + 1 + END.len()).min(file.len()));
        let sum = rest.strip_prefix(b" ").and_then(|rest| rest.split(|byte| *byte == b'\n').next());
        let sum = sum.and_then(|sum| STANDARD_NO_PAD.decode(sum).ok());
        let right = sum.is_some_and(|sum| {
            mac(key, signed).is_ok_and(|wanted| bool::from(wanted[..].ct_eq(&sum)))
        });
        if right { Ok(()) } else { Err(damaged("its header was changed")) }
    }
}

fn mac(key: &SecretBytes, text: &[u8]) -> Result<[u8; 32]> {
    let key = derived(key, None, b"header")?;
    let unusable = |_| Error::new(Kind::Internal, "a header cannot be checked");
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).map_err(unusable)?;
    mac.update(text);
    Ok(mac.finalize().into_bytes().into())
}

/// HKDF-SHA-256 (RFC 5869) of the file's key.
pub(super) fn derived(key: &SecretBytes, salt: Option<&[u8]>, info: &[u8]) -> Result<SecretBytes> {
    SecretBytes::build(32, |out| {
        let unusable = |_| Error::new(Kind::Internal, "a key cannot be derived");
        Hkdf::<Sha256>::new(salt, key.expose()).expand(info, out).map_err(unusable)
    })
}
