//! The keystore made again from a backup: on a machine that has none, or beside one that does not open.
//! Nothing is overwritten.

#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::path::PathBuf;

use super::Manager;
use super::placed::Placed;
use crate::backup::Backup;
use crate::env::{Deadline, Level};
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::key::{KeyRef, KeyState};
use crate::secret::{DataKey, scrubbed};
use crate::source::{LOCK_WAIT, Reason, infos, unwrap_store_key};
use crate::store::{
    Contents, Identity, Keystore, NewVersion, Revision, STORE_KEY_LEN, Sealed, Wrapping,
};

/// What a restore did, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Where the keystore is.
    pub path: PathBuf,
    /// What it is; what the backup is of, where nothing was done.
    pub revision: Revision,
    /// How many versions it has.
    pub versions: usize,
    /// Where the file is that was in its place.
    pub aside: Option<PathBuf>,
}

impl Manager {
    /// Checks that the backup may take the place of what is at the keystore's path, and what would come of
    /// it. Another keystore gives way only if it is to be replaced.
    pub fn try_restore(&self, backup: &Backup, replace: bool) -> Result<Restored> {
        self.judge(backup, replace)?;
        let path = self.reader.file.path().to_owned();
        let versions = backup.keys.len();
        Ok(Restored { path, revision: backup.revision, versions, aside: None })
    }

    /// Makes the keystore of the backup again, in a new epoch, its store key a new one that every configured
    /// provider wraps. Each key is read back before the file takes its place.
    pub fn restore(
        &mut self,
        backup: &Backup,
        replace: bool,
        reason: Reason<'_>,
    ) -> Result<Restored> {
        self.may_write()?;
        let lock = self.reader.file.lock(Deadline::after(LOCK_WAIT))?;
        self.judge(backup, replace)?;
        let (now, rng) = (self.reader.env.clock.now(), &*self.reader.env.rng);
        let next = self.made_again(backup, reason)?;
        let known = self.reader.file.guard().epoch_to_pass(&next, rng)?;
        let next = next.with_epoch_above(known, now, rng)?;
        let keys: Vec<KeyRef> = backup.keys.iter().map(|key| key.info.key.clone()).collect();
        let prove = |sealed| self.prove_restored(sealed, backup);
        let Placed { keystore, aside } =
            self.place(&lock, &next, (Event::Restored, &keys), prove, reason)?;
        let (path, versions) = (self.reader.file.path().to_owned(), keys.len());
        Ok(Restored { path, revision: keystore.contents().revision(), versions, aside })
    }

    /// An error where something at the keystore's path is better left alone.
    fn judge(&self, backup: &Backup, replace: bool) -> Result<()> {
        let path = self.reader.file.path().display();
        let stays = |what: String, advice: &str| {
            Err(Error::new(Kind::State, format!("nothing was restored: {what}")).advise(advice))
        };
        let found = match self.reader.file.read() {
            Ok((sealed, _)) => sealed,
            // There is none, or something that is none.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Corrupt) => return Ok(()),
            Err(error) => return Err(error),
        };
        let id = found.unverified().id().to_owned();
        if id != backup.keystore {
            return match replace {
                true => Ok(()),
                false => stays(
                    format!("{path} is keystore {id}, and the backup is of {}", backup.keystore),
                    "--replace renames that file and puts the backup's in its place",
                ),
            };
        }
        match self.reader.read_unguarded() {
            Ok(read) => {
                let here = read.keystore.contents();
                if let Some(more) = surplus(here, backup).first() {
                    return stays(
                        format!("{path} opens, and has {more}, which the backup lacks"),
                        "take a newer backup, or go on with the keystore as it is",
                    );
                }
                let all = |key: &KeyRef| here.info(key).is_some();
                if backup.keys.iter().all(|key| all(&key.info.key)) {
                    let what = format!("{path} opens, and has all keys of the backup");
                    return stays(what, "`keyward doctor` says what else is wrong");
                }
                Ok(())
            }
            // Its keys may be there again in a moment.
            Err(error) if error.is_outage() || error.is_transient() => {
                Err(error.within("nothing was restored, for the keystore may open again"))
            }
            Err(_) => Ok(()),
        }
    }

    /// The keystore of the backup under a new store key, wrapped by the configured providers that can. Nothing
    /// is written.
    pub(super) fn made_again(&self, backup: &Backup, reason: Reason<'_>) -> Result<Keystore> {
        let (now, rng) = (self.reader.env.clock.now(), &*self.reader.env.rng);
        let store_key = DataKey::generate(STORE_KEY_LEN, rng)?;
        let wrappings = self.wrapped(&store_key, &backup.keystore, "nothing was restored")?;
        let identity = Identity {
            id: backup.keystore.clone(),
            created: backup.created,
            revision: backup.revision,
            registers: backup.registers.clone(),
        };
        let secret = DataKey::copy_of(backup.secret.expose())?;
        let mut next = Keystore::made_again(identity, secret, store_key, wrappings, now, rng)?;
        let change = self.change(reason);
        for key in &backup.keys {
            let info = &key.info;
            let compromised = info.state == KeyState::Compromised;
            let version = NewVersion {
                key: info.key.clone(),
                purpose: info.purpose.clone(),
                data: &key.data,
                state: if compromised { KeyState::Retired } else { info.state },
                created: info.created.unwrap_or(change.at),
            };
            next = next.with_version(&version, &change, rng)?;
            if compromised {
                next = next.with_state(&info.key, KeyState::Compromised, &change)?;
            }
        }
        Ok(next)
    }

    /// `store_key` as every configured provider wraps it that can; one of them must, or `else_` is so.
    pub(super) fn wrapped(
        &self,
        store_key: &DataKey,
        id: &str,
        else_: &str,
    ) -> Result<Vec<Wrapping>> {
        let context = Keystore::first_context(id);
        let (mut wrappings, mut failures) = (Vec::new(), Vec::new());
        for named in &self.reader.wrappers {
            match named.wrap(store_key, &context) {
                Ok(wrapping) => wrappings.push(wrapping),
                Err(error) => failures.push(error),
            }
        }
        if wrappings.is_empty() {
            let none = || Error::new(Kind::Config, "no provider that wraps is configured");
            let first = failures.into_iter().next().unwrap_or_else(none);
            return Err(first.within(format!("{else_}, because no provider wraps the keystore")));
        }
        for failure in &failures {
            let line = format!("not all providers wrap the new keystore: {failure}");
            self.reader.env.log.log(Level::Warning, &line);
        }
        Ok(wrappings)
    }

    /// The keystore as it was written, proven to open by a provider and to have every key of the backup.
    pub(super) fn prove_restored(&self, sealed: Sealed, backup: &Backup) -> Result<Keystore> {
        let (path, log) = (self.reader.file.path(), &*self.reader.env.log);
        let (store_key, _) =
            unwrap_store_key(&self.reader.wrappers, sealed.unverified(), path, log)?;
        let written = sealed.open(store_key)?;
        scrubbed(|| {
            for key in &backup.keys {
                if !written.data_key(&key.info.key)?.same_as(&key.data) {
                    let what =
                        format!("nothing was restored: {} would be another key", key.info.key);
                    return Err(Error::new(Kind::Corrupt, what));
                }
            }
            Ok(())
        })?;
        Ok(written)
    }
}

/// The versions that decrypt here and are not in the backup.
pub(super) fn surplus(here: &Contents, backup: &Backup) -> Vec<KeyRef> {
    let known: HashSet<&KeyRef> = backup.keys.iter().map(|key| &key.info.key).collect();
    let all = infos(here).into_iter().filter(|info| info.state.decrypts());
    all.map(|info| info.key).filter(|key| !known.contains(key)).collect()
}
