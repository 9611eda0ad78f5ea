//! The section `[audit]`.

#![forbid(unsafe_code)]

use super::Section;
use crate::error::Result;
use crate::policy::CheckpointPolicy;

/// The most lines between two checkpoints.
const MAX_LINES: u64 = 1_000_000;

/// Reads the section to its end.
pub(super) fn read(section: &Section) -> Result<CheckpointPolicy> {
    let default = CheckpointPolicy::default();
    let lines = match section.number("checkpoint_lines")? {
        None => default.lines,
        Some(number) => u64::try_from(number)
            .ok()
            .filter(|number| (1..=MAX_LINES).contains(number))
            .ok_or_else(|| section.wrong("checkpoint_lines", "must be from 1 to 1000000"))?,
    };
    let time = section.duration("checkpoint_every")?.unwrap_or(default.time);
    section.done()?;
    Ok(CheckpointPolicy { lines, time })
}
