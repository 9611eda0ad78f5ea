//! What the metrics of the command are taken from, in the keystore.

#![forbid(unsafe_code)]

use std::time::Duration;

use crate::backup::Note;
use crate::config::{BackupConfig, Config};
use crate::custodian::Custodian;
use crate::env::{Clock as _, System, Timestamp};
use crate::event::metrics::{BackupFacts, KeystoreFacts};
use crate::key::KeyState;
use crate::store::KeyEntry;

/// How soon a new key is in a backup, where each change is followed by one.
const SOON: Duration = Duration::from_secs(300);
/// How soon where there is one a day.
const DAILY: Duration = Duration::from_secs(25 * 3_600);

/// What `custodian` has read in the keystore of `config`.
pub(in crate::cli) fn of(config: &Config, custodian: &Custodian) -> KeystoreFacts {
    let active = custodian.keys().into_iter().filter(|info| info.state == KeyState::Active);
    let entries = custodian.entries();
    let planned: Vec<_> = entries
        .iter()
        .flat_map(KeyEntry::versions)
        .filter_map(|version| version.planned.as_ref())
        .filter(|plan| plan.state == KeyState::Destroyed)
        .map(|plan| plan.at)
        .collect();
    KeystoreFacts {
        path: config.keystore.path.display().to_string(),
        id: custodian.keystore_id(),
        epoch: custodian.epoch(),
        wrapped_by: custodian.wrappings().into_iter().map(|(provider, _)| provider).collect(),
        oldest_active: active.filter_map(|info| info.created).min(),
        destructions: planned.len(),
        next_destruction: planned.into_iter().min(),
        trail_faults: None,
        backups: config.backup.as_deref().map(|wanted| backups(wanted, config, custodian)),
    }
}

/// How the scheduled backups of the keystore stand.
fn backups(wanted: &BackupConfig, config: &Config, custodian: &Custodian) -> BackupFacts {
    let Note { last, failure } = Note::beside(&config.keystore.path);
    let last = last.filter(|last| last.keystore == custodian.keystore_id()).map(|last| last.made);
    let time = if wanted.after_each_change { SOON } else { DAILY };
    let overdue = |newest| System.now().since(newest) >= time;
    let lacks = |newest: &Timestamp| last.is_none_or(|last| last < *newest);
    let stale = newest_key(custodian).filter(lacks).is_some_and(overdue);
    BackupFacts { last, stale, failure: failure.map(|failure| failure.what) }
}

/// When the newest key version came into the keystore, of those that decrypt.
pub(in crate::cli) fn newest_key(custodian: &Custodian) -> Option<Timestamp> {
    let entries = custodian.entries();
    let living = entries.iter().flat_map(KeyEntry::versions).filter(|one| one.state.decrypts());
    // The date of its making may be another keystore's.
    living.filter_map(|one| one.history.first().map(|first| first.at)).max()
}
