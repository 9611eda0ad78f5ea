//! The plain text of a backup of the keystore, and the register of its recipients.

#![forbid(unsafe_code)]

use super::approvals::Approval;
use super::approvers::{of_export, of_recipient};
use super::{Changed, Manager};
use crate::backup::{Backup, BackupKey};
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::hex::Hex;
use crate::key::{KeyInfo, KeyRef};
use crate::secret::{SecretBytes, scrubbed};
use crate::source::{KeySource as _, Reason};
use crate::store::Contents;

/// For whom a backup is, as far as it matters who could read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// The recipients that the keystore names.
    Recipients,
    /// Whoever knows a passphrase that the caller chose.
    Passphrase,
}

/// What a request calls a backup by a passphrase.
const BY_PASSPHRASE: &str = "a backup that whoever asks has the passphrase of";

impl Manager {
    /// The signed text of a backup, with a line in the trail before anybody has it. `configuration` is
    /// SHA-256 of the configuration that goes with it. By a passphrase it needs the approvals that the keystore
    /// wants: whoever chose that can read it.
    pub fn backup(
        &mut self,
        configuration: Option<Hex<32>>,
        readers: Readers,
        reason: Reason<'_>,
    ) -> Result<SecretBytes> {
        let approval = match readers {
            Readers::Recipients => None,
            Readers::Passphrase => {
                self.approval(|now| Ok(of_export(now, BY_PASSPHRASE)), reason)?
            }
        };
        self.use_for_export(approval.as_deref(), BY_PASSPHRASE, reason)?;
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
        let told = Approval::reason(approval.as_deref(), reason.text);
        self.note(Event::BackedUp, &names, Reason { actor: reason.actor, text: &told })?;
        self.carried_out(approval.as_deref());
        Ok(text)
    }

    /// Adds a recipient of backups to the keystore; one that it has changes nothing. Needs the approvals that
    /// the keystore wants: the recipient will have all keys.
    pub fn add_backup_recipient(&mut self, recipient: &str, reason: Reason<'_>) -> Result<()> {
        self.load()?;
        let all = self.contents().map(|now| now.registers().backup_recipients.clone());
        if all.is_some_and(|all| all.iter().any(|one| one == recipient)) {
            return Ok(());
        }
        let subject = |_: &Contents| Ok(of_recipient(recipient));
        let approval = self.approval(subject, reason)?;
        let text = Approval::reason(approval.as_deref(), reason.text);
        self.commit(Reason { actor: reason.actor, text: &text }, |manager, before| {
            let after = before.with_registers(|registers| {
                registers.backup_recipients.push(recipient.to_owned());
                Ok(())
            })?;
            let after = manager.used(approval.as_deref(), subject, before.contents(), after)?;
            let events = vec![(Event::BackupRecipientsChanged, Vec::new())];
            Ok(Some(Changed { after, events: Approval::events(approval.as_deref(), events) }))
        })?;
        self.carried_out(approval.as_deref());
        Ok(())
    }

    /// Takes a recipient out.
    pub fn remove_backup_recipient(&mut self, recipient: &str, reason: Reason<'_>) -> Result<()> {
        self.commit(reason, |_, before| {
            let mut found = false;
            let after = before.with_registers(|registers| {
                let all = &mut registers.backup_recipients;
                found = all.iter().any(|one| one == recipient);
                all.retain(|one| one != recipient);
                Ok(())
            })?;
            if !found {
                return Err(Error::new(Kind::NotFound, "the keystore has no such recipient")
                    .advise("`keyward keystore backup --recipients` lists them"));
            }
            let events = vec![(Event::BackupRecipientsChanged, Vec::new())];
            Ok(Some(Changed { after, events }))
        })
        .map(drop)
    }
}
