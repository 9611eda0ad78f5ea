//! The register of backups of the data: a version that one of them needs is not destroyed.

#![forbid(unsafe_code)]

use super::{Changed, Manager};
use crate::env::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::key::KeyRef;
use crate::source::Reason;
use crate::store::{Backup, Contents, MAX_NEEDS, VersionEntry};

/// A backup that is to stay readable.
pub struct DataBackup {
    /// The folder that it is in, or another name for it.
    pub name: String,
    /// The host that this is on.
    pub host: String,
    /// Until when; none: until it is taken out.
    pub until: Option<Timestamp>,
    /// The versions that it needs; none where nobody can tell.
    pub needs: Option<Vec<KeyRef>>,
}

impl Manager {
    /// Enters a backup in the register, in the place of the one of that name. `NotFound` where it needs a
    /// version that there is not.
    pub fn register_backup(&mut self, new: DataBackup, reason: Reason<'_>) -> Result<()> {
        let DataBackup { name, host, until, needs } = new;
        let keys: Vec<KeyRef> = needs.iter().flatten().cloned().collect();
        self.commit(reason, |manager, before| {
            let contents = before.contents();
            let lives =
                |key: &&KeyRef| contents.info(key).is_some_and(|info| info.state.decrypts());
            if let Some(key) = keys.iter().find(|key| !lives(key)) {
                let what = format!("{name} needs {key}, which the keystore does not have");
                return Err(Error::new(Kind::NotFound, what)
                    .advise("register it in the keystore of the server that it is of"));
            }
            let after = before.with_backup(Backup {
                name,
                host,
                revision: contents.revision(),
                made: manager.reader.env.clock.now(),
                until,
                needs: needs.filter(|needs| needs.len() <= MAX_NEEDS),
            })?;
            Ok(Some(Changed { after, events: vec![(Event::DataBackupRegistered, Vec::new())] }))
        })
        .map(drop)
    }

    /// Takes a backup out, which is gone.
    pub fn unregister_backup(&mut self, host: &str, name: &str, reason: Reason<'_>) -> Result<()> {
        self.commit(reason, |_, before| {
            let after = before.without_backup(host, name)?;
            Ok(Some(Changed { after, events: vec![(Event::DataBackupGone, Vec::new())] }))
        })
        .map(drop)
    }
}

/// Refuses the end of a version that a registered backup needs.
pub(super) fn check(
    contents: &Contents,
    key: &KeyRef,
    entry: &VersionEntry,
    now: Timestamp,
) -> Result<()> {
    let needs = |one: &&Backup| !one.is_over(now) && one.needs(key, entry.since());
    let Some(Backup { name, host, until, .. }) = contents.registers().backups.iter().find(needs)
    else {
        return Ok(());
    };
    let on = if host.is_empty() { String::new() } else { format!(" on {host}") };
    let until = until.map_or("until it is taken out".to_owned(), |until| format!("until {until}"));
    let what = format!("the backup {name}{on} needs {key}, {until}");
    Err(Error::new(Kind::State, what)
        .advise(format!("`keyward keystore backups remove {name}` once that backup is gone")))
}
