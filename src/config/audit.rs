//! The section `[audit]`.

#![forbid(unsafe_code)]

use super::{Section, size};
use crate::error::Result;
use crate::policy::{CheckpointPolicy, MIN_KEEP, TrailPolicy};

/// The most lines between two checkpoints.
const MAX_LINES: u64 = 1_000_000;

/// How long a segment becomes, in bytes.
const SIZES: std::ops::RangeInclusive<u64> = 1 << 12..=1 << 29;

/// The section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// When the trail gets checkpoints.
    pub checkpoints: CheckpointPolicy,
    /// Its files, and how long they are kept.
    pub trail: TrailPolicy,
}

impl Audit {
    /// Reads the section to its end.
    pub(super) fn read(section: &Section) -> Result<Self> {
        let default = CheckpointPolicy::default();
        let lines = match section.number("checkpoint_lines")? {
            None => default.lines,
            Some(number) => u64::try_from(number)
                .ok()
                .filter(|number| (1..=MAX_LINES).contains(number))
                .ok_or_else(|| section.wrong("checkpoint_lines", "must be from 1 to 1000000"))?,
        };
        let time = section.duration("checkpoint_every")?.unwrap_or(default.time);
        let size = match section.text("segment_size")? {
            None => None,
            Some(text) => {
                Some(size(&text).filter(|size| SIZES.contains(size)).ok_or_else(|| {
                    section
                        .wrong("segment_size", "is not a size from 4 KiB to 512 MiB")
                        .advise("write it as 512KiB or 64MiB")
                })?)
            }
        };
        let age = section.duration("segment_age")?;
        let keep = section.duration("keep")?;
        if keep.is_some_and(|keep| keep < MIN_KEEP) {
            return Err(section.wrong("keep", "is less than 90d").advise(
                "PCI DSS 10.5.1 asks for twelve months, the last three at hand: give 90d or more, \
                 and have copies of the rest elsewhere",
            ));
        }
        section.done()?;
        let checkpoints = CheckpointPolicy { lines, time };
        Ok(Self { checkpoints, trail: TrailPolicy::new(size, age, keep) })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::config::Config;

    const DAY: Duration = Duration::from_secs(86_400);

    fn read(lines: &str) -> Result<TrailPolicy, String> {
        let text = format!("[[provider]]\ntype = \"local\"\n[audit]\n{lines}\n");
        let config = Config::parse(Path::new("k.toml"), &text).map_err(|e| e.to_string())?;
        Ok(config.audit.trail)
    }

    #[test]
    fn sizes_and_times_are_as_people_write_them() {
        let default = read("").unwrap();
        assert_eq!((default.segment_size, default.segment_age), (64 << 20, 365 * DAY));
        assert_eq!(default.keep, None);
        let given = read("segment_size = \"4KiB\"\nsegment_age = \"7d\"\nkeep = \"400d\"").unwrap();
        let all = TrailPolicy { segment_size: 4096, segment_age: 7 * DAY, keep: Some(400 * DAY) };
        assert_eq!(given, all);
        assert_eq!(read("segment_size = \"512 MiB\"").unwrap().segment_size, 1 << 29);
        // Where lines go, a month's lines are a file.
        assert_eq!(read("keep = \"90d\"").unwrap().segment_age, 30 * DAY);
    }

    #[test]
    fn what_is_too_little_or_too_much_is_refused() {
        for text in
            ["0KiB", "3KiB", "513MiB", "64", "64MB", "-1MiB", "MiB", "", "99999999999999999MiB"]
        {
            let refused = read(&format!("segment_size = {text:?}")).unwrap_err();
            assert!(refused.starts_with("k.toml:4:1: segment_size: is not a size"), "{refused}");
        }
        let refused = read("keep = \"89d\"").unwrap_err();
        assert!(refused.contains("keep: is less than 90d; PCI DSS 10.5.1"), "{refused}");
    }
}
