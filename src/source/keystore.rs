//! Our own keystore, read: opened by a provider that wraps its store key, followed from generation to
//! generation, and refused where it does not go on from what this process has read before.

#![forbid(unsafe_code)]

use std::sync::Arc;

use super::publish::publish;
use super::{Maintenance, NamedWrapper, Role, SourceState, continuity, infos, opening};
use crate::env::{Env, Level};
use crate::error::{Error, Kind, Result};
use crate::key::KeyInfo;
use crate::ring::Ring;
use crate::secret::DataKey;
use crate::store::{Contents, Keystore, Stamp, StoreFile, StoreLock};

/// Reads one keystore and keeps what it read last.
pub struct KeystoreReader {
    pub(crate) file: StoreFile,
    pub(crate) wrappers: Vec<NamedWrapper>,
    pub(crate) env: Env,
    /// Whether this process may write: the rollback guard after a reading, and changes.
    pub(crate) writes: bool,
    pub(super) ring: Arc<Ring>,
    /// The fingerprint of the one keystore that it may be, where the configuration names it.
    pub(super) pinned: Option<String>,
    opened: Option<ReadKeystore>,
    /// Whether the ring has all keys of what was opened.
    published: bool,
    /// Whether the last reading failed: then the file may be the one we know, back in its place.
    failed: bool,
}

/// A keystore as it was read.
pub struct ReadKeystore {
    pub(crate) keystore: Keystore,
    pub(super) stamp: Stamp,
    provider: String,
}

impl KeystoreReader {
    /// Of the keystore in `file`; nothing is read yet.
    #[must_use]
    pub fn new(file: StoreFile, wrappers: Vec<NamedWrapper>, env: Env) -> Self {
        let (ring, pinned, opened) = (Arc::default(), None, None);
        let (writes, published, failed) = (true, false, false);
        Self { file, wrappers, env, writes, ring, pinned, opened, published, failed }
    }

    /// What a process may do: a reader writes no rollback guard, but checks it.
    pub(crate) fn begin(&mut self, role: Role) {
        self.writes = role != Role::Reader;
    }

    /// The keys in memory.
    pub(crate) fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// The keystore that was read last.
    pub(crate) fn keystore(&self) -> Result<&Keystore> {
        self.opened().map(|opened| &opened.keystore)
    }

    /// What the keystore that was read last holds; nothing before the first reading.
    pub(crate) fn contents(&self) -> Option<&Contents> {
        self.opened.as_ref().map(|opened| opened.keystore.contents())
    }

    /// All key versions, sorted by key and version.
    pub(crate) fn keys(&self) -> Vec<KeyInfo> {
        self.contents().map_or_else(Vec::new, infos)
    }

    pub(crate) fn state(&self) -> SourceState {
        SourceState {
            generation: self.contents().map_or(0, Contents::generation),
            trail_line: self
                .contents()
                .and_then(|contents| contents.registers().trail)
                .map_or(0, |known| known.line),
            provider: self.opened.as_ref().map_or_else(String::new, |read| read.provider.clone()),
            ..SourceState::default()
        }
    }

    pub(crate) fn maintenance(&self) -> Vec<Maintenance> {
        self.wrappers.iter().filter_map(NamedWrapper::maintenance).collect()
    }

    /// Whether the file has changed since it was read, or could not be read.
    pub(crate) fn has_changed(&self) -> bool {
        match (&self.opened, self.file.stamp()) {
            (Some(opened), Ok(now)) => self.failed || now != opened.stamp,
            // A file that cannot be looked at is worth the error that reading it will give.
            _ => true,
        }
    }

    /// Brings the ring up to date; under `lock` if the caller has it.
    pub(crate) fn load(&mut self, lock: Option<&StoreLock>) -> Result<()> {
        if let Some(opened) = self.opened.as_ref().filter(|_| !self.has_changed()) {
            let behind = lock.map_or(Ok(()), |lock| self.refuse_behind(lock, &opened.keystore));
            self.failed = behind.is_err();
            return behind;
        }
        let read = self.read_guarded(lock).and_then(|(opened, guarding)| {
            self.refuse_breaks(&opened.keystore)?;
            publish(self.published(), &opened.keystore, &self.ring)?;
            Ok((opened, guarding))
        });
        self.failed = read.is_err();
        let (opened, guarding) = read?;
        self.published = true;
        self.raise_guard_after_reading(&opened, guarding, self.opened.is_none(), lock);
        self.opened = Some(opened);
        Ok(())
    }

    /// Takes over `keystore`, which was just committed. It is in memory and was proven: nothing is read
    /// again.
    pub(crate) fn adopt(&mut self, keystore: Keystore, stamp: Stamp) -> Result<()> {
        let published = publish(self.published(), &keystore, &self.ring);
        // Then the next refresh tries again, and says so.
        self.failed = published.is_err();
        self.published = published.is_ok();
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
        self.opened = Some(ReadKeystore { keystore, stamp, provider });
        Ok(())
    }

    /// Has the next look at the file read it again: whether the last commit is in it is not known.
    pub(crate) fn read_again(&mut self) {
        self.failed = true;
    }

    /// A warning of what fails no change, as the change is on disk.
    pub(crate) fn warn_of(&self, outcome: Result<()>) {
        if let Err(error) = outcome {
            self.env.log.log(Level::Warning, &error.to_string());
        }
    }

    /// Reads and opens the keystore, whatever the rollback guard says; `self` is unchanged.
    pub(crate) fn read_unguarded(&self) -> Result<ReadKeystore> {
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
        self.refuse_unpinned(&keystore, &provider)?;
        Ok(ReadKeystore { keystore, stamp, provider })
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

    /// Refuses `found` unless it goes on from what this process has read before.
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

    /// What the ring has its keys from.
    fn published(&self) -> Option<&Keystore> {
        self.opened.as_ref().filter(|_| self.published).map(|opened| &opened.keystore)
    }

    fn opened(&self) -> Result<&ReadKeystore> {
        self.opened.as_ref().ok_or_else(|| Error::new(Kind::Internal, "the keystore is not open"))
    }
}
