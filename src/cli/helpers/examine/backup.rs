//! Whether a backup has the newest keys.

#![forbid(unsafe_code)]

use super::catalogue::BACKUP;
use super::findings::Findings;
use crate::cli::helpers::facts;
use crate::config::Config;
use crate::custodian::Custodian;
use crate::event::metrics::BackupFacts;
use crate::event::{Event, Trail};

/// Whether the last backup has the newest key, where there are backups.
pub(super) fn check(findings: &mut Findings, config: &Config, custodian: &Custodian) {
    match facts::of(config, custodian).backups {
        Some(backups) => scheduled(findings, &backups),
        None if custodian.has_backup_recipients() => by_hand(findings, config, custodian),
        None => {}
    }
}

fn scheduled(findings: &mut Findings, BackupFacts { last, stale, failure }: &BackupFacts) {
    let again = "`keyward keystore backup --due` tries it again, and the timer keyward-backup does so by itself";
    let last = last.map_or("none was made yet".to_owned(), |at| format!("the last is of {at}"));
    match failure {
        Some(failure) => findings.warn(&BACKUP, format!("backup: {failure}"), again),
        None if *stale => {
            findings.warn(&BACKUP, format!("backup: it lacks the newest key; {last}"), again);
        }
        None => findings.ok(&BACKUP, format!("backup: {last}")),
    }
}

/// By the audit trail: when a backup was asked for.
fn by_hand(findings: &mut Findings, config: &Config, custodian: &Custodian) {
    let Some(newest) = facts::newest_key(custodian) else { return };
    let lines = Trail::beside(&config.keystore.path).salvage().map_or(Vec::new(), |found| found.0);
    let last = lines.iter().rev().find(|line| line.event == Event::BackedUp).map(|line| line.at);
    match last {
        Some(last) if last >= newest => {
            findings.ok(&BACKUP, format!("backup: the last is of {last}"));
        }
        _ => {
            let what = format!("backup: there is none since a key was made at {newest}");
            let advice = "keyward keystore backup --to FILE; with [backup] in the configuration it goes by itself";
            findings.warn(&BACKUP, what, advice);
        }
    }
}
