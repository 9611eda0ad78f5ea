//! Data keys from our own keystore, whose store key a provider unwraps.

mod named;

use std::time::Duration;

use super::keeper::Keeper;
use super::registered::Registering;
use super::{
    Chore, Destruction, Judged, KeySource, NewKey, Reason, Rewrap, Rewrapped, Role, Step, Which,
    continuity, destroy, opening,
};
use crate::audit::{Event, Record, Trail};
use crate::env::{Deadline, Env, Level, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::key::{Cipher, KeyId, KeyInfo, KeyName, KeyRef, KeyState, Purpose};
use crate::policy::Coming;
use crate::provider::KeyWrapper;
use crate::ring::{Ring, RingKey};
use crate::secret::{DataKey, scrubbed};
use crate::store::{Change, Contents, KeyEntry, Keystore, NewVersion, Stamp, StoreFile, StoreLock};

/// How long a change waits for somebody else's change to end.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(10);

/// How long a start waits for it, to bring the rollback guard up.
pub(super) const START_LOCK_WAIT: Duration = Duration::from_secs(1);

/// A provider that wraps, under the name that the configuration gives it.
pub struct NamedWrapper {
    /// Its name in the configuration and in the keystore's wrappings.
    pub name: String,
    /// How long a call may take.
    pub timeout: Duration,
    /// The key store.
    pub wrapper: Box<dyn KeyWrapper>,
}

impl NamedWrapper {
    /// What it must do now and then.
    pub(super) fn chore(&self) -> Option<Chore> {
        Some(Chore::new(&self.name, self.timeout, self.wrapper.upkeep()?))
    }
}

/// Our own keystore as a source of data keys.
pub struct KeystoreSource {
    pub(super) file: StoreFile,
    pub(super) wrappers: Vec<NamedWrapper>,
    pub(super) cipher: Cipher,
    pub(super) version_step: u32,
    pub(super) keeper: Keeper,
    /// Whether this process may write the rollback guard.
    pub(super) writes: bool,
    pub(super) env: Env,
    /// The fingerprint of the one keystore that it may be, where the configuration names it.
    pub(super) pinned: Option<String>,
    opened: Option<Opened>,
    /// Whether the last reading failed: then the file may be the one we know, back in its place.
    failed: bool,
    /// The generation that the next change is to be made from, whatever is in force.
    expected: Option<u64>,
    /// MySQL's keys whose storing ended with an unknown outcome.
    unconfirmed: Vec<KeyRef>,
    /// The server that this process is, to be registered.
    pub(super) home: Option<Registering>,
}

/// What was read last.
pub(super) struct Opened {
    pub(super) keystore: Keystore,
    pub(super) stamp: Stamp,
    provider: String,
}

/// A changed keystore, and what the audit trail is to tell of it.
pub(super) struct Changed {
    pub(super) after: Keystore,
    pub(super) told: Vec<(Event, Vec<KeyRef>)>,
}

impl KeystoreSource {
    /// The keystore in `file`; nothing is read yet. New versions are `version_step` further on and
    /// made for `cipher` unless the version before has another.
    #[must_use]
    pub fn new(
        file: StoreFile,
        wrappers: Vec<NamedWrapper>,
        cipher: Cipher,
        version_step: u32,
        env: Env,
    ) -> Self {
        let (keeper, writes) = (Keeper::default(), true);
        let (opened, failed) = (None, false);
        let (expected, unconfirmed) = (None, Vec::new());
        Self {
            file,
            wrappers,
            cipher,
            version_step,
            keeper,
            writes,
            env,
            pinned: None,
            opened,
            failed,
            expected,
            unconfirmed,
            home: None,
        }
    }

    /// For a process that may do what `role` says.
    #[must_use]
    pub fn as_role(mut self, role: Role) -> Self {
        self.take_role(role);
        self
    }

    /// The keystore that was read last.
    pub(super) fn keystore(&self) -> Result<&Keystore> {
        self.opened().map(|opened| &opened.keystore)
    }

    fn opened(&self) -> Result<&Opened> {
        self.opened.as_ref().ok_or_else(|| Error::new(Kind::Internal, "the keystore is not open"))
    }

    /// Reads and opens the keystore, whatever the rollback guard says; `self` is unchanged.
    pub(super) fn read_unguarded(&self) -> Result<Opened> {
        let within = |error: Error| error.within(self.file.path().display());
        let (sealed, stamp) = self.file.read()?;
        self.refuse_other_or_older(sealed.unverified())?;
        let (store_key, provider) = match self.held_store_key(sealed.unverified()) {
            Some(held) => held,
            None => {
                let (path, log) = (self.file.path(), &*self.env.log);
                opening::unwrap_store_key(&self.wrappers, sealed.unverified(), path, log)?
            }
        };
        let keystore = sealed.open(store_key).map_err(within)?;
        self.refuse_unpinned(&keystore)?;
        Ok(Opened { keystore, stamp, provider })
    }

    fn refuse_other_or_older(&self, found: &Contents) -> Result<()> {
        let Some(opened) = &self.opened else { return Ok(()) };
        let (path, known) = (self.file.path().display(), opened.keystore.contents());
        if found.id() != known.id() {
            let what = format!("{path} is keystore {} now, not {}", found.id(), known.id());
            return Err(Error::new(Kind::Conflict, what).advise("put the right file back"));
        }
        let (now, before) = (found.revision(), known.revision());
        if now < before {
            let to = match now.epoch == before.epoch {
                true => now.generation.to_string(),
                false => now.to_string(),
            };
            let what = format!("{path} went back from {before} to {to}");
            return Err(Error::new(Kind::Conflict, what)
                .advise("an old copy took its place; put the newer one back"));
        }
        Ok(())
    }

    /// That `found` goes on from what this process has read before.
    fn refuse_breaks(&self, found: &Keystore) -> Result<()> {
        let Some(opened) = &self.opened else { return Ok(()) };
        let Some(broken) = continuity::of_keystore(&opened.keystore, found)? else { return Ok(()) };
        let path = self.file.path().display();
        Err(Error::new(Kind::Conflict, format!("{path}: {broken}")).advise(
            "an older copy took its place and was changed: put the newest copy back; if there is none, \
             keyward_rescue writes the keys in the server's memory into a new keystore: do not stop it \
             before",
        ))
    }

    /// The store key in memory, where the file still uses it: then no provider is asked.
    fn held_store_key(&self, found: &Contents) -> Option<(DataKey, String)> {
        let opened = self.opened.as_ref()?;
        let held = opened.keystore.store_key();
        let active = found.store_keys().last()?;
        if active.check != held.check_value() {
            return None;
        }
        Some((DataKey::copy_of(held.expose()).ok()?, opened.provider.clone()))
    }

    /// That a configured provider opens the keystore at this moment: what is made while none does
    /// may never be read again.
    pub(super) fn prove_it_opens(&self) -> Result<()> {
        let keystore = self.keystore()?;
        let (path, log) = (self.file.path(), &*self.env.log);
        let (store_key, provider) =
            opening::unwrap_store_key(&self.wrappers, keystore.contents(), path, log)?;
        if store_key.check_value() == keystore.store_key().check_value() {
            return Ok(());
        }
        let what = format!("{}: provider {provider:?} opens it to another key", path.display());
        Err(Error::new(Kind::Corrupt, what))
    }

    /// Everything that a change shares: lock, read again, change the copy, check, commit, and only
    /// then use it. A `change` that gives nothing had nothing to do. The keys that were changed.
    ///
    /// An error means that nothing was changed, except for `Unknown`. What fails after the commit is a
    /// line in the log.
    pub(super) fn commit(
        &mut self,
        ring: &Ring,
        reason: Reason<'_>,
        change: impl FnOnce(&Self, &Keystore) -> Result<Option<Changed>>,
    ) -> Result<Vec<KeyRef>> {
        let lock = self.file.lock(Deadline::after(LOCK_WAIT))?;
        self.load_under(ring, Some(&lock))?;
        let before = &self.opened()?.keystore;
        self.check_expected(before.contents())?;
        let Some(Changed { after, told }) = change(self, before)? else { return Ok(Vec::new()) };
        let after = self.registered_in(after);
        let keys: Vec<KeyRef> = told.iter().flat_map(|(_, keys)| keys).cloned().collect();
        prove(&after, &keys)?;
        let generation = before.contents().generation() + 1;
        self.append(generation, Event::Intended, &keys, reason)?;
        let committed = self.file.replace(&lock, &after, &*self.env.rng);
        if committed.as_ref().err().is_none_or(|error| error.kind() == Kind::Unknown) {
            for (event, keys) in &told {
                // The change itself is on disk; the trail shows its intent.
                self.warn_of(self.append(generation, *event, keys, reason));
            }
        }
        match committed {
            Ok((keystore, stamp)) => {
                self.adopt(keystore, stamp, ring)?;
                self.raise_guard(&lock, self.keystore()?);
                Ok(keys)
            }
            Err(error) => {
                // It may be there: to be read again.
                self.failed = true;
                Err(error)
            }
        }
    }

    fn check_expected(&self, found: &Contents) -> Result<()> {
        match self.expected {
            Some(expected) if expected != found.generation() => {
                let what = format!(
                    "{} is of generation {}, not {expected}",
                    self.file.path().display(),
                    found.generation()
                );
                Err(Error::new(Kind::State, what)
                    .advise("nothing was changed: look at `keyward keys list`"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn append(
        &self,
        generation: u64,
        event: Event,
        keys: &[KeyRef],
        reason: Reason<'_>,
    ) -> Result<()> {
        let (actor, reason) = (reason.actor, reason.text);
        let record = Record { event, keys, generation, actor, reason };
        Trail::beside(self.file.path()).append(&*self.env.clock, &record)
    }

    /// What failed after a commit fails no change.
    pub(super) fn warn_of(&self, outcome: Result<()>) {
        if let Err(error) = outcome {
            self.env.log.log(Level::Warning, &error.to_string());
        }
    }

    /// Takes over what was just committed. It is in memory and was proven: nothing is read again.
    fn adopt(&mut self, keystore: Keystore, stamp: Stamp, ring: &Ring) -> Result<()> {
        let published = publish(Some(self.keystore()?), &keystore, ring);
        // Then the next refresh tries again, and says so.
        self.failed = published.is_err();
        self.warn_of(published.map_err(|error| {
            error.within(format!(
                "generation {} is written, but this process does not have its keys yet",
                keystore.contents().generation()
            ))
        }));
        let opens = |provider: &str| {
            keystore.contents().wrappings().iter().any(|wrapping| wrapping.provider == provider)
        };
        let former = &self.opened()?.provider;
        let configured = self.wrappers.iter().map(|named| &named.name);
        let mut names = std::iter::once(former).chain(configured);
        let provider = names.find(|name| opens(name)).unwrap_or(former).clone();
        self.opened = Some(Opened { keystore, stamp, provider });
        Ok(())
    }

    /// Brings ring and source up to date; under `lock` if the caller has it.
    pub(super) fn load_under(&mut self, ring: &Ring, lock: Option<&StoreLock>) -> Result<()> {
        if self.opened.is_some() && !self.has_changed() {
            return Ok(());
        }
        let read = self.read_guarded(lock).and_then(|(opened, guarding)| {
            self.refuse_breaks(&opened.keystore)?;
            publish(self.opened.as_ref().map(|old| &old.keystore), &opened.keystore, ring)?;
            Ok((opened, guarding))
        });
        self.failed = read.is_err();
        let (opened, guarding) = read?;
        self.raise_guard_after_reading(&opened, guarding, self.opened.is_none(), lock);
        self.opened = Some(opened);
        Ok(())
    }
}

impl KeySource for KeystoreSource {
    fn begin(&mut self, role: Role) {
        self.take_role(role);
    }

    fn chores(&self) -> Vec<Chore> {
        self.wrappers.iter().filter_map(NamedWrapper::chore).collect()
    }

    fn has_changed(&self) -> bool {
        match (&self.opened, self.file.stamp()) {
            (Some(opened), Ok(now)) => self.failed || now != opened.stamp,
            // A file that cannot be looked at is worth the error that reading it will give.
            _ => true,
        }
    }

    fn load(&mut self, ring: &Ring) -> Result<()> {
        self.load_under(ring, None)
    }

    fn expect_generation(&mut self, generation: u64) -> Result<()> {
        self.expected = Some(generation);
        Ok(())
    }

    fn rotate(&mut self, ring: &Ring, which: Which, reason: Reason<'_>) -> Result<Vec<KeyRef>> {
        self.prove_before_new_key(ring)?;
        self.commit(ring, reason, |source, before| {
            let changed = source.rotated(before, which, false, reason)?;
            Ok((!changed.told.is_empty()).then_some(changed))
        })
    }

    fn create(
        &mut self,
        ring: &Ring,
        id: KeyId,
        cipher: Option<Cipher>,
        reason: Reason<'_>,
    ) -> Result<KeyRef> {
        self.prove_before_new_key(ring)?;
        let name = KeyName::from(id);
        let made = self.commit(ring, reason, |source, before| {
            if before.contents().key(&name).is_some() {
                return Err(Error::new(Kind::State, format!("key {id} is there already"))
                    .advise(format!("`keyward rotate {id}` gives it a new version")));
            }
            let key = KeyRef::new(name.clone(), before.contents().next_version(&name, 1)?);
            let cipher = cipher.unwrap_or(source.cipher);
            let after = source.with_new_key(before, &key, cipher, reason)?;
            Ok(Some(Changed { after, told: vec![(Event::KeyCreated, vec![key])] }))
        })?;
        let none = || Error::new(Kind::Internal, format!("key {id} was not made"));
        made.into_iter().next().ok_or_else(none)
    }

    fn destroy(
        &mut self,
        ring: &Ring,
        step: &Destruction,
        judged: &Judged,
        reason: Reason<'_>,
    ) -> Result<()> {
        self.take_destruction(ring, step, judged, reason)
    }

    fn may_destroy(&self, key: &KeyRef) -> Result<()> {
        let contents = self.opened()?.keystore.contents();
        destroy::check(contents, &self.keeper.policy, key, self.env.clock.now())
    }

    fn doomed(&self) -> Vec<(KeyRef, Timestamp)> {
        self.opened
            .as_ref()
            .map_or_else(Vec::new, |opened| destroy::doomed(opened.keystore.contents()))
    }

    fn store_named(
        &mut self,
        ring: &Ring,
        name: &KeyName,
        kind: &str,
        data: NewKey<'_>,
        reason: Reason<'_>,
    ) -> Result<()> {
        self.store(ring, name, kind, data, reason)
    }

    fn remove_named(&mut self, ring: &Ring, name: &KeyName, reason: Reason<'_>) -> Result<()> {
        self.remove(ring, name, reason)
    }

    fn keys(&self) -> Vec<KeyInfo> {
        self.opened.as_ref().map_or_else(Vec::new, |opened| infos(opened.keystore.contents()))
    }

    fn generation(&self) -> u64 {
        self.opened.as_ref().map_or(0, |opened| opened.keystore.contents().generation())
    }

    fn provider(&self) -> &str {
        self.opened.as_ref().map_or("", |opened| &opened.provider)
    }

    fn contents(&self) -> Option<&Contents> {
        self.contents_now()
    }

    fn as_keystore(&mut self) -> Option<&mut KeystoreSource> {
        Some(self)
    }

    fn coming_rotation(&self) -> Option<Coming> {
        let contents = self.contents_now()?;
        self.keeper.policy.coming(contents.id(), contents.keys())
    }

    fn step(&mut self, ring: &Ring, step: &Step, reason: Reason<'_>) -> Result<Vec<KeyRef>> {
        self.take(ring, step, reason)
    }

    fn keep_policy(&mut self, ring: &Ring) -> Result<Vec<KeyRef>> {
        self.load(ring)?;
        self.keep(ring)
    }

    fn keep_policy_in_time(&mut self, ring: &Ring) -> usize {
        self.keep_in_time(ring)
    }

    fn rewrap(
        &mut self,
        ring: &Ring,
        how: Rewrap<'_>,
        reason: Reason<'_>,
    ) -> Result<Vec<Rewrapped>> {
        self.rewrap_store_key(ring, how, reason)
    }

    fn plan_move(&self, from: &str, to: &str) -> Result<Vec<Rewrapped>> {
        self.planned_move(from, to)
    }
}

impl KeystoreSource {
    pub(super) fn contents_now(&self) -> Option<&Contents> {
        self.opened.as_ref().map(|opened| opened.keystore.contents())
    }

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
        let data = DataKey::generate(cipher.key_len, &*self.env.rng)?;
        self.with_key(keystore, key, cipher.into(), &data, state, reason)
    }

    /// `keystore` with `data` as the version `key`, in `state`.
    fn with_key(
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
        keystore.with_version(&new, &change, &*self.env.rng)
    }

    /// A change made now.
    pub(super) fn change(&self, reason: Reason<'_>) -> Change {
        let (actor, reason) = (reason.actor.to_owned(), reason.text.to_owned());
        Change { at: self.env.clock.now(), actor, reason }
    }
}

/// What was wrapped is unwrapped and compared before anybody relies on it.
fn prove(keystore: &Keystore, keys: &[KeyRef]) -> Result<()> {
    let lives =
        |key: &&KeyRef| keystore.contents().info(key).is_none_or(|info| info.state.decrypts());
    // One wipe of the stack for all keys, not one for each.
    scrubbed(|| keys.iter().filter(lives).try_for_each(|key| keystore.data_key(key).map(drop)))
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

/// Brings the ring up to date: every version that decrypts, and the active one of each key. `before` is
/// what the ring has its keys from; a version in the ring that is not the same key in `now` is
/// refused. On failure the ring stays as it was.
pub(super) fn publish(before: Option<&Keystore>, now: &Keystore, ring: &Ring) -> Result<()> {
    let (mut new, mut active) = (Vec::new(), Vec::new());
    // One wipe of the stack for all keys, not one for each.
    let named = scrubbed(|| {
        for info in infos(now.contents()) {
            let (KeyName::Id(id), Purpose::Pages(cipher)) = (&info.key.name, &info.purpose) else {
                continue;
            };
            let (id, version) = (*id, info.key.version);
            let is_proven = || {
                ring.get(id, version).is_some()
                    && before
                        .is_some_and(|old| continuity::is_wrapped_the_same(old, now, &info.key))
            };
            if info.state.decrypts() && !is_proven() {
                let key = RingKey::new(now.data_key(&info.key)?, *cipher);
                ring.check(id, version, &key)?;
                new.push((id, version, key));
            }
            if info.state == KeyState::Active {
                active.push((id, version));
            }
        }
        named::collect(now, ring)
    })?;
    new.into_iter().try_for_each(|(id, version, key)| ring.insert(id, version, key))?;
    ring.announce();
    active.into_iter().try_for_each(|(id, version)| ring.activate(id, version))?;
    ring.set_named(named);
    Ok(())
}

/// Every version of every key, sorted.
pub(super) fn infos(contents: &Contents) -> Vec<KeyInfo> {
    let of_key = |key: &'_ _| -> Vec<KeyInfo> {
        let key: &KeyEntry = key;
        key.versions().map(|version| version.info(key.name())).collect()
    };
    contents.keys().flat_map(of_key).collect()
}
