//! Rescue of the keys in memory, whoever gave them.

#![forbid(unsafe_code)]

use super::Custodian;
use crate::env::Level;
use crate::error::Result;
use crate::manager::{Rescued, held_keys};
use crate::source::Reason;

impl Custodian {
    /// Writes all keys in memory into a new keystore, unless the present one has them all.
    pub fn rescue(&self, reason: Reason<'_>) -> Result<Rescued> {
        self.shared.may_write()?;
        let Some(mut manager) = self.shared.manager() else { return self.rescue_served(reason) };
        let rescued = manager.rescue(reason)?;
        drop(manager);
        let line = match (&rescued.aside, rescued.versions) {
            (_, 0) => {
                format!("{} has all keys in memory: nothing to rescue", rescued.path.display())
            }
            (None, n) => format!("{n} key versions rescued into {}", rescued.path.display()),
            (Some(aside), n) => format!(
                "{n} key versions rescued into {}; the file that was there is {} now",
                rescued.path.display(),
                aside.display()
            ),
        };
        self.shared.env.log.log(Level::Note, &line);
        self.shared.refresh()?;
        self.check_restart();
        Ok(rescued)
    }

    /// The same for keys that a key store serves: into a keystore of their own.
    fn rescue_served(&self, reason: Reason<'_>) -> Result<Rescued> {
        let keys = held_keys(&self.ring, self.keys())?;
        let rescued = self.shared.restart.rescue_served(&keys, reason)?;
        let (n, path) = (rescued.versions, rescued.path.display());
        let line = match &rescued.key_file {
            _ if n == 0 => format!("{path} has all keys in memory: nothing to rescue"),
            None => format!("{n} served key versions rescued into keystore {path}"),
            Some(key) => format!(
                "{n} served key versions rescued into keystore {path}, wrapped by the new key file \
                 {}: keep both",
                key.display()
            ),
        };
        self.shared.env.log.log(Level::Note, &line);
        Ok(rescued)
    }
}
