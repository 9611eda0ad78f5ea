//! New keys and new versions of keys.

#![forbid(unsafe_code)]

use super::Manager;
use crate::error::{Error, Kind, Result};
use crate::key::{Cipher, KeyId, KeyName, KeyRef, KeyState, Purpose};
use crate::secret::DataKey;
use crate::source::{Reason, Which};
use crate::store::{Contents, Keystore, NewVersion};

impl Manager {
    /// The version that a rotation of a key makes: `version_step` after the newest, and in a new
    /// epoch far from what was lost.
    pub(super) fn next_version(&self, contents: &Contents, name: &KeyName) -> Result<KeyRef> {
        let none = || Error::new(Kind::NotFound, format!("there is no key {name}"));
        let key = contents.key(name).ok_or_else(none)?;
        Ok(KeyRef::new(name.clone(), key.next_version(self.version_step)?))
    }

    /// `keystore` with a new random key as the active version `key`.
    pub(super) fn with_new_key(
        &self,
        keystore: &Keystore,
        key: &KeyRef,
        cipher: Cipher,
        reason: Reason<'_>,
    ) -> Result<Keystore> {
        self.with_new_key_as(keystore, key, cipher, KeyState::Active, reason)
    }

    /// `keystore` with a new random key as the version `key`, in `state`.
    pub(super) fn with_new_key_as(
        &self,
        keystore: &Keystore,
        key: &KeyRef,
        cipher: Cipher,
        state: KeyState,
        reason: Reason<'_>,
    ) -> Result<Keystore> {
        let data = DataKey::generate(cipher.key_len, &*self.reader.env.rng)?;
        self.with_key(keystore, key, cipher.into(), &data, state, reason)
    }

    /// `keystore` with `data` as the version `key`, in `state`.
    pub(super) fn with_key(
        &self,
        keystore: &Keystore,
        key: &KeyRef,
        purpose: Purpose,
        data: &DataKey,
        state: KeyState,
        reason: Reason<'_>,
    ) -> Result<Keystore> {
        let change = self.change(reason);
        let created = change.at;
        let new = NewVersion { key: key.clone(), purpose, data, state, created };
        keystore.with_version(&new, &change, &*self.reader.env.rng)
    }
}

pub(super) fn which_ids(contents: &Contents, which: Which) -> Result<Vec<KeyId>> {
    let active = contents.keys().filter(|key| key.active().is_some());
    let ids = active.filter_map(|key| match key.name() {
        KeyName::Id(id) => Some(*id),
        KeyName::Named { .. } => None,
    });
    match which {
        Which::All => Ok(ids.collect()),
        Which::One(wanted) => match ids.into_iter().find(|id| *id == wanted) {
            Some(id) => Ok(vec![id]),
            None => Err(no_such_key(wanted)),
        },
    }
}

pub(super) fn no_such_key(id: KeyId) -> Error {
    Error::new(Kind::NotFound, format!("there is no key {id}"))
        .advise(format!("`keyward keys create {id}` makes it"))
}
