//! A server that meets all that keyward can see, for tests to spoil.

#![forbid(unsafe_code)]

use serde_json::json;

use super::model::{
    Custodian, Data, DataNeed, Ending, Finding, Key, KeyStore, Lane, Mark, Period, PolicyFacts,
    Record, Server, Step, TrailFacts, Version,
};
use crate::env::Timestamp;
use crate::key::KeyState;

pub(super) const DAY: u64 = 86_400;

/// The moment of the report.
pub(super) const NOW: u64 = 1_800_000_000;

pub(super) fn ago(days: u64) -> Timestamp {
    Timestamp::from_unix(NOW - days * DAY)
}

pub(super) fn server() -> Server {
    let status = json!({
        "state": "ok", "keystore": "/k/keystore.json", "keystore_id": "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
        "generation": 9, "epoch": 1, "keys": 1, "key_versions": 2, "destructions_planned": 0,
        "restart_safe": "yes", "fingerprint": "00ff",
    });
    let mut server = Server {
        source: None,
        made: ago(0),
        keyward: "0.0.0".to_owned(),
        host: "db1".to_owned(),
        actor: "ann on db1".to_owned(),
        configuration: "/etc/keyward/keyward.toml".to_owned(),
        owner: Some("Payments".to_owned()),
        environment: Some("production".to_owned()),
        ciphers_reviewed: Some(ago(100)),
        custodians: vec![Custodian { name: "Ann".to_owned(), acknowledged: ago(200) }],
        status: status.as_object().unwrap().clone(),
        pinned: true,
        policy: PolicyFacts {
            rotate_after: Some(90 * DAY),
            keep_retired: None,
            destroy_wait: 7 * DAY,
            keep_versions: 2,
        },
        keys: vec![key()],
        lanes: vec![lane()],
        data: Some(data()),
        key_stores: vec![key_store()],
        approvals_needed: 2,
        approvers: vec!["ssh-ed25519 A a".to_owned(), "ssh-ed25519 B b".to_owned()],
        approvals: vec![record("approved", 20)],
        backup_recipients: vec!["age1pq1x".to_owned()],
        backups: vec![record("backed-up", 10)],
        recoveries: vec![Record {
            reason: "monthly: passed: backup of x, generation 3; lacks 0".to_owned(),
            ..record("drilled", 50)
        }],
        destructions: Vec::new(),
        transfers: Vec::new(),
        trail: TrailFacts {
            lines: 12,
            anchored: Some(11),
            not_anchored: 1,
            sinks: 1,
            ..TrailFacts::default()
        },
        findings: vec![Finding { mark: Mark::Ok, what: "keys: 1".to_owned(), advice: None }],
        rules: Vec::new(),
    };
    server.rules = super::judge(&server);
    server
}

fn key() -> Key {
    Key {
        key: "1".to_owned(),
        purpose: Some("all".to_owned()),
        for_files: true,
        rotates: true,
        next_rotation: Some(Timestamp::from_unix(NOW + 50 * DAY)),
        overdue: false,
        versions: vec![version(1, KeyState::Retired, 130), version(3, KeyState::Active, 40)],
    }
}

pub(super) fn version(number: u32, state: KeyState, days: u64) -> Version {
    Version {
        version: number,
        state,
        cipher: "aes-256-ctr".to_owned(),
        bits: 256,
        created: Some(ago(days)),
        check: Some("00".repeat(16)),
        retain_until: None,
        planned: None,
        history: vec![Step {
            state,
            at: ago(days),
            actor: "policy".to_owned(),
            reason: "due".to_owned(),
        }],
    }
}

fn lane() -> Lane {
    let period =
        |version: &str, from, to| Period { version: version.to_owned(), from, to, late: false };
    Lane {
        key: "1".to_owned(),
        periods: vec![period("1", ago(130), Some(ago(40))), period("3", ago(40), None)],
        next_rotation: Some(Timestamp::from_unix(NOW + 50 * DAY)),
    }
}

fn data() -> Data {
    let need = DataNeed {
        key: "1".to_owned(),
        version: Some(3),
        cipher: Some("aes-256-ctr".to_owned()),
        state: "active".to_owned(),
        tablespaces: 60,
        logs: 2,
        others: 0,
        in_use: 9_000,
        freed: 0,
    };
    Data {
        directories: vec!["/var/lib/mysql".to_owned()],
        files: 200,
        needs: vec![need],
        ..Data::default()
    }
}

fn key_store() -> KeyStore {
    KeyStore {
        name: "kms".to_owned(),
        kind: "kms".to_owned(),
        role: "wraps the keystore".to_owned(),
        in_use: true,
        custody: "a service".to_owned(),
        beside_the_data: Some(false),
        facts: vec![("origin".to_owned(), "hsm".to_owned())],
        failure: None,
        ends: vec![Ending {
            what: "certificate /etc/ca.pem".to_owned(),
            at: Timestamp::from_unix(NOW + 300 * DAY),
            renewed: false,
        }],
    }
}

pub(super) fn record(event: &str, days: u64) -> Record {
    Record {
        at: ago(days),
        event: event.to_owned(),
        what: "key 1 version 3".to_owned(),
        actor: "ann on db1".to_owned(),
        reason: "monthly".to_owned(),
    }
}
