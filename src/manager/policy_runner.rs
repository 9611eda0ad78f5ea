//! The policy, kept: what is due is done, in one commit, by whoever comes first.

#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::time::Instant;

use super::{Changed, Manager};
use crate::env::{Level, Timestamp};
use crate::error::Result;
use crate::event::Event;
use crate::key::{KeyRef, KeyState};
use crate::policy::{Ahead, DueAction, Policy};
use crate::source::{KeySource as _, Reason, Which};
use crate::store::{Change, Contents, Keystore};

/// Who the history and the audit trail name.
const ACTOR: &str = "policy";

/// What the source remembers of keeping the policy.
#[derive(Default)]
pub(super) struct PolicyRunner {
    pub(super) policy: Policy,
    /// When the clock was looked at last.
    looked: Option<Instant>,
    /// The versions whose coming rotation has its line in the log.
    events: HashSet<KeyRef>,
    /// The versions whose wrong dates have their line in the log.
    doubted: HashSet<KeyRef>,
    /// What went wrong last, so that it is not logged every minute.
    failure: Option<String>,
}

impl Manager {
    /// Keeps the policy if it is time to look; how many versions changed. What goes wrong is told
    /// in the log and tried again.
    pub fn run_policy_in_time(&mut self) -> usize {
        let period = self.runner.policy.period();
        if self.runner.looked.is_some_and(|at| at.elapsed() < period) {
            return 0;
        }
        self.runner.looked = Some(Instant::now());
        self.tell_of_what_comes();
        let shortened = self.shorten_trail();
        self.note_shortening(shortened);
        match self.do_due_actions() {
            Ok(changed) => {
                self.runner.failure = None;
                changed.len()
            }
            Err(error) => {
                let line = format!("what the policy wants could not be done: {error}");
                if self.runner.failure.as_ref() != Some(&line) {
                    self.reader.env.log.log(Level::Warning, &line);
                    self.runner.failure = Some(line);
                }
                0
            }
        }
    }

    /// Reads again and does what the policy wants done now; the versions that changed. That the audit trail is not
    /// shortened is a line in the log.
    pub fn run_policy(&mut self) -> Result<Vec<KeyRef>> {
        self.may_write()?;
        self.load()?;
        let changed = self.do_due_actions()?;
        let shortened = self.shorten_trail();
        self.note_shortening(shortened);
        Ok(changed)
    }

    /// Does what is due. Looked at without the lock first: most of the time there is nothing.
    fn do_due_actions(&mut self) -> Result<Vec<KeyRef>> {
        self.check_dates()?;
        let due_actions = self.due_actions();
        if due_actions.is_empty() {
            return Ok(Vec::new());
        }
        if due_actions.iter().any(|due| matches!(due, DueAction::Rotate(_))) {
            self.reader.prove_before_new_key()?;
        }
        let text = self.runner.policy.reason();
        let reason = Reason { actor: ACTOR, text: &text };
        self.commit(reason, |manager, before| {
            // Somebody else may have done it by now: asked again, with what is there under the lock.
            let now = manager.reader.env.clock.now();
            manager.with_duties(before, now, reason)
        })
    }

    /// Refuses a clock that cannot be right; a line in the log for each version whose age is not known.
    fn check_dates(&mut self) -> Result<()> {
        let policy = &self.runner.policy;
        let Some(contents) = self.reader.contents().filter(|_| !policy.is_idle()) else {
            return Ok(());
        };
        let now = self.reader.env.clock.now();
        policy.check_clock(now, contents.keys())?;
        for Ahead { key, since } in policy.ahead(now, contents.keys()) {
            if self.runner.doubted.insert(key.clone()) {
                let line = format!(
                    "{key} is dated {since}, and the clock says {now}: its age is not known, so \
                     the policy takes it for due"
                );
                self.reader.env.log.log(Level::Warning, &line);
            }
        }
        Ok(())
    }

    fn due_actions(&self) -> Vec<DueAction> {
        let Some(contents) = self.reader.contents() else { return Vec::new() };
        self.runner.policy.due(self.reader.env.clock.now(), contents.id(), contents.keys())
    }

    fn with_duties(
        &self,
        before: &Keystore,
        now: Timestamp,
        reason: Reason<'_>,
    ) -> Result<Option<Changed>> {
        let policy = &self.runner.policy;
        let due = |contents: &Contents| policy.due(now, contents.id(), contents.keys());
        let mut after = before.clone();
        let mut events: Vec<(Event, Vec<KeyRef>)> = Vec::new();
        let change = self.change(reason);
        for due in due(before.contents()) {
            match due {
                DueAction::Rotate(id) => {
                    let rotated = self.rotated(&after, Which::One(id), false, reason)?;
                    after = rotated.after;
                    rotated
                        .events
                        .into_iter()
                        .for_each(|(event, keys)| tell(&mut events, event, keys));
                }
                DueAction::Activate(key) => {
                    after = after.with_state(&key, KeyState::Active, &change)?;
                    tell(&mut events, Event::Activated, vec![key]);
                }
                DueAction::Plan(key, at) => {
                    let plan = Change { at, ..change.clone() };
                    after = after.with_plan(&key, Some((KeyState::Active, &plan)))?;
                    tell(&mut events, Event::Prepared, vec![key]);
                }
                DueAction::Retain(..) => {}
            }
        }
        // What has just been retired is to be kept for its time as well.
        for due in due(after.contents()) {
            if let DueAction::Retain(key, until) = due {
                after = after.with_retention(&key, Some(until))?;
                tell(&mut events, Event::Retained, vec![key]);
            }
        }
        Ok((!events.is_empty()).then_some(Changed { after, events }))
    }

    /// `keystore` with a new random key as the pending version `key`, to be active after `waits`.
    pub(super) fn with_pending_key(
        &self,
        keystore: &Keystore,
        key: &KeyRef,
        waits: std::time::Duration,
        reason: Reason<'_>,
    ) -> Result<Keystore> {
        let change = self.change(reason);
        let after = self.with_new_key_as(keystore, key, self.cipher, KeyState::Pending, reason)?;
        let at = Timestamp::from_unix(change.at.as_unix().saturating_add(waits.as_secs()));
        after.with_plan(key, Some((KeyState::Active, &Change { at, ..change })))
    }

    /// One line in the log for each rotation that comes near.
    fn tell_of_what_comes(&mut self) {
        let Some(contents) = self.reader.contents() else { return };
        let (now, policy) = (self.reader.env.clock.now(), &self.runner.policy);
        let notices: Vec<_> =
            contents.keys().filter_map(|key| policy.notice(now, contents.id(), key)).collect();
        for (key, at) in notices {
            if self.runner.events.insert(key.clone()) {
                self.reader.env.log.log(Level::Note, &format!("{key} is to be rotated at {at}"));
            }
        }
    }
}

/// Adds keys to the line of the same event, or a line.
fn tell(events: &mut Vec<(Event, Vec<KeyRef>)>, event: Event, mut keys: Vec<KeyRef>) {
    match events.iter_mut().find(|(other, _)| *other == event) {
        Some((_, all)) => all.append(&mut keys),
        None => events.push((event, keys)),
    }
}
