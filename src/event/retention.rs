//! The beginning of a trail that a policy no longer keeps.

#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::time::Duration;

use serde::Deserialize;

use super::line::{Chained, Head, digest};
use super::segments::{Part, first_line, last_line};
use super::trail::Trail;
use crate::env::Timestamp;
use crate::error::{Error, Result};

/// What a policy no longer keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlived {
    /// The number of the first line that is there.
    pub first: u64,
    /// The last line that is to go, with all before; none where nothing is.
    pub last: Option<Head>,
    /// The name of a file that is old enough and stays, with all behind it: it has not the lines that its name
    /// says.
    pub stays: Option<String>,
}

#[derive(Deserialize)]
struct Dated {
    at: Timestamp,
}

impl Trail {
    /// The closed segments from the oldest on whose newest line was older than `keep` at `now`. The clock alone is not
    /// believed: the newest line must be as new.
    pub fn outlived(&self, keep: Duration, now: Timestamp) -> Result<Outlived> {
        let parts = self.segments.parts()?;
        let mut newest = None;
        // A crash may have left the last ones without a line.
        for part in parts.iter().rev() {
            newest = newest.or(dated(last(part)?.as_deref()));
            if newest.is_some() {
                break;
            }
        }
        let Some(newest) = newest else { return Ok(Outlived::default()) };
        let now = now.min(newest);
        let is_old = |at: Timestamp| now >= at.plus(keep);
        let mut outlived = Outlived::default();
        for pair in parts.windows(2) {
            let (part, next) = (&pair[0], &pair[1]);
            let (Some(name), Some(behind)) = (part.name, first(next)?) else { break };
            let end = last(part)?;
            let at = dated(end.as_deref()).or_else(|| dated(Some(&behind)));
            if !at.is_some_and(is_old) {
                break;
            }
            let Some(head) = before(&behind) else { break };
            let is_whole = end.is_some_and(|line| {
                let is_last = serde_json::from_slice::<Chained>(&line)
                    .is_ok_and(|line| line.number == name.last);
                is_last && (head.line > name.last || head.hash == digest(&line))
            });
            if head.line < name.last || (name.damaged.is_none() && !is_whole) {
                outlived.stays = Some(name.to_string());
                break;
            }
            if outlived.last.is_none() {
                outlived.first = name.first;
            }
            outlived.last = Some(head);
        }
        Ok(outlived)
    }

    /// Removes the closed segments that end at or before the line `floor`, the oldest first; how many there were.
    pub fn remove_through(&self, floor: u64) -> Result<usize> {
        let mut removed = 0;
        for name in self.segments.closed()?.into_iter().take_while(|name| name.last <= floor) {
            let path = self.segments.path_of(name);
            match fs::remove_file(&path) {
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
                gone => gone.map_err(|e| Error::io("cannot remove", &path, &e))?,
            }
            removed += 1;
        }
        if removed > 0 {
            self.segments.sync_folder()?;
        }
        Ok(removed)
    }

    /// Whether there is a closed segment that ends at or before the line `floor`.
    pub fn reaches_below(&self, floor: u64) -> Result<bool> {
        Ok(self.segments.closed()?.first().is_some_and(|name| name.last <= floor))
    }
}

fn first(part: &Part) -> Result<Option<Vec<u8>>> {
    let Some(mut file) = part.open()? else { return Ok(None) };
    first_line(&mut file).map_err(|e| part.unread(&e))
}

fn last(part: &Part) -> Result<Option<Vec<u8>>> {
    let Some(mut file) = part.open()? else { return Ok(None) };
    Ok(last_line(&mut file).map_err(|e| part.unread(&e))?.map(|(line, _)| line))
}

fn dated(line: Option<&[u8]>) -> Option<Timestamp> {
    serde_json::from_slice::<Dated>(line?).ok().map(|line| line.at)
}

/// The line before `line`, as that one tells it.
fn before(line: &[u8]) -> Option<Head> {
    let line: Chained = serde_json::from_slice(line).ok()?;
    Some(Head { line: line.number.checked_sub(1)?, hash: line.previous })
}
