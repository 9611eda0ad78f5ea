//! A passphrase as the only recipient: scrypt (RFC 7914).

#![forbid(unsafe_code)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use scrypt::{Params, scrypt};

use super::{FILE_KEY, Stanza, damaged, payload};
use crate::env::Rng;
use crate::error::{Error, Kind, Result};
use crate::secret::SecretBytes;

pub(super) const KIND: &str = "scrypt";
const LABEL: &[u8] = b"age-encryption.org/v1/scrypt";
const SALT: usize = 16;
/// The work, as the standard command has it: 2^18 rounds over 256 MiB, about a second.
const WORK: u8 = 18;
/// The largest work factor that is accepted in a file: 1 GiB.
const MAX_WORK: u8 = 20;

pub(super) fn wrap(key: &SecretBytes, passphrase: &[u8], rng: &dyn Rng) -> Result<Stanza> {
    let mut salt = [0; SALT];
    rng.fill(&mut salt)?;
    let body = payload::wrap_once(&derived(passphrase, &salt, WORK)?, key)?;
    let arguments = vec![STANDARD_NO_PAD.encode(salt), WORK.to_string()];
    Ok(Stanza { kind: KIND.to_owned(), arguments, body })
}

/// The file's key; nothing where the stanza is for others, or the passphrase another.
pub(super) fn unwrap(stanza: &Stanza, passphrase: &[u8]) -> Result<Option<SecretBytes>> {
    if stanza.kind != KIND {
        return Ok(None);
    }
    let [salt, work] = &stanza.arguments[..] else { return Err(damaged("a recipient is none")) };
    let salt = STANDARD_NO_PAD.decode(salt).ok().filter(|salt| salt.len() == SALT);
    let salt = salt.ok_or_else(|| damaged("a recipient is none"))?;
    let work = work.parse().ok().filter(|work| (1..=MAX_WORK).contains(work));
    let work = work.ok_or_else(|| damaged("its passphrase takes more work than is done here"))?;
    if stanza.body.len() != FILE_KEY + 16 {
        return Err(damaged("a recipient is none"));
    }
    Ok(payload::unwrap_once(&derived(passphrase, &salt, work)?, &stanza.body))
}

fn derived(passphrase: &[u8], salt: &[u8], work: u8) -> Result<SecretBytes> {
    let unusable = || Error::new(Kind::Internal, "a passphrase cannot be used");
    let params = Params::new(work, 8, 1).map_err(|_| unusable())?;
    let salt = [LABEL, salt].concat();
    SecretBytes::build(32, |out| scrypt(passphrase, &salt, &params, out).map_err(|_| unusable()))
}
