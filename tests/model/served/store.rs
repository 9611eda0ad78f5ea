//! A key store that serves, loses and changes keys as it is asked to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use keyward::custodian::{NextSource, NextStart};
use keyward::env::Deadline;
use keyward::key::{Cipher, KeyInfo, KeyName, KeyRef, KeyState, KeyVersion};
use keyward::provider::{KeyServer, Probe};
use keyward::ring::Ring;
use keyward::secret::DataKey;
use keyward::source::NamedServer;
use keyward::{Error, Kind, Result};

use super::id;

/// How the store fails a change, counted in its calls from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// This call fails.
    At(usize),
    /// It is away from this call on.
    From(usize),
    /// Everything is done, and the answers to what is stored are lost.
    NoAnswer,
}

/// What the store has.
pub(super) type Keys = BTreeMap<KeyRef, (KeyState, Vec<u8>)>;

#[derive(Default)]
pub(super) struct Shelf {
    pub(super) keys: Keys,
    /// Whether listings have no check values.
    pub(super) silent: bool,
    trouble: Option<Trouble>,
    calls: usize,
}

/// The store, which all processes ask.
#[derive(Clone, Default)]
pub(super) struct Store(Arc<Mutex<Shelf>>);

impl Shelf {
    /// Whether a listing shows `key` as these bytes.
    pub(super) fn shows(&self, key: &KeyRef, bytes: &[u8]) -> bool {
        self.keys
            .get(key)
            .is_some_and(|(state, one)| state.decrypts() && (self.silent || one == bytes))
    }

    /// Whether a listing shows everything in `ring` as it is there.
    pub(super) fn shows_all(&self, ring: &Ring) -> bool {
        ring.versions().into_iter().all(|(id, version)| {
            let bytes = ring.get(id, version).map(|held| held.key().expose()).unwrap_or_default();
            self.shows(&KeyRef::new(id, version), bytes)
        })
    }

    pub(super) fn active(&self, name: &KeyName) -> Option<KeyVersion> {
        let of_key = self.keys.iter().filter(|(key, _)| key.name == *name);
        of_key
            .filter(|(_, (state, _))| *state == KeyState::Active)
            .map(|(key, _)| key.version)
            .max()
    }

    pub(super) fn nth(&self, number: u32, nth: usize) -> Option<KeyRef> {
        let name = KeyName::Id(id(number));
        self.keys.keys().rev().filter(|key| key.name == name).nth(nth).cloned()
    }

    pub(super) fn forget(&mut self, number: u32) {
        let name = KeyName::Id(id(number));
        self.keys.retain(|key, _| key.name != name);
    }

    pub(super) fn activate(&mut self, key: &KeyRef) {
        for (one, (state, _)) in &mut self.keys {
            if one.name == key.name && state.decrypts() {
                *state = if one == key { KeyState::Active } else { KeyState::Retired };
            }
        }
    }
}

impl Store {
    pub(super) fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap()
    }

    pub(super) fn keys(&self) -> Keys {
        self.shelf().keys.clone()
    }

    /// Counts calls from now on, to meet `trouble`.
    pub(super) fn meet(&self, trouble: Option<Trouble>) {
        let mut shelf = self.shelf();
        (shelf.trouble, shelf.calls) = (trouble, 0);
    }

    pub(super) fn named(&self) -> NamedServer {
        NamedServer {
            name: "store".to_owned(),
            timeout: Duration::from_secs(60),
            refresh: Duration::from_secs(600),
            server: Box::new(self.clone()),
        }
    }

    fn answer<T>(&self, answer: impl FnOnce(&mut Shelf) -> Result<T>) -> Result<T> {
        let mut shelf = self.shelf();
        let call = shelf.calls;
        shelf.calls += 1;
        match shelf.trouble {
            Some(Trouble::At(at)) if at == call => Err(away()),
            Some(Trouble::From(from)) if from <= call => Err(away()),
            _ => answer(&mut shelf),
        }
    }
}

fn away() -> Error {
    Error::new(Kind::Unavailable, "the store is away")
}

impl KeyServer for Store {
    fn list(&self, _: Deadline) -> Result<Vec<KeyInfo>> {
        self.answer(|shelf| {
            let info = |(key, (state, bytes)): (&KeyRef, &(KeyState, Vec<u8>))| {
                let check = match shelf.silent {
                    true => None,
                    false => Some(DataKey::copy_of(bytes)?.check_value()),
                };
                let purpose = Cipher::DEFAULT.into();
                Ok(KeyInfo { key: key.clone(), state: *state, purpose, created: None, check })
            };
            shelf.keys.iter().map(info).collect()
        })
    }

    fn fetch(&self, key: &KeyRef, _: Deadline) -> Result<DataKey> {
        self.answer(|shelf| match shelf.keys.get(key) {
            Some((state, bytes)) if state.decrypts() => DataKey::copy_of(bytes),
            _ => Err(Error::new(Kind::NotFound, format!("there is no {key}"))),
        })
    }

    fn put(&self, key: &KeyRef, data: &DataKey, _: Deadline) -> Result<()> {
        self.answer(|shelf| {
            if shelf.keys.contains_key(key) {
                return Err(Error::new(Kind::Conflict, format!("{key} is there")));
            }
            shelf.keys.insert(key.clone(), (KeyState::Retired, data.expose().to_vec()));
            shelf.activate(key);
            match shelf.trouble {
                Some(Trouble::NoAnswer) => Err(Error::new(Kind::Timeout, "no answer in time")),
                _ => Ok(()),
            }
        })
    }

    fn remove(&self, _: &KeyRef, _: Deadline) -> Result<()> {
        Err(Error::new(Kind::Unsupported, "it stays"))
    }

    fn probe(&self, _: Deadline) -> Result<Probe> {
        self.answer(|_| Ok(Probe::default()))
    }
}

impl NextStart for Store {
    fn open(&mut self) -> Result<NextSource> {
        Ok(NextSource::Served { server: self.named(), stash: None })
    }
}
