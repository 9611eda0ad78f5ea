//! The stash: what it holds, when it serves, and when it must not.

use std::time::Duration;

use keyward::Kind;
use keyward::custodian::Custodian;
use keyward::key::KeyState;
use keyward::source::{Role, Stash, Which};
use keyward::store::{Sealed, StoreFile};

use crate::bench::{Bench, REASON, key, version};

fn rotate(custodian: &Custodian, id: u32) {
    custodian.rotate(Which::One(key(id)), REASON).unwrap();
}

/// The versions in the stash's file, as anybody may read them.
fn versions(bench: &Bench) -> Vec<String> {
    let sealed = Sealed::parse(&std::fs::read(bench.path()).unwrap()).unwrap();
    let keys = sealed.unverified().keys();
    let versions = keys.flat_map(|key| {
        let name = key.name().clone();
        key.versions()
            .map(move |one| format!("{name}.{} {}", one.version, one.state))
            .collect::<Vec<_>>()
    });
    versions.collect()
}

#[test]
fn a_server_starts_with_it_while_the_key_store_is_away() {
    let bench = Bench::new();
    let custodian = bench.with_stash().unwrap();
    rotate(&custodian, 1);
    let wanted = custodian.key(key(1), version(2)).unwrap().key().expose().to_vec();
    let taken = custodian.status().stash.unwrap();
    assert!(!taken.in_use && taken.taken == Some(crate::bench::NOW) && taken.failure.is_none());
    drop(custodian);
    assert_eq!(versions(&bench), ["1.1 retired", "1.2 active", "2.1 active"]);
    for kind in [Kind::Unavailable, Kind::Timeout, Kind::Untrusted] {
        bench.server.fail(kind);
        bench.clock.advance(Duration::from_secs(60));
        let custodian = bench.with_stash().unwrap();
        assert_eq!(custodian.latest(key(1)), Some(version(2)));
        assert!(custodian.key(key(1), version(2)).unwrap().key().expose() == wanted);
        assert_eq!(custodian.keys().len(), 3);
        let status = custodian.status();
        assert!(status.stash.unwrap().in_use);
        let cause = status.degraded.unwrap().cause;
        assert_eq!(cause, "provider \"vault\": the key store is away");
    }
    let line = bench.warnings().remove(0);
    assert_eq!(
        line,
        "provider \"vault\": the key store is away; started with the stash, taken 1m ago at \
         2026-03-01T12:00:00Z"
    );
    bench.server.fail(None);
    let custodian = bench.with_stash().unwrap();
    assert!(!custodian.status().stash.unwrap().in_use && custodian.status().degraded.is_none());
}

#[test]
fn it_holds_no_key_in_the_clear_and_is_written_only_when_something_changed() {
    let bench = Bench::new();
    let custodian = bench.with_stash().unwrap();
    let first = std::fs::read(bench.path()).unwrap();
    let data = custodian.key(key(1), version(1)).unwrap().key().expose().to_vec();
    assert!(!first.windows(data.len()).any(|bytes| bytes == data));
    custodian.refresh().unwrap();
    assert!(std::fs::read(bench.path()).unwrap() == first, "written for nothing");
    bench.clock.advance(Duration::from_secs(3600));
    custodian.refresh().unwrap();
    let sealed = Sealed::parse(&std::fs::read(bench.path()).unwrap()).unwrap();
    assert_eq!(sealed.unverified().created().as_unix(), crate::bench::NOW.as_unix() + 3600);
    assert_eq!(sealed.unverified().generation(), 2);
}

#[test]
fn what_the_key_store_refuses_the_stash_does_not_give() {
    let bench = Bench::new();
    drop(bench.with_stash().unwrap());
    for kind in [Kind::Denied, Kind::NotFound, Kind::Config, Kind::Corrupt] {
        bench.server.fail(kind);
        let refused = bench.with_stash().err().unwrap();
        assert_eq!(refused.kind(), kind, "{refused}");
        assert!(!refused.to_string().contains("stash"), "{refused}");
    }
}

#[test]
fn a_version_that_was_destroyed_leaves_it_at_once() {
    let bench = Bench::new();
    bench.server.set(1, 2, KeyState::Active);
    bench.server.set(1, 1, KeyState::Retired);
    let custodian = bench.with_stash().unwrap();
    assert_eq!(versions(&bench), ["1.1 retired", "1.2 active", "2.1 active"]);
    bench.server.set(1, 1, KeyState::Destroyed);
    custodian.refresh().unwrap();
    assert_eq!(versions(&bench), ["1.2 active", "2.1 active"]);
    drop(custodian);
    bench.server.fail(Kind::Unavailable);
    let custodian = bench.with_stash().unwrap();
    assert!(custodian.key(key(1), version(1)).is_none());
    // The newest one destroyed, the one before brought back: states that no keystore of ours has.
    bench.server.fail(None);
    bench.server.set(1, 1, KeyState::Active);
    bench.server.set(1, 2, KeyState::Destroyed);
    custodian.refresh().unwrap();
    assert_eq!(versions(&bench), ["1.1 active", "2.1 active"]);
}

#[test]
fn a_version_that_is_gone_without_a_word_is_kept_and_told_of() {
    let bench = Bench::new();
    bench.server.set(1, 2, KeyState::Retired);
    bench.server.set(1, 3, KeyState::Active);
    bench.server.set(1, 1, KeyState::Retired);
    let custodian = bench.with_stash().unwrap();
    bench.server.forget(1, 1);
    custodian.refresh().unwrap();
    custodian.refresh().unwrap();
    let warnings = bench.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let kept = format!("key 1 version 1 is gone, which {} keeps; ", bench.path().display());
    assert!(warnings[0].contains(&kept), "{warnings:?}");
    assert!(custodian.status().degraded.unwrap().cause.contains(&kept));
    bench.server.forget(1, 3);
    bench.server.set(1, 2, KeyState::Active);
    custodian.refresh().unwrap();
    assert_eq!(versions(&bench), ["1.1 retired", "1.2 active", "1.3 pending", "2.1 active"]);
    let warnings = bench.warnings();
    assert!(warnings[1].contains("key 1 version 1 is gone, key 1 version 3 is gone, which"));
    // And when there is nothing at all any more.
    drop(custodian);
    for (id, version) in [(1, 2), (2, 1)] {
        bench.server.forget(id, version);
    }
    let custodian = bench.with_stash().unwrap();
    let cause = custodian.status().degraded.unwrap().cause;
    assert!(cause.contains("is gone, and 1 more, which"), "{cause}");
    drop(custodian);
    bench.server.fail(Kind::Unavailable);
    let custodian = bench.with_stash().unwrap();
    assert_eq!(custodian.latest(key(1)), Some(version(2)));
    assert!(custodian.key(key(1), version(3)).is_some());
}

#[test]
fn one_that_is_older_than_it_may_be_is_not_served() {
    let bench = Bench::new();
    let start =
        || bench.start(bench.source().with_stash(bench.stash(Some(Duration::from_secs(86_400)))));
    drop(start().unwrap());
    bench.server.fail(Kind::Unavailable);
    bench.clock.advance(Duration::from_secs(86_400));
    drop(start().unwrap());
    bench.clock.advance(Duration::from_secs(1));
    let refused = start().err().unwrap();
    assert_eq!(
        refused.to_string(),
        "provider \"vault\": the key store is away; the stash does not help: it was taken 1day 1s \
         ago, and max_age is 1day"
    );
}

#[test]
fn without_one_the_start_says_that_too() {
    let bench = Bench::new();
    bench.server.fail(Kind::Timeout);
    let refused = bench.with_stash().err().unwrap();
    assert_eq!(refused.kind(), Kind::Timeout);
    let wanted = format!("there is no stash at {} yet", bench.path().display());
    assert!(refused.to_string().ends_with(&wanted), "{refused}");
}

#[test]
fn a_key_that_is_another_than_before_stops_the_start() {
    let bench = Bench::new();
    drop(bench.with_stash().unwrap());
    bench.server.put_bytes(1, 1, KeyState::Active, &[7; 32]);
    let refused = bench.with_stash().err().unwrap();
    assert_eq!(refused.kind(), Kind::Conflict);
    let said = refused.to_string();
    assert!(said.contains("key 1 version 1 is another key than it was on 2026-03-01"), "{said}");
    assert!(said.contains("stash.json"), "{said}");
    // And after a start with the stash, when the key store comes back with it.
    bench.server.fail(Kind::Unavailable);
    let custodian = bench.with_stash().unwrap();
    bench.server.fail(None);
    let before = std::fs::read(bench.path()).unwrap();
    custodian.refresh().unwrap();
    let cause = custodian.status().degraded.unwrap().cause;
    assert!(cause.contains("key 1 version 1 is another key than the one in use"), "{cause}");
    assert_eq!(custodian.latest(key(1)), Some(version(1)));
    assert!(custodian.key(key(1), version(1)).unwrap().key().expose() != [7; 32]);
    let refused = custodian.rotate(Which::One(key(1)), REASON).unwrap_err();
    assert_eq!(refused.kind(), Kind::State);
    assert!(std::fs::read(bench.path()).unwrap() == before, "the stash keeps what is in use");
}

#[test]
fn a_damaged_one_is_told_of_and_taken_anew() {
    let bench = Bench::new();
    drop(bench.with_stash().unwrap());
    let mut bytes = std::fs::read(bench.path()).unwrap();
    let at = bytes
        .windows(10)
        .position(|text| text == b"\"retired\"}" || text == b"\"active\",\"")
        .unwrap();
    bytes[at + 1] = b'x';
    std::fs::write(bench.path(), &bytes).unwrap();
    bench.server.fail(Kind::Unavailable);
    let refused = bench.with_stash().err().unwrap().to_string();
    assert!(refused.contains("the stash does not help: "), "{refused}");
    bench.server.fail(None);
    drop(bench.with_stash().unwrap());
    let warnings = bench.warnings();
    assert!(warnings.iter().any(|line| line.ends_with("the stash is taken again")), "{warnings:?}");
    bench.server.fail(Kind::Unavailable);
    drop(bench.with_stash().unwrap());
}

#[test]
fn the_stash_of_other_keys_is_left_alone() {
    let bench = Bench::new();
    drop(bench.with_stash().unwrap());
    let before = std::fs::read(bench.path()).unwrap();
    let other = || {
        let file = StoreFile::at(bench.path());
        let stash = Stash::new(file, bench.wrappers(&["local"]), "others", None, bench.env());
        bench.start(bench.source().with_stash(stash))
    };
    drop(other().unwrap());
    assert!(std::fs::read(bench.path()).unwrap() == before);
    let warnings = bench.warnings();
    assert!(warnings.iter().any(|line| line.contains("is the stash of another key store")));
    bench.server.fail(Kind::Unavailable);
    assert!(other().is_err());
}

#[test]
fn other_providers_seal_it_anew() {
    let bench = Bench::new();
    drop(bench.with_stash().unwrap());
    let with = |names: &[&str]| {
        let file = StoreFile::at(bench.path());
        let stash = Stash::new(file, bench.wrappers(names), "test keys", None, bench.env());
        bench.start(bench.source().with_stash(stash))
    };
    drop(with(&["local", "recovery"]).unwrap());
    bench.server.fail(Kind::Unavailable);
    drop(with(&["recovery"]).unwrap());
    bench.server.fail(None);
    drop(with(&["third"]).unwrap());
    bench.server.fail(Kind::Unavailable);
    assert!(with(&["local"]).is_err());
    drop(with(&["third"]).unwrap());
}

#[test]
fn a_sealer_that_fails_keeps_nobody_from_starting_and_is_told_once() {
    let bench = Bench::new();
    bench.sealer.go_away(true);
    let custodian = bench.with_stash().unwrap();
    custodian.refresh().unwrap();
    assert_eq!(custodian.latest(key(1)), Some(version(1)));
    assert!(custodian.status().stash.unwrap().failure.unwrap().contains("the key store is away"));
    let told = "there is no stash to start with in an outage: provider \"local\": the key store is \
                away";
    assert_eq!(bench.warnings(), [told]);
    bench.sealer.go_away(false);
    custodian.refresh().unwrap();
    assert!(custodian.status().stash.unwrap().failure.is_none() && bench.path().exists());
}

#[test]
fn who_only_reads_writes_none_and_starts_with_it_all_the_same() {
    let bench = Bench::new();
    let start = |role| {
        let source = bench.source().with_stash(bench.stash(None));
        Custodian::start(source, role, bench.env())
    };
    for role in [Role::Reader, Role::Command] {
        drop(start(role).unwrap());
        assert!(!bench.path().exists(), "{role:?}");
    }
    drop(start(Role::Server).unwrap());
    bench.server.fail(Kind::Unavailable);
    for role in [Role::Reader, Role::Command, Role::Server] {
        assert_eq!(start(role).unwrap().latest(key(2)), Some(version(1)));
    }
}
