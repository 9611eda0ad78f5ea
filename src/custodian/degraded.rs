//! The state `degraded`: the keys in memory serve, and the key store cannot be read or lacks some of them.

#![forbid(unsafe_code)]

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{Shared, lock};
use crate::env::{Level, Timestamp};
use crate::error::Error;
use crate::event::Degraded;
use crate::source::KeySource;

impl Shared {
    /// Notes how a reading ended, and what the key store lost.
    pub(super) fn note_outcome(&self, failure: Option<&Error>, source: &dyn KeySource) {
        match failure {
            Some(error) => {
                lock(&self.back_off).failed(&*self.env.rng);
                self.note_failure(error);
            }
            None => lock(&self.back_off).succeeded(),
        }
        let state = source.state();
        // Our own keystore is read again without its provider: the restart check asks that one.
        if failure.is_none() && state.generation == 0 && state.outage.is_none() {
            self.note_answer();
        }
        self.note_state(failure.map(ToString::to_string).or(state.losses));
    }

    /// Notes that a provider did what it was asked.
    pub(super) fn note_answer(&self) {
        self.answered.store(self.env.clock.now().as_unix(), Ordering::Relaxed);
        self.note_standing_again();
    }

    /// When a provider did so last.
    pub(super) fn provider_answered(&self) -> Option<Timestamp> {
        let at = self.answered.load(Ordering::Relaxed);
        (at > 0).then(|| Timestamp::from_unix(at))
    }

    /// Notes what the key store lost, as a change found it, unless reading has failed.
    pub(super) fn note_losses(&self, source: &dyn KeySource) {
        if !lock(&self.back_off).is_failing() {
            self.note_state(source.state().losses);
        }
    }

    /// Keeps the state `degraded` and tells the log once when it begins, changes cause, and ends.
    pub(super) fn note_state(&self, cause: Option<String>) {
        let mut degraded = lock(&self.degraded);
        if degraded.as_ref().map(|state| &state.cause) == cause.as_ref() {
            return;
        }
        self.restart.make_due(Instant::now());
        match cause {
            Some(cause) => {
                let line = format!("degraded, the keys in memory go on serving: {cause}");
                self.env.log.log(Level::Warning, &line);
                let since = degraded.take().map_or_else(|| self.env.clock.now(), |old| old.since);
                *degraded = Some(Degraded { since, cause });
            }
            None => {
                let line = "the key store can be read again, and has the keys in use";
                self.env.log.log(Level::Note, line);
                *degraded = None;
            }
        }
    }
}
