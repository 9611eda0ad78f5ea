//! How far a keystore has come, and which numbers its next versions may have: none is used twice,
//! also after generations were lost.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Contents, KeyEntry, Keystore, Registers};
use crate::env::{Rng, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::key::{KeyName, KeyVersion};
use crate::secret::scrubbed;

/// How many epochs are kept; the oldest go first.
pub(super) const MAX_EPOCHS: usize = 256;

/// By how much the numbers jump at least with a new epoch: more than what was lost can have used.
const LEAST_JUMP: u32 = 1 << 16;

/// By how much they jump at most.
const MOST_JUMP: u32 = 1 << 20;

/// Numbers above are never made by counting; somebody brought them along.
const COUNTED: u32 = 1 << 31;

/// Which of its versions a keystore is. Ordered: the later epoch first, then the generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revision {
    /// From 1 on; raised where generations may have been lost.
    pub epoch: u64,
    /// Raised by every commit; 0 before the first.
    pub generation: u64,
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { epoch: 1, generation } => write!(f, "generation {generation}"),
            Self { epoch, generation } => write!(f, "generation {generation} of epoch {epoch}"),
        }
    }
}

impl Contents {
    /// The present epoch, from 1 on.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.registers.last_epoch().unwrap_or(1)
    }

    /// Epoch and generation.
    #[must_use]
    pub fn revision(&self) -> Revision {
        Revision { epoch: self.epoch(), generation: self.generation }
    }

    /// The number that the next version of a key has: `step` after the newest there ever was, and
    /// none that may have been used in an epoch before. For a name without a key, that of its first.
    pub fn next_version(&self, name: &KeyName, step: u32) -> Result<KeyVersion> {
        match self.key(name) {
            Some(key) => key.next_version(step),
            None => self.first_version(name),
        }
    }

    /// The number of the first version of a key called `name`, which there is not: none that another of
    /// the name may have had.
    fn first_version(&self, name: &KeyName) -> Result<KeyVersion> {
        let from = self.registers.new_keys_from.unwrap_or(KeyVersion::FIRST);
        match (name, self.registers.pruned_names) {
            (KeyName::Named { .. }, Some(pruned)) => {
                pruned.plus(1).map(|after| after.max(from)).map_err(|_| none_left(name))
            }
            _ => Ok(from),
        }
    }

    /// Where the numbers of new keys begin in the next epoch: a key that was lost whole may have had
    /// any that one which is known has.
    fn next_new_keys_from(&self, rng: &dyn Rng) -> Result<KeyVersion> {
        let newest = self.keys().filter_map(|key| key.next_version(1).ok());
        let counted = newest.filter(|version| version.get() < COUNTED);
        let Registers { new_keys_from, pruned_names, .. } = *self.registers;
        let from = new_keys_from.max(pruned_names).unwrap_or(KeyVersion::FIRST);
        jumped(counted.fold(from, KeyVersion::max), rng)
    }
}

impl KeyEntry {
    /// The number that its next version has, `step` after its newest.
    pub fn next_version(&self, step: u32) -> Result<KeyVersion> {
        let newest = self.newest().map(|entry| entry.version).max(self.pruned_through);
        let after = newest.map_or(Ok(KeyVersion::FIRST), |version| version.plus(step.max(1)));
        after
            .map_err(|_| none_left(&self.name))
            .map(|after| self.next_from.map_or(after, |from| after.max(from)))
    }

    /// The key in the next epoch.
    fn jumped(&self, rng: &dyn Rng) -> Result<Self> {
        let mut next = self.clone();
        // A key at the end of the numbers stays there.
        if let Ok(version) = self.next_version(1) {
            next.next_from = Some(jumped(version, rng)?);
        }
        Ok(next)
    }
}

impl Keystore {
    /// The keystore in a new epoch, for one that generations may have been lost of: a rollback that
    /// was accepted, a restore, a copy. The numbers of all versions jump over what the lost ones may
    /// have used, and the new epoch's key is signed by the former's.
    pub fn with_next_epoch(&self, now: Timestamp, rng: &dyn Rng) -> Result<Self> {
        self.with_epoch_above(0, now, rng)
    }

    /// The same in an epoch above `known` as well: one that the lost generations are known to have
    /// come to.
    pub fn with_epoch_above(&self, known: u64, now: Timestamp, rng: &dyn Rng) -> Result<Self> {
        let upgraded = self.upgraded(rng)?;
        let mut contents = upgraded.contents.clone();
        let mut registers = contents.registers().clone();
        registers.new_keys_from = Some(contents.next_new_keys_from(rng)?);
        let secret = upgraded.secret()?;
        scrubbed(|| {
            let next = secret.epoch_after(registers.epochs.last(), known, now)?;
            registers.epochs.push(next);
            Ok::<_, Error>(())
        })?;
        let surplus = registers.epochs.len().saturating_sub(MAX_EPOCHS);
        registers.epochs.drain(..surplus);
        let keys = contents.keys.iter().map(|key| key.jumped(rng).map(Arc::new));
        contents.keys = Arc::new(keys.collect::<Result<_>>()?);
        contents.registers = registers.into();
        Ok(upgraded.with(contents))
    }
}

fn none_left(name: &KeyName) -> Error {
    let what = format!("key {name} has no version numbers left");
    Error::new(Kind::State, what).advise("make a key of another name")
}

/// `version` and a random number of 2^16 to 2^20 more; near the end of the numbers, half of what is
/// left.
fn jumped(version: KeyVersion, rng: &dyn Rng) -> Result<KeyVersion> {
    let mut random = [0; 4];
    rng.fill(&mut random)?;
    let jump = LEAST_JUMP + u32::from_le_bytes(random) % (MOST_JUMP - LEAST_JUMP + 1);
    let left = (u32::MAX - 1) - version.get();
    version.plus(jump.min(left / 2))
}

#[cfg(test)]
mod tests;
