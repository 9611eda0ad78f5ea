//! The functions' answers: JSON without a secret, and without the name or the reason of whoever changed a
//! key, since MariaDB lets every client call a loadable function.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::Serialize;

use crate::custodian::{Custodian, Proof, ProviderProof};
use crate::env::Timestamp;
use crate::event::metrics::{Shown, Value};
use crate::key::{CheckValue, KeyInfo, KeyName, KeyRef, KeyState, KeyVersion};
use crate::ring::Ring;
use crate::store::{Event, KeyEntry};

const SECONDS_A_DAY: u64 = 86_400;

/// One version of a key.
#[derive(Serialize)]
struct Version<'a> {
    /// MariaDB's number or MySQL's name.
    key: &'a KeyName,
    version: KeyVersion,
    state: KeyState,
    /// Whether it is the version that encrypts.
    encrypts: bool,
    cipher: String,
    created: Option<Timestamp>,
    age_days: Option<u64>,
    check: Option<CheckValue>,
    retain_until: Option<Timestamp>,
    planned: Option<Step>,
    history: Vec<Step>,
}

/// A state that a version took on or is to take on.
#[derive(Serialize)]
struct Step {
    state: KeyState,
    at: Timestamp,
}

#[derive(Serialize)]
struct Verified<'a> {
    ok: Option<bool>,
    at: Timestamp,
    restart_safe: String,
    reason: &'a str,
    providers: Vec<Provider<'a>>,
}

#[derive(Serialize)]
struct Provider<'a> {
    name: &'a str,
    ok: bool,
    failure: Option<&'a str>,
    compared: Option<usize>,
    milliseconds: u128,
}

/// Every version of every key, destroyed ones too where the keystore is ours: a list, by key and version.
pub(super) fn keys(custodian: &Custodian, now: Timestamp) -> String {
    let entries = custodian.entries();
    if !entries.is_empty() {
        return json(&entries.iter().flat_map(|key| versions(key, now)).collect::<Vec<_>>());
    }
    let listed = custodian.keys();
    let of = |info| Version::listed(info, custodian.ring(), now);
    json(&listed.iter().map(of).collect::<Vec<_>>())
}

/// The versions of a key of our own keystore.
fn versions(key: &KeyEntry, now: Timestamp) -> impl Iterator<Item = Version<'_>> {
    let active = key.active().map(|active| active.version);
    key.versions().map(move |one| Version {
        key: key.name(),
        version: one.version,
        state: one.state,
        encrypts: active == Some(one.version),
        cipher: one.purpose.to_string(),
        created: Some(one.created),
        age_days: Some(days(one.created, now)),
        check: one.check,
        retain_until: one.retain_until,
        planned: one.planned.as_ref().map(Step::of),
        history: one.history.iter().map(Step::of).collect(),
    })
}

/// The metrics that this server shows, by name.
pub(super) fn status(metrics: &[Shown]) -> String {
    let all: BTreeMap<_, &Value> =
        metrics.iter().map(|shown| (shown.metric.name(), &shown.value)).collect();
    json(&all)
}

/// What a proof of all providers has shown.
pub(super) fn verify(proof: &Proof) -> String {
    json(&Verified {
        ok: proof.is_good(),
        at: proof.at,
        restart_safe: proof.restart.answer.to_string(),
        reason: &proof.restart.reason,
        providers: proof.providers.iter().map(Provider::of).collect(),
    })
}

/// Of these types everything can be written as JSON.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

fn days(from: Timestamp, to: Timestamp) -> u64 {
    to.since(from).as_secs() / SECONDS_A_DAY
}

impl<'a> Version<'a> {
    /// A version that a key store lists. Its check value stays here: it is under no key of ours.
    fn listed(info: &'a KeyInfo, ring: &Ring, now: Timestamp) -> Self {
        let KeyRef { name, version } = &info.key;
        let latest = match name {
            KeyName::Id(id) => ring.latest(*id),
            KeyName::Named { .. } => None,
        };
        Self {
            key: name,
            version: *version,
            state: info.state,
            encrypts: latest == Some(*version),
            cipher: info.purpose.to_string(),
            created: info.created,
            age_days: info.created.map(|created| days(created, now)),
            check: None,
            retain_until: None,
            planned: None,
            history: Vec::new(),
        }
    }
}

impl Step {
    fn of(event: &Event) -> Self {
        Self { state: event.state, at: event.at }
    }
}

impl<'a> Provider<'a> {
    fn of(proof: &'a ProviderProof) -> Self {
        Self {
            name: &proof.name,
            ok: proof.failure.is_none(),
            failure: proof.failure.as_deref(),
            compared: proof.compared,
            milliseconds: proof.took.as_millis(),
        }
    }
}
