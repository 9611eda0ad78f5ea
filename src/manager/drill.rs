//! A backup tried as a restore would use it. Nothing is written but a line in the trail.

#![forbid(unsafe_code)]

use super::Manager;
use super::restore::surplus;
use crate::backup::Backup;
use crate::error::{Error, Kind, Result};
use crate::key::KeyRef;
use crate::source::{KeySource as _, Reason};
use crate::store::Sealed;

/// How a backup compares with the keystore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drilled {
    /// Versions of the keystore that decrypt and that the backup lacks: made after it.
    pub lacks: Vec<KeyRef>,
    /// Versions of the backup that are other keys in the keystore.
    pub differs: Vec<KeyRef>,
}

impl Manager {
    /// Makes the keystore of the backup again, in memory alone: the configured providers wrap it, and it is
    /// read back with each of its keys. Compares it with the keystore, which must be the same.
    pub fn drill(&mut self, backup: &Backup, reason: Reason<'_>) -> Result<Drilled> {
        self.load()?;
        let here = self.reader.keystore()?;
        let id = here.contents().id();
        if id != backup.keystore {
            let what = format!("it is of keystore {}, and this is {id}", backup.keystore);
            return Err(Error::new(Kind::Config, what)
                .advise("name the configuration of that keystore, with --config"));
        }
        let (now, rng) = (self.reader.env.clock.now(), &*self.reader.env.rng);
        let again = self.made_again(backup, reason)?;
        let known = self.reader.file.guard().epoch_to_pass(&again, rng)?;
        let again = again.with_epoch_above(known, now, rng)?;
        self.prove_restored(Sealed::parse(&again.to_bytes()?)?, backup)?;
        let here = self.reader.keystore()?;
        let has =
            |key: &KeyRef| here.contents().info(key).is_some_and(|info| info.state.decrypts());
        let both = backup.keys.iter().filter(|key| has(&key.info.key));
        let differs = both.filter(|key| !here.has_key(&key.info.key, &key.data));
        let differs = differs.map(|key| key.info.key.clone()).collect();
        Ok(Drilled { lacks: surplus(here.contents(), backup), differs })
    }
}
