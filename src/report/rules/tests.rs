//! Each requirement turns with the one thing that it is about.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::*;
use crate::key::KeyState;
use crate::report::model::{Finding, Mark, PlainFile, Unclear};
use crate::report::sample::{DAY, NOW, ago, server, version};

use Verdict::{Met, NotMet, NotOurs};

/// What spoils a server.
type Spoil = fn(&mut Server);

#[track_caller]
fn verdict(server: &Server, standard: &str, number: &str) -> Judged {
    let judged = judge(server);
    let found =
        judged.into_iter().find(|one| one.standard.starts_with(standard) && one.number == number);
    found.unwrap_or_else(|| panic!("no {standard} {number}"))
}

#[test]
fn a_server_that_is_well_fails_nothing() {
    let judged = judge(&server());
    let failed: Vec<_> = judged.iter().filter(|one| one.verdict == NotMet).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let unseen: Vec<_> =
        judged.iter().filter(|one| one.verdict == NotOurs).map(|one| one.number.as_str()).collect();
    assert_eq!(unseen, ["3.7.9", "art. 7(4)", "annex, 9.2(c) ii"]);
    let numbers: BTreeSet<_> = judged.iter().map(|one| (&one.standard, &one.number)).collect();
    assert_eq!(numbers.len(), judged.len(), "each once");
    let standards: BTreeSet<_> = judged.iter().map(|one| one.standard.as_str()).collect();
    assert_eq!(standards.len(), 7, "{standards:?}");
    assert!(judged.iter().all(|one| !one.evidence.is_empty()), "{judged:#?}");
}

#[test]
fn each_requirement_turns_with_what_it_is_about() {
    let compromised: Spoil = |it| it.keys[0].versions[1].state = KeyState::Compromised;
    let table: &[(&str, &str, Spoil, Verdict)] = &[
        ("PCI", "3.6.1.1", |it| it.keys[0].purpose = None, NotMet),
        ("PCI", "3.6.1.1", |it| it.environment = None, NotMet),
        ("PCI", "3.6.1.1", |it| it.policy.rotate_after = None, NotMet),
        ("PCI", "3.7.1", |it| it.keys[0].versions[0].bits = 112, NotMet),
        ("PCI", "3.7.1", |it| it.trail.events = [("imported".to_owned(), 1)].into(), NotOurs),
        ("PCI", "3.7.1", |it| it.keys.clear(), NotOurs),
        ("PCI", "3.7.2", |it| it.trail.events = [("exported".to_owned(), 2)].into(), NotOurs),
        ("PCI", "3.7.3", |it| it.key_stores[0].beside_the_data = Some(true), NotMet),
        ("PCI", "3.7.3", |it| it.key_stores[0].beside_the_data = None, NotOurs),
        ("PCI", "3.7.3", |it| it.key_stores[0].in_use = false, NotMet),
        ("PCI", "3.7.4", |it| it.keys[0].overdue = true, NotMet),
        ("PCI", "3.7.4", |it| it.policy.rotate_after = None, NotMet),
        ("PCI", "3.7.4", |it| it.lanes.clear(), NotOurs),
        ("PCI", "3.7.5", compromised, NotMet),
        ("PCI", "3.7.6", |it| it.approvals_needed = 1, NotOurs),
        (
            "PCI",
            "3.7.6",
            |it| {
                it.approvals_needed = 0;
                it.trail.events.insert("exported".to_owned(), 1);
            },
            NotMet,
        ),
        ("PCI", "3.7.7", |it| it.trail.faults.push("line 3 is missing".to_owned()), NotMet),
        (
            "PCI",
            "3.7.7",
            |it| it.data.as_mut().unwrap().needs[0].state = "missing".to_owned(),
            NotMet,
        ),
        (
            "PCI",
            "3.7.7",
            |it| it.data.as_mut().unwrap().needs[0].state = "wrong key".to_owned(),
            NotMet,
        ),
        ("PCI", "3.7.8", |it| it.custodians.clear(), NotMet),
        (
            "PCI",
            "3.7.8",
            |it| it.custodians[0].acknowledged = crate::env::Timestamp::from_unix(NOW + DAY),
            NotMet,
        ),
        ("PCI", "12.3.3", |it| it.ciphers_reviewed = None, NotMet),
        ("PCI", "12.3.3", |it| it.ciphers_reviewed = Some(ago(367)), NotMet),
        ("NIST", "5.3", |it| it.policy.rotate_after = Some(800 * DAY), NotMet),
        ("NIST", "5.3", |it| it.keys[0].versions[1].created = Some(ago(731)), NotMet),
        ("NIST", "5.6", |it| it.keys[0].versions[1].bits = 64, NotMet),
        ("NIST", "7", |it| it.keys[0].versions[0].history.clear(), NotMet),
        ("NIST", "8.2.2, 8.3.1", |it| it.backups.clear(), NotMet),
        (
            "NIST",
            "8.2.2, 8.3.1",
            |it| it.keys[0].versions.push(version(5, KeyState::Pending, 1)),
            NotMet,
        ),
        ("NIST", "8.2.2, 8.3.1", |it| it.recoveries.clear(), NotMet),
        (
            "NIST",
            "8.2.2, 8.3.1",
            |it| it.recoveries[0].reason = "monthly: failed: backup of x, 3; lacks 1".to_owned(),
            NotMet,
        ),
        ("NIST", "8.2.2, 8.3.1", |it| it.recoveries[0].at = ago(400), NotMet),
        ("NIST", "8.3.5, 9.3.4", compromised, NotMet),
        ("ISO", "A.8.24, rules", |it| it.owner = None, NotMet),
        ("HIPAA", "164.312(a)(2)(iv)", |it| it.data = None, NotOurs),
        ("HIPAA", "164.312(a)(2)(iv)", in_the_clear, NotMet),
        ("HIPAA", "164.312(a)(2)(iv)", unclear, NotOurs),
        (
            "HIPAA",
            "164.402, SP 800-111",
            |it| it.key_stores[0].beside_the_data = Some(true),
            NotMet,
        ),
        (
            "HIPAA",
            "164.402, SP 800-111",
            |it| it.key_stores[0].failure = Some("away".to_owned()),
            NotOurs,
        ),
        ("SOC", "CC6.1", in_the_clear, NotMet),
        ("SOC", "CC7.2", |it| it.trail.sinks = 0, NotMet),
        ("SOC", "CC7.2", failing, NotMet),
        ("DORA", "art. 7(3)", |it| it.backups.clear(), NotMet),
        ("DORA", "art. 7(5)", |it| it.key_stores[0].ends[0].at = ago(0), NotMet),
        ("DORA", "art. 7(5)", |it| it.key_stores[0].ends.clear(), NotOurs),
        ("NIS2", "annex, 9.2(c) v, xii", |it| it.keys[0].overdue = true, NotMet),
        ("NIS2", "annex, 9.2(c) xi", |it| it.trail.faults.push("cut".to_owned()), NotMet),
    ];
    for (standard, number, spoil, expected) in table {
        assert_eq!(verdict(&server(), standard, number).verdict, Met, "{standard} {number}");
        let mut server = server();
        spoil(&mut server);
        let judged = verdict(&server, standard, number);
        assert_eq!(judged.verdict, *expected, "{standard} {number}: {:?}", judged.evidence);
    }
}

fn in_the_clear(server: &mut Server) {
    let plain =
        PlainFile { file: "t/plain.ibd".to_owned(), kind: "tablespace".to_owned(), pages: 4 };
    server.data.as_mut().unwrap().unencrypted.push(plain);
}

fn unclear(server: &mut Server) {
    let unclear = Unclear { file: "t/x.ibd".to_owned(), why: "cut off".to_owned() };
    server.data.as_mut().unwrap().unclear.push(unclear);
}

fn failing(server: &mut Server) {
    let what = "audit trail: cut".to_owned();
    server.findings.push(Finding { mark: Mark::Failed, what, advice: None });
}

#[test]
fn what_a_key_store_serves_is_for_it_to_show() {
    let mut server = server();
    server.status.insert("keystore_id".to_owned(), serde_json::Value::Null);
    server.lanes.clear();
    for (standard, number) in [("PCI", "3.7.1"), ("PCI", "3.7.2"), ("PCI", "3.7.4"), ("NIST", "7")]
    {
        assert_eq!(verdict(&server, standard, number).verdict, NotOurs, "{standard} {number}");
    }
}

#[test]
fn secrets_of_mysql_s_clients_are_not_judged_as_keys_of_files() {
    let mut server = server();
    let mut secret = server.keys[0].clone();
    secret.for_files = false;
    secret.purpose = None;
    secret.versions[0].bits = 8;
    server.keys.push(secret);
    assert_eq!(verdict(&server, "PCI", "3.7.1").verdict, Met);
    assert_eq!(verdict(&server, "PCI", "3.6.1.1").verdict, Met);
}

#[test]
fn the_worst_of_several_answers_counts() {
    let of = |verdict, line: &str| Answer::of(verdict, [line.to_owned()]);
    let all = |verdicts: &[Verdict]| Answer::all(verdicts.iter().map(|one| of(*one, "same")));
    assert_eq!(all(&[Met, Met]).verdict, Met);
    assert_eq!(all(&[Met, NotOurs]).verdict, NotOurs);
    assert_eq!(all(&[NotOurs, NotMet, Met]).verdict, NotMet);
    assert_eq!(all(&[Met, Met]).evidence, ["same"]);
}
