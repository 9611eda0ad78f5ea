//! A server verifies its audit trail while it runs: what is new soon after it was written, all of it once a day.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::{Shared, lock};
use crate::env::{Level, Log, Timestamp};
use crate::error::Error;
use crate::event::{Fault, Follower, Head, Trail};
use crate::store::TrailAnchor;

/// How long a server has run before it begins.
const FIRST: Duration = Duration::from_secs(60);

/// How long after the beginning of a whole pass the next one begins.
const WHOLE: Duration = Duration::from_secs(86_400);

/// How much is read at once, in bytes: some hundredths of a second.
const SLICE: u64 = 1 << 23;

/// Where a server is in its trail.
#[derive(Default)]
pub(super) struct Verifying {
    follower: Follower,
    /// When the pass began.
    began: Option<Timestamp>,
    /// What is wrong, as far as a pass came to its end.
    found: Option<Option<String>>,
    /// Why it could not be read last.
    failure: Option<String>,
}

impl Shared {
    /// Looks at the lines that were not verified yet, some at a time.
    pub(super) fn verify_in_time(&self) {
        let now = self.env.clock.now();
        if now < self.started.plus(FIRST) {
            return;
        }
        let Some((trail, known, floor)) = self.known_trail() else { return };
        let mut verifying = lock(&self.verifying);
        let is_old = |began: Timestamp| now >= began.plus(WHOLE) || began > now;
        if verifying.began.is_none_or(is_old) {
            (verifying.follower, verifying.began) = (Follower::default(), Some(now));
        }
        if verifying.follower.has_reached(known) {
            return;
        }
        let found = match verifying.follower.go_on(&trail, known, floor, SLICE) {
            Err(error) => return verifying.cannot_read(&error, &*self.env.log),
            // In the middle of a pass, what the one before found still is.
            Ok(()) if !verifying.follower.has_reached(known) => return,
            // The policy of another process may have removed lines since the keystore was read.
            Ok(()) if !verifying.follower.faults().is_empty() && self.source().has_changed() => {
                verifying.follower = Follower::default();
                return;
            }
            Ok(()) => summary(verifying.follower.faults()),
        };
        if verifying.found.as_ref() == Some(&found) {
            return;
        }
        if let Some(text) = &found {
            // Lines that are missing stay missing, as after a keystore was restored without its trail.
            let is_missing = |fault: &Fault| matches!(fault, Fault::Missing { .. });
            let is_gap = verifying.follower.faults().iter().all(is_missing);
            let level = if is_gap { Level::Warning } else { Level::Error };
            let line =
                format!("the audit trail is not whole: {text}; `keyward audit verify` shows all");
            self.env.log.log(level, &line);
        }
        verifying.found = Some(found);
        drop(verifying);
        self.notices.look_now(now);
    }

    /// What is wrong with the trail, if anything; none where nobody has looked yet.
    pub(super) fn found_in_trail(&self) -> Option<Option<String>> {
        lock(&self.verifying).found.clone()
    }

    /// The trail of our own keystore, the line that the keystore knows, and the last that the policy had removed.
    fn known_trail(&self) -> Option<(Trail, Head, Option<Head>)> {
        let manager = self.manager()?;
        let head = |it: TrailAnchor| Head { line: it.line, hash: it.head };
        let registers = manager.contents()?.registers();
        let (known, floor) = (registers.trail.map(head)?, registers.trail_floor.map(head));
        Some((Trail::beside(manager.reader().file.path()), known, floor))
    }
}

impl Verifying {
    fn cannot_read(&mut self, error: &Error, log: &dyn Log) {
        let line = format!("the audit trail is not verified: {error}");
        if self.failure.as_ref() != Some(&line) {
            log.log(Level::Warning, &line);
            self.failure = Some(line);
        }
    }
}

fn summary(faults: &[Fault]) -> Option<String> {
    let [first, more @ ..] = faults else { return None };
    Some(match more.len() {
        0 => first.to_string(),
        more => format!("{first}; {more} more faults"),
    })
}
