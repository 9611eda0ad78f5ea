//! The end of a version: planned for a later time, called off, carried out. That nothing needs the
//! version is for the caller to prove; what the keystore itself knows is checked here, under its
//! lock, at every step.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::approvals::Approval;
use super::approvers::of_destruction;
use super::{Changed, Judged, Manager, data_backups};
use crate::env::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::key::{KeyRef, KeyState};
use crate::policy::Policy;
use crate::source::{KeySource as _, Reason};
use crate::store::{Change, Contents, KeyEntry, Keystore, VersionEntry};

/// A step towards the end of a version, or back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destruction {
    /// Destroy it once this time has passed.
    Plan(KeyRef, Duration),
    /// Do not.
    Cancel(KeyRef),
    /// Its time has passed: destroy it now. Its key is gone, a tombstone stays.
    CarryOut(KeyRef),
}

impl Destruction {
    /// Which version.
    #[must_use]
    pub fn key(&self) -> &KeyRef {
        match self {
            Self::Plan(key, _) | Self::Cancel(key) | Self::CarryOut(key) => key,
        }
    }

    /// What the audit trail calls it.
    fn event(&self) -> Event {
        match self {
            Self::Plan(..) => Event::DestructionPlanned,
            Self::Cancel(_) => Event::DestructionCancelled,
            Self::CarryOut(_) => Event::Destroyed,
        }
    }

    /// The keystore after the step.
    fn apply(&self, before: &Keystore, policy: &Policy, change: &Change) -> Result<Keystore> {
        let now = change.at;
        match self {
            Self::Plan(key, wait) => {
                check(before.contents(), policy, key, now)?;
                if let Some(at) = planned(entry(before.contents(), key)?) {
                    let what = format!("{key} is to be destroyed on {at} already");
                    return Err(Error::new(Kind::State, what));
                }
                let at = Timestamp::from_unix(now.as_unix().saturating_add(wait.as_secs()));
                let plan = Change { at, ..change.clone() };
                before.with_plan(key, Some((KeyState::Destroyed, &plan)))
            }
            Self::Cancel(key) => {
                planned(entry(before.contents(), key)?).ok_or_else(|| not_planned(key))?;
                before.with_plan(key, None)
            }
            Self::CarryOut(key) => {
                check(before.contents(), policy, key, now)?;
                let at = planned(entry(before.contents(), key)?).ok_or_else(|| not_planned(key))?;
                if at > now {
                    let what = format!("{key} is not to be destroyed before {at}");
                    return Err(Error::new(Kind::State, what));
                }
                before.with_state(key, KeyState::Destroyed, change)
            }
        }
    }
}

impl Manager {
    /// Refuses what [`Self::destroy`] would refuse to plan.
    pub fn may_destroy(&self, key: &KeyRef) -> Result<()> {
        let contents = self.reader.keystore()?.contents();
        check(contents, &self.runner.policy, key, self.reader.env.clock.now())
    }

    /// Takes the step, in one commit, after the data directories of `judged` were looked at. Those that
    /// are gone leave the register in the same commit. Planning it needs the approvals that the keystore wants;
    /// whoever carries it out needs none.
    pub fn destroy(
        &mut self,
        step: &Destruction,
        judged: &Judged,
        reason: Reason<'_>,
    ) -> Result<()> {
        let asked = judged.reason(reason.text, self.contents());
        let reason = Reason { actor: reason.actor, text: &asked };
        let approval = match step {
            Destruction::Plan(key, wait) => {
                self.load()?;
                let before = self.reader.keystore()?;
                if before.contents().registers().approvers.needed > 0 {
                    // What is refused anyway is nothing to ask anybody for.
                    step.apply(before, &self.runner.policy, &self.change(reason))?;
                }
                self.approval(|now| of_destruction(now, key, *wait, judged), reason)?
            }
            Destruction::Cancel(_) | Destruction::CarryOut(_) => None,
        };
        let told = Approval::reason(approval.as_deref(), &asked);
        self.commit(Reason { actor: reason.actor, text: &told }, |manager, before| {
            let change = manager.change(reason);
            let mut after = step.apply(before, &manager.runner.policy, &change)?;
            let mut events = vec![(step.event(), vec![step.key().clone()])];
            if let Destruction::Plan(key, wait) = step {
                let subject = |now: &Contents| of_destruction(now, key, *wait, judged);
                after = manager.used(approval.as_deref(), subject, before.contents(), after)?;
                events = Approval::events(approval.as_deref(), events);
            }
            if !matches!(step, Destruction::Cancel(_)) {
                // Asked under the lock: a server may have come while files were read.
                judged.check(before.contents())?;
                if let Some(without) = judged.without_gone(&after)? {
                    after = without;
                    events.push((Event::DataDirectoryGone, Vec::new()));
                }
            }
            Ok(Some(Changed { after, events }))
        })?;
        self.carried_out(approval.as_deref());
        Ok(())
    }

    /// The versions that are to be destroyed, and when, by key and version.
    #[must_use]
    pub fn pending_destructions(&self) -> Vec<(KeyRef, Timestamp)> {
        self.contents().map_or_else(Vec::new, pending)
    }
}

/// Whether the keystore lets go of a version: nothing encrypts with it, no registered backup needs it, and
/// the policy does not want it kept.
fn check(contents: &Contents, policy: &Policy, key: &KeyRef, now: Timestamp) -> Result<()> {
    let (whole, entry) = find(contents, key)?;
    if !matches!(entry.state, KeyState::Retired | KeyState::Compromised) {
        let refused = Error::new(Kind::State, format!("{key} is {}", entry.state));
        return Err(match entry.state {
            KeyState::Active => {
                refused.advise(format!("`keyward rotate {}` puts another in its place", key.name))
            }
            KeyState::Pending => refused.advise("it is yet to be used"),
            _ => refused,
        });
    }
    data_backups::check(contents, key, entry, now)?;
    policy.may_destroy(now, whole, entry)
}

/// Every version that is to be destroyed, and when.
fn pending(contents: &Contents) -> Vec<(KeyRef, Timestamp)> {
    let mut pending = Vec::new();
    for key in contents.keys() {
        for entry in key.versions() {
            if let Some(at) = planned(entry) {
                pending.push((KeyRef::new(key.name().clone(), entry.version), at));
            }
        }
    }
    pending
}

fn planned(entry: &VersionEntry) -> Option<Timestamp> {
    entry.planned.as_ref().filter(|plan| plan.state == KeyState::Destroyed).map(|plan| plan.at)
}

fn entry<'a>(contents: &'a Contents, key: &KeyRef) -> Result<&'a VersionEntry> {
    find(contents, key).map(|(_, entry)| entry)
}

fn find<'a>(contents: &'a Contents, key: &KeyRef) -> Result<(&'a KeyEntry, &'a VersionEntry)> {
    let whole = contents.key(&key.name);
    let found = whole.and_then(|whole| Some((whole, whole.version(key.version)?)));
    found.ok_or_else(|| Error::new(Kind::NotFound, format!("the keystore has no {key}")))
}

fn not_planned(key: &KeyRef) -> Error {
    Error::new(Kind::State, format!("{key} is not to be destroyed"))
}
