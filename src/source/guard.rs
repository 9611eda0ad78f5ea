//! The rollback guard: an older copy of the keystore, put back while nothing ran, does not open unless
//! somebody says that it is to.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::{KeystoreReader, ReadKeystore};
use crate::env::{Deadline, Level};
use crate::error::{Error, Kind, Result};
use crate::store::{Contents, Guard, Guarding, Keystore, StoreLock};

/// How long a reading waits for somebody else's change to end.
const LOOK_WAIT: Duration = Duration::from_secs(1);

/// How often a keystore is read that others replace meanwhile.
const READS: usize = 3;

impl KeystoreReader {
    /// Reads and opens the newest generation; `State` or `Corrupt` where it is older than what was in
    /// force before. The guard is read first: a commit of somebody else's that comes in between makes
    /// the keystore newer than the guard, never older.
    pub(crate) fn read_guarded(
        &self,
        lock: Option<&StoreLock>,
    ) -> Result<(ReadKeystore, Guarding)> {
        let mut reads = 0;
        loop {
            reads += 1;
            let guard = self.file.guard();
            let opened = self.read_unguarded()?;
            let alarm = match self.check_rollback(guard, &opened.keystore) {
                Ok(guarding) => return Ok((opened, guarding)),
                Err(alarm) if lock.is_some() || !is_alarm(&alarm) => return Err(alarm),
                Err(alarm) => alarm,
            };
            // Another keystore may be taking this one's place: what counts is how the two are while
            // nobody writes.
            let held = self.lock_to_look();
            let now = self.check_rollback(self.file.guard(), &opened.keystore);
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

    fn check_rollback(&self, guard: Guard, keystore: &Keystore) -> Result<Guarding> {
        self.file.check_guard(guard, keystore).map_err(|error| match is_alarm(&error) {
            true => error.advise(
                "put the newest copy back; if there is none, stop the servers and run `keyward \
                 keystore accept-rollback`",
            ),
            false => error,
        })
    }

    /// Refuses a change from `keystore`, whose file is as it was read, where its guard knows a newer one:
    /// somebody may have put that back since. A missing guard is reported after the change.
    pub(super) fn refuse_behind(&self, _: &StoreLock, keystore: &Keystore) -> Result<()> {
        match self.check_rollback(self.file.guard(), keystore) {
            Err(behind) if behind.kind() == Kind::State => Err(behind),
            _ => Ok(()),
        }
    }

    /// The lock, for a process that may create its file and gets it soon.
    fn lock_to_look(&self) -> Option<StoreLock> {
        let wait = Deadline::after(LOOK_WAIT);
        self.writes.then(|| self.file.lock(wait).ok()).flatten()
    }

    /// Brings the guard up to the keystore that is open. Under its lock only. That it cannot be written
    /// is a warning: the keys are there.
    pub(crate) fn raise_guard(&self, _: &StoreLock, keystore: &Keystore) {
        let raise = || {
            let guarding = self.file.check_guard(self.file.guard(), keystore)?;
            self.tell_of_doubt(guarding, keystore.contents());
            match guarding {
                Guarding::Current => Ok(()),
                _ => self.file.write_witness(keystore, &*self.env.rng),
            }
        };
        self.warn_of(raise());
    }

    /// A guard that is missing or proves nothing may have been taken away so that an older copy of the
    /// keystore opens. It may also be missing because somebody restored a backup: that is no reason
    /// not to serve.
    fn tell_of_doubt(&self, guarding: Guarding, found: &Contents) {
        // The guard is written after the first commit. Before format 2 there may have been none.
        let was_written = found.generation() > 1 && !found.registers().epochs().is_empty();
        let why = match guarding {
            Guarding::Missing if was_written => "was missing",
            Guarding::Unverifiable => "was made by a store key that is gone, and proves nothing",
            _ => return,
        };
        let line = format!(
            "the rollback guard {} {why}; it is written again for {}: an older copy of the keystore \
             would not have been noticed",
            self.file.guard_path().display(),
            found.revision()
        );
        self.env.log.log(Level::Warning, &line);
    }

    /// The same after a reading: the first one of a process, or one with a guard in doubt.
    pub(super) fn raise_guard_after_reading(
        &self,
        opened: &ReadKeystore,
        guarding: Guarding,
        is_first: bool,
        lock: Option<&StoreLock>,
    ) {
        let is_in_doubt = matches!(guarding, Guarding::Missing | Guarding::Unverifiable);
        match lock {
            // A commit raises it at its end, unless there is nothing to commit.
            Some(lock) if is_in_doubt => self.raise_guard(lock, &opened.keystore),
            None if is_in_doubt || is_first => self.raise_guard_unless_busy(opened, guarding),
            _ => {}
        }
    }

    /// The same where nothing was changed, unless somebody is changing the keystore just now.
    fn raise_guard_unless_busy(&self, opened: &ReadKeystore, guarding: Guarding) {
        if !self.writes || guarding == Guarding::Current {
            return;
        }
        let Some(lock) = self.lock_to_look() else { return };
        // Whoever wrote another generation since then raises it, too.
        if self.file.stamp().is_ok_and(|now| now == opened.stamp) {
            self.raise_guard(&lock, &opened.keystore);
        }
    }

    /// What the guard says against the keystore.
    pub(crate) fn refused(&self, keystore: &Keystore) -> Result<String> {
        match self.file.check_guard(self.file.guard(), keystore) {
            Err(refused) if is_alarm(&refused) => Ok(refused.what().to_owned()),
            Err(error) => Err(error),
            Ok(_) => {
                let what =
                    format!("{} is not older than its rollback guard", self.file.path().display());
                Err(Error::new(Kind::State, what).advise("there is nothing to accept"))
            }
        }
    }
}

/// Whether the guard speaks against the keystore, or was itself changed.
fn is_alarm(error: &Error) -> bool {
    matches!(error.kind(), Kind::State | Kind::Corrupt)
}
