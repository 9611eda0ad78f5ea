//! Who approves, and what each request says of what it is for.

#![forbid(unsafe_code)]

use std::path::Path;
use std::time::Duration;

use super::approvals::Approval;
use super::{Changed, Judged, Manager};
use crate::approval::{Action, PublicKey, Subject};
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::key::{KeyInfo, KeyRef};
use crate::ring::Ring;
use crate::source::{KeySource as _, Reason, infos};
use crate::store::{Approvers, Contents, DataDirectory};

impl Manager {
    /// Refuses approvers that could not approve anything, or that nobody could tell apart.
    pub fn may_set_approvers(&self, keys: &[PublicKey], needed: u32) -> Result<()> {
        for (at, key) in keys.iter().enumerate() {
            if keys[..at].iter().any(|one| one.is(key)) {
                let what = format!("{} is named twice", key.fingerprint());
                return Err(Error::new(Kind::Config, what)
                    .advise("two approvals are to be those of two people"));
            }
            if keys[..at].iter().any(|one| one.is_of(key.name())) {
                let what = format!("two approvers are called {:?}", key.name());
                return Err(Error::new(Kind::Config, what)
                    .advise("give each the account of the person as its comment"));
            }
        }
        if (needed == 0) != keys.is_empty() || needed as usize > keys.len() {
            let what = format!("{needed} approvals of {} approvers", keys.len());
            return Err(Error::new(Kind::Config, what)
                .advise("--need 2 with three keys lets any two of them approve; --need 0 without keys ends it"));
        }
        let first = self.contents().is_some_and(|now| now.registers().approvers.needed == 0);
        let planned = self.pending_destructions();
        match planned.first().filter(|_| first && needed > 0) {
            Some((key, at)) => {
                let what = format!("{key} is to be destroyed on {at}, which nobody has approved");
                Err(Error::new(Kind::State, what).advise(format!(
                    "`keyward keys destroy {} {} --cancel` calls it off; plan it again afterwards",
                    key.name, key.version
                )))
            }
            None => Ok(()),
        }
    }

    /// Has `needed` of `keys` approve from now on. As many of the present ones must approve of that.
    pub fn set_approvers(
        &mut self,
        keys: &[PublicKey],
        needed: u32,
        reason: Reason<'_>,
    ) -> Result<()> {
        self.load()?;
        self.may_set_approvers(keys, needed)?;
        let subject = |contents: &Contents| Ok(of_approvers(contents, keys, needed));
        let approval = self.approval(subject, reason)?;
        let text = Approval::reason(approval.as_deref(), reason.text);
        let reason = Reason { actor: reason.actor, text: &text };
        self.commit(reason, |manager, before| {
            manager.may_set_approvers(keys, needed)?;
            let after = before.with_registers(|registers| {
                let keys = keys.iter().map(ToString::to_string).collect();
                registers.approvers = Approvers { keys, needed };
                Ok(())
            })?;
            let after = manager.used(approval.as_deref(), subject, before.contents(), after)?;
            let events = vec![(Event::ApproversChanged, Vec::new())];
            Ok(Some(Changed { after, events: Approval::events(approval.as_deref(), events) }))
        })?;
        self.carried_out(approval.as_deref());
        Ok(())
    }
}

/// What a change of the approvers is, to be approved or to be confirmed.
#[must_use]
pub fn of_approvers(contents: &Contents, keys: &[PublicKey], needed: u32) -> Subject {
    let before = &contents.registers().approvers;
    let change = format!(
        "approvers, from now on {needed} of {}, until now {} of {}",
        keys.len(),
        before.needed,
        before.keys.len()
    );
    let line = |key: &PublicKey| format!("approver {}, {}", key.name(), key.fingerprint());
    let targets = std::iter::once(change).chain(keys.iter().map(line)).collect();
    Subject::new(Action::ChangeApprovers, targets, &before.keys)
}

/// The plan to destroy `key`.
pub(super) fn of_destruction(
    contents: &Contents,
    key: &KeyRef,
    wait: Duration,
    judged: &Judged,
) -> Result<Subject> {
    let wait = humantime::format_duration(wait);
    let line =
        format!("{}; to be destroyed {wait} after the approval is used", key_line(contents, key)?);
    let targets = std::iter::once(line).chain(gone(contents, judged)).collect();
    Ok(Subject::new(Action::Destroy, targets, &[]))
}

/// Keys on their way out in plain text.
pub(super) fn of_export(contents: &Contents, to: &str) -> Subject {
    let living = living(contents);
    let line = format!("all keys in plain text to {to}, {} versions", living.len());
    Subject::new(Action::Export, vec![line], &living)
}

/// One recipient of backups more.
pub(super) fn of_recipient(recipient: &str) -> Subject {
    let line = format!("recipient {recipient}, who can read every backup from now on");
    Subject::new(Action::AddRecipient, vec![line], &[])
}

/// The keys in a server's memory, into a new keystore at `path`.
pub(super) fn of_rescue(ring: &Ring, path: &Path) -> Subject {
    let mut versions = ring.versions();
    versions.sort();
    let named = ring.named();
    let numbered = versions.into_iter().map(|(id, version)| KeyRef::new(id, version).to_string());
    let mut facts: Vec<String> = numbered.collect();
    for name in named.names() {
        facts.extend(
            named.get(name).map(|key| KeyRef::new(name.clone(), key.version()).to_string()),
        );
    }
    let line = format!(
        "the keys in the server's memory, {} versions, into a new keystore at {}",
        facts.len(),
        path.display()
    );
    Subject::new(Action::Rescue, vec![line], &facts)
}

/// The older copy that is to be in force.
pub(super) fn of_rollback(contents: &Contents, lost: &[String]) -> Subject {
    let line = format!("keystore {}, the copy of {}", contents.id(), contents.revision());
    let targets = std::iter::once(line).chain(lost.iter().cloned()).collect();
    Subject::new(Action::AcceptRollback, targets, &living(contents))
}

/// One key version, and all of it that may change.
pub(super) fn key_line(contents: &Contents, key: &KeyRef) -> Result<String> {
    let none = || Error::new(Kind::NotFound, format!("the keystore has no {key}"));
    contents.info(key).map(|info| line(&info)).ok_or_else(none)
}

/// The data directories that are gone by the requester's word.
pub(super) fn gone(contents: &Contents, judged: &Judged) -> Vec<String> {
    let all = contents.registers().data_directories.iter();
    let gone = all.filter(|one| judged.gone.contains(&one.mark));
    gone.map(|DataDirectory { mark, host, path, .. }| {
        format!("nobody looked at {path} on {host}, mark {mark}: it is said to be gone")
    })
    .collect()
}

fn living(contents: &Contents) -> Vec<String> {
    infos(contents).iter().filter(|info| info.state.decrypts()).map(line).collect()
}

fn line(info: &KeyInfo) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    format!(
        "{}, {}, {}, made {}, check value {}",
        info.key,
        info.purpose,
        info.state,
        or_dash(info.created.map(|at| at.to_string())),
        or_dash(info.check.map(|check| check.to_string())),
    )
}
