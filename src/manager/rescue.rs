//! Rescue: a running server writes all keys that it has in memory into a new keystore, after the file
//! was lost, damaged, or replaced by another or an older one. Nothing is overwritten.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use subtle::ConstantTimeEq as _;

use super::approvals::Approval;
use super::approvers::of_rescue;
use super::{ExportedKey, Manager};
use crate::approval::Subject;
use crate::env::{Deadline, Level};
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::key::{KeyId, KeyInfo, KeyRef, KeyState, KeyVersion, Purpose};
use crate::ring::{Ring, RingKey};
use crate::secret::{DataKey, scrubbed};
use crate::source::{LOCK_WAIT, Reason, infos, unwrap_store_key};
use crate::store::{Contents, Keystore, NewVersion, Sealed};

/// What a rescue did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rescued {
    /// Where the keys are.
    pub path: PathBuf,
    /// How many versions were written; 0 where the keystore had them all.
    pub versions: usize,
    /// Where the file is that was in its place.
    pub aside: Option<PathBuf>,
    /// The wrapping key, where one had to be made for it.
    pub key_file: Option<PathBuf>,
}

impl Manager {
    /// Writes all keys in memory into a new keystore, unless the present one has them all. Needs the approvals
    /// that the keystore wants as it was read last.
    pub fn rescue(&mut self, reason: Reason<'_>) -> Result<Rescued> {
        self.may_write()?;
        let lock = self.reader.file.lock(Deadline::after(LOCK_WAIT))?;
        let path = self.reader.file.path().to_owned();
        if self.reader.load(Some(&lock)).is_ok()
            && missing(self.reader.keystore()?.contents(), self.reader.ring()).is_empty()
        {
            return Ok(Rescued { path, versions: 0, aside: None, key_file: None });
        }
        let (now, rng) = (self.reader.env.clock.now(), &*self.reader.env.rng);
        let approval = self.approval_to_rescue(reason)?;
        let text = Approval::reason(approval.as_deref(), reason.text);
        let told_reason = Reason { actor: reason.actor, text: &text };
        // Generations may have been lost with the file: no number of theirs is used again.
        let next = self.with_all_in_memory(reason)?;
        let subject = |_: &Contents| Ok(self.of_rescue());
        let before = self.reader.keystore()?.contents();
        let next = self.used(approval.as_deref(), subject, before, next)?;
        let known = self.reader.file.guard().epoch_to_pass(&next, rng)?;
        let next = next.with_epoch_above(known, now, rng)?;
        let next = self.wrapped_again(&next)?;
        let keys = living(next.contents());
        let generation = next.contents().generation() + 1;
        // A damaged trail must not cost the keys.
        let tell = |known, event| {
            let told = self.append(known, generation, event, &keys, told_reason);
            let anchor = told.as_ref().ok().copied();
            self.reader.warn_of(told.map(drop));
            anchor
        };
        let anchor = tell(next.contents().registers().trail, Event::Intended);
        let next = anchor.map_or_else(|| next.clone(), |anchor| next.with_trail(anchor));
        let day = self.reader.env.clock.now().to_string();
        let day = day.split('T').next().unwrap_or_default();
        let prove = |sealed| self.prove_rescued(sealed);
        let aside =
            self.reader.file.write_aside(&lock, &next, day, prove, &*self.reader.env.rng)?;
        for (event, _) in Approval::events(approval.as_deref(), vec![(Event::Rescued, Vec::new())])
        {
            tell(anchor, event);
        }
        self.carried_out(approval.as_deref());
        let written = self.reader.read_unguarded()?;
        self.reader.warn_of(self.reader.file.write_witness(&written.keystore, rng));
        self.reader.load(Some(&lock))?;
        Ok(Rescued { path, versions: keys.len(), aside, key_file: None })
    }

    fn approval_to_rescue(&self, reason: Reason<'_>) -> Result<Option<Box<Approval>>> {
        let keystore = self.reader.keystore()?;
        self.approval_locked(keystore, &self.of_rescue(), reason)
    }

    fn of_rescue(&self) -> Subject {
        of_rescue(self.reader.ring(), self.reader.file.path())
    }

    /// The keystore that was read last, with what the ring has besides.
    fn with_all_in_memory(&self, reason: Reason<'_>) -> Result<Keystore> {
        let (mut next, ring) = (self.reader.keystore()?.clone(), self.reader.ring());
        let change = self.change(reason);
        for (id, version) in missing(next.contents(), ring) {
            let Some(held) = ring.get(id, version) else { continue };
            let encrypts = ring.latest(id) == Some(version);
            let new = NewVersion {
                key: KeyRef::new(id, version),
                purpose: Purpose::Pages(held.cipher()),
                data: held.key(),
                state: if encrypts { KeyState::Active } else { KeyState::Retired },
                created: change.at,
            };
            next = next.with_version(&new, &change, &*self.reader.env.rng)?;
        }
        Ok(next)
    }

    /// `keystore` as all configured providers wrap it that can; one of them must.
    fn wrapped_again(&self, keystore: &Keystore) -> Result<Keystore> {
        let context = keystore.contents().wrap_context();
        let (mut next, mut failures) = (keystore.clone(), Vec::new());
        for named in &self.reader.wrappers {
            match named.wrap(keystore.store_key(), &context) {
                Ok(wrapping) => next = next.with_wrapping(wrapping)?,
                Err(error) => failures.push(error),
            }
        }
        if failures.len() < self.reader.wrappers.len() {
            for failure in &failures {
                let line = format!("not all providers wrap the rescued keystore: {failure}");
                self.reader.env.log.log(Level::Warning, &line);
            }
            return Ok(next);
        }
        let none = || Error::new(Kind::Config, "no provider that wraps is configured");
        let first = failures.into_iter().next().unwrap_or_else(none);
        Err(first.within("nothing was rescued, because no provider wraps the keystore"))
    }

    /// Proves that the keystore as it was written opens by a provider, and has every key in memory, byte
    /// for byte.
    fn prove_rescued(&self, sealed: Sealed) -> Result<()> {
        let (path, log) = (self.reader.file.path(), &*self.reader.env.log);
        let (store_key, _) =
            unwrap_store_key(&self.reader.wrappers, sealed.unverified(), path, log)?;
        let (written, ring) = (sealed.open(store_key)?, self.reader.ring());
        let differs = |key: &KeyRef| {
            let what = format!("nothing was rescued: {key} would be another key than in memory");
            Error::new(Kind::Corrupt, what)
        };
        // One wipe of the stack for all keys, not one for each.
        scrubbed(|| {
            for (id, version) in ring.versions() {
                let key = KeyRef::new(id, version);
                match (written.contents().info(&key), ring.get(id, version)) {
                    (Some(info), Some(held)) if info.state.decrypts() => {
                        if !same(&written.data_key(&key)?, held.key()) {
                            return Err(differs(&key));
                        }
                    }
                    // We destroyed it; what reads with it until the restart goes on.
                    (Some(_), _) => {}
                    (None, _) => return Err(differs(&key)),
                }
            }
            let named = ring.named();
            for name in named.names() {
                let Some(held) = named.get(name) else { continue };
                let key = KeyRef::new(name.clone(), held.version());
                if !same(&written.data_key(&key)?, held.data()) {
                    return Err(differs(&key));
                }
            }
            Ok(())
        })
    }
}

/// All keys in the ring, with the dates that the key store gives them.
pub fn held_keys(ring: &Ring, known: Vec<KeyInfo>) -> Result<Vec<ExportedKey>> {
    let known: BTreeMap<_, _> = known.into_iter().map(|info| (info.key, info.created)).collect();
    let mut versions = ring.versions();
    versions.sort();
    let held = versions.into_iter().filter_map(|(id, version)| {
        ring.get(id, version).map(|held| (KeyRef::new(id, version), held, ring.latest(id)))
    });
    let moving = |(key, held, latest): (KeyRef, &RingKey, Option<KeyVersion>)| {
        let encrypts = latest == Some(key.version);
        let info = KeyInfo {
            state: if encrypts { KeyState::Active } else { KeyState::Retired },
            purpose: Purpose::Pages(held.cipher()),
            created: known.get(&key).copied().flatten(),
            check: None,
            key,
        };
        ExportedKey::proven(info, DataKey::copy_of(held.key().expose())?)
    };
    held.map(moving).collect()
}

/// The versions in the ring that `contents` knows nothing of, not even as destroyed.
fn missing(contents: &Contents, ring: &Ring) -> Vec<(KeyId, KeyVersion)> {
    let mut all = ring.versions();
    all.retain(|(id, version)| contents.info(&KeyRef::new(*id, *version)).is_none());
    all.sort();
    all
}

pub(super) fn living(contents: &Contents) -> Vec<KeyRef> {
    let lives = |info: &KeyInfo| info.state.decrypts();
    infos(contents).into_iter().filter(lives).map(|info| info.key).collect()
}

fn same(one: &DataKey, other: &DataKey) -> bool {
    one.expose().ct_eq(other.expose()).into()
}
