//! MySQL's keys in our keystore: each name has at most one active version. A removed key leaves a
//! tombstone; stored again, it goes on with the next version.

use std::sync::Arc;

use super::{Changed, KeySource, KeystoreSource, NewKey, Reason};
use crate::audit::Event;
use crate::error::{Error, Kind, Result};
use crate::key::{KeyName, KeyRef, KeyState, KeyringKey, Purpose};
use crate::ring::{NamedKey, NamedKeys, Ring};
use crate::secret::DataKey;
use crate::store::{Contents, Keystore};

impl KeystoreSource {
    pub(super) fn store(
        &mut self,
        ring: &Ring,
        name: &KeyName,
        kind: &str,
        data: NewKey<'_>,
        reason: Reason<'_>,
    ) -> Result<()> {
        let purpose = Purpose::Keyring(KeyringKey::new(kind, data.key().expose().len())?);
        self.load(ring)?;
        if let Some(key) = self.unconfirmed(name, &purpose, data)? {
            return self.confirm(ring, key, reason);
        }
        // Asked before the key store is: a name that is taken costs no call.
        free_version(self.keystore()?.contents(), name)?;
        self.prove_it_opens().map_err(not_the_callers)?;
        let mut stored = None;
        let outcome = self.commit(ring, reason, |source, before| {
            let key = free_version(before.contents(), name)?;
            let data = data.key();
            let after = source.with_key(before, &key, purpose, data, KeyState::Active, reason)?;
            stored = Some(key.clone());
            Ok(Some(Changed { after, told: vec![(Event::KeyCreated, vec![key])] }))
        });
        match &outcome {
            Ok(_) => self.unconfirmed.retain(|key| key.name != *name),
            Err(error) if error.kind() == Kind::Unknown => self.unconfirmed.extend(stored),
            Err(_) => {}
        }
        outcome.map(drop)
    }

    /// The version that this very call stored before, without knowing whether it lasts.
    fn unconfirmed(
        &self,
        name: &KeyName,
        purpose: &Purpose,
        data: NewKey<'_>,
    ) -> Result<Option<KeyRef>> {
        let keystore = self.keystore()?;
        let entry = keystore.contents().key(name).and_then(|key| key.active());
        let Some(entry) = entry.filter(|entry| entry.purpose == *purpose) else { return Ok(None) };
        let key = KeyRef::new(name.clone(), entry.version);
        if !self.unconfirmed.contains(&key) {
            return Ok(None);
        }
        let same = match data {
            NewKey::Random(_) => true,
            NewKey::Given(data) => keystore.data_key(&key)?.same_as(data),
        };
        Ok(same.then_some(key))
    }

    /// Writes the next generation with the same keys: what that makes last, the one before did not.
    fn confirm(&mut self, ring: &Ring, key: KeyRef, reason: Reason<'_>) -> Result<()> {
        let keys = vec![key.clone()];
        self.commit(ring, reason, |_, before| {
            Ok(Some(Changed { after: before.clone(), told: vec![(Event::KeyCreated, keys)] }))
        })?;
        self.unconfirmed.retain(|other| *other != key);
        Ok(())
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

impl NewKey<'_> {
    fn key(&self) -> &DataKey {
        match self {
            Self::Given(key) | Self::Random(key) => key,
        }
    }
}

/// The version under which `name` can be stored.
fn free_version(contents: &Contents, name: &KeyName) -> Result<KeyRef> {
    if contents.key(name).is_some_and(|key| key.active().is_some()) {
        return Err(Error::new(Kind::Conflict, format!("key {name} is there already"))
            .advise("remove it first, or choose another name"));
    }
    Ok(KeyRef::new(name.clone(), contents.next_version(name, 1)?))
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
                Arc::new(NamedKey::new(entry.version, described.clone(), data, entry.check))
            }
        };
        after.insert(key.name().clone(), held);
    }
    Ok(after)
}
