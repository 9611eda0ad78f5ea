//! The status of this process's keys, kept apart from their source: reading it waits for no key store.

#![forbid(unsafe_code)]

use std::sync::atomic::Ordering;

use super::{Custodian, lock};
use crate::event::{StashState, Status};
use crate::policy::NextRotation;
use crate::source::{KeySource, SourceState};

/// What was read last, in numbers.
#[derive(Default)]
pub(super) struct Summary {
    pub(super) generation: u64,
    pub(super) provider: String,
    pub(super) trail_line: u64,
    pub(super) keys: usize,
    pub(super) versions: usize,
    pub(super) rotation: Option<NextRotation>,
    pub(super) stash: Option<StashState>,
}

impl Custodian {
    /// How things stood when the key source was read last. Waits for no key store.
    #[must_use]
    pub fn status(&self) -> Status {
        let degraded = lock(&self.shared.degraded).clone();
        let now = self.shared.env.clock.now();
        let (sinks_waiting, sinks_lost) = self.shared.backlog.counts();
        let summary = lock(&self.shared.summary);
        Status {
            degraded,
            generation: summary.generation,
            provider: summary.provider.clone(),
            keys: summary.keys,
            versions: summary.versions,
            stash: summary.stash.clone(),
            rotations: self.shared.rotations.load(Ordering::Relaxed),
            next_rotation: summary.rotation.as_ref().map(|coming| coming.at),
            rotation_due: summary.rotation.as_ref().is_some_and(|coming| coming.told_from <= now),
            restart: self.shared.restart.last(),
            provider_answered: self.shared.provider_answered(),
            trail_line: summary.trail_line,
            sinks_waiting,
            sinks_lost,
            started: self.shared.started,
        }
    }
}

impl Summary {
    pub(super) fn of(source: &dyn KeySource, rotation: Option<NextRotation>) -> Self {
        let (keys, versions) = source.counts();
        let SourceState { generation, provider, trail_line, stash, .. } = source.state();
        Self { generation, provider, trail_line, keys, versions, rotation, stash }
    }

    /// Brings it up to date; whether there was anything new. A source that counts no generations may
    /// always have something.
    pub(super) fn follow(
        &mut self,
        source: &dyn KeySource,
        rotation: impl FnOnce() -> Option<NextRotation>,
    ) -> bool {
        let now = source.state();
        let is_same = now.generation > 0
            && now.generation == self.generation
            && now.provider == self.provider;
        if !is_same {
            *self = Self::of(source, rotation());
        }
        !is_same
    }
}
