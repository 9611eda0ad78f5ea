//! Checkpoints of the audit trail: on demand, and by themselves after so many lines and each day.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use super::Manager;
use crate::env::{Deadline, Level, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::event::checkpoint::Checkpoint;
use crate::event::{Event, Head, NewestCheckpoint};
use crate::policy::CheckpointPolicy;
use crate::source::{KeySource as _, LOCK_WAIT, Reason};
use crate::store::{Contents, Epoch, Keystore, TrailAnchor};

/// When a failure is followed by another attempt.
const RETRY: Duration = Duration::from_secs(600);

/// Who the audit trail names where no change is the occasion.
const ACTOR: &str = "server";

/// What a process remembers of the checkpoints that come by themselves.
#[derive(Default)]
pub(super) struct Checkpoints {
    pub(super) policy: CheckpointPolicy,
    /// The newest that it has seen: the line, and when. Another process may have made one since.
    newest: Option<(u64, Timestamp)>,
    /// After a failure.
    not_before: Option<Instant>,
}

impl Manager {
    /// A signed checkpoint of the trail, at the line that the keystore knows.
    pub fn checkpoint(&mut self) -> Result<String> {
        self.load()?;
        let keystore = self.reader.keystore()?;
        let anchor = keystore.contents().registers().trail.ok_or_else(|| {
            Error::new(Kind::State, "the keystore does not know its trail yet")
                .advise("the next change notes it")
        })?;
        signed(keystore, anchor)
    }

    /// Makes a checkpoint if it is time to; the log is told of a failure.
    pub fn checkpoint_in_time(&mut self) {
        // While the keystore cannot be read, the log says so already.
        if !self.reader.writes || self.checkpoint_due().is_none() || self.reader.has_changed() {
            return;
        }
        let made = self.reader.file.lock(Deadline::after(LOCK_WAIT)).and_then(|lock| {
            self.reader.load(Some(&lock))?;
            self.make_due_checkpoint(ACTOR)
        });
        self.note_checkpoint(made);
    }

    /// The same at the end of a change, under its lock.
    pub(super) fn checkpoint_after_change(&mut self, actor: &str) {
        let made = self.make_due_checkpoint(actor);
        self.note_checkpoint(made);
    }

    /// Under the keystore's lock: another process may have made one before. First in the trail, which takes it to
    /// the sinks, then in the file: whatever happens between makes one checkpoint more, and none less.
    fn make_due_checkpoint(&mut self, actor: &str) -> Result<()> {
        if self.checkpoint_due().is_none() {
            return Ok(());
        }
        self.checkpoints.newest = None;
        let Some(anchor) = self.checkpoint_due() else { return Ok(()) };
        let keystore = self.reader.keystore()?;
        let (text, generation) = (signed(keystore, anchor)?, keystore.contents().generation());
        let reason = Reason { actor, text: &text };
        self.append(Some(anchor), generation, Event::Checkpointed, &[], reason)?;
        let now = self.reader.env.clock.now();
        NewestCheckpoint::beside(self.reader.file.path()).replace(&text, now)?;
        self.checkpoints.newest = Some((anchor.line, now));
        Ok(())
    }

    /// The line that is to be signed, if it is time to.
    fn checkpoint_due(&mut self) -> Option<TrailAnchor> {
        if self.checkpoints.not_before.is_some_and(|at| Instant::now() < at) {
            return None;
        }
        let contents = self.reader.contents()?;
        let anchor = contents.registers().trail?;
        let newest = || newest(&NewestCheckpoint::beside(self.reader.file.path()), contents);
        let (line, at) = *self.checkpoints.newest.get_or_insert_with(newest);
        let can_sign = !contents.registers().epochs().is_empty();
        let now = self.reader.env.clock.now();
        let is_due = can_sign && self.checkpoints.policy.is_due(anchor.line, now, line, at);
        is_due.then_some(anchor)
    }

    fn note_checkpoint(&mut self, made: Result<()>) {
        let Err(error) = made else { return };
        self.checkpoints.not_before = Instant::now().checked_add(RETRY);
        let line = format!("the audit trail has no new checkpoint: {error}");
        self.reader.env.log.log(Level::Warning, &line);
    }
}

fn signed(keystore: &Keystore, anchor: TrailAnchor) -> Result<String> {
    let TrailAnchor { line, head: hash } = anchor;
    let checkpoint = Checkpoint::new(keystore.contents().id(), Head { line, hash });
    let (key, signature) = keystore.sign(&checkpoint.text())?;
    Ok(checkpoint.note(&key, &signature))
}

/// The newest checkpoint; without one, the keystore's beginning.
fn newest(file: &NewestCheckpoint, contents: &Contents) -> (u64, Timestamp) {
    let epochs = contents.registers().epochs();
    let keys: Vec<_> = epochs.iter().map(|Epoch { public_key, .. }| *public_key).collect();
    let read = file.read(contents.id(), &keys);
    read.map_or((0, contents.created()), |(head, at)| (head.line, at))
}
