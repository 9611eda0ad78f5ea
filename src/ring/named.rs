//! MySQL's keys in memory: by name, one version each. Not for a hot path: the server keeps what it
//! encrypts with and asks again only when a tablespace is opened.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::key::{CheckValue, KeyName, KeyVersion, KeyringKey};
use crate::secret::DataKey;

/// One key of MySQL's keyring as the server may have it.
pub struct NamedKey {
    version: KeyVersion,
    described: KeyringKey,
    data: DataKey,
    check: Option<CheckValue>,
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
        Self { version, described, data, check }
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
}

/// All of them at one moment. A value: a change gives a new one, which takes its place. Names and keys
/// are shared, so that a copy costs little.
#[derive(Clone, Default)]
pub struct NamedKeys(BTreeMap<Arc<KeyName>, Arc<NamedKey>>);

impl NamedKeys {
    /// The key called `name`.
    #[must_use]
    pub fn get(&self, name: &KeyName) -> Option<&Arc<NamedKey>> {
        self.0.get(name)
    }

    /// Puts `key` under `name`.
    pub fn insert(&mut self, name: KeyName, key: Arc<NamedKey>) {
        self.0.insert(Arc::new(name), key);
    }

    /// Takes out the key called `name`.
    pub fn remove(&mut self, name: &KeyName) {
        self.0.remove(name);
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&KeyName, &Arc<NamedKey>)> {
        self.0.iter().map(|(name, key)| (&**name, key))
    }

    /// Their names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &KeyName> {
        self.0.keys().map(AsRef::as_ref)
    }
}
