//! The section of a local wrapping key.

#![forbid(unsafe_code)]

use super::derive::Cost;
use crate::config::Section;
use crate::error::Result;
use crate::secret::source::SecretSource;

/// What the configuration says of a local wrapping key.
pub struct Settings {
    /// Where the key comes from.
    pub kek: KekSource,
    /// What deriving a key from a passphrase costs. What is wrapped already keeps its own cost.
    pub cost: Cost,
}

impl Settings {
    /// What a `[[provider]]` section says.
    pub fn read(section: &Section) -> Result<Self> {
        let key = section.secret("key", ["key_file", "key_env", "key_credential"])?;
        let passphrase = section
            .secret("passphrase", ["passphrase_file", "passphrase_env", "passphrase_credential"])?;
        let kek = match (key, passphrase) {
            (Some(key), None) => KekSource::KeyFile(key),
            (None, Some(passphrase)) => KekSource::Passphrase(passphrase),
            (None, None) => return Err(section.lacks("key_file")),
            (Some(_), Some(_)) => {
                return Err(section
                    .wrong("type", "a local key is either a key file or a passphrase")
                    .advise("make it two providers, or leave one out"));
            }
        };
        Ok(Self { kek, cost: Cost::default() })
    }
}

/// Where a local wrapping key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KekSource {
    /// 32 bytes, or 64 hex digits, as [`create_key_file`](super::create_key_file) makes them.
    KeyFile(SecretSource),
    /// A passphrase, from which Argon2id makes the key.
    Passphrase(SecretSource),
}
