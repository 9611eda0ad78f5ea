//! When the audit trail gets a checkpoint without being asked.

#![forbid(unsafe_code)]

use std::time::Duration;

use crate::env::Timestamp;

/// After how many lines, and after what time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointPolicy {
    /// How many lines may come after a checkpoint.
    pub lines: u64,
    /// How old the newest may be while lines have come since.
    pub time: Duration,
}

impl Default for CheckpointPolicy {
    fn default() -> Self {
        Self { lines: 1_000, time: Duration::from_secs(86_400) }
    }
}

impl CheckpointPolicy {
    /// Whether the line `line` is to be signed at `now`, where `signed` was the last to be, at `at`.
    #[must_use]
    pub fn is_due(&self, line: u64, now: Timestamp, signed: u64, at: Timestamp) -> bool {
        // A date ahead of the clock says nothing of its age.
        let is_old = || at > now || now.since(at) >= self.time;
        // An older keystore than the one that was signed takes no checkpoint's place.
        line.checked_sub(signed).is_some_and(|new| new > 0 && (new >= self.lines || is_old()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_due_after_lines_and_after_time() {
        let policy = CheckpointPolicy { lines: 10, time: Duration::from_secs(100) };
        let at = Timestamp::from_unix;
        for (line, now, is_due) in [
            (50, 1_000, false),
            (50, 9_000, false),
            (49, 9_000, false),
            (51, 1_099, false),
            (51, 1_100, true),
            (51, 999, true),
            (59, 1_000, false),
            (60, 1_000, true),
        ] {
            assert_eq!(policy.is_due(line, at(now), 50, at(1_000)), is_due, "{line} at {now}");
        }
    }
}
