//! The audit trail against its keystore, which a server may change meanwhile.

#![forbid(unsafe_code)]

use crate::config::Config;
use crate::custodian::Custodian;
use crate::error::Result;
use crate::event::{Trail, Verdict};

/// Checks the trail against what `custodian` knows of it.
pub(in crate::cli) fn verify(config: &Config, custodian: &Custodian) -> Result<Verdict> {
    let trail = Trail::beside(&config.keystore.path);
    let mut verdict = trail.verify(custodian.known_of_trail())?;
    // The keystore was read before the trail: a change in between is in the trail alone.
    if verdict.is_ahead() && custodian.refresh().is_ok() {
        verdict.catch_up(custodian.known_of_trail());
    }
    Ok(verdict)
}
