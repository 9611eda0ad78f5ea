//! After a failure, look-ups of keys that are not in memory answer at once for a while: a key store
//! that is away must not hold up every thread that meets such a key. What failed is forgotten with
//! the pause, never remembered as the truth.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use crate::env::{Rng, jittered};

/// The first pause; each failure after it doubles it.
const FIRST: Duration = Duration::from_secs(1);

/// The longest.
const LONGEST: Duration = Duration::from_secs(16);

/// Whether the key source failed last, and until when nobody asks it for a single key.
#[derive(Default)]
pub(super) struct BackOff(Option<Failing>);

struct Failing {
    pause: Duration,
    until: Instant,
}

impl BackOff {
    /// As after a first failure.
    pub(super) fn begun(rng: &dyn Rng) -> Self {
        let mut begun = Self::default();
        begun.failed(rng);
        begun
    }

    /// Reading failed.
    pub(super) fn failed(&mut self, rng: &dyn Rng) {
        let pause = self.0.as_ref().map_or(FIRST, |before| (before.pause * 2).min(LONGEST));
        self.0 = Some(Failing { pause, until: Instant::now() + jittered(pause, rng) });
    }

    /// Reading went well.
    pub(super) fn succeeded(&mut self) {
        self.0 = None;
    }

    /// Whether reading failed last.
    pub(super) fn is_failing(&self) -> bool {
        self.0.is_some()
    }

    /// Whether it failed so lately that it is not to be asked again yet.
    pub(super) fn holds(&self) -> bool {
        self.0.as_ref().is_some_and(|failing| Instant::now() < failing.until)
    }
}
