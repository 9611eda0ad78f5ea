//! MySQL's keys in our keystore: each name has at most one active version. A removed key leaves a
//! tombstone; stored again, it goes on with the next version.

use std::sync::Arc;

use super::{Changed, KeySource, KeystoreSource, Reason};
use crate::audit::Event;
use crate::error::{Error, Kind, Result};
use crate::key::{KeyName, KeyRef, KeyState, KeyVersion, KeyringKey, Purpose};
use crate::ring::{NamedKey, NamedKeys, Ring};
use crate::secret::DataKey;
use crate::store::{Contents, Keystore};

impl KeystoreSource {
    pub(super) fn store(
        &mut self,
        ring: &Ring,
        name: &KeyName,
        kind: &str,
        data: &DataKey,
        reason: Reason<'_>,
    ) -> Result<()> {
        let purpose = Purpose::Keyring(KeyringKey::new(kind, data.expose().len())?);
        self.load(ring)?;
        // Asked before the key store is: a name that is taken costs no call.
        free_version(self.keystore()?.contents(), name)?;
        self.prove_it_opens().map_err(not_the_callers)?;
        self.commit(ring, reason, |source, before| {
            let key = free_version(before.contents(), name)?;
            let after = source.with_key(before, &key, purpose, data, KeyState::Active, reason)?;
            Ok(Some(Changed { after, told: vec![(Event::KeyCreated, vec![key])] }))
        })
        .map(drop)
    }

    pub(super) fn remove(&mut self, ring: &Ring, name: &KeyName, reason: Reason<'_>) -> Result<()> {
        self.commit(ring, reason, |source, before| {
            let active = before.contents().key(name).and_then(|key| key.active());
            let version = active.map(|entry| entry.version).ok_or_else(|| no_such_key(name))?;
            let key = KeyRef::new(name.clone(), version);
            let change = source.change(reason);
            let retired = before.with_state(&key, KeyState::Retired, &change)?;
            let after = retired.with_state(&key, KeyState::Destroyed, &change)?;
            Ok(Some(Changed { after, told: vec![(Event::Destroyed, vec![key])] }))
        })
        .map(drop)
    }
}

/// The version under which `name` can be stored.
fn free_version(contents: &Contents, name: &KeyName) -> Result<KeyRef> {
    let Some(key) = contents.key(name) else {
        return Ok(KeyRef::new(name.clone(), KeyVersion::FIRST));
    };
    if key.active().is_some() {
        return Err(Error::new(Kind::Conflict, format!("key {name} is there already"))
            .advise("remove it first, or choose another name"));
    }
    let newest = key.newest().map_or(Ok(KeyVersion::FIRST), |newest| newest.version.plus(1))?;
    Ok(KeyRef::new(name.clone(), newest))
}

/// An error of the key store's, by its kind no answer to what the caller asked for.
fn not_the_callers(error: Error) -> Error {
    match error.kind() {
        Kind::Config | Kind::Conflict | Kind::NotFound => {
            let same = Error::new(Kind::State, error.what());
            match error.advice() {
                Some(advice) => same.advise(advice),
                None => same,
            }
        }
        _ => error,
    }
}

fn no_such_key(name: &KeyName) -> Error {
    Error::new(Kind::NotFound, format!("there is no key {name}"))
}

/// MySQL's keys as the ring is to have them: those of before that are still the same, and new ones.
pub(super) fn collect(keystore: &Keystore, ring: &Ring) -> Result<NamedKeys> {
    let before = ring.named();
    let mut after = NamedKeys::default();
    for key in keystore.contents().keys() {
        let Some(entry) = key.active() else { continue };
        let (KeyName::Named { .. }, Purpose::Keyring(described)) = (key.name(), &entry.purpose)
        else {
            continue;
        };
        let same =
            |old: &&Arc<NamedKey>| old.version() == entry.version && old.check() == entry.check;
        let held = match before.get(key.name()).filter(same) {
            Some(held) => Arc::clone(held),
            None => {
                let data = keystore.data_key(&KeyRef::new(key.name().clone(), entry.version))?;
                Arc::new(NamedKey::new(entry.version, described.clone(), data))
            }
        };
        after.insert(key.name().clone(), held);
    }
    Ok(after)
}
