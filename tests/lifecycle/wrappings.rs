//! Several wrappings of the store key, and a new store key.

use keyward::Kind;
use keyward::env::Level;
use keyward::manager::{Rewrap, WrapChange};
use keyward::source::{Role, Which};

use crate::bench::{Bench, REASON, key, version, within_seconds};

const ADD: Rewrap<'_> = Rewrap::Missing { prune: false };
const PRUNE: Rewrap<'_> = Rewrap::Missing { prune: true };
const NEW: Rewrap<'_> = Rewrap::NewStoreKey { prune: false };

const BOTH: &[&str] = &["first", "second"];

fn with_both() -> Bench {
    let bench = Bench::new();
    bench.custodian(BOTH).manager().unwrap().rewrap(ADD, REASON).unwrap();
    bench
}

fn changes(bench: &Bench, providers: &[&str], how: Rewrap<'_>) -> Vec<(String, WrapChange, bool)> {
    let report = bench.custodian(providers).manager().unwrap().rewrap(how, REASON).unwrap();
    report.into_iter().map(|one| (one.provider, one.change, one.failure.is_some())).collect()
}

#[test]
fn a_provider_added_later_opens_the_keystore_alone() {
    let bench = Bench::new();
    let added = changes(&bench, BOTH, ADD);
    assert_eq!(
        added,
        [("first".into(), WrapChange::Kept, false), ("second".into(), WrapChange::Added, false)]
    );
    let custodian = bench.custodian(&["second"]);
    assert_eq!(custodian.status().provider, "second");
    assert_eq!(custodian.latest(key(7)), Some(version(1)));
    assert_eq!(bench.events().last().unwrap(), "wrapping-added");
}

#[test]
fn the_first_that_answers_opens_it_and_the_log_says_which_and_why() {
    let bench = with_both();
    assert_eq!(bench.custodian(BOTH).status().provider, "first");
    assert_eq!(bench.custodian(&["second", "first"]).status().provider, "second", "as configured");
    assert!(bench.log.lines().is_empty());
    bench.first.go_away(true);
    assert_eq!(bench.custodian(BOTH).status().provider, "second");
    let line = "the keystore was opened by provider \"second\", because provider \"first\": the \
                key store is away";
    assert_eq!(bench.log.lines(), [(Level::Warning, line.to_owned())]);
    bench.second.go_away(true);
    let refused = bench.start(BOTH, Role::Command).err().unwrap();
    assert_eq!(refused.kind(), Kind::Unavailable);
    assert!(refused.what().contains("provider \"first\"") && refused.what().contains("\"second\""));
}

#[test]
fn nothing_to_add_changes_nothing() {
    let bench = with_both();
    let before = bench.bytes();
    changes(&bench, BOTH, PRUNE);
    assert_eq!(bench.bytes(), before);
}

#[test]
fn only_prune_drops_what_is_not_configured_and_never_the_last() {
    let bench = with_both();
    let kept = changes(&bench, &["second"], ADD);
    assert_eq!(kept[1], ("first".into(), WrapChange::Unconfigured, false));
    let pruned = changes(&bench, &["second"], PRUNE);
    assert_eq!(pruned[1], ("first".into(), WrapChange::Removed, false));
    assert_eq!(bench.events().last().unwrap(), "wrapping-removed");
    let error = bench.start(&["first"], Role::Command).err().unwrap().to_string();
    assert!(error.contains("is wrapped by second; none of them is configured"), "{error}");
}

#[test]
fn prune_waits_until_every_configured_provider_wraps() {
    let bench = with_both();
    bench.custodian(&["first"]).manager().unwrap().rewrap(PRUNE, REASON).unwrap();
    let custodian = bench.custodian(BOTH);
    bench.second.go_away(true);
    let before = bench.bytes();
    assert_eq!(
        custodian.manager().unwrap().rewrap(PRUNE, REASON).unwrap_err().kind(),
        Kind::Unavailable
    );
    assert_eq!(bench.bytes(), before);
}

#[test]
fn to_latest_is_one_rewrap_a_provider_whatever_the_number_of_keys() {
    let bench = with_both();
    let custodian = bench.custodian(BOTH);
    bench.first.kek_version.store(2, std::sync::atomic::Ordering::SeqCst);
    bench.first.calls();
    bench.second.calls();
    custodian.manager().unwrap().rewrap(Rewrap::ToLatest, REASON).unwrap();
    assert_eq!((bench.first.calls(), bench.second.calls()), (2, 2), "the call, and its proof");
    let keks: Vec<_> = custodian.wrappings().into_iter().map(|(_, kek)| kek).collect();
    assert_eq!(keks, ["first:2", "second:1"]);
    assert_eq!(bench.events().iter().filter(|event| *event == "rewrapped").count(), 2);
}

#[test]
fn a_provider_that_is_away_keeps_no_other_from_its_new_wrapping() {
    let bench = with_both();
    let custodian = bench.custodian(BOTH);
    bench.second.go_away(true);
    let report = custodian.manager().unwrap().rewrap(Rewrap::ToLatest, REASON).unwrap();
    assert!(report[0].failure.is_none());
    let failure = report[1].failure.as_ref().unwrap();
    assert_eq!(failure.to_string(), "provider \"second\": the key store is away");
    bench.second.go_away(false);
    assert!(
        custodian.manager().unwrap().rewrap(Rewrap::ToLatest, REASON).unwrap()[1].failure.is_none()
    );
}

#[test]
fn a_new_store_key_serves_the_same_keys_and_running_servers_follow() {
    let bench = with_both();
    let server = bench.start(BOTH, Role::Server).unwrap();
    let check = server.key(key(7), version(1)).unwrap().check();
    let command = bench.custodian(BOTH);
    let before = command.status().generation;
    command.manager().unwrap().rewrap(NEW, REASON).unwrap();
    assert_eq!(command.status().generation, before + 1, "one commit");
    assert!(within_seconds(2, || server.status().generation == before + 1));
    command.rotate(Which::All, REASON).unwrap();
    assert!(within_seconds(2, || server.latest(key(7)) == Some(version(3))));
    assert!(server.status().degraded.is_none());
    for providers in [&["first"], &["second"]] {
        let other = bench.custodian(providers);
        assert_eq!(other.key(key(7), version(1)).unwrap().check(), check);
    }
    assert!(bench.events().contains(&"store-key-rotated".to_owned()));
}

#[test]
fn all_wrap_a_new_store_key_or_there_is_none() {
    let bench = with_both();
    let custodian = bench.custodian(BOTH);
    let before = bench.bytes();
    bench.second.go_away(true);
    assert_eq!(
        custodian.manager().unwrap().rewrap(NEW, REASON).unwrap_err().kind(),
        Kind::Unavailable
    );
    assert_eq!(bench.bytes(), before);
    let refused = bench.custodian(&["first"]).manager().unwrap().rewrap(NEW, REASON).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "provider \"second\" wraps the store key and is not configured; configure it, or let it \
         go with --prune: it cannot wrap a new one"
    );
    assert_eq!(bench.bytes(), before);
    bench
        .custodian(&["first"])
        .manager()
        .unwrap()
        .rewrap(Rewrap::NewStoreKey { prune: true }, REASON)
        .unwrap();
    assert_eq!(bench.custodian(&["first"]).wrappings().len(), 1);
}

#[test]
fn a_new_store_key_is_wrapped_by_those_that_wrap_the_present_one() {
    let bench = Bench::new();
    let renewed = changes(&bench, BOTH, NEW);
    assert_eq!(
        renewed,
        [
            ("first".into(), WrapChange::Renewed, false),
            ("second".into(), WrapChange::NotAsked, false)
        ]
    );
    let before = bench.bytes();
    let added = changes(&bench, BOTH, Rewrap::Add("second"));
    assert_eq!(added, [("second".into(), WrapChange::Added, false)]);
    assert_ne!(bench.bytes(), before);
    let again = changes(&bench, BOTH, Rewrap::Add("second"));
    assert_eq!(again, [("second".into(), WrapChange::Kept, false)]);
    assert_eq!(changes(&bench, BOTH, NEW)[1].1, WrapChange::Renewed);
    let unknown =
        bench.custodian(BOTH).manager().unwrap().rewrap(Rewrap::Add("third"), REASON).unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "there is no provider \"third\" in the configuration; it has first, second"
    );
}

#[test]
fn random_numbers_that_end_on_the_way_change_nothing() {
    let bench = with_both();
    let custodian = bench.custodian(BOTH);
    for calls in 0.. {
        let before = bench.bytes();
        bench.rng.fail_after(calls);
        let outcome = custodian.manager().unwrap().rewrap(NEW, REASON);
        bench.rng.fail_after(u64::MAX);
        if outcome.is_ok() {
            assert!(calls >= 4, "a store key, three data keys");
            break;
        }
        assert_eq!(bench.bytes(), before);
    }
}

#[test]
fn a_reader_rewraps_nothing() {
    let bench = with_both();
    let reader = bench.start(BOTH, Role::Reader).unwrap();
    assert_eq!(
        reader.manager().unwrap().rewrap(NEW, REASON).unwrap_err().kind(),
        Kind::Unsupported
    );
}
