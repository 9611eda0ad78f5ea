//! The nouns: names, versions and states of data keys, and the cipher a version is for.

#![forbid(unsafe_code)]

mod keyring;

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use self::keyring::{KeyringKey, KeyringName, MasterKeyKind, MasterKeyName};
use crate::env::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::hex::Hex;

/// MariaDB's number for a key (`ENCRYPTION_KEY_ID`): 1 = system, 2 = temporary files. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct KeyId(NonZeroU32);

impl KeyId {
    /// The key of the system tablespace, the logs and every table that names no other.
    pub const SYSTEM: Self = Self(NonZeroU32::MIN);

    /// The key with that number, where there can be one.
    #[inline]
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number as the server knows it.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl TryFrom<u32> for KeyId {
    type Error = Error;

    fn try_from(number: u32) -> Result<Self> {
        Self::new(number).ok_or_else(|| {
            Error::new(Kind::Config, "key id 0 means \"not encrypted\"")
                .advise("use an id from 1 on")
        })
    }
}

impl From<KeyId> for u32 {
    fn from(id: KeyId) -> Self {
        id.get()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a server calls a key: MariaDB by number, MySQL by (data id, auth id).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum KeyName {
    /// A MariaDB key.
    Id(KeyId),
    /// A MySQL key; `auth_id` is empty for the server's own.
    Named {
        /// What it is, such as `INNODBKey-<uuid>-1`.
        data_id: KeyringName,
        /// Whose it is, such as `user@host`.
        auth_id: KeyringName,
    },
}

impl KeyName {
    /// MySQL's key `data_id` of `auth_id`, who is nobody where the key is the server's own.
    pub fn named(data_id: impl Into<KeyringName>, auth_id: impl Into<KeyringName>) -> Self {
        Self::Named { data_id: data_id.into(), auth_id: auth_id.into() }
    }

    /// Whether files of a server may be encrypted with it: MariaDB's keys, and those of MySQL's own with such
    /// a name. The others in a keyring are secrets of clients.
    #[must_use]
    pub fn is_for_files(&self) -> bool {
        match self {
            Self::Id(_) => true,
            Self::Named { data_id, auth_id } => {
                let begins = |prefix: &str| data_id.as_bytes().starts_with(prefix.as_bytes());
                auth_id.is_empty() && (begins(keyring::INNODB) || begins(keyring::BINLOG))
            }
        }
    }

    /// What it says of itself where it is one of MySQL's master keys.
    #[must_use]
    pub fn master_key(&self) -> Option<MasterKeyName<'_>> {
        match self {
            Self::Named { data_id, auth_id } if auth_id.is_empty() => MasterKeyName::of(data_id),
            _ => None,
        }
    }
}

impl From<KeyId> for KeyName {
    fn from(id: KeyId) -> Self {
        Self::Id(id)
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Named { data_id, auth_id } if auth_id.is_empty() => data_id.fmt(f),
            Self::Named { data_id, auth_id } => write!(f, "{data_id}@{auth_id}"),
        }
    }
}

/// The version of a key, from 1 on; each rotation raises it. Never 0 ("not encrypted") and never
/// `u32::MAX` ("invalid"), the two values that the server's ABI keeps for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct KeyVersion(NonZeroU32);

impl KeyVersion {
    /// The version a key starts with.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The version with that number, where there can be one.
    #[inline]
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(version) if number != u32::MAX => Some(Self(version)),
            _ => None,
        }
    }

    /// The number as the server knows it.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// The version `step` further on, or an error at the end of the numbers.
    pub fn plus(self, step: u32) -> Result<Self> {
        Self::try_from(self.get().saturating_add(step))
    }
}

impl TryFrom<u32> for KeyVersion {
    type Error = Error;

    fn try_from(number: u32) -> Result<Self> {
        Self::new(number).ok_or_else(|| {
            Error::new(Kind::Config, format!("{number} is not a key version"))
                .advise("versions run from 1 to 4294967294")
        })
    }
}

impl From<KeyVersion> for u32 {
    fn from(version: KeyVersion) -> Self {
        version.get()
    }
}

impl fmt::Display for KeyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One version of one key. Shown as `key 3 version 5`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyRef {
    /// Which key.
    pub name: KeyName,
    /// Which version of it.
    pub version: KeyVersion,
}

impl KeyRef {
    /// Version `version` of key `name`.
    pub fn new(name: impl Into<KeyName>, version: KeyVersion) -> Self {
        Self { name: name.into(), version }
    }
}

impl fmt::Display for KeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {} version {}", self.name, self.version)
    }
}

/// Where a version stands in its life (NIST SP 800-57 part 1, section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// Made and fetchable, not yet used to encrypt.
    Pending,
    /// The version that encrypts.
    Active,
    /// Decrypts, never encrypts.
    Retired,
    /// As retired, and to be got rid of: somebody else may know it.
    Compromised,
    /// Its material is gone; this entry is its tombstone.
    Destroyed,
}

impl KeyState {
    /// Whether the server may still read data with it.
    #[must_use]
    pub const fn decrypts(self) -> bool {
        !matches!(self, Self::Destroyed)
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Retired => "retired",
            Self::Compromised => "compromised",
            Self::Destroyed => "destroyed",
        })
    }
}

/// How the server's pages are encrypted with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageMode {
    /// CBC everywhere: what the server's built-in cipher does.
    Cbc,
    /// CTR for pages and logs; GCM where the server allows the data to grow (temporary files).
    Ctr,
}

/// The cipher of a key version: mode and key size. Written `aes-256-ctr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cipher {
    /// How pages are encrypted.
    pub mode: PageMode,
    /// Key length in bytes: 16, 24 or 32.
    pub key_len: usize,
}

impl Cipher {
    /// AES-256 in CTR mode, what new keys are made for unless the configuration says otherwise.
    pub const DEFAULT: Self = Self { mode: PageMode::Ctr, key_len: 32 };
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            PageMode::Cbc => "cbc",
            PageMode::Ctr => "ctr",
        };
        write!(f, "aes-{}-{mode}", self.key_len * 8)
    }
}

impl FromStr for Cipher {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || {
            Error::new(Kind::Config, format!("{text:?} is not a cipher"))
                .advise("use aes-128-, aes-192- or aes-256-, then cbc or ctr: aes-256-ctr")
        };
        let (bits, mode) =
            text.strip_prefix("aes-").and_then(|rest| rest.split_once('-')).ok_or_else(unknown)?;
        let key_len = match bits {
            "128" => 16,
            "192" => 24,
            "256" => 32,
            _ => return Err(unknown()),
        };
        let mode = match mode {
            "cbc" => PageMode::Cbc,
            "ctr" => PageMode::Ctr,
            _ => return Err(unknown()),
        };
        Ok(Self { mode, key_len })
    }
}

impl Serialize for Cipher {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cipher {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// What a key version is for. Written as the cipher, or as `keyring:<type>:<bytes>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// MariaDB's pages, logs and files, which we encrypt with this cipher.
    Pages(Cipher),
    /// MySQL's keyring: the server itself encrypts with it.
    Keyring(KeyringKey),
}

impl Purpose {
    /// Key length in bytes.
    #[must_use]
    pub const fn key_len(&self) -> usize {
        match self {
            Self::Pages(cipher) => cipher.key_len,
            Self::Keyring(key) => key.key_len(),
        }
    }
}

impl From<Cipher> for Purpose {
    fn from(cipher: Cipher) -> Self {
        Self::Pages(cipher)
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pages(cipher) => cipher.fmt(f),
            Self::Keyring(key) => write!(f, "keyring:{}:{}", key.kind(), key.key_len()),
        }
    }
}

impl FromStr for Purpose {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some(rest) = text.strip_prefix("keyring:") else {
            return text.parse().map(Self::Pages);
        };
        // The type may hold colons of its own.
        let key = rest.rsplit_once(':').and_then(|(kind, len)| Some((kind, len.parse().ok()?)));
        let unknown = || Error::new(Kind::Config, format!("{text:?} is no key of a keyring"));
        let (kind, len) = key.ok_or_else(unknown)?;
        let key = KeyringKey::new(kind, len).map(Self::Keyring)?;
        // One way to write it, because this text is part of what a wrapped key is bound to.
        if key.to_string() == text { Ok(key) } else { Err(unknown()) }
    }
}

impl Serialize for Purpose {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Purpose {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// Proof that a key is the right one without showing it: an HMAC-SHA-256, cut to 16 bytes; written
/// as 32 hex digits. That of a [`DataKey`](crate::secret::DataKey) is of a fixed label under the key;
/// that in a keystore is of the key under the keystore's secret, and means nothing elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CheckValue(pub [u8; 16]);

impl fmt::Display for CheckValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(self.0).fmt(f)
    }
}

impl fmt::Debug for CheckValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for CheckValue {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::new(Kind::Corrupt, "a check value is not 32 hex digits");
        // Of its own accord, the number's parser would take a plus sign as well.
        if text.len() != 32 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let mut value = [0; 16];
        for (byte, at) in value.iter_mut().zip((0..32).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self(value))
    }
}

impl Serialize for CheckValue {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CheckValue {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// Public metadata of a key version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    /// Which one.
    pub key: KeyRef,
    /// Where it stands in its life.
    pub state: KeyState,
    /// What it is for.
    #[serde(rename = "cipher")]
    pub purpose: Purpose,
    /// When it was made, where the key store tells.
    pub created: Option<Timestamp>,
    /// Its check value, where the key store keeps one. Compare it with others of the same key store
    /// only: our own keystores each have a key for theirs.
    pub check: Option<CheckValue>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purpose_reads_back_as_it_was_written() {
        for text in ["aes-256-ctr", "keyring:AES:32", "keyring:SECRET:16384", "keyring:a:b:7"] {
            assert_eq!(text.parse::<Purpose>().unwrap().to_string(), text);
        }
        let wrong =
            ["aes-257-ctr", "keyring:AES", "keyring::5", "keyring:A B:5", "keyring:AES:032"];
        for text in wrong {
            assert_eq!(text.parse::<Purpose>().unwrap_err().kind(), Kind::Config, "{text}");
        }
    }
}
