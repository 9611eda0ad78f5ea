//! The plain text of a backup of the keystore, and the register of its recipients.

#![forbid(unsafe_code)]

use super::{Changed, Manager};
use crate::backup::{Backup, BackupKey};
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::hex::Hex;
use crate::key::{KeyInfo, KeyRef};
use crate::secret::{SecretBytes, scrubbed};
use crate::source::{KeySource as _, Reason};

impl Manager {
    /// The signed text of a backup, with a line in the trail before anybody has it. `configuration` is
    /// SHA-256 of the configuration that goes with it.
    pub fn backup(
        &mut self,
        configuration: Option<Hex<32>>,
        reason: Reason<'_>,
    ) -> Result<SecretBytes> {
        self.load()?;
        let keystore = self.reader.keystore()?;
        let contents = keystore.contents();
        let mut infos = self.keys();
        infos.retain(|info| info.state.decrypts());
        infos.sort_by(|one, other| one.key.cmp(&other.key));
        let keys = scrubbed(|| {
            let key = |info: KeyInfo| {
                let data = keystore.data_key(&info.key)?;
                Ok(BackupKey { info, data })
            };
            infos.into_iter().map(key).collect::<Result<Vec<_>>>()
        })?;
        let names: Vec<KeyRef> = keys.iter().map(|key| key.info.key.clone()).collect();
        let backup = Backup {
            keystore: contents.id().to_owned(),
            created: contents.created(),
            revision: contents.revision(),
            made: self.reader.env.clock.now(),
            configuration,
            registers: contents.registers().clone(),
            secret: keystore.secret_for_backup()?,
            keys,
        };
        let text = backup.to_text(|text| keystore.sign(text))?;
        self.note(Event::BackedUp, &names, reason)?;
        Ok(text)
    }

    /// Adds a recipient of backups to the keystore; one that it has changes nothing.
    pub fn add_backup_recipient(&mut self, recipient: &str, reason: Reason<'_>) -> Result<()> {
        self.change_recipients(reason, |all| {
            let new = !all.iter().any(|one| one == recipient);
            all.extend(new.then(|| recipient.to_owned()));
            Ok(new)
        })
    }

    /// Takes a recipient out.
    pub fn remove_backup_recipient(&mut self, recipient: &str, reason: Reason<'_>) -> Result<()> {
        self.change_recipients(reason, |all| {
            let before = all.len();
            all.retain(|one| one != recipient);
            match all.len() < before {
                true => Ok(true),
                false => Err(Error::new(Kind::NotFound, "the keystore has no such recipient")
                    .advise("`keyward keystore backup --recipients` lists them")),
            }
        })
    }

    fn change_recipients(
        &mut self,
        reason: Reason<'_>,
        edit: impl FnOnce(&mut Vec<String>) -> Result<bool>,
    ) -> Result<()> {
        self.commit(reason, |_, before| {
            let mut changed = false;
            let after = before.with_registers(|registers| {
                changed = edit(&mut registers.backup_recipients)?;
                Ok(())
            })?;
            let events = vec![(Event::BackupRecipientsChanged, Vec::new())];
            Ok(changed.then_some(Changed { after, events }))
        })
        .map(drop)
    }
}
