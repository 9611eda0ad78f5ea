//! How the keys of a process stand. The custodian fills it in; metrics and `doctor` are taken from it.

#![forbid(unsafe_code)]

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::env::Timestamp;
use crate::error::Error;

/// How the keys of a process stand.
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
    /// Whether it is near enough to be announced, or overdue.
    pub rotation_due: bool,
    /// Whether a restart would succeed.
    pub restart: RestartSafe,
    /// When a provider did last what it was asked: unwrapped the store key, or listed its keys.
    pub provider_answered: Option<Timestamp>,
    /// The newest line of the audit trail that the keystore knows; 0 where there is none.
    pub trail_line: u64,
    /// Lines of it that wait for a sink.
    pub sinks_waiting: u64,
    /// Lines of it that were given up.
    pub sinks_lost: u64,
    /// When this process began to serve.
    pub started: Timestamp,
}

/// Keys still served, but the key store out of reach or unreadable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degraded {
    /// Since when.
    pub since: Timestamp,
    /// Why: the error's line.
    pub cause: String,
}

/// Whether a restart would succeed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartSafe {
    /// Whether it would.
    pub answer: Answer,
    /// Why not, why that is unknown, or with whose help it would; often empty where it would.
    pub reason: String,
}

/// Whether a restart would succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All that the next start needs was there.
    Yes,
    /// The next start would fail, or would lack keys that are in use.
    No,
    /// It cannot be tried without using something up, or was not tried yet.
    Unknown,
}

/// How a stash stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StashState {
    /// Where it is.
    pub path: PathBuf,
    /// When the key store said last that its keys are these; none where there is no stash yet.
    pub taken: Option<Timestamp>,
    /// Whether the keys that are served came from it.
    pub in_use: bool,
    /// Why it cannot be read or written.
    pub failure: Option<String>,
}

/// How many lines of the audit trail are not delivered to the sinks yet.
#[derive(Debug, Default)]
pub struct Backlog {
    waiting: AtomicU64,
    lost: AtomicU64,
}

impl Backlog {
    /// Notes how many wait, and how many were given up, of all sinks together.
    pub fn note(&self, waiting: u64, lost: u64) {
        self.waiting.store(waiting, Ordering::Relaxed);
        self.lost.store(lost, Ordering::Relaxed);
    }

    /// How many wait, and how many were given up.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.waiting.load(Ordering::Relaxed), self.lost.load(Ordering::Relaxed))
    }
}

impl Status {
    /// What the log says of a good start.
    #[must_use]
    pub fn started_line(&self) -> String {
        let Self { keys, versions, provider, generation, .. } = self;
        format!(
            "started with {keys} keys in {versions} versions, opened by {provider:?}, generation {generation}"
        )
    }
}

impl RestartSafe {
    pub(crate) fn yes(reason: impl Into<String>) -> Self {
        Self { answer: Answer::Yes, reason: reason.into() }
    }

    pub(crate) fn no(error: &Error) -> Self {
        Self { answer: Answer::No, reason: error.to_string() }
    }

    pub(crate) fn unknown(reason: impl Into<String>) -> Self {
        Self { answer: Answer::Unknown, reason: reason.into() }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        })
    }
}
