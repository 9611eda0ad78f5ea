//! The files of the keystore's folder, and somebody who tampers with them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyward::Result;
use keyward::key::{KeyRef, KeyState};
use keyward::provider::KeyWrapper as _;
use keyward::store::{Disk as _, StoreFile};

use super::{World, soon};
use crate::sequence::{By, Op, Which};
use crate::stage::{Plain, Stage};

const KEYSTORE: &str = "/store/keystore.json";
const GUARD: &str = "/store/keystore.json.witness";
const TRAIL: &str = "audit.jsonl";

/// How many older copies there are to put back.
const COPIES: usize = 12;

/// A version as it is in the file.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) state: KeyState,
    /// Every state that it had.
    pub(super) history: Vec<KeyState>,
    pub(super) bytes: Option<Vec<u8>>,
}

/// All files of the folder.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) keystore: Option<Vec<u8>>,
    pub(super) guard: Option<Vec<u8>>,
    pub(super) trail: Option<Vec<u8>>,
}

/// What somebody did to the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GuardIs {
    Ours,
    /// One of ours that is older than the newest keystore: put back, or the newest could not be written,
    /// which a warning says. With a keystore of its time, nobody can tell from this folder.
    Older,
    Gone,
    Spoilt,
}

impl World {
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("keystore.json")
    }

    pub(super) fn stage(&self) -> Stage {
        Stage::new(self.disk.clone(), self.folder.path(), &self.locks)
    }

    pub(super) fn files(&self) -> Files {
        let read = |path: &str| self.disk.read(path.as_ref(), usize::MAX).ok().map(|read| read.0);
        let trail = std::fs::read(self.folder.path().join(TRAIL)).ok();
        Files { keystore: read(KEYSTORE), guard: read(GUARD), trail }
    }

    pub(super) fn put(&self, path: &str, bytes: Option<&[u8]>) {
        let path: &Path = path.as_ref();
        let _ = self.disk.remove(path);
        if let Some(bytes) = bytes {
            let mut file = self.disk.create(path, 0o600, (27, 27)).unwrap();
            file.write_all(bytes).unwrap();
            file.sync().unwrap();
        }
        self.disk.sync_folder("/store".as_ref()).unwrap();
    }

    pub(super) fn put_trail(&self, bytes: Option<&[u8]>) {
        let path = self.folder.path().join(TRAIL);
        match bytes {
            Some(bytes) => std::fs::write(path, bytes).unwrap(),
            None => drop(std::fs::remove_file(path)),
        }
    }

    /// Every version in the file, opened by its store key whatever the guard says; nothing where the file
    /// does not open.
    pub(super) fn raw(&mut self) -> BTreeMap<KeyRef, Entry> {
        let Some(bytes) = self.files().keystore else { return BTreeMap::new() };
        if let Some((known, entries)) = &self.opened
            && *known == bytes
        {
            return entries.clone();
        }
        let entries = self.open().unwrap_or_default();
        self.opened = Some((bytes, entries.clone()));
        entries
    }

    pub(super) fn open(&self) -> Result<BTreeMap<KeyRef, Entry>> {
        let file = StoreFile::on(self.path(), Arc::new(self.stage()));
        let sealed = file.read()?.0;
        let contents = sealed.unverified();
        let wrapping = &contents.wrappings()[0];
        let store_key = Plain.unwrap(&wrapping.key, &contents.wrap_context(), soon())?;
        let keystore = sealed.open(store_key)?;
        let mut entries = BTreeMap::new();
        for key in keystore.contents().keys() {
            for version in key.versions() {
                let (name, state) =
                    (KeyRef::new(key.name().clone(), version.version), version.state);
                let bytes = match state.decrypts() {
                    true => Some(keystore.data_key(&name)?.expose().to_vec()),
                    false => None,
                };
                let history = version.history.iter().map(|event| event.state).collect();
                entries.insert(name, Entry { state, history, bytes });
            }
        }
        Ok(entries)
    }

    pub(super) fn is_tampered_with(&self) -> bool {
        let now = self.files();
        let guard = self.guard != GuardIs::Ours && now.guard != self.ours.guard;
        guard || now.keystore != self.ours.keystore
    }

    /// Takes the files for keyward's own.
    pub(super) fn settle(&mut self) {
        self.reconcile();
        let mut now = self.files();
        if matches!(self.guard, GuardIs::Gone | GuardIs::Spoilt) {
            // A commit leaves a guard that it cannot read as it is.
            now.guard = self.ours.guard.clone();
        }
        if !self.trail_is_ours {
            now.trail = self.ours.trail.clone();
        }
        if now.keystore != self.ours.keystore {
            if std::mem::take(&mut self.forked) {
                self.estrange();
            }
            if now.keystore.is_some() {
                self.copies.push(now.clone());
                let older = self.copies.len().saturating_sub(COPIES);
                self.copies.drain(..older);
            }
        }
        self.ours = now;
        if matches!(self.guard, GuardIs::Ours | GuardIs::Older) {
            self.guard = self.own_guard();
            self.spoilt = self.ours.guard.clone();
        }
    }

    /// Whether the guard in place, one of ours, knows a newer keystore than the one in place.
    pub(super) fn is_behind(&self) -> bool {
        let now = self.files();
        let is_one_of_ours = matches!(self.guard, GuardIs::Ours | GuardIs::Older);
        is_one_of_ours && now.keystore.as_deref().map(revision) < now.guard.as_deref().map(revision)
    }

    /// What our own guard can tell.
    pub(super) fn own_guard(&self) -> GuardIs {
        let guard = self.ours.guard.as_deref().map(revision);
        match guard >= self.ours.keystore.as_deref().map(revision) {
            true => GuardIs::Ours,
            false => GuardIs::Older,
        }
    }

    pub(super) fn tamper(&mut self, op: Op) {
        self.nodes.iter_mut().flatten().for_each(|node| node.seen = None);
        let copy =
            |age: usize| self.copies.iter().rev().nth(age % self.copies.len().max(1)).cloned();
        match op {
            Op::PutBack(which, age) => {
                if let Some(copy) = copy(age) {
                    self.put_one(which, copy, GuardIs::Older);
                }
            }
            Op::PutAllBack(age) => {
                if let Some(copy) = copy(age) {
                    for which in [Which::Keystore, Which::Guard, Which::Trail] {
                        self.put_one(which, copy.clone(), GuardIs::Older);
                    }
                }
            }
            Op::Vanish(which) => self.put_one(which, Files::default(), GuardIs::Gone),
            Op::Alter(which, at) => {
                let mut files = self.files();
                let place = match which {
                    Which::Keystore => &mut files.keystore,
                    Which::Guard => &mut files.guard,
                    Which::Trail => &mut files.trail,
                };
                let Some(bytes) = place.as_mut().filter(|bytes| !bytes.is_empty()) else { return };
                let at = at % bytes.len();
                bytes[at] ^= 1;
                self.put_one(which, files, GuardIs::Spoilt);
            }
            Op::Forge(age, by) => {
                if let Some(copy) = copy(age) {
                    let forged = self.forged(&copy, by);
                    self.put_one(Which::Keystore, copy.clone(), GuardIs::Ours);
                    if forged.is_some() {
                        self.put_one(
                            Which::Guard,
                            Files { guard: forged, ..copy },
                            GuardIs::Spoilt,
                        );
                    }
                }
            }
            Op::PutRight => {
                let ours = self.ours.clone();
                self.put(KEYSTORE, ours.keystore.as_deref());
                self.put(GUARD, ours.guard.as_deref());
                self.put_trail(ours.trail.as_deref());
                (self.guard, self.spoilt) = (self.own_guard(), ours.guard);
                (self.forked, self.trail_is_ours) = (false, true);
            }
            _ => {}
        }
    }

    pub(super) fn put_one(&mut self, which: Which, files: Files, guard: GuardIs) {
        match which {
            Which::Keystore => {
                self.put(KEYSTORE, files.keystore.as_deref());
                self.forked = files.keystore != self.ours.keystore;
            }
            Which::Trail => {
                self.put_trail(files.trail.as_deref());
                self.trail_is_ours = false;
            }
            Which::Guard => {
                self.put(GUARD, files.guard.as_deref());
                self.since = self.log.lines().len();
                let is_ours = files.guard == self.ours.guard;
                let is_a_copy = self.copies.iter().any(|copy| copy.guard == files.guard);
                self.guard = match (is_ours, is_a_copy) {
                    (true, _) => self.own_guard(),
                    // Whoever changed it has changed it back.
                    (false, true) => GuardIs::Older,
                    (false, false) => guard,
                };
                // A copy of before the first guard.
                if files.guard.is_none() && !is_ours {
                    self.guard = GuardIs::Gone;
                }
                self.spoilt = files.guard;
            }
        }
    }

    /// A guard for an older keystore, written by hand.
    pub(super) fn forged(&self, copy: &Files, by: By) -> Option<Vec<u8>> {
        let parse = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).ok();
        let mut guard = parse(self.ours.guard.as_deref()?)?;
        let (epoch, generation) = revision(copy.keystore.as_deref()?);
        guard["generation"] = generation.into();
        match by {
            // The same in other words.
            By::Secret if self.ours.guard.as_deref().map(revision) == Some((epoch, generation)) => {
                return None;
            }
            By::Secret => guard["epoch"] = epoch.into(),
            By::StoreKey => {
                guard["version"] = 1.into();
                guard["store_key"] = 1000.into();
                guard.as_object_mut()?.remove("epoch");
            }
        }
        serde_json::to_vec_pretty(&guard).ok()
    }
}

/// Epoch and generation of a keystore or a guard; none where it is damaged.
pub(super) fn revision(bytes: &[u8]) -> (u64, u64) {
    #[derive(serde::Deserialize)]
    struct Revision {
        epoch: Option<u64>,
        generation: u64,
    }
    let read: Option<Revision> = serde_json::from_slice(bytes).ok();
    read.map_or((0, 0), |read| (read.epoch.unwrap_or(1), read.generation))
}
