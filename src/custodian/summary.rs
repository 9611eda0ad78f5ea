//! What the status shows, kept beside the key source: who asks for it waits for no key store.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, TryLockError};

use super::{Custodian, Degraded, KeySource, RestartSafe, StashState, lock};
use crate::env::Timestamp;
use crate::policy::Coming;

/// What `status` and the server's status variables show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether the key store is out of reach, since when and why.
    pub degraded: Option<Degraded>,
    /// The keystore's generation.
    pub generation: u64,
    /// The provider that opened it.
    pub provider: String,
    /// How many keys.
    pub keys: usize,
    /// How many versions of them.
    pub versions: usize,
    /// The stash of a key store that serves, where one is configured.
    pub stash: Option<StashState>,
    /// Rotations done by this process.
    pub rotations: u64,
    /// When the policy rotates next, if ever.
    pub next_rotation: Option<Timestamp>,
    /// Whether that is so near that it is told of, or should have been done by now.
    pub rotation_due: bool,
    /// Whether a restart would succeed.
    pub restart: RestartSafe,
    /// When this process began to serve.
    pub started: Timestamp,
}

/// What was read last, in numbers.
#[derive(Default)]
pub(super) struct Summary {
    pub(super) generation: u64,
    pub(super) provider: String,
    pub(super) keys: usize,
    pub(super) versions: usize,
    pub(super) rotation: Option<Coming>,
    pub(super) stash: Option<StashState>,
}

impl Custodian {
    /// How things stood when the key source was read last. Waits for no key store.
    #[must_use]
    pub fn status(&self) -> Status {
        let degraded = lock(&self.shared.degraded).clone();
        let now = self.shared.env.clock.now();
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
            started: self.shared.started,
        }
    }
}

impl Summary {
    pub(super) fn of(source: &dyn KeySource) -> Self {
        let keys = source.keys();
        let mut names: Vec<_> = keys.iter().map(|info| &info.key.name).collect();
        names.dedup();
        Self {
            generation: source.generation(),
            provider: source.provider().to_owned(),
            keys: names.len(),
            versions: keys.len(),
            rotation: source.coming_rotation(),
            stash: source.stash(),
        }
    }

    /// Whether nothing has changed since; a source that counts no generations may always have.
    fn is_of(&self, source: &dyn KeySource) -> bool {
        let generation = source.generation();
        generation > 0 && generation == self.generation && source.provider() == self.provider
    }
}

/// The key source while one thread has it. When that lets go, the summary is as the source is.
pub(super) struct Held<'a> {
    source: MutexGuard<'a, Box<dyn KeySource>>,
    summary: &'a Mutex<Summary>,
}

impl<'a> Held<'a> {
    pub(super) fn new(source: &'a Mutex<Box<dyn KeySource>>, summary: &'a Mutex<Summary>) -> Self {
        Self { source: lock(source), summary }
    }

    /// The same if no other thread has it just now.
    pub(super) fn try_new(
        source: &'a Mutex<Box<dyn KeySource>>,
        summary: &'a Mutex<Summary>,
    ) -> Option<Self> {
        let source = match source.try_lock() {
            Ok(source) => source,
            Err(TryLockError::Poisoned(poison)) => poison.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(Self { source, summary })
    }
}

impl Deref for Held<'_> {
    type Target = dyn KeySource;

    fn deref(&self) -> &Self::Target {
        &**self.source
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut **self.source
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut summary = lock(self.summary);
        if !summary.is_of(&**self.source) {
            *summary = Summary::of(&**self.source);
        }
    }
}
