//! Keys that come from another key store, and keys that go to one: same ids, versions, ciphers.

#![forbid(unsafe_code)]

use super::approvals::Approval;
use super::approvers::of_export;
use super::{Changed, Manager};
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::key::{KeyInfo, KeyRef};
use crate::secret::DataKey;
use crate::source::{KeySource as _, Reason};
use crate::store::{Keystore, NewVersion};

/// A key version on its way, its check value proven.
pub struct ExportedKey {
    /// What is known of it.
    pub info: KeyInfo,
    /// The key.
    pub data: DataKey,
}

impl ExportedKey {
    /// A version that a key store which serves gave; `Corrupt` if it is not the key that was announced.
    pub fn proven(info: KeyInfo, data: DataKey) -> Result<Self> {
        if info.check.is_some_and(|check| check != data.check_value()) {
            let what = format!("{}: another key came than was announced", info.key);
            return Err(Error::new(Kind::Corrupt, what));
        }
        Ok(Self { info, data })
    }
}

impl Manager {
    /// Takes keys in, in one commit, and opens each again. A version that is here already with the
    /// same key changes nothing; one with another key is refused (`State`). The versions that are new.
    pub fn import(&mut self, keys: &[ExportedKey], reason: Reason<'_>) -> Result<Vec<KeyRef>> {
        self.load()?;
        self.commit(reason, |manager, before| {
            let (after, new) = manager.with_imported(before, keys, reason)?;
            Ok((!new.is_empty()).then(|| Changed { after, events: vec![(Event::Imported, new)] }))
        })
    }

    /// What [`Self::import`] would do: the versions that are new.
    pub fn try_import(&mut self, keys: &[ExportedKey], reason: Reason<'_>) -> Result<Vec<KeyRef>> {
        self.load()?;
        self.with_imported(self.reader.keystore()?, keys, reason).map(|(_, new)| new)
    }

    /// Every key version that decrypts, to be taken in plain text to another key store, which `to` names. The
    /// audit trail has a line of it before anybody has a key. Needs the approvals that the keystore wants.
    pub fn export(&mut self, to: &str, reason: Reason<'_>) -> Result<Vec<ExportedKey>> {
        let approval = self.approval(|now| Ok(of_export(now, to)), reason)?;
        self.use_for_export(approval.as_deref(), to, reason)?;
        let keystore = self.reader.keystore()?;
        let infos = self.keys().into_iter().filter(|info| info.state.decrypts());
        let keys = infos
            .map(|info| keystore.data_key(&info.key).map(|data| ExportedKey { info, data }))
            .collect::<Result<Vec<_>>>()?;
        let names: Vec<KeyRef> = keys.iter().map(|key| key.info.key.clone()).collect();
        let text = Approval::reason(approval.as_deref(), reason.text);
        self.note(Event::Exported, &names, Reason { actor: reason.actor, text: &text })?;
        self.carried_out(approval.as_deref());
        Ok(keys)
    }

    /// Has the keystore know that the approval of an export was used, before anybody has a key. Where it wants
    /// none, nothing is written.
    pub(super) fn use_for_export(
        &mut self,
        approval: Option<&Approval>,
        to: &str,
        reason: Reason<'_>,
    ) -> Result<()> {
        if approval.is_none() {
            return self.load();
        }
        let text = Approval::reason(approval, reason.text);
        self.commit(Reason { actor: reason.actor, text: &text }, |manager, before| {
            let subject = |now: &_| Ok(of_export(now, to));
            let after = manager.used(approval, subject, before.contents(), before.clone())?;
            Ok(Some(Changed { after, events: Approval::events(approval, Vec::new()) }))
        })
        .map(drop)
    }

    /// What [`Self::export`] would give.
    pub fn outgoing(&mut self) -> Result<Vec<KeyInfo>> {
        self.load()?;
        Ok(self.keys().into_iter().filter(|info| info.state.decrypts()).collect())
    }

    /// Checks that the keystore on disk opens and has these very keys, for the same ciphers.
    pub fn prove(&mut self, keys: &[ExportedKey]) -> Result<()> {
        self.load()?;
        let keystore = self.reader.keystore()?;
        for ExportedKey { info, data } in keys {
            let found = keystore.contents().info(&info.key);
            let same = keystore.data_key(&info.key)?.same_as(data)
                && found.is_some_and(|found| found.purpose == info.purpose);
            if !same {
                return Err(Error::new(Kind::Corrupt, format!("{} did not arrive", info.key)));
            }
        }
        Ok(())
    }

    fn with_imported(
        &self,
        before: &Keystore,
        keys: &[ExportedKey],
        reason: Reason<'_>,
    ) -> Result<(Keystore, Vec<KeyRef>)> {
        let (mut after, mut new) = (before.clone(), Vec::new());
        let change = self.change(reason);
        for ExportedKey { info, data } in keys {
            if before.contents().info(&info.key).is_none() {
                new.push(info.key.clone());
            }
            let version = NewVersion {
                key: info.key.clone(),
                purpose: info.purpose.clone(),
                data,
                state: info.state,
                created: info.created.unwrap_or(change.at),
            };
            after =
                after.with_version(&version, &change, &*self.reader.env.rng).map_err(|error| {
                    match error.kind() {
                    // Trying again does not help, so it is no longer a conflict of two writers.
                    Kind::Conflict => Error::new(Kind::State, error.what()).advise(
                        "this keystore has keys of its own: move it away, or import into a new one \
                         (`keyward init --empty`)",
                    ),
                    _ => error,
                }
                })?;
        }
        Ok((after, new))
    }
}
