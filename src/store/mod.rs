//! The keystore holds data keys wrapped by the store key, the store key wrapped by each provider, and
//! states, ciphers and check values. It holds no plaintext.
//!
//! A file is read as a [`Sealed`] keystore; the store key, which a provider unwraps, opens it as a
//! [`Keystore`]. Both are immutable: a change returns a copy, which [`StoreFile::commit`] writes.

#![forbid(unsafe_code)]

mod disk;
mod entry;
mod file;
mod format;
mod lines;
mod numbers;
mod prune;
mod registers;
mod restored;
mod seal;
mod sealed;
mod secret;
mod stash;
mod store_key;
mod upgrade;
mod witness;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use disk::{Disk, DiskFile, DiskLock, OsDisk, Stamp};
pub use entry::{Change, Event, KeyEntry, VersionEntry, may_become};
pub use file::{Guard, Guarding, StoreFile, StoreLock};
pub use numbers::Revision;
pub use registers::{
    Approvers, Backup, DataDirectory, Epoch, MAX_BACKUPS, MAX_DATA_DIRECTORIES, MAX_NEEDS,
    MAX_PEOPLE, MAX_USED_APPROVALS, Registers, TrailAnchor, UsedApproval,
};
pub use restored::Identity;
pub use seal::{MAX_WRAPS, STORE_KEY_LEN};
pub use sealed::Sealed;
pub use stash::Served;
pub use witness::Witness;

use crate::env::{Rng, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::key::{CheckValue, KeyInfo, KeyName, KeyRef, KeyState, Purpose};
use crate::provider::{WrapContext, WrappedKey};
use crate::secret::{DataKey, scrubbed};
use entry::{Text, Wrapped};
use format::MacText;
use lines::Layout;
use seal::{Binding, FileMac, Sealer};
use secret::KeystoreSecret;
use store_key::count_wraps;

/// What stands in a keystore. Cheap to clone: entries are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    id: Arc<str>,
    generation: u64,
    created: Timestamp,
    /// What the active store key wrapped; none in a keystore that is still of format 1.
    secret: Option<Wrapped>,
    registers: Arc<Registers>,
    /// By number; the last is the active one.
    store_keys: Vec<Arc<StoreKeyEntry>>,
    /// By name. Shared until a key changes.
    keys: Arc<Vec<Arc<KeyEntry>>>,
}

/// One store key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreKeyEntry {
    /// Its number, from 1 on.
    pub number: u32,
    /// When it was made.
    pub created: Timestamp,
    /// When another took its place; none for the active one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<Timestamp>,
    /// Its check value.
    pub check: CheckValue,
    /// How many data keys it has wrapped so far, at most [`MAX_WRAPS`].
    pub wraps: u64,
    /// The store key as each provider wrapped it; none once retired.
    pub wrappings: Vec<Wrapping>,
}

/// A store key as one provider wrapped it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wrapping {
    /// The name of the provider in the configuration.
    pub provider: String,
    /// What it made of the store key.
    pub key: WrappedKey,
}

impl Contents {
    /// The keystore's id, a UUID.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How often it was written; 0 for one that never was. A change keeps it, a commit raises it.
    /// What is newer, [`revision`](Self::revision) tells.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// When the keystore was made.
    #[must_use]
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// What it records next to its keys.
    #[must_use]
    pub fn registers(&self) -> &Registers {
        &self.registers
    }

    /// Its store keys by number; the last is the active one.
    pub fn store_keys(&self) -> impl ExactSizeIterator<Item = &StoreKeyEntry> {
        self.store_keys.iter().map(AsRef::as_ref)
    }

    /// The active store key as each provider wrapped it, in the order they were added.
    #[must_use]
    pub fn wrappings(&self) -> &[Wrapping] {
        self.store_keys.last().map_or(&[], |entry| &entry.wrappings)
    }

    /// What the active store key's wrappings are bound to.
    #[must_use]
    pub fn wrap_context(&self) -> WrapContext {
        let number = self.store_keys.last().map_or(0, |entry| entry.number);
        WrapContext { keystore: self.id.to_string(), store_key: number }
    }

    /// All keys, by name.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &KeyEntry> {
        self.keys.iter().map(AsRef::as_ref)
    }

    /// One key.
    #[must_use]
    pub fn key(&self, name: &KeyName) -> Option<&KeyEntry> {
        self.place(name).ok().map(|at| self.keys[at].as_ref())
    }

    /// What may be told of a version to anybody.
    #[must_use]
    pub fn info(&self, key: &KeyRef) -> Option<KeyInfo> {
        Some(self.key(&key.name)?.version(key.version)?.info(&key.name))
    }

    /// The names of the keys in which this may differ from `before`, of all where that is none, and what each
    /// is now; nothing for one that is gone. Entries that a change left alone are shared with it, and not
    /// looked into.
    #[must_use]
    pub fn changed_since<'a>(
        &'a self,
        before: Option<&'a Self>,
    ) -> Vec<(&'a KeyName, Option<&'a KeyEntry>)> {
        let mut old = before.map_or(&[][..], |before| &before.keys[..]).iter().peekable();
        let mut changed = Vec::new();
        for key in self.keys.iter() {
            while let Some(gone) =
                old.next_if(|old| !Arc::ptr_eq(old, key) && old.name() < key.name())
            {
                changed.push((gone.name(), None));
            }
            match old.next_if(|old| Arc::ptr_eq(old, key) || old.name() == key.name()) {
                Some(same) if Arc::ptr_eq(same, key) => {}
                _ => changed.push((key.name(), Some(key.as_ref()))),
            }
        }
        changed.extend(old.map(|gone| (gone.name(), None)));
        changed
    }

    fn place(&self, name: &KeyName) -> Result<usize, usize> {
        self.keys.binary_search_by(|key| key.name().cmp(name))
    }

    /// The same with `key` in the place of the one of its name, or added.
    fn with_key(&self, key: KeyEntry) -> Self {
        let mut next = self.clone();
        next.put(Arc::new(key));
        next
    }

    fn put(&mut self, key: Arc<KeyEntry>) {
        let place = self.place(key.name());
        let keys = Arc::make_mut(&mut self.keys);
        match place {
            Ok(at) => keys[at] = key,
            Err(at) => keys.insert(at, key),
        }
    }

    /// The same with those keys alone of which a version was not written before.
    fn unwritten(&self) -> Self {
        let is_new = |key: &&Arc<KeyEntry>| key.versions().any(|entry| entry.text().is_none());
        Self { keys: Arc::new(self.keys.iter().filter(is_new).cloned().collect()), ..self.clone() }
    }

    fn active_store_key(&self) -> Result<&StoreKeyEntry> {
        let none = || Error::new(Kind::Corrupt, "the keystore has no store key");
        self.store_keys.last().map(AsRef::as_ref).ok_or_else(none)
    }

    /// The same with the active store key as `edit` leaves it.
    fn with_active(&self, edit: impl FnOnce(&mut StoreKeyEntry) -> Result<()>) -> Result<Self> {
        let mut entry = self.active_store_key()?.clone();
        edit(&mut entry)?;
        let mut next = self.clone();
        next.store_keys.pop();
        next.store_keys.push(Arc::new(entry));
        Ok(next)
    }
}

/// An open keystore: verified, and able to unwrap its data keys. Changes give a new one with the
/// same generation; several of them, one after the other, make one commit.
#[derive(Clone)]
pub struct Keystore {
    contents: Contents,
    store_key: Arc<DataKey>,
    /// None in one that was read in format 1, until a commit upgrades it.
    secret: Option<Arc<KeystoreSecret>>,
    base: Revision,
    /// The file that has what was read or committed last, where a line can be added to it.
    file: Option<Arc<Written>>,
}

/// A keystore file as it was read or written.
struct Written {
    contents: Contents,
    /// The last check in it.
    mac: MacText,
    layout: Layout,
}

/// A new data key and what is to be known of it.
pub struct NewVersion<'a> {
    /// Its name and version.
    pub key: KeyRef,
    /// What it is for.
    pub purpose: Purpose,
    /// The key itself, as long as its purpose wants it.
    pub data: &'a DataKey,
    /// Pending, active or retired.
    pub state: KeyState,
    /// When it was made: for an imported key, long ago.
    pub created: Timestamp,
}

impl Keystore {
    /// A new id for `create`. The wrappings of the store key are bound to it, so it comes first.
    pub fn new_id(rng: &dyn Rng) -> Result<String> {
        let mut random = [0; 16];
        rng.fill(&mut random)?;
        Ok(format::uuid(random))
    }

    /// What the wrappings of a new keystore's store key must be bound to.
    #[must_use]
    pub fn first_context(id: &str) -> WrapContext {
        WrapContext { keystore: id.to_owned(), store_key: 1 }
    }

    /// A keystore without keys. `wrappings` are `store_key` as wrapped for [`Self::first_context`].
    pub fn create(
        id: &str,
        store_key: DataKey,
        wrappings: Vec<Wrapping>,
        now: Timestamp,
        rng: &dyn Rng,
    ) -> Result<Self> {
        let contents = Contents {
            id: id.into(),
            generation: 0,
            created: now,
            secret: None,
            registers: Arc::default(),
            store_keys: Vec::new(),
            keys: Arc::default(),
        };
        let contents = contents.with_store_key(&store_key, wrappings, now, 0)?;
        let base = contents.revision();
        Self { contents, store_key: Arc::new(store_key), secret: None, base, file: None }
            .upgraded(rng)
    }

    /// What stands in it.
    #[must_use]
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// What was read or committed last: a commit replaces that and nothing else.
    #[must_use]
    pub fn base(&self) -> Revision {
        self.base
    }

    /// The store key, to be wrapped by one more provider.
    #[must_use]
    pub fn store_key(&self) -> &DataKey {
        &self.store_key
    }

    /// The key of a version, proven by its check value. `NotFound` for one that is not there,
    /// `State` for a destroyed one. Many in a row go faster within one `secret::scrubbed`.
    pub fn data_key(&self, key: &KeyRef) -> Result<DataKey> {
        let entry = self.version(key)?;
        let Some(wrapped) = &entry.wrapped else {
            return Err(Error::new(Kind::State, format!("{key} is destroyed")));
        };
        scrubbed(|| self.unwrapped(&Sealer::new(&self.store_key)?, &key.name, entry, wrapped))
            .map_err(|bad| bad.within(key))
    }

    /// Whether that version has, or had before it was destroyed, this very key: by its check value,
    /// without unwrapping anything.
    #[must_use]
    pub fn has_key(&self, key: &KeyRef, data: &DataKey) -> bool {
        let check = self.version(key).ok().and_then(|entry| entry.check);
        check.is_some_and(|check| self.check_value(key, data).is_ok_and(|is| is == check))
    }

    /// The keystore with one version more. An active one retires the former active version in the
    /// same change. The very same key again changes nothing; another one under the same version
    /// is a `Conflict`.
    pub fn with_version(
        &self,
        new: &NewVersion<'_>,
        change: &Change,
        rng: &dyn Rng,
    ) -> Result<Self> {
        let refused = |kind, what: &str| Err(Error::new(kind, format!("{}: {what}", new.key)));
        if new.data.expose().len() != new.purpose.key_len() {
            return refused(Kind::Config, &format!("its length does not fit {}", new.purpose));
        }
        if !matches!(new.state, KeyState::Pending | KeyState::Active | KeyState::Retired) {
            return refused(Kind::State, &format!("a new version cannot be {}", new.state));
        }
        let check = self.check_value(&new.key, new.data)?;
        if let Ok(old) = self.version(&new.key) {
            return match old.check == Some(check)
                && old.purpose == new.purpose
                && old.wrapped.is_some()
            {
                true => Ok(self.clone()),
                false => refused(Kind::Conflict, "there is another key of this version"),
            };
        }
        let mut entry = VersionEntry {
            version: new.key.version,
            purpose: new.purpose.clone(),
            state: new.state,
            created: new.created,
            check: Some(check),
            retain_until: None,
            planned: None,
            history: vec![change.into(new.state)?],
            wrapped: None,
            text: Text::default(),
        };
        let contents = self.contents.with_active(|active| count_wraps(active, 1))?;
        let store_key = contents.active_store_key()?.number;
        let binding = self.binding(&new.key.name, &entry, store_key);
        let data = scrubbed(|| Sealer::new(&self.store_key)?.wrap(new.data, &binding, rng))?;
        entry.wrapped = Some(Wrapped { store_key, data });
        let key = match contents.key(&new.key.name) {
            Some(key) => key.added(entry, change)?,
            None => KeyEntry::new(new.key.name.clone(), vec![Arc::new(entry)])?,
        };
        Ok(self.with(contents.with_key(key)))
    }

    /// The keystore with a version in another state, if [`may_become`] allows it. A destroyed
    /// version loses its key and leaves a tombstone.
    pub fn with_state(&self, key: &KeyRef, to: KeyState, change: &Change) -> Result<Self> {
        self.with_edited(key, |entry| entry.moved(key.version, to, change))
    }

    /// The keystore with the last rotation of a key taken back: its active version is pending
    /// again, the one before active. Only while nothing is encrypted with the former.
    pub fn with_rotation_undone(&self, name: &KeyName, change: &Change) -> Result<Self> {
        let none = || Error::new(Kind::NotFound, format!("the keystore has no key {name}"));
        let key = self.contents.key(name).ok_or_else(none)?.undone(change)?;
        Ok(self.with(self.contents.with_key(key)))
    }

    /// The keystore with a version that may not be destroyed before `until`.
    pub fn with_retention(&self, key: &KeyRef, until: Option<Timestamp>) -> Result<Self> {
        self.with_edited(key, |entry| {
            entry.edited(key.version, |version| {
                version.retain_until = until;
                Ok(())
            })
        })
    }

    /// The keystore with the next change of a version's state set for later, or called off. It is
    /// the policy that carries it out; any change of state drops it.
    pub fn with_plan(&self, key: &KeyRef, plan: Option<(KeyState, &Change)>) -> Result<Self> {
        let planned = plan.map(|(state, change)| change.into(state)).transpose()?;
        self.with_edited(key, |entry| {
            entry.edited(key.version, |version| {
                version.planned = planned;
                Ok(())
            })
        })
    }

    /// The text of the keystore file, without lines. Only a commit raises the generation, so write a
    /// changed keystore by [`StoreFile::commit`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.document().map(|(bytes, _)| bytes)
    }

    /// The same, and the check in it.
    fn document(&self) -> Result<(Vec<u8>, MacText)> {
        self.secret()?;
        scrubbed(|| format::write(&self.contents, self.file_mac()?))
    }

    /// The whole file for a commit, and itself once that is written.
    fn into_document(mut self) -> Result<(Vec<u8>, Self)> {
        self.read_back()?;
        let (bytes, mac) = self.document()?;
        let layout = Layout { document: bytes.len(), all: bytes.len() };
        let contents = self.contents.clone();
        self.file = Some(Arc::new(Written { contents, mac, layout }));
        Ok((bytes, self))
    }

    /// Never replace a file by one that we could not read ourselves: writes what is new in it, reads that
    /// back and keeps the text of it. The rest was read back when an earlier commit wrote it.
    fn read_back(&self) -> Result<()> {
        let new = self.contents.unwritten();
        let (bytes, _) = scrubbed(|| format::write(&new, self.file_mac()?))?;
        if format::parse(&bytes)?.0 != new {
            return Err(Error::new(Kind::Internal, "the keystore would not be read as written"));
        }
        format::check(&self.contents)?;
        let versions = new.keys().flat_map(KeyEntry::versions);
        versions.into_iter().try_for_each(format::keep_text)
    }

    /// The keystore of the next generation: what a commit writes.
    fn next_generation(&self) -> Self {
        let mut next = self.clone();
        next.contents.generation += 1;
        next.base = next.contents.revision();
        next
    }

    /// Within `scrubbed` only.
    fn file_mac(&self) -> Result<FileMac> {
        match &self.secret {
            Some(secret) => secret.file_mac(&self.store_key),
            None => FileMac::of_format_1(&self.store_key, &self.contents.id),
        }
    }

    /// Within `scrubbed` only.
    fn line_mac(&self) -> Result<FileMac> {
        self.secret()?.line_mac(&self.store_key)
    }

    fn with(&self, contents: Contents) -> Self {
        Self { contents, ..self.clone() }
    }

    /// The check value that `data` has as this version.
    fn check_value(&self, key: &KeyRef, data: &DataKey) -> Result<CheckValue> {
        match &self.secret {
            Some(secret) => scrubbed(|| secret.check_value(&key.name, key.version, data)),
            None => Ok(data.check_value()),
        }
    }

    /// A data key, proven by its check value. Within `scrubbed` only.
    fn unwrapped(
        &self,
        sealer: &Sealer,
        name: &KeyName,
        entry: &VersionEntry,
        wrapped: &Wrapped,
    ) -> Result<DataKey> {
        let data = sealer.unwrap(&wrapped.data, &self.binding(name, entry, wrapped.store_key))?;
        let check = match &self.secret {
            Some(secret) => secret.check_value(name, entry.version, &data)?,
            None => data.check_value(),
        };
        if entry.check != Some(check) {
            return Err(Error::new(Kind::Corrupt, "its check value does not match"));
        }
        Ok(data)
    }

    fn with_edited(
        &self,
        key: &KeyRef,
        edit: impl FnOnce(&KeyEntry) -> Result<KeyEntry>,
    ) -> Result<Self> {
        let entry = self.contents.key(&key.name).ok_or_else(|| entry::missing(key))?;
        Ok(self.with(self.contents.with_key(edit(entry)?)))
    }

    fn version(&self, key: &KeyRef) -> Result<&VersionEntry> {
        let found = self.contents.key(&key.name).and_then(|entry| entry.version(key.version));
        found.ok_or_else(|| entry::missing(key))
    }

    fn binding<'a>(
        &'a self,
        name: &'a KeyName,
        entry: &'a VersionEntry,
        store_key: u32,
    ) -> Binding<'a> {
        let (version, purpose) = (entry.version, &entry.purpose);
        Binding { keystore: &self.contents.id, name, version, purpose, store_key }
    }
}

#[cfg(test)]
mod tests;
