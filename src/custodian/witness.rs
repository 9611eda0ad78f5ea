//! Heeding the witness: an older copy of the keystore, put back while nothing ran, does not open
//! unless somebody says that it is to.

use super::keystore::KeystoreSource;
use super::{Reason, Role};
use crate::audit::{Event, Record, Trail};
use crate::env::{Deadline, Level};
use crate::error::{Error, Kind, Result};
use crate::store::{Keystore, StoreLock};

impl KeystoreSource {
    /// What a process may do: a reader writes no witness, but heeds it.
    pub(super) fn take_role(&mut self, role: Role) {
        self.writes = role != Role::Reader;
    }

    /// That the keystore is not older than what was in force before.
    pub(super) fn heed_witness(&self, keystore: &Keystore) -> Result<()> {
        self.file.check_witness(keystore).map(drop).map_err(|error| match error.kind() {
            Kind::State | Kind::Corrupt => error.advise(
                "put the newest copy back; if there is none, stop the servers and run `keyward \
                 accept-rollback`",
            ),
            _ => error,
        })
    }

    /// Brings the witness up to the keystore that is open. Under its lock only. That it cannot be
    /// written is a warning: the keys are there.
    pub(super) fn raise_witness(&self, _: &StoreLock, keystore: &Keystore) {
        let raise = || match self.file.check_witness(keystore)? {
            true => self.file.write_witness(keystore, &*self.env.rng),
            false => Ok(()),
        };
        if let Err(error) = raise() {
            self.env.log.log(Level::Warning, &error.to_string());
        }
    }

    /// The same at the start of a process, unless somebody is changing the keystore just now.
    pub(super) fn raise_witness_at_start(&self, keystore: &Keystore) {
        if !self.writes || matches!(self.file.check_witness(keystore), Ok(false)) {
            return;
        }
        if let Ok(lock) = self.file.lock(Deadline::after(super::keystore::START_LOCK_WAIT)) {
            self.raise_witness(&lock, keystore);
        }
    }

    /// Accepts the keystore as it is, though its witness tells of a newer one or another; gives
    /// what the witness tells and the generation that is in force from now on. `State` where there
    /// is nothing to accept.
    pub fn accept_rollback(&self, reason: Reason<'_>) -> Result<(String, u64)> {
        let lock = self.file.lock(Deadline::after(super::keystore::LOCK_WAIT))?;
        let keystore = self.read_unwitnessed()?.keystore;
        let Err(refused) = self.file.check_witness(&keystore) else {
            let what = format!("{} is not older than its witness", self.file.path().display());
            return Err(Error::new(Kind::State, what).advise("there is nothing to accept"));
        };
        if !matches!(refused.kind(), Kind::State | Kind::Corrupt) {
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
