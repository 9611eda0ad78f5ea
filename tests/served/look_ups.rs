//! Look-ups of keys that are not in memory, while the key store is away.

use std::thread;
use std::time::Duration;

use keyward::Kind;
use keyward::key::KeyState;

use crate::bench::{Bench, REASON, key, timed, version};

/// How long the key store takes to fail. Whoever did not wait for it takes less.
const SLOW: Duration = Duration::from_millis(400);

#[test]
fn one_asks_and_the_others_share_its_failure() {
    let bench = Bench::new();
    let custodian = bench.start(bench.source()).unwrap();
    bench.server.fail_slowly(Kind::Timeout, SLOW);
    bench.server.calls();
    let (_, took) = timed(|| {
        thread::scope(|scope| {
            for id in 10..18 {
                let custodian = &custodian;
                scope.spawn(move || assert!(custodian.latest(key(id)).is_none()));
            }
        });
    });
    assert_eq!(bench.server.calls(), 1, "each asked again");
    assert!(took < SLOW * 8, "eight look-ups took {took:?}");
    let (none, took) = timed(|| custodian.key(key(1), version(7)).is_none());
    assert!(none && took < SLOW && bench.server.calls() == 0, "it took {took:?}");
    // What is in memory is served as ever.
    assert_eq!(custodian.latest(key(1)), Some(version(1)));
}

#[test]
fn a_failure_is_forgotten_and_never_taken_for_the_truth() {
    let bench = Bench::new();
    let custodian = bench.start(bench.source()).unwrap();
    bench.server.fail(Kind::Unavailable);
    assert!(custodian.latest(key(9)).is_none());
    bench.server.fail(None);
    bench.server.set(9, 1, KeyState::Active);
    // The first pause is a second at most.
    thread::sleep(Duration::from_millis(1010));
    assert_eq!(custodian.latest(key(9)), Some(version(1)));
    assert!(custodian.status().degraded.is_none());
}

#[test]
fn whoever_meets_a_key_store_that_is_being_asked_in_vain_does_not_wait() {
    let bench = Bench::new();
    let custodian = bench.start(bench.source()).unwrap();
    bench.server.fail(Kind::Unavailable);
    assert!(custodian.latest(key(9)).is_none());
    bench.server.fail_slowly(Kind::Timeout, SLOW * 4);
    thread::scope(|scope| {
        scope.spawn(|| custodian.refresh().unwrap_err());
        // Longer than the pause after one failure, shorter than the refresh.
        thread::sleep(Duration::from_millis(1100));
        let (none, took) = timed(|| custodian.latest(key(9)).is_none());
        assert!(none && took < SLOW, "it took {took:?}");
    });
}

#[test]
fn a_key_that_is_not_there_is_asked_for_once_by_many() {
    let bench = Bench::new();
    let custodian = bench.start(bench.source()).unwrap();
    bench.server.calls();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(custodian.key(key(1), version(9)).is_none()));
        }
    });
    assert_eq!(bench.server.calls(), 1);
    let rotated = custodian.rotate(keyward::source::Which::One(key(1)), REASON).unwrap();
    assert_eq!(rotated.len(), 1);
    assert_eq!(custodian.latest(key(1)), Some(version(2)));
}
