//! Keys that a key store serves: taken into a backup, compared with one, and put back where they are gone.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{Opened, open_all, read_keys, trail};
use crate::backup::{BackupKey, Origin, ServedBackup};
use crate::config::Config;
use crate::env::{Deadline, Env, Level};
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Record};
use crate::hex::Hex;
use crate::key::{KeyName, KeyRef, KeyState, KeyVersion, Purpose};
use crate::manager::ExportedKey;
use crate::provider::{ReturnWay, ReturningKey};
use crate::secret::scrubbed;
use crate::source::{LOCK_WAIT, NamedServer, Reason};
use crate::store::StoreFile;

/// The key store of a configuration whose keys it serves.
pub struct ServedKeys<'a> {
    config: &'a Config,
    store: NamedServer,
    env: &'a Env,
}

/// How a backup compares with the key store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Versions that the key store gives and the backup lacks: made after it.
    pub lacks: Vec<KeyRef>,
    /// Versions that are other keys in the key store.
    pub differs: Vec<KeyRef>,
    /// Versions of the backup that the key store does not give.
    pub gone: Vec<KeyRef>,
}

/// A version that comes back, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    /// Which.
    pub key: KeyRef,
    /// How.
    pub way: ReturnWay,
    /// Its place in the backup.
    at: usize,
}

impl<'a> ServedKeys<'a> {
    /// None where the configured providers wrap a keystore of ours.
    pub fn of(config: &'a Config, env: &'a Env) -> Result<Option<Self>> {
        let Opened { served, .. } = open_all(config, env)?;
        Ok(served.map(|(_, store)| Self { config, store, env }))
    }

    /// Where the keys are, for people.
    #[must_use]
    pub fn place(&self) -> String {
        self.store.server.place()
    }

    /// Every version that the key store gives, and the names of those that it lists and gives no more.
    /// `configuration` is SHA-256 of the configuration that goes with it.
    pub fn backup(&self, configuration: Option<Hex<32>>) -> Result<(ServedBackup, Vec<KeyRef>)> {
        let listed = self.store.server.list(self.by()).map_err(|error| self.within(error))?;
        let gone = listed.into_iter().filter(|info| !info.state.decrypts()).map(|info| info.key);
        let mut gone: Vec<KeyRef> = gone.collect();
        gone.sort();
        let (keys, origin) = (self.read()?, self.origin());
        if keys.is_empty() {
            let what = format!("nothing was backed up: {} has no key", self.place());
            return Err(Error::new(Kind::NotFound, what).advise(
                "if it lost them, an older backup has them: keyward keystore restore FILE",
            ));
        }
        let keys = keys.into_iter().map(|ExportedKey { info, data }| BackupKey { info, data });
        let made = self.env.clock.now();
        Ok((ServedBackup { origin, made, configuration, keys: keys.collect() }, gone))
    }

    /// Compares each version of `backup` with the key store.
    pub fn compare(&self, backup: &ServedBackup) -> Result<Compared> {
        let here = self.read()?;
        let here: BTreeMap<&KeyRef, &ExportedKey> =
            here.iter().map(|key| (&key.info.key, key)).collect();
        let mut compared = Compared::default();
        for BackupKey { info, data } in &backup.keys {
            match here.get(&info.key) {
                None => compared.gone.push(info.key.clone()),
                Some(key) if !key.data.same_as(data) => compared.differs.push(info.key.clone()),
                Some(_) => {}
            }
        }
        let known: BTreeSet<&KeyRef> = backup.keys.iter().map(|key| &key.info.key).collect();
        let lacks = here.keys().filter(|key| !known.contains(**key));
        compared.lacks = lacks.map(|key| (*key).clone()).collect();
        Ok(compared)
    }

    /// What a restore of `backup` would do, in its order. Nothing is changed: what cannot be done, a version
    /// that is another key among it, is an error.
    pub fn plan(&self, backup: &ServedBackup) -> Result<Vec<Returned>> {
        let Compared { differs, gone, .. } = self.compare(backup)?;
        if !differs.is_empty() {
            let names: Vec<_> = differs.iter().map(ToString::to_string).collect();
            let verb = if names.len() == 1 { "is another key" } else { "are other keys" };
            let what = format!(
                "nothing was changed: {} {verb} in {} than in the backup",
                names.join(", "),
                self.place()
            );
            return Err(Error::new(Kind::State, what).advise(
                "is it the right backup? Once no data need the keys that are there, have an administrator remove \
                 them from the key store for good, then run this again",
            ));
        }
        let keys = returning(backup)?;
        let ways = match self.store.server.plan_return(&keys, self.by()) {
            // Where nothing can be put back, nothing is to be.
            Err(error) if error.kind() == Kind::Unsupported && gone.is_empty() => Vec::new(),
            ways => ways.map_err(|error| self.cannot(error))?,
        };
        let planned = |(at, way): (usize, ReturnWay)| {
            let key = keys.get(at)?.key.clone();
            Some(Returned { key, way, at })
        };
        Ok(ways.into_iter().filter_map(planned).collect())
    }

    /// Puts back what [`Self::plan`] planned, one version after another, and reads all of the backup's again.
    /// What fails in between leaves those before it back, and a second call goes on.
    pub fn restore(
        &self,
        backup: &ServedBackup,
        planned: &[Returned],
        reason: Reason<'_>,
    ) -> Result<()> {
        if planned.is_empty() {
            return Ok(());
        }
        let beside = StoreFile::at(&self.config.keystore.path);
        let folder = beside.path().parent().is_some_and(Path::is_dir);
        // Whoever else puts keys back, or rotates, waits.
        let _lock = folder.then(|| beside.lock(Deadline::after(LOCK_WAIT))).transpose()?;
        let tell = |event, keys: &[KeyRef]| match folder {
            true => self.append(event, keys, reason),
            false => Ok(()),
        };
        let names: Vec<KeyRef> = planned.iter().map(|one| one.key.clone()).collect();
        tell(Event::Intended, &names)?;
        let keys = returning(backup)?;
        for (done, one) in planned.iter().enumerate() {
            let Some(key) = keys.get(one.at) else { continue };
            let put = self.store.server.put_back(key, self.by());
            if let Err(error) = put {
                if done > 0 {
                    self.warn_of(tell(Event::Restored, &names[..done]));
                }
                return Err(self.half_done(error, &names[..done]));
            }
        }
        self.warn_of(tell(Event::Restored, &names));
        let Compared { differs, gone, .. } = self.compare(backup)?;
        match differs.iter().chain(&gone).next() {
            None => Ok(()),
            Some(key) => {
                let what = format!("{key} was put back, and {} does not give it", self.place());
                Err(Error::new(Kind::State, what).advise("somebody else changes keys there: look"))
            }
        }
    }

    /// Appends a line to the trail beside the configuration's keystore path; without such a folder there is
    /// nobody's trail.
    pub fn tell(&self, event: Event, keys: &[KeyRef], reason: Reason<'_>) -> Result<()> {
        let beside = StoreFile::at(&self.config.keystore.path);
        if !beside.path().parent().is_some_and(Path::is_dir) {
            return Ok(());
        }
        let _lock = beside.lock(Deadline::after(LOCK_WAIT))?;
        self.append(event, keys, reason)
    }

    fn append(&self, event: Event, keys: &[KeyRef], reason: Reason<'_>) -> Result<()> {
        let Reason { actor, text } = reason;
        let record = Record { event, keys, generation: 0, actor, reason: text };
        trail(self.config).append(&*self.env.clock, &record)
    }

    fn read(&self) -> Result<Vec<ExportedKey>> {
        let read = scrubbed(|| read_keys(&*self.store.server, self.store.timeout));
        read.map_err(|error| self.within(error))
    }

    fn origin(&self) -> Origin {
        Origin { provider: self.store.name.clone(), place: self.place() }
    }

    fn by(&self) -> Deadline {
        Deadline::after(self.store.timeout)
    }

    fn within(&self, error: Error) -> Error {
        error.within(format!("provider {:?}", self.store.name))
    }

    fn cannot(&self, error: Error) -> Error {
        let error = self.within(error).within("nothing was changed");
        match error.kind() {
            Kind::Unsupported => error.advise(
                "put the backup's lines NUMBER;VERSION;KEY there by hand: `keyward help recovery` says how to open it",
            ),
            _ => error,
        }
    }

    fn half_done(&self, error: Error, done: &[KeyRef]) -> Error {
        let error = self.within(error);
        if done.is_empty() {
            return error;
        }
        let names: Vec<_> = done.iter().map(ToString::to_string).collect();
        let what = format!("{}; put back before that: {}", error.what(), names.join(", "));
        let advice = error.advice().map_or_else(String::new, |advice| format!("{advice}; "));
        Error::new(error.kind(), what).advise(format!("{advice}then run it again: it goes on"))
    }

    fn warn_of(&self, told: Result<()>) {
        if let Err(error) = told {
            self.env.log.log(Level::Warning, &error.to_string());
        }
    }
}

/// The keys of a backup as the key store is to have them. Which one encrypts, the highest active one is: one
/// below that, which only decrypted, need not be known as such.
fn returning<'a>(backup: &'a ServedBackup) -> Result<Vec<ReturningKey<'a>>> {
    let mut newest: BTreeMap<&KeyName, KeyVersion> = BTreeMap::new();
    for info in backup.keys.iter().map(|key| &key.info) {
        if info.state == KeyState::Active {
            newest.insert(&info.key.name, info.key.version);
        }
    }
    let key = |BackupKey { info, data }: &'a BackupKey| {
        let Purpose::Pages(cipher) = info.purpose else {
            let what = format!("{} is no key of MariaDB's", info.key);
            return Err(Error::new(Kind::Unsupported, what));
        };
        let is_below = newest.get(&info.key.name).is_some_and(|newest| info.key.version < *newest);
        let state = match info.state {
            KeyState::Retired if is_below => KeyState::Active,
            state => state,
        };
        Ok(ReturningKey { key: &info.key, state, cipher, data })
    };
    backup.keys.iter().map(key).collect()
}
