//! A keystore that goes its own way: the copy of another's, for a clone of that one's server. It has the same
//! keys, and an id, a store key, a secret and further numbers of its own.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use super::Manager;
use super::placed::Placed;
use super::rescue::living;
use crate::env::Deadline;
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::hex::Hex;
use crate::key::{KeyRef, KeyState};
use crate::secret::{DataKey, scrubbed};
use crate::source::{LOCK_WAIT, Reason, unwrap_store_key};
use crate::store::{Change, Epoch, Keystore, NewVersion, Revision, STORE_KEY_LEN, Sealed};

/// What a fork did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forked {
    /// Where the keystore is.
    pub path: PathBuf,
    /// The id that it had, and that its original has.
    pub former: String,
    /// The id that it has.
    pub id: String,
    /// What it is.
    pub revision: Revision,
    /// What names its signing key to people.
    pub fingerprint: Hex<32>,
    /// How many versions it has.
    pub versions: usize,
    /// Where the file is that was in its place.
    pub aside: Option<PathBuf>,
}

impl Manager {
    /// Makes a keystore of its own of the copy that is here. The copy is set aside.
    pub fn fork(&mut self, reason: Reason<'_>) -> Result<Forked> {
        self.may_write()?;
        let lock = self.reader.file.lock(Deadline::after(LOCK_WAIT))?;
        self.reader.load(Some(&lock))?;
        let before = self.reader.keystore()?;
        let next = self.forked(before, &self.change(reason))?;
        let keys = living(next.contents());
        let prove = |sealed| self.prove_forked(sealed, before);
        let Placed { keystore, aside } =
            self.place(&lock, &next, (Event::Forked, &keys), prove, reason)?;
        let contents = keystore.contents();
        let none = || Error::new(Kind::Internal, "the keystore has no epoch");
        let epoch = contents.registers().epochs().last().ok_or_else(none)?;
        Ok(Forked {
            path: self.reader.file.path().to_owned(),
            former: before.contents().id().to_owned(),
            id: contents.id().to_owned(),
            revision: contents.revision(),
            fingerprint: Epoch::fingerprint(epoch),
            versions: keys.len(),
            aside,
        })
    }

    /// The same keys in a new keystore, in an epoch after that of `before`.
    fn forked(&self, before: &Keystore, change: &Change) -> Result<Keystore> {
        let (now, rng) = (self.reader.env.clock.now(), &*self.reader.env.rng);
        let id = Keystore::new_id(rng)?;
        let store_key = DataKey::generate(STORE_KEY_LEN, rng)?;
        let wrappings = self.wrapped(&store_key, &id, "nothing was forked")?;
        let next = Keystore::create(&id, store_key, wrappings, now, rng)?;
        let mut next = next.with_registers_of(before)?;
        // One wipe of the stack for all keys, not one for each.
        scrubbed(|| {
            living(before.contents()).iter().try_for_each(|key| {
                next = copied(&next, key, before, change, self)?;
                Ok(())
            })
        })?;
        next.with_epoch_above(before.contents().epoch(), now, rng)
    }

    /// The keystore as it was written, proven to open by a provider and to have every key of `before`.
    fn prove_forked(&self, sealed: Sealed, before: &Keystore) -> Result<Keystore> {
        let (path, log) = (self.reader.file.path(), &*self.reader.env.log);
        let (store_key, _) =
            unwrap_store_key(&self.reader.wrappers, sealed.unverified(), path, log)?;
        let written = sealed.open(store_key)?;
        scrubbed(|| {
            for key in living(before.contents()) {
                if !written.data_key(&key)?.same_as(&before.data_key(&key)?) {
                    let what = format!("nothing was forked: {key} would be another key");
                    return Err(Error::new(Kind::Corrupt, what));
                }
            }
            Ok(())
        })?;
        Ok(written)
    }
}

/// `next` with a version of `before`, its state, and until when it must be kept. A planned destruction is
/// the original's alone.
fn copied(
    next: &Keystore,
    key: &KeyRef,
    before: &Keystore,
    change: &Change,
    manager: &Manager,
) -> Result<Keystore> {
    let none = || Error::new(Kind::Internal, format!("{key} is gone"));
    let whole = before.contents().key(&key.name).ok_or_else(none)?;
    let entry = whole.version(key.version).ok_or_else(none)?;
    let compromised = entry.state == KeyState::Compromised;
    let version = NewVersion {
        key: key.clone(),
        purpose: entry.purpose.clone(),
        data: &before.data_key(key)?,
        state: if compromised { KeyState::Retired } else { entry.state },
        created: entry.created,
    };
    let mut next = next.with_version(&version, change, &*manager.reader.env.rng)?;
    if compromised {
        next = next.with_state(key, KeyState::Compromised, change)?;
    }
    if entry.retain_until.is_some() {
        next = next.with_retention(key, entry.retain_until)?;
    }
    let planned = entry.planned.as_ref().filter(|plan| plan.state != KeyState::Destroyed);
    if let Some(plan) = planned {
        let at = Change { at: plan.at, ..change.clone() };
        next = next.with_plan(key, Some((plan.state, &at)))?;
    }
    Ok(next)
}
