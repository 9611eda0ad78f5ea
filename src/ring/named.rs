//! MySQL's keys in memory: by name, one version each. Not for a hot path: the server keeps what it
//! encrypts with and asks again only when a tablespace is opened.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::key::{CheckValue, KeyName, KeyVersion, KeyringKey};
use crate::secret::DataKey;

/// One key of MySQL's keyring as the server may have it.
pub struct NamedKey {
    version: KeyVersion,
    described: KeyringKey,
    data: DataKey,
    check: Option<CheckValue>,
    used: AtomicBool,
}

impl NamedKey {
    /// `data`, which is version `version` of its name and has the check value `check` in the
    /// keystore that it is from.
    #[must_use]
    pub fn new(
        version: KeyVersion,
        described: KeyringKey,
        data: DataKey,
        check: Option<CheckValue>,
    ) -> Self {
        Self { version, described, data, check, used: AtomicBool::new(false) }
    }

    /// Which version of its name it is.
    #[must_use]
    pub fn version(&self) -> KeyVersion {
        self.version
    }

    /// Its type, such as `AES`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.described.kind()
    }

    /// The key.
    #[must_use]
    pub fn data(&self) -> &DataKey {
        &self.data
    }

    /// The key's check value in its keystore.
    #[must_use]
    pub fn check(&self) -> Option<CheckValue> {
        self.check
    }

    /// Notes that the server has it.
    pub fn note_use(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    /// Whether the server has had it.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }
}

/// The number of parts that clients' keys are kept in: a change copies one of them.
const PARTS: usize = 64;

type Part = BTreeMap<Arc<KeyName>, Arc<NamedKey>>;

/// All of them at one moment. A value: a change gives a new one, which takes its place. Names and keys
/// are shared, and so are the parts that a change left alone: a copy costs little, however many there are.
#[derive(Clone)]
pub struct NamedKeys {
    /// The server's own, apart from clients', which may be many.
    for_files: Arc<Part>,
    others: Box<[Arc<Part>]>,
}

impl Default for NamedKeys {
    fn default() -> Self {
        Self { for_files: Arc::default(), others: (0..PARTS).map(|_| Arc::default()).collect() }
    }
}

impl NamedKeys {
    /// The key called `name`.
    #[must_use]
    pub fn get(&self, name: &KeyName) -> Option<&Arc<NamedKey>> {
        match name.is_for_files() {
            true => self.for_files.get(name),
            false => self.others[part_of(name)].get(name),
        }
    }

    /// Puts `key` under `name`.
    pub fn insert(&mut self, name: KeyName, key: Arc<NamedKey>) {
        Arc::make_mut(self.part(&name)).insert(Arc::new(name), key);
    }

    /// Takes out the key called `name`.
    pub fn remove(&mut self, name: &KeyName) {
        let part = self.part(name);
        if part.contains_key(name) {
            Arc::make_mut(part).remove(name);
        }
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&KeyName, &Arc<NamedKey>)> {
        let parts = self.others.iter().chain([&self.for_files]);
        let mut all: Vec<_> = parts.flat_map(|part| part.iter()).collect();
        all.sort_unstable_by(|a, b| a.0.cmp(b.0));
        all.into_iter().map(|(name, key)| (&**name, key))
    }

    /// Their names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &KeyName> {
        self.iter().map(|(name, _)| name)
    }

    /// Those that files are encrypted with, by name.
    pub fn for_files(&self) -> impl Iterator<Item = (&KeyName, &Arc<NamedKey>)> {
        self.for_files.iter().map(|(name, key)| (&**name, key))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.for_files.is_empty() && self.others.iter().all(|part| part.is_empty())
    }

    fn part(&mut self, name: &KeyName) -> &mut Arc<Part> {
        match name.is_for_files() {
            true => &mut self.for_files,
            false => &mut self.others[part_of(name)],
        }
    }
}

fn part_of(name: &KeyName) -> usize {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    (hasher.finish() % PARTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_found_and_listed_by_name() {
        let key = || {
            let data = DataKey::copy_of(b"secret").unwrap();
            Arc::new(NamedKey::new(
                KeyVersion::FIRST,
                KeyringKey::new("SECRET", 6).unwrap(),
                data,
                None,
            ))
        };
        let name = |nth: u32| KeyName::named(format!("k{nth:04}").as_str(), "root@%");
        let mut keys = NamedKeys::default();
        (0..1_000).rev().for_each(|nth| keys.insert(name(nth), key()));
        let before = keys.clone();
        keys.remove(&name(7));
        keys.remove(&name(4711));
        assert!(keys.get(&name(7)).is_none() && before.get(&name(7)).is_some());
        let listed: Vec<_> = keys.names().cloned().collect();
        let wanted: Vec<_> = (0..1_000).filter(|nth| *nth != 7).map(name).collect();
        assert_eq!(listed, wanted);
        let parts = keys.others.iter().zip(before.others.iter());
        assert_eq!(parts.filter(|(a, b)| Arc::ptr_eq(a, b)).count(), PARTS - 1);
        let master = KeyName::named("INNODBKey-a7c99ba7-e639-11f1-b21a-02fc00000001-1", "");
        keys.insert(master.clone(), key());
        assert!(keys.get(&master).is_some());
        assert_eq!(keys.for_files().map(|(name, _)| name).collect::<Vec<_>>(), [&master]);
        assert_eq!(keys.names().count(), 1_000);
        keys.remove(&master);
        assert!(keys.get(&master).is_none() && !keys.is_empty());
    }
}
