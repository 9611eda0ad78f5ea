//! What the metrics of the command are taken from, in the keystore.

#![forbid(unsafe_code)]

use crate::config::Config;
use crate::custodian::Custodian;
use crate::event::metrics::KeystoreFacts;
use crate::key::KeyState;
use crate::store::KeyEntry;

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
    }
}
