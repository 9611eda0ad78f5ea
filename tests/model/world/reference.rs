//! What must hold, and what is excused.

use std::collections::{BTreeMap, BTreeSet};

use keyward::env::Level;
use keyward::key::{KeyInfo, KeyRef, KeyState};

use super::files::{GuardIs, revision};
use super::{World, ids, number};
use crate::life::Broken;
use crate::sequence::Who;

/// What must hold.
#[derive(Default)]
pub(super) struct Reference {
    /// The key of each number that was ever in force.
    pub(super) numbers: BTreeMap<KeyRef, Vec<u8>>,
    /// What was reported as made, or given out to encrypt with, while all was well.
    pub(super) required: BTreeSet<KeyRef>,
    /// What was given out to encrypt with while all was well: there may be pages of it.
    pub(super) in_use: BTreeSet<KeyRef>,
    pub(super) compromised: BTreeSet<KeyRef>,
    pub(super) destroyed: BTreeSet<KeyRef>,
}

impl World {
    /// Who takes the keystore for good finds everything in it, unless that cannot be known or a warning
    /// says so.
    pub(super) fn judge(&mut self, what: &str) -> Result<(), Broken> {
        self.follow_fork();
        match self.lost().first() {
            None => Ok(()),
            Some(lost) => {
                Err(format!("{what} though {lost} is lost (the guard: {:?})", self.guard))
            }
        }
    }

    /// Where a process wrote the guard again: a loss that nobody could know of, or that a warning tells
    /// of, is none of its.
    pub(super) fn reconcile(&mut self) {
        if self.guard == GuardIs::Ours || self.files().guard == self.spoilt {
            return;
        }
        self.follow_fork();
        self.guard = GuardIs::Ours;
    }

    /// What somebody put in the keystore's place counts from now on, where a process took it for good and
    /// may do so.
    pub(super) fn follow_fork(&mut self) {
        if self.forked && self.files().keystore != self.ours.keystore && self.is_excused() {
            self.begin_another_history();
        }
    }

    /// Whether nothing in the folder can tell of a keystore that is older than the newest, or a warning
    /// does. All that is left then is what the other process has in memory, and the mark in the data
    /// directory, which has tests of its own.
    pub(super) fn is_excused(&self) -> bool {
        let lines = self.log.lines();
        let is_told =
            |line: &(Level, String)| line.0 != Level::Note && line.1.contains("rollback guard");
        match self.guard {
            GuardIs::Ours => false,
            GuardIs::Older => true,
            GuardIs::Gone | GuardIs::Spoilt => lines[self.since..].iter().any(is_told),
        }
    }

    /// Copies of the history that was are of another keystore, so to speak.
    pub(super) fn begin_another_history(&mut self) {
        for key in self.lost() {
            self.reference.required.remove(&key);
            self.reference.numbers.remove(&key);
        }
        let raw = self.raw();
        let is = |key: &KeyRef, bytes: &Vec<u8>| {
            raw.get(key).is_some_and(|entry| entry.bytes.as_ref().is_none_or(|one| one == bytes))
        };
        self.reference.numbers.retain(|key, bytes| is(key, bytes));
        self.reference.in_use.retain(|key| raw.contains_key(key));
        self.forgive_states();
        self.copies.clear();
        self.estrange();
    }

    /// What must be there, and is not.
    pub(super) fn lost(&mut self) -> Vec<KeyRef> {
        let raw = self.raw();
        let same = |key: &KeyRef| {
            let bytes = raw.get(key).and_then(|entry| entry.bytes.as_ref());
            bytes.is_some() && bytes == self.reference.numbers.get(key)
        };
        self.reference.required.iter().filter(|key| !same(key)).cloned().collect()
    }

    /// Who runs refuses an older copy, whoever accepted it, until it starts again: but only if it knows more.
    pub(super) fn estrange(&mut self) {
        let (raw, now) = (self.raw(), self.files().keystore);
        let now = now.as_deref().map(revision);
        for node in self.nodes.iter_mut().flatten() {
            let is_same = |info: KeyInfo| {
                let held =
                    number(&info.key).and_then(|id| node.custodian.key(id, info.key.version));
                let known = node.custodian.entry(&info.key.name);
                let known = known.as_ref().and_then(|entry| entry.version(info.key.version));
                let states: Vec<_> = known
                    .map_or_else(Vec::new, |one| one.history.iter().map(|it| it.state).collect());
                raw.get(&info.key).is_some_and(|entry| {
                    let held = held.map(|held| held.key().expose());
                    entry.state == info.state
                        && entry.history.starts_with(&states)
                        && (entry.bytes.is_none() || entry.bytes.as_deref() == held)
                })
            };
            let knows_less = node.known.is_some_and(|known| Some(known) < now);
            node.estranged |= !knows_less || !node.custodian.keys().into_iter().all(is_same);
        }
    }

    /// The states of an older copy that is in force now are the ones that count.
    pub(super) fn forgive_states(&mut self) {
        let raw = self.raw();
        let is = |key: &KeyRef, state| raw.get(key).is_some_and(|entry| entry.state == state);
        self.reference.compromised.retain(|key| is(key, KeyState::Compromised));
        self.reference.destroyed.retain(|key| is(key, KeyState::Destroyed));
    }

    pub(super) fn observe(&mut self) -> Result<(), Broken> {
        let (raw, now) = (self.raw(), self.files().keystore);
        let excused = self.forked && self.is_excused();
        for (place, who) in [Who::Server, Who::Command].into_iter().enumerate() {
            let Some(node) = &mut self.nodes[place] else { continue };
            for (key, bytes) in &node.memory {
                let held = number(key).and_then(|id| node.custodian.key(id, key.version));
                if held.is_none_or(|held| held.key().expose() != bytes) {
                    return Err(format!("{who:?} has not the {key} any more that it gave out"));
                }
            }
            let is_well = node.seen.is_some()
                && node.seen == now
                && node.custodian.status().degraded.is_none();
            let generation = node.custodian.status().generation;
            if excused && now.as_deref().is_some_and(|bytes| revision(bytes).1 == generation) {
                node.took.clone_from(&now);
            }
            let read = now.as_deref().map(revision).filter(|now| now.1 == generation);
            node.known = match node.known {
                // It read what is not there any more.
                Some(known) if read.is_none() && known.1 < generation => Some((u64::MAX, 0)),
                known => known.max(read),
            };
            if is_well {
                for (key, entry) in &raw {
                    let bytes = entry.bytes.as_deref();
                    bytes.map_or(Ok(()), |bytes| self.reference.number(key, bytes))?;
                }
            }
            for id in ids(&node.custodian) {
                let Some(version) = node.custodian.latest(id) else { continue };
                let key = KeyRef::new(id, version);
                let Some(held) = node.custodian.key(id, version) else {
                    return Err(format!("{who:?} encrypts with {key}, and does not give it out"));
                };
                let bytes = held.key().expose().to_vec();
                if is_well {
                    self.reference.number(&key, &bytes)?;
                    if self.reference.compromised.contains(&key) {
                        return Err(format!("{who:?} encrypts with {key}, which is compromised"));
                    }
                    if let Some(stays) = self.reference.left_below(&key) {
                        return Err(format!("{who:?} encrypts with {key}: pages stay on {stays}"));
                    }
                    self.reference.required.insert(key.clone());
                    self.reference.in_use.insert(key.clone());
                }
                node.memory.insert(key, bytes);
            }
            if !is_well {
                continue;
            }
            for (key, bytes) in &node.memory {
                let kept = raw.get(key).and_then(|entry| entry.bytes.as_ref()) == Some(bytes);
                if !kept && !self.reference.destroyed.contains(key) {
                    return Err(format!(
                        "{who:?} is well and holds {key}, which the keystore has not"
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Reference {
    /// A version with pages that is compromised, and that pages do not leave for `key`, which is older.
    pub(super) fn left_below(&self, key: &KeyRef) -> Option<&KeyRef> {
        let newer = |one: &&KeyRef| one.name == key.name && one.version > key.version;
        self.compromised.iter().filter(newer).find(|one| self.in_use.contains(one))
    }

    /// That number's key is in force.
    pub(super) fn number(&mut self, key: &KeyRef, bytes: &[u8]) -> Result<(), Broken> {
        match self.numbers.get(key) {
            Some(known) if known != bytes => Err(format!("{key} is another key than before")),
            Some(_) => Ok(()),
            None => {
                self.numbers.insert(key.clone(), bytes.to_vec());
                Ok(())
            }
        }
    }
}
