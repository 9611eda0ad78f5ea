//! What a backup of keys says that a key store serves. There is no keystore of ours, so nothing that makes it
//! again and no key that signs: the file is known by its SHA-256. ADR 139 says why.

#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

use super::lines::{Out, Read, put_numbered, put_states, ring_of, text_of};
use super::{BackupKey, FIRST, MARIADB_WORDS, PROGRAMS, WORDS, unreadable, unwritable};
use crate::env::Timestamp;
use crate::error::{Error, Kind, Result, json_place};
use crate::hex::Hex;
use crate::ring::Ring;
use crate::secret::SecretBytes;

/// How keyward takes them.
const SERVED_WORDS: &str = "
With keyward: `keyward keystore restore FILE` puts back what the key store lost. Nothing signs this text: compare
the SHA-256 of the encrypted file with the one that was noted when it was made.

";

/// How the first line for programs begins.
const SERVED: &str = "served ";

/// Where keys were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The provider's name in the configuration.
    pub provider: String,
    /// The place in the key store, for people.
    pub place: String,
}

/// A backup of keys that a key store serves, opened.
pub struct ServedBackup {
    /// Where they were.
    pub origin: Origin,
    /// When it was made.
    pub made: Timestamp,
    /// SHA-256 of the configuration.
    pub configuration: Option<Hex<32>>,
    /// Every version that decrypts, by key and version.
    pub keys: Vec<BackupKey>,
}

/// The first line for programs.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    origin: Origin,
    made: Timestamp,
    configuration: Option<Hex<32>>,
}

impl ServedBackup {
    /// Its text.
    pub fn to_text(&self) -> Result<SecretBytes> {
        text_of(|out| self.put(out))
    }

    /// A ring with all keys, to try data with.
    pub fn ring(&self) -> Result<Ring> {
        ring_of(&self.keys)
    }

    fn put(&self, out: &mut Out<'_>) -> Result<()> {
        let Self { origin, made, configuration, .. } = self;
        let head = Head { origin: origin.clone(), made: *made, configuration: *configuration };
        let head = serde_json::to_string(&head).map_err(|_| unwritable())?;
        let words = [FIRST, WORDS, MARIADB_WORDS, SERVED_WORDS, PROGRAMS].concat();
        out(format!("{words}{SERVED}{head}\n").as_bytes());
        put_states(&self.keys, out)?;
        put_numbered(&self.keys, out);
        Ok(())
    }

    /// Reads a text. Nothing in it shows who wrote it.
    ///
    /// # Errors
    /// `Config` where it is no such backup.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let text = str::from_utf8(text).map_err(|_| unreadable("it is no text"))?;
        let body = text.strip_prefix(FIRST).ok_or_else(|| unreadable("it begins otherwise"))?;
        let (_, lines) = body.split_once(PROGRAMS).ok_or_else(|| unreadable("it has no keys"))?;
        let first = lines.lines().next().and_then(|line| line.strip_prefix(SERVED));
        let head = first.ok_or_else(of_a_keystore)?;
        let head: Head =
            serde_json::from_str(head).map_err(|cause| unreadable(&json_place(&cause)))?;
        let keys = Read::of(lines.lines().skip(1))?.keys()?;
        let in_order = keys.is_sorted_by(|one, next| one.info.key < next.info.key);
        if !in_order {
            return Err(unreadable("its keys are not in their order, or there twice"));
        }
        let Head { origin, made, configuration } = head;
        Ok(Self { origin, made, configuration, keys })
    }
}

/// Whether a text is of keys that a key store serves.
pub(super) fn is_one(body: &str) -> bool {
    body.split_once(PROGRAMS).is_some_and(|(_, lines)| lines.starts_with(SERVED))
}

fn of_a_keystore() -> Error {
    Error::new(Kind::Config, "it is the backup of a keystore, and here a key store serves the keys")
        .advise("name the configuration of that keystore, with --config")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Cipher, KeyId, KeyInfo, KeyRef, KeyState, KeyVersion};
    use crate::secret::DataKey;

    fn backup(versions: &[(u32, u32)]) -> ServedBackup {
        let key = |(id, version): &(u32, u32)| {
            let (id, version) =
                (KeyId::try_from(*id).unwrap(), KeyVersion::try_from(*version).unwrap());
            let info = KeyInfo {
                key: KeyRef::new(id, version),
                state: KeyState::Active,
                purpose: Cipher::DEFAULT.into(),
                created: None,
                check: None,
            };
            BackupKey {
                info,
                data: DataKey::copy_of(&[u8::try_from(version.get()).unwrap(); 32]).unwrap(),
            }
        };
        ServedBackup {
            origin: Origin { provider: "vault".to_owned(), place: "secret/keyward".to_owned() },
            made: Timestamp::from_unix(7),
            configuration: None,
            keys: versions.iter().map(key).collect(),
        }
    }

    #[test]
    fn it_is_read_as_it_was_written_and_a_text_editor_reads_it() {
        let text = backup(&[(1, 1), (1, 4), (2, 1)]).to_text().unwrap();
        let read = ServedBackup::parse(text.expose()).unwrap();
        let found: Vec<_> = read.keys.iter().map(|key| key.info.key.to_string()).collect();
        assert_eq!(found, ["key 1 version 1", "key 1 version 4", "key 2 version 1"]);
        assert!(read.keys[1].data.same_as(&DataKey::copy_of(&[4; 32]).unwrap()));
        assert_eq!(read.origin.place, "secret/keyward");
        let line = format!("\n1;4;{}\n", "04".repeat(32));
        assert!(str::from_utf8(text.expose()).unwrap().contains(&line));
    }

    #[test]
    fn what_is_no_backup_of_served_keys_is_refused_with_its_reason() {
        let text = backup(&[(1, 1), (1, 4)]).to_text().unwrap();
        let text = str::from_utf8(text.expose()).unwrap();
        let line = format!("1;4;{}\n", "04".repeat(32));
        for (changed, told) in [
            (text.replace(&line, ""), "a key is missing or out of order"),
            (text.replace("---\nserved ", "---\nkeystore "), "the backup of a keystore"),
            (text.replace("backup v1", "backup v2"), "it begins otherwise"),
            (format!("{text}2;1;00"), "a key has no state"),
            (format!("{text}2;1;0"), "a key is no hexadecimal digits"),
            (text.replace("\"made\"", "\"mad\""), "line 1"),
        ] {
            let error = ServedBackup::parse(changed.as_bytes()).map(drop).unwrap_err();
            assert!(error.to_string().contains(told), "{told}: {error}");
        }
        let twice = backup(&[(1, 4), (1, 1)]).to_text().unwrap();
        assert!(ServedBackup::parse(twice.expose()).is_err());
    }
}
