//! MySQL's keys in our keystore: each name has at most one active version. A removed key leaves a
//! tombstone; stored again, it goes on with the next version.

#![forbid(unsafe_code)]

use super::{Changed, Manager};
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::key::{KeyName, KeyRef, KeyState, KeyringKey, Purpose};
use crate::secret::DataKey;
use crate::source::{KeySource as _, Reason};
use crate::store::Contents;

/// The bytes of a new key.
#[derive(Clone, Copy)]
enum NewKey<'a> {
    /// They were given.
    Given(&'a DataKey),
    /// They were just made; others would do as well.
    Random(&'a DataKey),
}

impl Manager {
    /// Stores `data` as the key called `name`, of the type `kind`; `Conflict` where there is one. After
    /// `Unknown` the same call again is no conflict.
    pub fn store_named(
        &mut self,
        name: &KeyName,
        kind: &str,
        data: &DataKey,
        reason: Reason<'_>,
    ) -> Result<()> {
        self.store(name, kind, NewKey::Given(data), reason)
    }

    /// Makes a random key of `len` bytes and stores it as [`store_named`](Self::store_named) does.
    pub fn generate_named(
        &mut self,
        name: &KeyName,
        kind: &str,
        len: usize,
        reason: Reason<'_>,
    ) -> Result<()> {
        let data = DataKey::generate(len, &*self.reader.env.rng)?;
        self.store(name, kind, NewKey::Random(&data), reason)
    }

    fn store(
        &mut self,
        name: &KeyName,
        kind: &str,
        data: NewKey<'_>,
        reason: Reason<'_>,
    ) -> Result<()> {
        self.may_write()?;
        let purpose = Purpose::Keyring(KeyringKey::new(kind, data.key().expose().len())?);
        self.load()?;
        if let Some(key) = self.unconfirmed(name, &purpose, data)? {
            return self.confirm(key, reason);
        }
        // Asked before the key store is: a name that is taken costs no call.
        free_version(self.reader.keystore()?.contents(), name)?;
        self.reader.prove_it_opens().map_err(not_the_callers)?;
        let mut stored = None;
        let outcome = self.commit(reason, |manager, before| {
            let key = free_version(before.contents(), name)?;
            let data = data.key();
            let after = manager.with_key(before, &key, purpose, data, KeyState::Active, reason)?;
            stored = Some(key.clone());
            Ok(Some(Changed { after, events: vec![(Event::KeyCreated, vec![key])] }))
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
        let keystore = self.reader.keystore()?;
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
    fn confirm(&mut self, key: KeyRef, reason: Reason<'_>) -> Result<()> {
        let keys = vec![key.clone()];
        self.commit(reason, |_, before| {
            Ok(Some(Changed { after: before.clone(), events: vec![(Event::KeyCreated, keys)] }))
        })?;
        self.unconfirmed.retain(|other| *other != key);
        Ok(())
    }

    /// Removes the key called `name` for ever; `NotFound` where there is none.
    pub fn remove_named(&mut self, name: &KeyName, reason: Reason<'_>) -> Result<()> {
        self.commit(reason, |manager, before| {
            let active = before.contents().key(name).and_then(|key| key.active());
            let version = active.map(|entry| entry.version).ok_or_else(|| no_such_key(name))?;
            let key = KeyRef::new(name.clone(), version);
            let change = manager.change(reason);
            let retired = before.with_state(&key, KeyState::Retired, &change)?;
            let after = retired.with_state(&key, KeyState::Destroyed, &change)?.pruned();
            Ok(Some(Changed { after, events: vec![(Event::Destroyed, vec![key])] }))
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
        return Err(Error::new(Kind::Conflict, format!("key {name} already exists"))
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
