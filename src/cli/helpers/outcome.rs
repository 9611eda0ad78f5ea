//! What a change of keys did, in lines.

#![forbid(unsafe_code)]

use crate::custodian::Custodian;
use crate::key::KeyRef;

/// A line for each changed version: what it is now.
pub(in crate::cli) fn outcome(custodian: &Custodian, changed: &[KeyRef]) -> String {
    let line = |key: &KeyRef| {
        let entry = custodian.entry(&key.name)?;
        let version = entry.version(key.version)?;
        Some(match &version.planned {
            Some(plan) => format!("{key} is {}, {} from {}\n", version.state, plan.state, plan.at),
            None => format!("{key} is {}\n", version.state),
        })
    };
    changed.iter().filter_map(line).collect()
}
