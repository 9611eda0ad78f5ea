//! The state `degraded`: the keys in memory serve, and the key store cannot be read or lacks some of them.

#![forbid(unsafe_code)]

use std::time::Instant;

use super::{Shared, lock};
use crate::env::Level;
use crate::error::Error;
use crate::event::Degraded;
use crate::source::KeySource;

impl Shared {
    /// Notes how a reading ended, and what the key store lost.
    pub(super) fn note_outcome(&self, failure: Option<&Error>, source: &dyn KeySource) {
        match failure {
            Some(_) => lock(&self.back_off).failed(&*self.env.rng),
            None => lock(&self.back_off).succeeded(),
        }
        self.note_state(failure.map(ToString::to_string).or_else(|| source.state().losses));
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
