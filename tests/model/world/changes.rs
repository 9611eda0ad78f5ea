//! What processes change, and how that ends.

use std::sync::Arc;
use std::time::Duration;

use keyward::custodian::Custodian;
use keyward::key::{KeyRef, KeyState, KeyVersion};
use keyward::manager::{Destruction, Judged, Rewrap, StateChange};
use keyward::source::Which as Keys;
use keyward::{Error, Kind, Result};

use super::{REASON, World, id};
use crate::life::Broken;
use crate::sequence::{Change, Who};
use crate::sim_disk::{Fate, Survival};

const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// What a change did.
#[derive(Default)]
pub(super) struct Done {
    /// Whether there was nothing to do, so that nothing was looked at either.
    pub(super) idle: bool,
    pub(super) changed: Vec<KeyRef>,
    pub(super) destroyed: Option<KeyRef>,
    pub(super) compromised: Option<KeyRef>,
}

impl World {
    pub(super) fn change(&mut self, who: Who, change: Change, fate: Fate) -> Result<(), Broken> {
        let Some(node) = self.running(who)? else { return Ok(()) };
        let (custodian, estranged) = (Arc::clone(&node.custodian), node.estranged);
        let may_alarm = self.is_tampered_with() || !self.trail_is_ours || estranged;
        let before = self.files().keystore;
        self.disk.meet(fate);
        let outcome = perform(&custodian, change);
        self.disk.meet(Fate::None);
        match &outcome {
            Err(error) if matches!(fate, Fate::None) && !may_alarm && is_alarm(error) => {
                Err(format!("{who:?} raises a false alarm: {error}"))
            }
            _ => self.note(who, outcome, Some(before)),
        }
    }

    /// Takes note of how a change ended; `before` is the keystore as it was, where nobody else changed it.
    pub(super) fn note(
        &mut self,
        who: Who,
        outcome: Result<Done>,
        before: Option<Option<Vec<u8>>>,
    ) -> Result<(), Broken> {
        match outcome {
            Ok(done) if done.idle => Ok(()),
            Ok(done) => {
                let before = before.flatten();
                let goes_on = self.goes_on_with(who, before.as_deref());
                self.succeeded(done)?;
                if !goes_on {
                    self.judge("a change is made")?;
                }
                self.settle();
                self.saw(who);
                Ok(())
            }
            Err(error) => {
                self.told.push(format!("refused: {error}"));
                let changed = before.is_some_and(|before| before != self.files().keystore);
                match (changed, is_unknown(&error)) {
                    (true, false) => {
                        Err(format!("an error, and the keystore has changed: {error}"))
                    }
                    (true, true) => {
                        self.note_destroyed();
                        self.judge("a change may be made")?;
                        self.settle();
                        Ok(())
                    }
                    (false, _) => Ok(()),
                }
            }
        }
    }

    pub(super) fn succeeded(&mut self, done: Done) -> Result<(), Broken> {
        self.follow_fork();
        self.reconcile();
        let raw = self.raw();
        for key in &done.changed {
            self.told.push(format!("{key}"));
            let Some(entry) = raw.get(key) else {
                return Err(format!("{key} was reported and is not in the keystore"));
            };
            if let Some(bytes) = &entry.bytes {
                self.reference.number(key, bytes)?;
                self.reference.required.insert(key.clone());
            }
        }
        if let Some(key) = done.destroyed {
            self.told.push(format!("{key} is destroyed"));
            self.reference.required.remove(&key);
            self.reference.destroyed.insert(key);
        }
        if let Some(key) = done.compromised {
            self.reference.compromised.insert(key);
        }
        Ok(())
    }

    /// What may have been destroyed, as nobody knows how the change ended.
    fn note_destroyed(&mut self) {
        for (key, entry) in self.raw() {
            if entry.state == KeyState::Destroyed {
                self.reference.required.remove(&key);
                self.reference.destroyed.insert(key);
            }
        }
    }

    pub(super) fn crash(
        &mut self,
        who: Who,
        change: Change,
        at: usize,
        survival: Survival,
    ) -> Result<(), Broken> {
        let Some(node) = self.running(who)? else { return Ok(()) };
        let custodian = Arc::clone(&node.custodian);
        let (tampered, before) = (self.is_tampered_with(), self.files().keystore);
        self.disk.meet(Fate::DieAt(at));
        let outcome = perform(&custodian, change);
        drop(custodian);
        self.nodes = [None, None];
        self.locks.lock().unwrap().clear();
        self.disk = self.disk.after_power_cut(survival);
        // What was reported before the power went is for ever, unless it is what went wrong.
        match outcome {
            Ok(done) if done.idle => {}
            Ok(done) => self.succeeded(done)?,
            Err(error) => {
                self.told.push(format!("died: {error}"));
                if matches!(change, Change::CarryOut) {
                    self.note_destroyed();
                }
            }
        }
        if !tampered || before != self.files().keystore {
            self.follow_fork();
            self.settle();
        }
        for who in [Who::Server, Who::Command] {
            self.start(who, None)?;
        }
        Ok(())
    }

    /// Both make a change at once; the lock was removed where the first one had it.
    pub(super) fn during(
        &mut self,
        who: Who,
        change: Change,
        at: usize,
        other: Change,
    ) -> Result<(), Broken> {
        let Some(node) = self.running(who)? else { return Ok(()) };
        let (custodian, stage) = (Arc::clone(&node.custodian), node.stage.clone());
        let slot = self.hook(who, Some((at, other)), &stage, true)?;
        let untouched = !self.is_tampered_with();
        let before = self.files().keystore;
        let outcome = perform(&custodian, change);
        stage.calm();
        // Which of the two was first is not known: what one destroyed, the other need not find.
        if let Ok(Done { destroyed: Some(key), .. }) = &outcome {
            self.reference.required.remove(key);
        }
        let changed_by_other = self.note_other(slot)?;
        self.note(who, outcome, (!changed_by_other).then_some(before))?;
        if changed_by_other {
            self.met(untouched);
        }
        Ok(())
    }

    /// Has the other process make a change at a call of this one's.
    pub(super) fn accept(&mut self) -> Result<(), Broken> {
        let before = self.files().keystore;
        let stage = self.stage();
        match self.source(&stage).accept_rollback(&[], REASON) {
            Err(error) => {
                self.told.push(format!("refused: {error}"));
                match before == self.files().keystore || is_unknown(&error) {
                    true => Ok(()),
                    false => Err(format!("an error, and the keystore has changed: {error}")),
                }
            }
            Ok(_) => {
                self.told.push("accepted".to_owned());
                for key in self.lost() {
                    // Its number is taken for ever.
                    self.reference.required.remove(&key);
                }
                self.forgive_states();
                self.estrange();
                self.settle();
                Ok(())
            }
        }
    }
}

/// Whether an error says that the folder was tampered with.
pub(super) fn is_alarm(error: &Error) -> bool {
    matches!(error.kind(), Kind::Conflict | Kind::Corrupt)
}

/// Whether an error says that the change may have been made all the same.
pub(super) fn is_unknown(error: &Error) -> bool {
    error.kind() == Kind::Unknown
}

/// The `nth` version of a key from the newest on; its first where there are none so many.
pub(super) fn nth(custodian: &Custodian, number: u32, nth: usize) -> KeyRef {
    let entry = custodian.entry(&id(number).into());
    let version = entry.and_then(|entry| Some(entry.versions().rev().nth(nth)?.version));
    KeyRef::new(id(number), version.unwrap_or(KeyVersion::FIRST))
}

pub(super) fn perform(custodian: &Custodian, change: Change) -> Result<Done> {
    let changed = |changed| Done { changed, ..Done::default() };
    match change {
        Change::Create(number) => {
            return custodian.create(id(number), None, REASON).map(|made| changed(vec![made]));
        }
        Change::Rotate(number) => {
            return custodian.rotate(Keys::One(id(number)), REASON).map(changed);
        }
        Change::RotateAll => return custodian.rotate(Keys::All, REASON).map(changed),
        _ => {}
    }
    let version = |number, at| nth(custodian, number, at);
    let step = match change {
        Change::Undo(number) => Some(StateChange::Undo(id(number))),
        Change::Compromise(number, at) => Some(StateChange::Compromised(version(number, at))),
        Change::Retire(number, at) => Some(StateChange::Retire(version(number, at))),
        _ => None,
    };
    let plan = match change {
        Change::Plan(number, at) => Some(Destruction::Plan(version(number, at), WEEK)),
        _ => None,
    };
    let mut manager = custodian.manager().unwrap();
    if let Some(step) = step {
        let all = manager.change_state(&step, REASON)?;
        let compromised = match &step {
            StateChange::Compromised(key) => Some(key.clone()),
            _ => None,
        };
        return Ok(Done { compromised, ..changed(all) });
    }
    let pending = manager.pending_destructions().into_iter().next().map(|(key, _)| key);
    let destruction = match (change, pending) {
        (Change::CarryOut, Some(key)) => Some(Destruction::CarryOut(key)),
        (Change::Cancel, Some(key)) => Some(Destruction::Cancel(key)),
        (Change::CarryOut | Change::Cancel, None) => {
            return Ok(Done { idle: true, ..Done::default() });
        }
        _ => plan,
    };
    if let Some(destruction) = destruction {
        manager.destroy(&destruction, &Judged::default(), REASON)?;
        let destroyed = match destruction {
            Destruction::CarryOut(key) => Some(key),
            _ => None,
        };
        return Ok(Done { destroyed, ..Done::default() });
    }
    let how = match change {
        Change::NewStoreKey => Rewrap::NewStoreKey { prune: false },
        _ => Rewrap::ToLatest,
    };
    manager.rewrap(how, REASON).map(|_| Done::default())
}
