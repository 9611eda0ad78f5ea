//! Changes of state by command: retired, compromised, a rotation undone or not waited for.

#![forbid(unsafe_code)]

use super::keys::{no_such_key, which_ids};
use super::{Changed, Manager};
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::key::{KeyId, KeyName, KeyRef, KeyState};
use crate::policy::{self, Undo};
use crate::source::{Reason, Which};
use crate::store::{Contents, KeyEntry, Keystore};

/// A change of state that somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateChange {
    /// This version encrypts no more: the pending one takes its place.
    Retire(KeyRef),
    /// Somebody else may know this version. Where it encrypts, a new one takes its place; so it does
    /// where it encrypted until its rotation was undone, since pages leave it for a newer version only.
    Compromised(KeyRef),
    /// These keys get a new active version at once, or their pending one becomes active.
    RotateNow(Which),
    /// The last rotation of this key never was: its active version is pending again and the one
    /// before active; a pending one is not activated any more.
    Undo(KeyId),
}

impl Manager {
    /// Changes states of keys, in one commit; the versions that changed.
    pub fn change_state(
        &mut self,
        change: &StateChange,
        reason: Reason<'_>,
    ) -> Result<Vec<KeyRef>> {
        if matches!(change, StateChange::Compromised(_) | StateChange::RotateNow(_)) {
            self.reader.prove_before_new_key()?;
        }
        self.commit(reason, |manager, before| {
            match change {
                StateChange::Retire(key) => manager.retired(before, key, reason),
                StateChange::Compromised(key) => manager.compromised(before, key, reason),
                StateChange::RotateNow(which) => manager.rotated(before, *which, true, reason),
                StateChange::Undo(id) => manager.undone(before, *id, reason),
            }
            .map(Some)
        })
    }

    fn retired(&self, before: &Keystore, key: &KeyRef, reason: Reason<'_>) -> Result<Changed> {
        let entry = entry_of(before.contents(), key)?;
        if state_of(entry, key)? != KeyState::Active {
            let after = before.with_state(key, KeyState::Retired, &self.change(reason))?;
            return Ok(Changed { after, events: vec![(Event::Retired, vec![key.clone()])] });
        }
        let above = entry.versions().rev().take_while(|version| version.version > key.version);
        let Some(next) = above.into_iter().find(|version| version.state == KeyState::Pending)
        else {
            let what = format!("{key} is the only one that encrypts");
            let advice = format!("`keyward rotate {}` makes the next and retires it", key.name);
            return Err(Error::new(Kind::State, what).advise(advice));
        };
        let next = KeyRef::new(key.name.clone(), next.version);
        let after = before.with_state(&next, KeyState::Active, &self.change(reason))?;
        let events = vec![(Event::Activated, vec![next]), (Event::Retired, vec![key.clone()])];
        Ok(Changed { after, events })
    }

    fn compromised(&self, before: &Keystore, key: &KeyRef, reason: Reason<'_>) -> Result<Changed> {
        let mut after = before.clone();
        let mut events = Vec::new();
        let entry = entry_of(before.contents(), key)?;
        let version = entry.version(key.version).ok_or_else(|| absent(key))?;
        if policy::holds_pages(entry, version) {
            // A pending version was made with it around and may be known as well: it is not activated.
            if let Some((pending, _)) = policy::planned(entry) {
                after = after.with_plan(&KeyRef::new(key.name.clone(), pending.version), None)?;
            }
            let next = self.next_version(before.contents(), &key.name)?;
            after = self.with_new_key(&after, &next, self.cipher, reason)?;
            events.push((Event::Rotated, vec![next]));
        }
        after = after.with_state(key, KeyState::Compromised, &self.change(reason))?;
        events.push((Event::Compromised, vec![key.clone()]));
        Ok(Changed { after, events })
    }

    /// A new version of each key, which encrypts at once or, where the policy has it, is pending.
    pub(super) fn rotated(
        &self,
        before: &Keystore,
        which: Which,
        now: bool,
        reason: Reason<'_>,
    ) -> Result<Changed> {
        let (mut after, mut events) = (before.clone(), Rotated::default());
        for id in which_ids(before.contents(), which)? {
            let planned = before.contents().key(&id.into()).and_then(policy::planned);
            let waits = if now { None } else { self.runner.policy.activate_after };
            match (planned, waits) {
                (None, None) => {
                    let key = self.next_version(before.contents(), &id.into())?;
                    after = self.with_new_key(&after, &key, self.cipher, reason)?;
                    events.rotated.push(key);
                }
                (None, Some(waits)) => {
                    let key = self.next_version(before.contents(), &id.into())?;
                    after = self.with_pending_key(&after, &key, waits, reason)?;
                    events.prepared.push(key);
                }
                (Some((version, _)), None) => {
                    let key = KeyRef::new(id, version.version);
                    after = after.with_state(&key, KeyState::Active, &self.change(reason))?;
                    events.activated.push(key);
                }
                (Some(_), Some(_)) if which == Which::All => {}
                (Some((version, at)), Some(_)) => {
                    let key = KeyRef::new(id, version.version);
                    let what = format!("{key} is pending already, to be active from {at}");
                    let advice = "`keyward rotate --now` does not wait for that";
                    return Err(Error::new(Kind::State, what).advise(advice));
                }
            }
        }
        Ok(Changed { after, events: events.events() })
    }

    fn undone(&self, before: &Keystore, id: KeyId, reason: Reason<'_>) -> Result<Changed> {
        let name = KeyName::Id(id);
        let entry = before.contents().key(&name).ok_or_else(|| no_such_key(id))?;
        let (after, version) = match policy::undo(entry)? {
            Undo::CallOff(version) => (before.with_plan(&KeyRef::new(id, version), None)?, version),
            Undo::GoBack { from, .. } => {
                (before.with_rotation_undone(&name, &self.change(reason))?, from)
            }
        };
        let key = KeyRef::new(id, version);
        Ok(Changed { after, events: vec![(Event::RotationUndone, vec![key])] })
    }
}

/// What the rotation of several keys did, for the audit trail.
#[derive(Default)]
struct Rotated {
    rotated: Vec<KeyRef>,
    prepared: Vec<KeyRef>,
    activated: Vec<KeyRef>,
}

impl Rotated {
    fn events(self) -> Vec<(Event, Vec<KeyRef>)> {
        let all = [
            (Event::Rotated, self.rotated),
            (Event::Prepared, self.prepared),
            (Event::Activated, self.activated),
        ];
        all.into_iter().filter(|(_, keys)| !keys.is_empty()).collect()
    }
}

fn entry_of<'a>(contents: &'a Contents, key: &KeyRef) -> Result<&'a KeyEntry> {
    contents.key(&key.name).ok_or_else(|| absent(key))
}

fn state_of(entry: &KeyEntry, key: &KeyRef) -> Result<KeyState> {
    entry.version(key.version).map(|version| version.state).ok_or_else(|| absent(key))
}

fn absent(key: &KeyRef) -> Error {
    Error::new(Kind::NotFound, format!("there is no {key}"))
        .advise("`keyward keys list` shows all versions")
}
