//! The rollback guard: an older copy of the keystore, put back while nothing ran, does not open unless
//! somebody says that it is to.

use super::keystore::{KeystoreSource, Opened};
use super::{Reason, Role};
use crate::audit::{Event, Record, Trail};
use crate::env::Deadline;
use crate::error::{Error, Kind, Result};
use crate::store::{Guard, Guarding, Keystore, StoreLock};

/// How often a keystore is read that others replace meanwhile.
const READS: usize = 3;

impl KeystoreSource {
    /// What a process may do: a reader writes no rollback guard, but heeds it.
    pub(super) fn take_role(&mut self, role: Role) {
        self.writes = role != Role::Reader;
    }

    /// Reads and opens the newest generation; `State` or `Corrupt` where it is older than what was in
    /// force before. The guard is read first: a commit of somebody else's that comes in between makes
    /// the keystore newer than the guard, never older.
    pub(super) fn read_guarded(&self, lock: Option<&StoreLock>) -> Result<(Opened, Guarding)> {
        let mut reads = 0;
        loop {
            reads += 1;
            let guard = self.file.guard();
            let opened = self.read_unguarded()?;
            let alarm = match self.heed(guard, &opened.keystore) {
                Ok(guarding) => return Ok((opened, guarding)),
                Err(alarm) if lock.is_some() || !is_alarm(&alarm) => return Err(alarm),
                Err(alarm) => alarm,
            };
            // Another keystore may be taking this one's place: what counts is how the two are while
            // nobody writes.
            let held = self.lock_to_look();
            let now = self.heed(self.file.guard(), &opened.keystore);
            let stamp = self.file.stamp();
            drop(held);
            match stamp {
                Ok(stamp) if stamp == opened.stamp => {
                    return now.map(|guarding| (opened, guarding));
                }
                _ if reads == READS => return Err(alarm),
                _ => {}
            }
        }
    }

    fn heed(&self, guard: Guard, keystore: &Keystore) -> Result<Guarding> {
        self.file.check_guard(guard, keystore).map_err(|error| match is_alarm(&error) {
            true => error.advise(
                "put the newest copy back; if there is none, stop the servers and run `keyward \
                 accept-rollback`",
            ),
            false => error,
        })
    }

    /// The lock, for a process that may create its file and gets it soon.
    fn lock_to_look(&self) -> Option<StoreLock> {
        let wait = Deadline::after(super::keystore::START_LOCK_WAIT);
        self.writes.then(|| self.file.lock(wait).ok()).flatten()
    }

    /// Brings the guard up to the keystore that is open. Under its lock only. That it cannot be written
    /// is a warning: the keys are there.
    pub(super) fn raise_guard(&self, _: &StoreLock, keystore: &Keystore) {
        let raise = || match self.file.check_guard(self.file.guard(), keystore)? {
            Guarding::Current => Ok(()),
            Guarding::Behind | Guarding::Missing => {
                self.file.write_witness(keystore, &*self.env.rng)
            }
        };
        self.warn_of(raise());
    }

    /// The same at the start of a process, unless somebody is changing the keystore just now.
    pub(super) fn raise_guard_at_start(&self, opened: &Opened, guarding: Guarding) {
        if !self.writes || guarding == Guarding::Current {
            return;
        }
        let Some(lock) = self.lock_to_look() else { return };
        // Whoever wrote another generation since then raises it, too.
        if self.file.stamp().is_ok_and(|now| now == opened.stamp) {
            self.raise_guard(&lock, &opened.keystore);
        }
    }

    /// Accepts the keystore as it is, though its guard knows a newer one or another; gives what the
    /// guard says and the generation that is in force from now on. `State` where there is nothing to
    /// accept.
    pub fn accept_rollback(&self, reason: Reason<'_>) -> Result<(String, u64)> {
        let lock = self.file.lock(Deadline::after(super::keystore::LOCK_WAIT))?;
        let keystore = self.read_unguarded()?.keystore;
        let Err(refused) = self.file.check_guard(self.file.guard(), &keystore) else {
            let what = format!("{} is not older than its witness", self.file.path().display());
            return Err(Error::new(Kind::State, what).advise("there is nothing to accept"));
        };
        if !is_alarm(&refused) {
            return Err(refused);
        }
        let generation = keystore.contents().generation();
        let (actor, text) = (reason.actor, reason.text);
        let event = Event::RollbackAccepted;
        let record = Record { event, keys: &[], generation, actor, reason: text };
        Trail::beside(self.file.path()).append(&*self.env.clock, &record)?;
        self.file.write_witness(&keystore, &*self.env.rng)?;
        drop(lock);
        Ok((refused.what().to_owned(), generation))
    }
}

/// Whether the guard speaks against the keystore, or was itself changed.
fn is_alarm(error: &Error) -> bool {
    matches!(error.kind(), Kind::State | Kind::Corrupt)
}
