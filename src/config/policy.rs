//! The section `[policy]`.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::Section;
use crate::error::Result;
use crate::policy::{
    DEFAULT_KEEP_VERSIONS, DEFAULT_VERSION_STEP, MAX_DESTROY_WAIT, MIN_DESTROY_WAIT, Policy,
};

/// The longest notice that is given without being asked for.
const DEFAULT_NOTICE: Duration = Duration::from_secs(7 * 86_400);

/// What older configurations call `keep_retired`.
const FORMER_KEEP_RETIRED: &str = "retire_after";

/// Reads the section to its end.
pub(super) fn read(section: Section) -> Result<Policy> {
    let rotate_after = section.duration("rotate_after")?;
    let notice = rotate_after.map_or(Duration::ZERO, |time| (time / 10).min(DEFAULT_NOTICE));
    let policy = Policy {
        version_step: count(&section, "version_step", DEFAULT_VERSION_STEP)?,
        rotate_after,
        notify_before: section.duration("notify_before")?.unwrap_or(notice),
        jitter: section.duration("jitter")?.unwrap_or_default(),
        activate_after: section.duration("activate_after")?,
        keep_retired: keep_retired(&section)?,
        keep_versions: count(&section, "keep_versions", DEFAULT_KEEP_VERSIONS)?,
        destroy_wait: section.duration("destroy_wait")?.unwrap_or(MIN_DESTROY_WAIT),
    };
    section.done()?;
    if !(MIN_DESTROY_WAIT..=MAX_DESTROY_WAIT).contains(&policy.destroy_wait) {
        return Err(section.wrong("destroy_wait", "must be from 7d to 30d"));
    }
    check(&section, &policy)?;
    Ok(policy)
}

/// Its name was `retire_after` once, though nothing retires by it.
fn keep_retired(section: &Section) -> Result<Option<Duration>> {
    if !section.has(FORMER_KEEP_RETIRED) {
        return section.duration("keep_retired");
    }
    if section.has("keep_retired") {
        let what = "is the former name of keep_retired, which is given as well";
        return Err(section.wrong(FORMER_KEEP_RETIRED, what).advise("take this line out"));
    }
    section.duration(FORMER_KEEP_RETIRED)
}

fn check(section: &Section, policy: &Policy) -> Result<()> {
    let Some(rotate_after) = policy.rotate_after else {
        return if policy.jitter.is_zero() {
            Ok(())
        } else {
            Err(section.wrong("jitter", "needs rotate_after").advise("set rotate_after as well"))
        };
    };
    if rotate_after < Duration::from_secs(1) {
        return Err(section.wrong("rotate_after", "must be 1s or longer"));
    }
    let early = policy.jitter.saturating_add(policy.activate_after.unwrap_or_default());
    if early >= rotate_after {
        let key = if policy.jitter.is_zero() { "activate_after" } else { "jitter" };
        return Err(section
            .wrong(key, "jitter and activate_after together must be shorter than rotate_after")
            .advise("shorten them, or rotate later"));
    }
    Ok(())
}

fn count(section: &Section, key: &'static str, default: u32) -> Result<u32> {
    let Some(number) = section.number(key)? else { return Ok(default) };
    u32::try_from(number)
        .ok()
        .filter(|number| (1..=1000).contains(number))
        .ok_or_else(|| section.wrong(key, "must be from 1 to 1000"))
}
