//! age v1 files (C2SP's age.md): a text encrypted for post-quantum recipients, or by a passphrase, so that
//! the standard `age` command opens it.
//!
//! A file begins with a header in which the file's own key is wrapped, once for each recipient; behind it
//! stands the text in chunks. Files are held in memory whole. What age calls armour is not read.

#![forbid(unsafe_code)]

mod bech32;
mod header;
mod hybrid;
mod passphrase;
mod payload;

pub use hybrid::{Identity, Recipient};

use crate::env::Rng;
use crate::error::{Error, Kind, Result};
use crate::secret::{SecretBytes, scrubbed};
use header::{Header, Stanza};

/// The largest file that is read, in bytes.
pub const MAX_LEN: u64 = 64 << 20;
/// The length of a file's own key.
const FILE_KEY: usize = 16;

/// Who may open a file. The standard allows no passphrase next to recipients, and none but post-quantum
/// ones next to one of these.
#[derive(Clone, Copy)]
pub enum For<'a> {
    /// Each of these.
    Recipients(&'a [Recipient]),
    /// Who knows this.
    Passphrase(&'a [u8]),
}

/// What a file is opened with.
#[derive(Clone, Copy)]
pub enum With<'a> {
    /// The secret part of one of its recipients.
    Identity(&'a Identity),
    /// The passphrase.
    Passphrase(&'a [u8]),
}

/// `text`, encrypted.
pub fn encrypt(text: &[u8], whom: For<'_>, rng: &dyn Rng) -> Result<Vec<u8>> {
    scrubbed(|| {
        let key = SecretBytes::build(FILE_KEY, |key| rng.fill(key))?;
        let stanzas = match whom {
            For::Recipients([]) => return Err(Error::new(Kind::Config, "there is no recipient")),
            For::Recipients(all) => {
                all.iter().map(|one| one.wrap(&key, rng)).collect::<Result<Vec<_>>>()?
            }
            For::Passphrase(passphrase) => vec![passphrase::wrap(&key, passphrase, rng)?],
        };
        let mut file = Header { stanzas }.to_bytes(&key)?;
        payload::seal(text, &key, rng, &mut file)?;
        Ok(file)
    })
}

/// The text of an encrypted `file`.
///
/// # Errors
/// `Config` where it is no such file, `NotMine` where it is not for who opens it, `Corrupt` where it is
/// damaged.
pub fn decrypt(file: &[u8], with: With<'_>) -> Result<SecretBytes> {
    scrubbed(|| {
        let (header, payload) = Header::parse(file)?;
        check_kinds(&header.stanzas)?;
        let mut opened = header.stanzas.iter().map(|stanza| match with {
            With::Identity(identity) => identity.unwrap(stanza),
            With::Passphrase(passphrase) => passphrase::unwrap(stanza, passphrase),
        });
        let key = opened.find_map(Result::transpose).transpose()?.ok_or_else(|| not_mine(with))?;
        header.check(&key, file)?;
        payload::open(payload, &key)
    })
}

/// The standard has a passphrase as the only recipient: then only those who know it can have made the file.
fn check_kinds(stanzas: &[Stanza]) -> Result<()> {
    match stanzas.len() > 1 && stanzas.iter().any(|stanza| stanza.kind == passphrase::KIND) {
        true => Err(damaged("it has a passphrase next to other recipients")),
        false => Ok(()),
    }
}

fn not_mine(with: With<'_>) -> Error {
    let (what, advice) = match with {
        With::Identity(_) => (
            "it is encrypted for others than this identity",
            "name the identity that was made for it, or the passphrase where it was made with one",
        ),
        With::Passphrase(_) => {
            ("the passphrase does not open it", "name the right one, or an identity")
        }
    };
    Error::new(Kind::NotMine, what).advise(advice)
}

/// The error of something that the standard does not allow.
fn damaged(what: &str) -> Error {
    Error::new(Kind::Corrupt, format!("it is damaged: {what}")).advise("take another copy of it")
}
