//! The nouns of MySQL's keyring: names of any bytes, master keys, and the type of a key.

#![forbid(unsafe_code)]

use std::fmt;
use std::str;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result, escaped};
use crate::hex;

/// One half of a key's name in MySQL's keyring: any bytes, mostly UTF-8. In JSON a text is a string,
/// other bytes are `{"hex": "636166e9"}`. Shown with each such byte as `\xe9`. Cheap to clone: each commit
/// copies the names of all keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct KeyringName(Arc<[u8]>);

impl KeyringName {
    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for KeyringName {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl From<String> for KeyringName {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<&[u8]> for KeyringName {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Vec<u8>> for KeyringName {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Display for KeyringName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(&escaped(chunk.valid()))?;
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

/// A [`KeyringName`] in JSON: one way for each name.
#[derive(Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Written {
    Text(String),
    Bytes { hex: String },
}

impl From<KeyringName> for Written {
    fn from(name: KeyringName) -> Self {
        match String::from_utf8(name.0.to_vec()) {
            Ok(text) => Self::Text(text),
            Err(bytes) => Self::Bytes { hex: hex::text(bytes.as_bytes()) },
        }
    }
}

impl TryFrom<Written> for KeyringName {
    type Error = Error;

    fn try_from(written: Written) -> Result<Self> {
        let digits = match written {
            Written::Text(text) => return Ok(text.into()),
            Written::Bytes { hex } => hex,
        };
        let mut bytes = vec![0; digits.len() / 2];
        hex::decode_into(&mut bytes, digits.as_bytes());
        match hex::text(&bytes) == digits && str::from_utf8(&bytes).is_err() {
            true => Ok(bytes.into()),
            false => Err(Error::new(Kind::Corrupt, "a name in hex is none, or is text")),
        }
    }
}

/// What MySQL encrypts with a master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MasterKeyKind {
    /// The keys of tablespaces, redo and undo logs.
    Innodb,
    /// The passwords of binary and relay logs.
    Binlog,
}

/// The name of one of MySQL's master keys, which the server rotates under a new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MasterKeyName<'a> {
    /// What it is for.
    pub kind: MasterKeyKind,
    /// The `server_uuid` of the server that made it.
    pub server: &'a str,
    /// Its number: the newest has the highest.
    pub number: u64,
}

/// The prefixes of the names of InnoDB's keys and of the binary logs'.
pub(super) const INNODB: &str = "INNODBKey-";
pub(super) const BINLOG: &str = "MySQLReplicationKey_";

impl<'a> MasterKeyName<'a> {
    /// What a key called `data_id` is; none where it is no master key. `MySQLReplicationKey_<uuid>` and
    /// `..._last_purged`, where the server notes numbers, are none.
    pub(super) fn of(data_id: &'a KeyringName) -> Option<Self> {
        let after = |prefix: &str| data_id.as_bytes().strip_prefix(prefix.as_bytes());
        let innodb = || Some((MasterKeyKind::Innodb, after(INNODB)?, '-'));
        let binlog = || Some((MasterKeyKind::Binlog, after(BINLOG)?, '_'));
        let (kind, rest, apart) = innodb().or_else(binlog)?;
        let (server, number) = str::from_utf8(rest).ok()?.rsplit_once(apart)?;
        Some(Self { kind, server, number: number.parse().ok()? })
    }
}

impl fmt::Display for MasterKeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Innodb => "InnoDB",
            Self::Binlog => "binary log",
        })
    }
}

/// The key of a MySQL keyring, as far as the server describes it: it alone knows what the type means.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyringKey {
    kind: Arc<str>,
    len: usize,
}

impl KeyringKey {
    /// The longest type, in bytes. Those in use are AES, RSA, DSA and SECRET.
    pub const MAX_KIND: usize = 128;

    /// A key of `len` bytes and the type `kind`: printable ASCII without spaces.
    pub fn new(kind: &str, len: usize) -> Result<Self> {
        let fits = (1..=Self::MAX_KIND).contains(&kind.len());
        if !fits || !kind.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::new(Kind::Config, "the type of the key is not a word")
                .advise("use AES, RSA, DSA or SECRET"));
        }
        Ok(Self { kind: kind.into(), len })
    }

    /// Its type, such as `AES`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn key_len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyName;

    #[test]
    fn a_name_of_any_bytes_is_written_in_one_way() {
        let name = |bytes: &[u8]| KeyringName::from(bytes);
        for (bytes, json, shown) in [
            (&b""[..], "\"\"", ""),
            (b"plain", "\"plain\"", "plain"),
            (b"a\"b\\c\n", "\"a\\\"b\\\\c\\n\"", "a\"b\\c\\n"),
            ("caf\u{e9}".as_bytes(), "\"caf\u{e9}\"", "caf\u{e9}"),
            (b"caf\xe9", r#"{"hex":"636166e9"}"#, "caf\\xe9"),
            (b"\xff\x01\xfe", r#"{"hex":"ff01fe"}"#, "\\xff\\u{1}\\xfe"),
        ] {
            let one = name(bytes);
            assert_eq!(serde_json::to_string(&one).unwrap(), json);
            assert_eq!(serde_json::from_str::<KeyringName>(json).unwrap(), one);
            assert_eq!(one.to_string(), shown);
        }
        let others = [
            r#"{"hex":"616263"}"#,
            r#"{"hex":"636166E9"}"#,
            r#"{"hex":"e"}"#,
            r#"{"hex":"zz"}"#,
            r#"{"hex":"ff","more":1}"#,
            "[255]",
            "7",
        ];
        for other in others {
            assert!(serde_json::from_str::<KeyringName>(other).is_err(), "{other}");
        }
    }

    #[test]
    fn master_keys_are_known_by_their_names() {
        let uuid = "a7c99ba7-e639-11f1-b21a-02fc00000001";
        let found = |data_id: &str, auth_id: &str| {
            let name = KeyName::named(data_id, auth_id);
            name.master_key().map(|key| (key.kind, key.server.to_owned(), key.number))
        };
        let (innodb, binlog) = (MasterKeyKind::Innodb, MasterKeyKind::Binlog);
        let owned = uuid.to_owned();
        assert_eq!(found(&format!("INNODBKey-{uuid}-7"), ""), Some((innodb, owned.clone(), 7)));
        assert_eq!(found(&format!("MySQLReplicationKey_{uuid}_2"), ""), Some((binlog, owned, 2)));
        assert_eq!(found(&format!("INNODBKey-{uuid}-7"), "joe@localhost"), None);
        for other in ["INNODBKey-", "INNODBKey-x", "MySQLReplicationKey_", "secret"] {
            assert_eq!(found(other, ""), None, "{other}");
        }
        for note in ["", "_last_purged", "_old", "_new"] {
            assert_eq!(found(&format!("MySQLReplicationKey_{uuid}{note}"), ""), None, "{note}");
        }
    }
}
