//! The mark as a value: its text, and what it says of the keys that were opened.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::env::Rng;
use crate::error::{Error, Kind, Result};
use crate::hex::Hex;
use crate::key::{KeyName, KeyRef, KeyVersion};
use crate::secret::{DataKey, scrubbed};

/// What every mark calls itself.
const FORMAT: &str = "keyward-mark";

/// The version of the format; a newer one is never guessed at.
const VERSION: u32 = 1;

/// No mark is longer, in bytes: 100,000 versions have less than half of it.
pub const MAX_LEN: usize = 32 << 20;

/// No mark lists more versions.
const MAX_KEYS: usize = 100_000;

/// Which versions may have encrypted a data directory, and of which keystore they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    id: String,
    keystore: String,
    salt: Hex,
    keys: BTreeMap<KeyRef, Hex>,
}

/// How a listed version compares with what was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// It is not there.
    Missing,
    /// Another key has its number.
    Other,
}

/// The file, member by member in the order it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    version: u32,
    /// The mark's own, random.
    id: String,
    /// The keystore's id, or the provider that serves the keys.
    keystore: String,
    salt: Hex,
    keys: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: KeyName,
    version: KeyVersion,
    check: Hex,
}

/// The part that every version of the format has.
#[derive(Deserialize)]
struct Header {
    format: String,
    version: u32,
}

impl Mark {
    /// A mark without versions, called `id`.
    pub fn new(id: &str, keystore: &str, rng: &dyn Rng) -> Result<Self> {
        let mut salt = Hex([0; 32]);
        rng.fill(&mut salt.0)?;
        let (id, keystore) = (id.to_owned(), keystore.to_owned());
        Ok(Self { id, keystore, salt, keys: BTreeMap::new() })
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote. `Corrupt` where it is no mark, `Unsupported`
    /// where a newer keyward wrote it.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let broken = || Error::new(Kind::Corrupt, "it is no mark of keyward's, or damaged");
        if bytes.len() > MAX_LEN {
            return Err(broken());
        }
        let header: Header = serde_json::from_slice(bytes).map_err(|_| broken())?;
        match (header.format.as_str(), header.version) {
            (FORMAT, VERSION) => {}
            (FORMAT, newer) if newer > VERSION => {
                let what = format!("it has format version {newer}, this keyward knows {VERSION}");
                return Err(Error::new(Kind::Unsupported, what).advise("update this keyward"));
            }
            _ => return Err(broken()),
        }
        let document: Document = serde_json::from_slice(bytes).map_err(|_| broken())?;
        let Document { id, keystore, salt, keys, .. } = document;
        let fits = is_word(&id) && is_word(&keystore) && keys.len() <= MAX_KEYS;
        let listed = keys.iter().all(|entry| entry.name.is_for_files());
        let count = keys.len();
        let keys: BTreeMap<_, _> = keys
            .into_iter()
            .map(|entry| (KeyRef::new(entry.name, entry.version), entry.check))
            .collect();
        if !fits || !listed || keys.len() != count {
            return Err(broken());
        }
        Ok(Self { id, keystore, salt, keys })
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let entry = |(key, check): (&KeyRef, &Hex)| Entry {
            name: key.name.clone(),
            version: key.version,
            check: *check,
        };
        let document = Document {
            format: FORMAT.to_owned(),
            version: VERSION,
            id: self.id.clone(),
            keystore: self.keystore.clone(),
            salt: self.salt,
            keys: self.keys.iter().map(entry).collect(),
        };
        let mut bytes = serde_json::to_vec(&document)
            .map_err(|_| Error::new(Kind::Internal, "the mark cannot be written as JSON"))?;
        bytes.push(b'\n');
        if bytes.len() > MAX_LEN || self.keys.len() > MAX_KEYS {
            let what = format!("the mark of {} versions is too long", self.keys.len());
            return Err(Error::new(Kind::Unsupported, what)
                .advise("destroy versions that nothing needs any more"));
        }
        Ok(bytes)
    }

    /// Its own id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Of which keystore the versions were when it was written last.
    #[must_use]
    pub fn keystore(&self) -> &str {
        &self.keystore
    }

    /// The versions it lists, sorted.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &KeyRef> {
        self.keys.keys()
    }

    /// Whether `key` is listed with this very key; `None` where it is not listed.
    #[must_use]
    pub fn agrees(&self, key: &KeyRef, data: &DataKey) -> Option<bool> {
        // Nothing secret depends on how long this takes: both hashes are of this machine's files.
        self.keys.get(key).map(|check| *check == self.hash(key, data))
    }

    /// The listed versions that `opened` lacks or has with another key. What it has destroyed itself
    /// (`gone`) is no difference.
    pub fn differences<'k>(
        &self,
        opened: impl Fn(&KeyRef, &dyn Fn(&DataKey) -> bool) -> Option<bool> + 'k,
        gone: impl Fn(&KeyRef) -> bool,
    ) -> Vec<(KeyRef, Difference)> {
        let differs = |key: &KeyRef| match opened(key, &|data| self.agrees(key, data) == Some(true))
        {
            Some(true) => None,
            Some(false) => Some(Difference::Other),
            None if gone(key) => None,
            None => Some(Difference::Missing),
        };
        let found = self.keys.keys().map(|key| (key, differs(key)));
        found.filter_map(|(key, differs)| Some((key.clone(), differs?))).collect()
    }

    /// The same mark, of `keystore` and without versions.
    #[must_use]
    pub fn emptied(&self, keystore: &str) -> Self {
        let keystore = keystore.to_owned();
        Self { id: self.id.clone(), keystore, salt: self.salt, keys: BTreeMap::new() }
    }

    /// Lists `key`, which is `data`. Within `secret::scrubbed` only, where there are many.
    pub fn list(&mut self, key: KeyRef, data: &DataKey) {
        if key.name.is_for_files() && !self.keys.contains_key(&key) {
            let hash = self.hash(&key, data);
            self.keys.insert(key, hash);
        }
    }

    /// Lists `key` as `other` does.
    pub fn keep(&mut self, key: &KeyRef, other: &Self) {
        if self.salt == other.salt
            && let Some(hash) = other.keys.get(key)
        {
            self.keys.entry(key.clone()).or_insert(*hash);
        }
    }

    /// HMAC-SHA-256 (RFC 2104) under the key, of the salt and of what the version is called, each
    /// field with its length before it.
    fn hash(&self, key: &KeyRef, data: &DataKey) -> Hex {
        let mut hash = Hex([0; 32]);
        scrubbed(|| {
            // HMAC takes a key of any length, so this cannot fail.
            let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(data.expose()) else {
                return;
            };
            let mut field = |bytes: &[u8]| {
                mac.update(&(bytes.len() as u64).to_be_bytes());
                mac.update(bytes);
            };
            field(b"keyward mark v1");
            field(&self.salt.0);
            match &key.name {
                KeyName::Id(id) => field(&id.get().to_be_bytes()),
                KeyName::Named { data_id, .. } => field(data_id.as_bytes()),
            }
            field(&key.version.get().to_be_bytes());
            hash.0.copy_from_slice(&mac.finalize().into_bytes());
        });
        hash
    }
}

/// What may be a name in a mark: it is shown to people.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= 200 && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::fake::FakeRng;
    use crate::key::KeyId;

    fn key(id: u32, version: u32) -> KeyRef {
        KeyRef::new(KeyId::try_from(id).unwrap(), KeyVersion::try_from(version).unwrap())
    }

    fn named(data_id: &str, auth_id: &str) -> KeyName {
        KeyName::named(data_id, auth_id)
    }

    fn data(byte: u8) -> DataKey {
        DataKey::copy_of(&[byte; 32]).unwrap()
    }

    fn mark() -> Mark {
        let mut mark = Mark::new("m", "k", &FakeRng::new(1)).unwrap();
        for version in [1, 3] {
            mark.list(key(1, version), &data(u8::try_from(version).unwrap()));
        }
        mark
    }

    #[test]
    fn only_what_encrypts_files_is_listed() {
        assert!(named("INNODBKey-0a-1", "").is_for_files());
        assert!(named("MySQLReplicationKey_0a_1", "").is_for_files());
        assert!(!named("percona_redo", "").is_for_files());
        assert!(!named("INNODBKey-0a-1", "joe@localhost").is_for_files());
        let mut mark = mark();
        mark.list(KeyRef::new(named("password", "joe@%"), KeyVersion::FIRST), &data(9));
        assert_eq!(mark.keys().len(), 2);
        let text = String::from_utf8(mark.to_bytes().unwrap()).unwrap();
        assert!(!text.contains("joe"), "{text}");
    }

    #[test]
    fn tells_a_missing_version_and_another_key_from_the_same() {
        let mark = mark();
        let same = |which: u8| {
            move |key: &KeyRef, is: &dyn Fn(&DataKey) -> bool| match key.version.get() {
                1 => Some(is(&data(1))),
                3 if which > 0 => Some(is(&data(which))),
                _ => None,
            }
        };
        assert_eq!(mark.differences(same(3), |_| false), []);
        assert_eq!(mark.differences(same(7), |_| false), [(key(1, 3), Difference::Other)]);
        assert_eq!(mark.differences(same(0), |_| false), [(key(1, 3), Difference::Missing)]);
        assert_eq!(mark.differences(same(0), |gone| *gone == key(1, 3)), []);
    }

    #[test]
    fn a_hash_holds_for_one_version_and_one_mark() {
        let other = Mark::new("m", "k", &FakeRng::new(2)).unwrap();
        let hash = |mark: &Mark, key: KeyRef| mark.hash(&key, &data(1));
        assert_ne!(hash(&mark(), key(1, 1)), hash(&mark(), key(1, 3)));
        assert_ne!(hash(&mark(), key(1, 1)), hash(&mark(), key(2, 1)));
        assert_ne!(hash(&mark(), key(1, 1)), hash(&other, key(1, 1)));
    }

    #[test]
    fn what_is_kept_stays_as_it_was() {
        let before = mark();
        let mut after = before.emptied("k2");
        after.list(key(1, 1), &data(1));
        after.keep(&key(1, 3), &before);
        assert_eq!((after.keystore(), after.id()), ("k2", "m"));
        assert_eq!(after.agrees(&key(1, 3), &data(3)), Some(true));
        assert_eq!(after.agrees(&key(1, 5), &data(3)), None);
    }
}
