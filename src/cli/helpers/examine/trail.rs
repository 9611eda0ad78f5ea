//! The audit trail: whether it is whole, and copied to where it is wanted.

#![forbid(unsafe_code)]

use super::catalogue::{AUDIT_SINKS, AUDIT_TRAIL};
use super::findings::Findings;
use crate::cli::helpers::print::Mark;
use crate::cli::helpers::trail;
use crate::config::Config;
use crate::custodian::Custodian;
use crate::event::Fault;

/// Whether the audit trail is as the keystore knows it.
pub(super) fn trail(findings: &mut Findings, config: &Config, custodian: &Custodian) {
    let verdict = match trail::verify(config, custodian) {
        Ok(verdict) => verdict,
        Err(error) => return findings.error(&AUDIT_TRAIL, "audit trail", &error),
    };
    // A keystore that was restored without its trail has none of the lines before.
    let is_absent = |fault: &Fault| matches!(fault, Fault::Missing { .. });
    let is_restored = verdict.lines == 0 || verdict.faults.iter().all(is_absent);
    match (verdict.faults.first(), verdict.anchored) {
        (Some(fault), _) => {
            let mark = if is_restored { Mark::Warning } else { Mark::Failed };
            let advice =
                "`keyward audit verify` shows all; put the whole trail back if there is one";
            findings.add(&AUDIT_TRAIL, mark, format!("audit trail: {fault}"), Some(advice));
        }
        (None, Some(line)) => {
            let what = format!("audit trail: {} lines, proven up to line {line}", verdict.lines);
            findings.ok(&AUDIT_TRAIL, what);
        }
        (None, None) => {}
    }
}

/// Whether the trail is copied to where it is wanted.
pub(super) fn sinks(findings: &mut Findings, config: &Config, custodian: &Custodian) {
    if config.sinks.is_empty() {
        return;
    }
    let (waiting, lost) = custodian.backlog().counts();
    let lost = if lost > 0 { format!(", {lost} were given up") } else { String::new() };
    let what = format!("sinks: {waiting} lines of the audit trail wait{lost}");
    let mark = if waiting > 0 { Mark::Warning } else { Mark::Ok };
    let advice = "the server's error log says which sink does not take them";
    findings.add(&AUDIT_SINKS, mark, what, (waiting > 0).then_some(advice));
}
