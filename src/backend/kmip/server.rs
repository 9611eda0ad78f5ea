//! Keeps data keys on a KMIP server. The object `<prefix>/<key id>/<version>` is a version; it is in
//! the object group `<prefix>`, by which all are found, and notes its cipher as application specific
//! information of the name space `keyward`. Its state is the version's.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::attributes::{Attributes, State};
use super::client::{Client, Exchange};
use super::requests::{NewKey, Wanted};
use super::settings::ServerSettings;
use crate::env::{Deadline, Rng, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::key::{
    CheckValue, Cipher, KeyId, KeyInfo, KeyName, KeyRef, KeyState, KeyVersion, PageMode,
};
use crate::provider::{End, KeyServer, Probe, ReturnWay, ReturningKey};
use crate::secret::DataKey;

/// The keys under one prefix of a KMIP server.
pub struct KmipServer {
    client: Client,
    prefix: String,
    mode: PageMode,
    refresh: Duration,
    /// The versions that were read: they never change, so each is fetched once.
    known: Mutex<BTreeMap<KeyRef, Known>>,
}

struct Known {
    id: String,
    data: DataKey,
    cipher: Cipher,
    check: CheckValue,
}

/// A version as the server describes it.
pub(super) struct Found {
    pub(super) key: KeyRef,
    pub(super) id: String,
    pub(super) told: Attributes,
}

impl KmipServer {
    /// The server of the keys that `settings` describe. Nobody is called yet.
    #[must_use]
    pub fn new(settings: ServerSettings, rng: Arc<dyn Rng>) -> Self {
        Self {
            client: Client::new(settings.kmip, rng),
            prefix: settings.prefix,
            mode: settings.mode,
            refresh: settings.refresh,
            known: Mutex::default(),
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<KeyRef, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `keyward/1/3`.
    fn name(&self, id: KeyId, version: KeyVersion) -> String {
        format!("{}/{id}/{version}", self.prefix)
    }

    /// The version that a name of ours means.
    fn key_of(&self, name: &str) -> Option<KeyRef> {
        let (id, version) = name.strip_prefix(&self.prefix)?.strip_prefix('/')?.split_once('/')?;
        let id = KeyId::try_from(id.parse::<u32>().ok()?).ok()?;
        let version = KeyVersion::try_from(version.parse::<u32>().ok()?).ok()?;
        (self.name(id, version) == name).then(|| KeyRef::new(id, version))
    }

    /// All versions that are there, in order.
    pub(super) fn find(&self, exchange: &mut Exchange<'_>) -> Result<Vec<Found>> {
        let wanted = Wanted { group: Some(&self.prefix), ..Wanted::default() };
        let ids =
            exchange.locate(&wanted).map_err(|fault| fault.told(exchange.place(), self.on()))?;
        self.describe(exchange, &ids)
    }

    /// The objects named for `key`; more than one where two came at the same time.
    pub(super) fn find_one(
        &self,
        exchange: &mut Exchange<'_>,
        id: KeyId,
        key: &KeyRef,
    ) -> Result<Vec<Found>> {
        let name = self.name(id, key.version);
        let wanted = Wanted { name: Some(&name), ..Wanted::default() };
        let ids = exchange.locate(&wanted).map_err(|fault| fault.told(exchange.place(), key))?;
        let mut found = self.describe(exchange, &ids)?;
        found.retain(|one| one.key == *key);
        Ok(found)
    }

    /// What the server tells of the objects `ids` that are ours: of two for one version, first the one
    /// that counts.
    fn describe(&self, exchange: &mut Exchange<'_>, ids: &[String]) -> Result<Vec<Found>> {
        let told = exchange.attributes_of(ids)?;
        let found = ids.iter().zip(told).filter_map(|(id, told)| {
            let told = told?;
            let key = told.names.iter().find_map(|name| self.key_of(name))?;
            Some(Found { key, id: id.clone(), told })
        });
        let mut found: Vec<Found> = found.collect();
        found.sort_by(|a, b| (&a.key, a.rank()).cmp(&(&b.key, b.rank())));
        Ok(found)
    }

    /// Fetches those of `found` into `known` that are not there.
    fn learn(&self, exchange: &mut Exchange<'_>, found: &[&Found]) -> Result<()> {
        let missing: Vec<&Found> = {
            let known = self.known();
            let is_known =
                |one: &&&Found| known.get(&one.key).is_some_and(|known| known.id == one.id);
            found.iter().filter(|one| !is_known(one)).copied().collect()
        };
        let ids: Vec<String> = missing.iter().map(|one| one.id.clone()).collect();
        for (one, data) in missing.into_iter().zip(exchange.get_all(&ids)?) {
            let Some(data) = data else {
                return Err(Error::new(
                    Kind::Denied,
                    format!("{} lists {} and does not give it out", exchange.place(), one.key),
                )
                .advise("give the owner of our client certificate the right to Get it"));
            };
            let cipher = self.cipher(one, &data)?;
            let check = data.check_value();
            let known = Known { id: one.id.clone(), data, cipher, check };
            self.known().insert(one.key.clone(), known);
        }
        Ok(())
    }

    fn cipher(&self, one: &Found, data: &DataKey) -> Result<Cipher> {
        let len = data.expose().len();
        let wrong = |what: &str| {
            Error::new(Kind::Config, format!("the KMIP object of {} {what}", one.key))
                .advise("keep AES keys of 128, 192 or 256 bits under this prefix")
        };
        if !matches!(len, 16 | 24 | 32) {
            return Err(wrong("is no AES key"));
        }
        match one.told.note.as_deref().map(str::parse::<Cipher>) {
            None => Ok(Cipher { mode: self.mode, key_len: len }),
            Some(Ok(cipher)) if cipher.key_len == len => Ok(cipher),
            Some(_) => Err(wrong("notes a cipher that does not exist or does not fit it")),
        }
    }

    /// Stores `data`, whose outcome may be lost on the way; the object's id.
    pub(super) fn register(
        &self,
        exchange: &mut Exchange<'_>,
        id: KeyId,
        key: &KeyRef,
        data: &DataKey,
        cipher: Cipher,
    ) -> Result<String> {
        let (name, note) = (self.name(id, key.version), cipher.to_string());
        let mut new = NewKey { name: &name, group: &self.prefix, note: Some(&note) };
        let mut stored = exchange.register(&new, data);
        if cipher.mode == self.mode
            && stored.as_ref().is_err_and(super::failure::CallError::is_unsupported)
        {
            // A server that takes no notes keeps a key that needs none.
            new.note = None;
            stored = exchange.register(&new, data);
        }
        match stored {
            Ok(id) => Ok(id),
            Err(fault) if fault.is_taken() => Err(taken(key)),
            Err(fault) => {
                let error = fault.told(exchange.place(), key);
                // It may be there all the same, where only the answer was lost.
                let lost = matches!(error.kind(), Kind::Unavailable | Kind::Timeout);
                let found = if lost { self.find_one(exchange, id, key) } else { Ok(Vec::new()) };
                let ours = found.unwrap_or_default().into_iter().next();
                match ours.map(|one| (exchange.get(&one.id), one.id)) {
                    Some((Ok(there), id)) if there.check_value() == data.check_value() => Ok(id),
                    Some((Ok(_), _)) => Err(taken(key)),
                    _ => Err(error),
                }
            }
        }
    }

    /// Makes the object of `key` usable, and sure that it is the one that counts.
    fn resolve(
        &self,
        exchange: &mut Exchange<'_>,
        id: KeyId,
        key: &KeyRef,
        object: &str,
    ) -> Result<()> {
        let activated =
            exchange.activate(object).map_err(|fault| fault.told(exchange.place(), key));
        let found = self.find_one(exchange, id, key)?;
        let ours = found.iter().find(|one| one.id == object);
        let is_active = ours.is_some_and(|one| one.told.state == Some(State::Active));
        let counts = found.first().is_some_and(|one| one.id == object);
        match (activated, is_active || ours.is_some_and(|one| one.told.state.is_none())) {
            (_, true) if counts => Ok(()),
            (_, true) => {
                self.discard(exchange, object);
                Err(taken(key))
            }
            (Err(error), false) => {
                self.discard(exchange, object);
                Err(error)
            }
            (Ok(()), false) => Err(Error::new(
                Kind::State,
                format!("{} took {key} and does not activate it", exchange.place()),
            )
            .advise("activate it in the KMIP server")),
        }
    }

    /// Takes back what we have stored and what is not to stay.
    fn discard(&self, exchange: &mut Exchange<'_>, object: &str) {
        // The error that led here counts. What stays is seen by `doctor`.
        let _ = exchange.revoke(object);
        let _ = exchange.destroy(object);
    }

    /// For errors about no single key.
    fn on(&self) -> String {
        format!("the keys of {:?}", self.prefix)
    }

    fn infos(&self, found: &[Found]) -> Vec<KeyInfo> {
        let known = self.known();
        let mut active = BTreeMap::new();
        for one in found.iter().filter(|one| one.told.state.is_none_or(|s| s == State::Active)) {
            active.insert(&one.key.name, one.key.version);
        }
        let mut seen = BTreeSet::new();
        let info = |one: &Found| {
            let known = known.get(&one.key).filter(|known| known.id == one.id);
            let cipher = known.map_or(Cipher { mode: self.mode, key_len: 32 }, |k| k.cipher);
            KeyInfo {
                key: one.key.clone(),
                state: one.state(active.get(&one.key.name) == Some(&one.key.version)),
                purpose: cipher.into(),
                created: one.told.created,
                check: known.map(|known| known.check),
            }
        };
        found.iter().filter(|one| seen.insert(one.key.clone())).map(info).collect()
    }
}

impl Found {
    /// Of two objects for one version, the one with the lower rank counts: not a destroyed one, and
    /// the older.
    fn rank(&self) -> (bool, Option<Timestamp>, usize, &str) {
        let gone = self.told.state == Some(State::Destroyed);
        (gone, self.told.created, self.id.len(), &self.id)
    }

    pub(super) fn is_live(&self) -> bool {
        self.told.state != Some(State::Destroyed)
    }

    /// The version's state, where `newest` is that of the active ones that encrypts.
    fn state(&self, newest: bool) -> KeyState {
        match self.told.state {
            None | Some(State::Active) if newest => KeyState::Active,
            None | Some(State::Active | State::Deactivated) => KeyState::Retired,
            Some(State::PreActive) => KeyState::Pending,
            Some(State::Compromised) => KeyState::Compromised,
            Some(State::Destroyed) => KeyState::Destroyed,
        }
    }
}

impl KeyServer for KmipServer {
    fn list(&self, by: Deadline) -> Result<Vec<KeyInfo>> {
        let mut exchange = self.client.exchange("listing the keys by KMIP", by)?;
        let found = self.find(&mut exchange)?;
        let mut seen = BTreeSet::new();
        let live: Vec<&Found> =
            found.iter().filter(|one| one.is_live() && seen.insert(&one.key)).collect();
        self.learn(&mut exchange, &live)?;
        Ok(self.infos(&found))
    }

    fn fetch(&self, key: &KeyRef, by: Deadline) -> Result<DataKey> {
        by.left(format_args!("fetching {key} by KMIP"))?;
        let none = || Error::new(Kind::NotFound, format!("{} has no {key}", self.client.place()));
        let KeyName::Id(id) = key.name else {
            return Err(none().advise("for MySQL, configure a provider that wraps"));
        };
        let copy = || self.known().get(key).map(|known| DataKey::copy_of(known.data.expose()));
        if let Some(data) = copy() {
            return data;
        }
        let mut exchange = self.client.exchange(format_args!("fetching {key} by KMIP"), by)?;
        let found = self.find_one(&mut exchange, id, key)?;
        let Some(live) = found.first().filter(|one| one.is_live()) else {
            return Err(none().advise("restore it there from a backup, or correct `prefix`"));
        };
        self.learn(&mut exchange, &[live])?;
        copy().unwrap_or_else(|| Err(none()))
    }

    fn put(&self, key: &KeyRef, data: &DataKey, by: Deadline) -> Result<()> {
        let cipher = Cipher { mode: self.mode, key_len: data.expose().len() };
        self.put_for(key, data, cipher, by)
    }

    fn put_for(&self, key: &KeyRef, data: &DataKey, cipher: Cipher, by: Deadline) -> Result<()> {
        let mut exchange = self.client.exchange(format_args!("storing {key} by KMIP"), by)?;
        let KeyName::Id(id) = key.name else {
            return Err(Error::new(Kind::Unsupported, format!("{key} is no key of MariaDB's")));
        };
        if !self.find_one(&mut exchange, id, key)?.is_empty() {
            return Err(taken(key));
        }
        let object = self.register(&mut exchange, id, key, data, cipher)?;
        self.resolve(&mut exchange, id, key, &object)
    }

    fn plan_return(
        &self,
        keys: &[ReturningKey<'_>],
        by: Deadline,
    ) -> Result<Vec<(usize, ReturnWay)>> {
        self.plan(keys, by)
    }

    fn put_back(&self, key: &ReturningKey<'_>, by: Deadline) -> Result<()> {
        self.return_one(key, by)
    }

    fn remove(&self, key: &KeyRef, by: Deadline) -> Result<()> {
        let mut exchange = self.client.exchange(format_args!("destroying {key} by KMIP"), by)?;
        let none = || Error::new(Kind::NotFound, format!("{} has no {key}", self.client.place()));
        let KeyName::Id(id) = key.name else { return Err(none()) };
        let mut found = self.find_one(&mut exchange, id, key)?;
        found.retain(Found::is_live);
        if found.is_empty() {
            return Err(none());
        }
        for one in found {
            if one.told.state.is_none_or(|state| state == State::Active) {
                let revoked = exchange.revoke(&one.id);
                // What was revoked already, by us or by others, can be destroyed.
                if let Err(fault) = revoked
                    && !fault.may_be_the_keys_state()
                {
                    return Err(fault.told(exchange.place(), key));
                }
            }
            match exchange.destroy(&one.id) {
                Err(fault) if fault.is_not_found() && exchange.was_repeated() => {}
                outcome => outcome.map_err(|fault| fault.told(exchange.place(), key))?,
            }
        }
        self.known().remove(key);
        Ok(())
    }

    fn probe(&self, by: Deadline) -> Result<Probe> {
        let mut exchange = self.client.exchange("asking a KMIP server", by)?;
        let (version, tls) = exchange.versions()?;
        let found = self.find(&mut exchange)?;
        let names: BTreeSet<_> = found.iter().map(|one| &one.key.name).collect();
        let pre_active =
            found.iter().filter(|one| one.told.state == Some(State::PreActive)).count();
        let mut facts = vec![
            ("kmip".to_owned(), exchange.place()),
            ("version".to_owned(), version.to_string()),
            ("TLS".to_owned(), tls.to_owned()),
            ("object group".to_owned(), self.prefix.clone()),
            ("keys".to_owned(), names.len().to_string()),
            ("versions".to_owned(), found.len().to_string()),
        ];
        if pre_active > 0 {
            facts.push((
                "left Pre-Active, to be activated there".to_owned(),
                pre_active.to_string(),
            ));
        }
        Ok(Probe { facts })
    }

    fn ends(&self, _: Timestamp) -> Vec<End> {
        self.client.ends()
    }

    fn place(&self) -> String {
        format!("{}, object group {:?}", self.client.place(), self.prefix)
    }

    fn refresh(&self) -> Duration {
        self.refresh
    }
}

fn taken(key: &KeyRef) -> Error {
    Error::new(Kind::Conflict, format!("the KMIP server has {key} already"))
        .advise("somebody else has made it: look again")
}
