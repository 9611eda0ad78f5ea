//! The policy, kept: what is due is done, in one commit, by whoever comes first.

use std::collections::HashSet;
use std::time::Instant;

use super::keystore::{Changed, KeystoreSource};
use super::{Custodian, Reason, Shared, Which};
use crate::audit::Event;
use crate::env::{Level, Timestamp};
use crate::error::Result;
use crate::key::{KeyRef, KeyState};
use crate::policy::{Ahead, Duty, Policy};
use crate::ring::Ring;
use crate::store::{Change, Contents, Keystore};

/// Who the history and the audit trail name.
const ACTOR: &str = "policy";

/// What the source remembers of keeping the policy.
#[derive(Default)]
pub(super) struct Keeper {
    pub(super) policy: Policy,
    /// When the clock was looked at last.
    looked: Option<Instant>,
    /// The versions whose rotation was told of.
    told: HashSet<KeyRef>,
    /// The versions whose dates the log told of.
    doubted: HashSet<KeyRef>,
    /// What went wrong last, so that it is not told every minute.
    failure: Option<String>,
}

impl Custodian {
    /// Does now what the policy wants done, and tells which versions it changed.
    pub fn keep_policy(&self) -> Result<Vec<KeyRef>> {
        self.shared.may_write()?;
        let changed = self.shared.source().keep_policy(&self.shared.ring)?;
        self.shared.forget_absent();
        Ok(changed)
    }
}

impl Shared {
    /// What the server's worker does again and again.
    pub(super) fn keep_policy_in_time(&self) {
        let changed = self.source().keep_policy_in_time(&self.ring);
        if changed > 0 {
            self.rotations.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.forget_absent();
        }
    }
}

impl KeystoreSource {
    /// With a policy to keep; its version step goes for every rotation.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.version_step = policy.version_step;
        self.keeper.policy = policy;
        self
    }

    /// Keeps the policy if it is time to look; how many versions changed. What goes wrong is told
    /// in the log and tried again.
    pub(super) fn keep_in_time(&mut self, ring: &Ring) -> usize {
        let period = self.keeper.policy.period();
        if self.keeper.looked.is_some_and(|at| at.elapsed() < period) {
            return 0;
        }
        self.keeper.looked = Some(Instant::now());
        self.tell_of_what_comes();
        match self.keep(ring) {
            Ok(changed) => {
                self.keeper.failure = None;
                changed.len()
            }
            Err(error) => {
                let line = format!("what the policy wants could not be done: {error}");
                if self.keeper.failure.as_ref() != Some(&line) {
                    self.env.log.log(Level::Warning, &line);
                    self.keeper.failure = Some(line);
                }
                0
            }
        }
    }

    /// Does what is due. Looked at without the lock first: most of the time there is nothing.
    pub(super) fn keep(&mut self, ring: &Ring) -> Result<Vec<KeyRef>> {
        self.check_dates()?;
        let duties = self.duties();
        if duties.is_empty() {
            return Ok(Vec::new());
        }
        if duties.iter().any(|duty| matches!(duty, Duty::Rotate(_))) {
            self.prove_before_new_key(ring)?;
        }
        let text = self.keeper.policy.reason();
        let reason = Reason { actor: ACTOR, text: &text };
        self.commit(ring, reason, |source, before| {
            // Somebody else may have done it by now: asked again, with what is there under the lock.
            let now = source.env.clock.now();
            source.with_duties(before, now, reason)
        })
    }

    /// That time can tell what is due; a line in the log for each version that it cannot tell
    /// anything of.
    fn check_dates(&mut self) -> Result<()> {
        let policy = &self.keeper.policy;
        let Some(contents) = self.contents_now().filter(|_| !policy.is_idle()) else {
            return Ok(());
        };
        let now = self.env.clock.now();
        policy.check_clock(now, contents.keys())?;
        for Ahead { key, since } in policy.ahead(now, contents.keys()) {
            if self.keeper.doubted.insert(key.clone()) {
                let line = format!(
                    "{key} is dated {since}, and the clock says {now}: its age is not known, so \
                     the policy takes it for due"
                );
                self.env.log.log(Level::Warning, &line);
            }
        }
        Ok(())
    }

    fn duties(&self) -> Vec<Duty> {
        let Some(contents) = self.contents_now() else { return Vec::new() };
        self.keeper.policy.due(self.env.clock.now(), contents.id(), contents.keys())
    }

    fn with_duties(
        &self,
        before: &Keystore,
        now: Timestamp,
        reason: Reason<'_>,
    ) -> Result<Option<Changed>> {
        let policy = &self.keeper.policy;
        let due = |contents: &Contents| policy.due(now, contents.id(), contents.keys());
        let mut after = before.clone();
        let mut told: Vec<(Event, Vec<KeyRef>)> = Vec::new();
        let change = self.change(reason);
        for duty in due(before.contents()) {
            match duty {
                Duty::Rotate(id) => {
                    let rotated = self.rotated(&after, Which::One(id), false, reason)?;
                    after = rotated.after;
                    rotated.told.into_iter().for_each(|(event, keys)| tell(&mut told, event, keys));
                }
                Duty::Activate(key) => {
                    after = after.with_state(&key, KeyState::Active, &change)?;
                    tell(&mut told, Event::Activated, vec![key]);
                }
                Duty::Plan(key, at) => {
                    let plan = Change { at, ..change.clone() };
                    after = after.with_plan(&key, Some((KeyState::Active, &plan)))?;
                    tell(&mut told, Event::Prepared, vec![key]);
                }
                Duty::Retain(..) => {}
            }
        }
        // What has just been retired is to be kept for its time as well.
        for duty in due(after.contents()) {
            if let Duty::Retain(key, until) = duty {
                after = after.with_retention(&key, Some(until))?;
                tell(&mut told, Event::Retained, vec![key]);
            }
        }
        Ok((!told.is_empty()).then_some(Changed { after, told }))
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
        let Some(contents) = self.contents_now() else { return };
        let (now, policy) = (self.env.clock.now(), &self.keeper.policy);
        let notices: Vec<_> =
            contents.keys().filter_map(|key| policy.notice(now, contents.id(), key)).collect();
        for (key, at) in notices {
            if self.keeper.told.insert(key.clone()) {
                self.env.log.log(Level::Note, &format!("{key} is to be rotated at {at}"));
            }
        }
    }
}

/// Adds keys to the line of the same event, or a line.
fn tell(told: &mut Vec<(Event, Vec<KeyRef>)>, event: Event, mut keys: Vec<KeyRef>) {
    match told.iter_mut().find(|(other, _)| *other == event) {
        Some((_, all)) => all.append(&mut keys),
        None => told.push((event, keys)),
    }
}
