//! The audit trail is kept as long as the policy wants. What is to go is noted in the keystore first, so that nobody
//! else's removal looks like it.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::{Changed, Manager};
use crate::env::{Deadline, Level};
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Head, Limits, Outlived, Trail};
use crate::policy::TrailPolicy;
use crate::source::{LOCK_WAIT, Reason};
use crate::store::{Contents, TrailAnchor};

/// Who history and audit trail name.
const ACTOR: &str = "policy";

/// The policy for the trail, and what a process remembers of keeping it.
#[derive(Default)]
pub(super) struct Retention {
    pub(super) policy: TrailPolicy,
    /// What went wrong last, so that it is told once.
    told: Option<String>,
}

impl Manager {
    /// The audit trail, to be written.
    pub(super) fn trail(&self) -> Trail {
        let TrailPolicy { segment_size: size, segment_age: age, .. } = self.trail.policy;
        Trail::beside(self.reader.file.path()).with_limits(Limits { size, age })
    }

    /// Removes the segments that the policy no longer keeps; how many. Looked at without the lock first: most of the
    /// time there is none.
    pub(super) fn shorten_trail(&mut self) -> Result<usize> {
        let Some(keep) = self.trail.policy.keep.filter(|_| self.reader.writes) else {
            return Ok(0);
        };
        let Some(contents) = self.reader.contents() else { return Ok(0) };
        self.runner.policy.check_clock(self.reader.env.clock.now(), contents.keys())?;
        if let Some((first, last)) = self.outlived(keep)?.filter(|_| knows_its_trail(contents)) {
            let days = keep.as_secs() / 86_400;
            let text = format!("lines {first} to {} are older than {days}d", last.line);
            self.commit(Reason { actor: ACTOR, text: &text }, |manager, before| {
                // Another process may have done it by now.
                if manager.outlived(keep)? != Some((first, last))
                    || is_below(before.contents(), last)
                {
                    return Ok(None);
                }
                let after =
                    before.with_trail_floor(TrailAnchor { line: last.line, head: last.hash });
                Ok(Some(Changed { after, events: vec![(Event::TrailShortened, Vec::new())] }))
            })?;
        }
        self.remove_below_floor()
    }

    /// Removes what lies below the line that the keystore has noted: now, or what a crash has left.
    fn remove_below_floor(&mut self) -> Result<usize> {
        let floor = |manager: &Self| manager.contents()?.registers().trail_floor;
        let Some(floor) = floor(self).filter(|_| !self.reader.has_changed()) else { return Ok(0) };
        if !self.trail().reaches_below(floor.line)? {
            return Ok(0);
        }
        let _lock = self.reader.file.lock(Deadline::after(LOCK_WAIT))?;
        self.trail().remove_through(floor.line)
    }

    /// The lines that the policy no longer keeps; a line in the log where it cannot go on.
    fn outlived(&self, keep: Duration) -> Result<Option<(u64, Head)>> {
        let Outlived { first, last, stays } =
            self.trail().outlived(keep, self.reader.env.clock.now())?;
        if let (None, Some(name)) = (&last, stays) {
            let what = format!("{name} has not the lines that its name says");
            return Err(Error::new(Kind::Corrupt, what).advise(
                "it stays, with all behind it: `keyward audit verify` shows more; move it elsewhere",
            ));
        }
        let floor = self.contents().and_then(|contents| contents.registers().trail_floor);
        let last = last.filter(|last| floor.is_none_or(|floor| floor.line < last.line));
        Ok(last.map(|last| (first, last)))
    }

    /// Tells the log what hinders the policy, once.
    pub(super) fn note_shortening(&mut self, shortened: Result<usize>) {
        let failure = shortened.err().map(|error| format!("the audit trail stays longer: {error}"));
        if let Some(line) = &failure
            && self.trail.told.as_ref() != Some(line)
        {
            self.reader.env.log.log(Level::Warning, line);
        }
        self.trail.told = failure;
    }
}

/// A trail that no commit has noted may be anybody's.
fn knows_its_trail(contents: &Contents) -> bool {
    contents.registers().trail.is_some()
}

fn is_below(contents: &Contents, last: Head) -> bool {
    contents.registers().trail_floor.is_some_and(|floor| floor.line >= last.line)
}
