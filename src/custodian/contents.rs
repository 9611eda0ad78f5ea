//! What our own keystore says of its keys, for people.

#![forbid(unsafe_code)]

use super::{Custodian, SERVED_BY};
use crate::event::{Head, Known};
use crate::hex::Hex;
use crate::key::KeyName;
use crate::store::{Contents, DataDirectory, Epoch, KeyEntry, Registers, TrailAnchor};

impl Custodian {
    /// Whose keys they are: the id of our own keystore, or the provider that serves them.
    #[must_use]
    pub fn identity(&self) -> String {
        let served_by = || format!("{SERVED_BY}{}", self.shared.source().state().provider);
        self.of_contents(|contents| contents.id().to_owned()).unwrap_or_else(served_by)
    }

    /// The id of our own keystore; empty where keys are served.
    #[must_use]
    pub fn keystore_id(&self) -> String {
        self.of_contents(|contents| contents.id().to_owned()).unwrap_or_default()
    }

    /// All that our own keystore holds of a key but its bytes; none where keys are served.
    #[must_use]
    pub fn entry(&self, name: &KeyName) -> Option<KeyEntry> {
        self.of_contents(|contents| contents.key(name).cloned()).flatten()
    }

    /// The same of all keys, by name.
    #[must_use]
    pub fn entries(&self) -> Vec<KeyEntry> {
        self.of_contents(|contents| contents.keys().cloned().collect()).unwrap_or_default()
    }

    /// What the keystore knows of its audit trail.
    #[must_use]
    pub fn known_of_trail(&self) -> Known {
        let known = |contents: &Contents| {
            let head = |it: TrailAnchor| Head { line: it.line, hash: it.head };
            let registers = contents.registers();
            Known {
                anchor: registers.trail.map(head),
                generation: contents.generation(),
                floor: registers.trail_floor.map(head),
            }
        };
        self.of_contents(known).unwrap_or_default()
    }

    /// The wrappings of the store key in the order they were added: provider and wrapping key.
    #[must_use]
    pub fn wrappings(&self) -> Vec<(String, String)> {
        let of = |contents: &Contents| {
            let all = contents.wrappings().iter();
            all.map(|one| (one.provider.clone(), one.key.kek.clone())).collect()
        };
        self.of_contents(of).unwrap_or_default()
    }

    /// The present epoch of our own keystore and the fingerprint of its key; none where keys are
    /// served, or before the first change of a keystore of format 1.
    #[must_use]
    pub fn epoch(&self) -> Option<(u64, String)> {
        let last = |contents: &Contents| contents.registers().epochs().last().cloned();
        let epoch: Epoch = self.of_contents(last).flatten()?;
        Some((epoch.number, epoch.fingerprint().to_string()))
    }

    /// The public keys of all epochs that are kept, the present one's last.
    #[must_use]
    pub fn epoch_keys(&self) -> Vec<Hex<32>> {
        let keys = |contents: &Contents| {
            contents.registers().epochs().iter().map(|epoch| epoch.public_key).collect()
        };
        self.of_contents(keys).unwrap_or_default()
    }

    /// Whether somebody holds a secret that opens the keystore's backups.
    #[must_use]
    pub fn has_backup_recipients(&self) -> bool {
        let of = |contents: &Contents| !contents.registers().backup_recipients.is_empty();
        self.of_contents(of).unwrap_or_default()
    }

    /// The registered data directories, by mark.
    #[must_use]
    pub fn data_directories(&self) -> Vec<DataDirectory> {
        let of = |contents: &Contents| contents.registers().data_directories.clone();
        self.of_contents(of).unwrap_or_default()
    }

    /// What our own keystore records next to its keys; none where keys are served.
    #[must_use]
    pub fn registers(&self) -> Option<Registers> {
        self.of_contents(|contents| contents.registers().clone())
    }

    fn of_contents<T>(&self, read: impl FnOnce(&Contents) -> T) -> Option<T> {
        self.shared.source().contents().map(read)
    }
}
