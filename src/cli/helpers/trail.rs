//! The audit trail against its keystore, which a server may change meanwhile.

#![forbid(unsafe_code)]

use crate::config::Config;
use crate::custodian::Custodian;
use crate::error::Result;
use crate::event::{Line, Trail, Verdict};
use crate::store::StoreFile;

/// Checks the trail against what `custodian` knows of it.
pub(in crate::cli) fn verify(config: &Config, custodian: &Custodian) -> Result<Verdict> {
    let trail = Trail::beside(&config.keystore.path);
    let known = custodian.known_of_trail();
    let mut verdict = trail.verify(known)?;
    // The keystore was read before the trail: a change in between is in the trail alone, and lines that the policy has
    // removed meanwhile are missing.
    if !verdict.faults.is_empty() && custodian.refresh().is_ok() {
        let now = custodian.known_of_trail();
        if now.floor != known.floor {
            verdict = trail.verify(now)?;
        }
        verdict.catch_up(now);
    }
    Ok(verdict)
}

/// Every line that can be read, and whether something is wrong with the others, or they begin late.
pub(in crate::cli) fn salvage(config: &Config) -> Result<(Vec<Line>, bool)> {
    let (lines, damaged) = Trail::beside(&config.keystore.path).salvage()?;
    let begins = lines.first().map_or(0, |line| line.number);
    Ok((lines, damaged || begins > first_line(config)))
}

/// The number of the first line that the trail of `config` is to have, as the keystore's file says. Nobody has proven
/// that it is right: enough for a hint.
fn first_line(config: &Config) -> u64 {
    let read = StoreFile::at(&config.keystore.path).read();
    let floor = read.ok().and_then(|(sealed, _)| sealed.unverified().registers().trail_floor);
    floor.map_or(1, |floor| floor.line.saturating_add(1))
}
