//! States changed by command, and rotation in two phases.

use std::time::Duration;

use keyward::Kind;
use keyward::custodian::Custodian;
use keyward::key::KeyState;
use keyward::manager::StateChange;
use keyward::policy::Policy;
use keyward::source::{Role, Which};

use crate::bench::{Bench, REASON, key, key_ref, version, within_seconds};

fn states(custodian: &Custodian, id: u32) -> Vec<(u32, KeyState)> {
    let entry = custodian.entry(&key(id).into()).unwrap();
    entry.versions().map(|one| (one.version.get(), one.state)).collect()
}

pub(crate) fn two_phase() -> Policy {
    Policy { activate_after: Some(Duration::from_secs(3600)), ..Policy::default() }
}

fn custodian_with(bench: &Bench, policy: Policy) -> Custodian {
    let source = bench.source(&["first"]).with_policy(policy);
    Custodian::start(source, Role::Command, bench.env()).unwrap()
}

fn refused(custodian: &Custodian, change: &StateChange) -> String {
    let error = custodian.manager().unwrap().change_state(change, REASON).unwrap_err();
    assert!(matches!(error.kind(), Kind::State | Kind::NotFound), "{error}");
    error.to_string()
}

#[test]
fn the_only_version_that_encrypts_is_not_retired() {
    let bench = Bench::new();
    let custodian = bench.custodian(&["first"]);
    assert_eq!(
        refused(&custodian, &StateChange::Retire(key_ref(7, 1))),
        "key 7 version 1 is the only one that encrypts; `keyward rotate 7` makes the next and \
         retires it"
    );
    assert_eq!(
        refused(&custodian, &StateChange::Retire(key_ref(7, 3))),
        "there is no key 7 version 3; `keyward keys list` shows all versions"
    );
    assert!(
        refused(&custodian, &StateChange::Retire(key_ref(9, 1))).starts_with("there is no key 9")
    );
    custodian.rotate(Which::One(key(7)), REASON).unwrap();
    let twice = refused(&custodian, &StateChange::Retire(key_ref(7, 1)));
    assert!(twice.contains("key 7 version 1") && twice.contains("retired"), "{twice}");
}

#[test]
fn a_compromised_version_decrypts_on_and_encrypts_no_more() {
    let bench = Bench::new();
    let server = bench.start(&["first"], Role::Server).unwrap();
    let custodian = bench.custodian(&["first"]);
    let changed = custodian
        .manager()
        .unwrap()
        .change_state(&StateChange::Compromised(key_ref(7, 1)), REASON)
        .unwrap();
    assert_eq!(changed, [key_ref(7, 3), key_ref(7, 1)]);
    assert_eq!(states(&custodian, 7), [(1, KeyState::Compromised), (3, KeyState::Active)]);
    assert!(within_seconds(2, || server.latest(key(7)) == Some(version(3))));
    let other = bench.custodian(&["first"]);
    assert!(other.key(key(7), version(1)).is_some());
    assert_eq!(bench.events()[3..], ["rotated", "compromised"]);
    let entry = other.entry(&key(7).into()).unwrap();
    let last = entry.version(version(1)).unwrap().history.last().unwrap().clone();
    assert_eq!((last.actor.as_str(), last.reason.as_str()), ("test", "because"));
    let back = refused(&custodian, &StateChange::Retire(key_ref(7, 1)));
    assert!(back.contains("compromised"), "{back}");
}

#[test]
fn two_phases_pending_everywhere_then_active() {
    let bench = Bench::new();
    let custodian = custodian_with(&bench, two_phase());
    assert_eq!(custodian.rotate(Which::One(key(7)), REASON).unwrap(), [key_ref(7, 3)]);
    assert_eq!(states(&custodian, 7), [(1, KeyState::Active), (3, KeyState::Pending)]);
    assert_eq!(custodian.latest(key(7)), Some(version(1)));
    assert!(custodian.key(key(7), version(3)).is_some(), "fetchable, not used");

    let early = custodian.rotate(Which::One(key(7)), REASON).unwrap_err().to_string();
    assert_eq!(
        early,
        "key 7 version 3 is pending already, to be active from 2023-11-14T23:13:20Z; `keyward \
         rotate --now` does not wait for that"
    );
    assert_eq!(custodian.manager().unwrap().run_policy().unwrap(), []);
    bench.clock.advance(Duration::from_secs(3599));
    assert_eq!(custodian.manager().unwrap().run_policy().unwrap(), []);
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(custodian.manager().unwrap().run_policy().unwrap(), [key_ref(7, 3)]);
    assert_eq!(states(&custodian, 7), [(1, KeyState::Retired), (3, KeyState::Active)]);
    assert_eq!(bench.events()[3..], ["prepared", "activated"]);
}

#[test]
fn a_pending_version_need_not_be_waited_for() {
    let bench = Bench::new();
    let custodian = custodian_with(&bench, two_phase());
    custodian.rotate(Which::All, REASON).unwrap();
    assert_eq!(custodian.rotate(Which::All, REASON).unwrap(), [], "all are pending");
    custodian
        .manager()
        .unwrap()
        .change_state(&StateChange::RotateNow(Which::One(key(7))), REASON)
        .unwrap();
    assert_eq!(custodian.latest(key(7)), Some(version(3)));
    custodian.manager().unwrap().change_state(&StateChange::Retire(key_ref(2, 1)), REASON).unwrap();
    assert_eq!(states(&custodian, 2), [(1, KeyState::Retired), (3, KeyState::Active)]);
    custodian
        .manager()
        .unwrap()
        .change_state(&StateChange::RotateNow(Which::One(key(7))), REASON)
        .unwrap();
    assert_eq!(custodian.latest(key(7)), Some(version(5)));
}

#[test]
fn a_rotation_is_undone_in_either_phase() {
    let bench = Bench::new();
    let custodian = custodian_with(&bench, two_phase());
    custodian.rotate(Which::One(key(7)), REASON).unwrap();
    custodian.manager().unwrap().change_state(&StateChange::Undo(key(7)), REASON).unwrap();
    bench.clock.advance(Duration::from_secs(7200));
    assert_eq!(custodian.manager().unwrap().run_policy().unwrap(), [], "called off");

    custodian
        .manager()
        .unwrap()
        .change_state(&StateChange::RotateNow(Which::One(key(7))), REASON)
        .unwrap();
    assert_eq!(custodian.latest(key(7)), Some(version(5)), "a number is never used twice");
    let server = bench.start(&["first"], Role::Server).unwrap();
    custodian.manager().unwrap().change_state(&StateChange::Undo(key(7)), REASON).unwrap();
    assert!(within_seconds(2, || server.latest(key(7)) == Some(version(1))));
    assert!(server.key(key(7), version(5)).is_some(), "what it encrypted stays readable");
    assert!(refused(&custodian, &StateChange::Undo(key(7))).contains("no rotation to undo"));
    assert!(refused(&custodian, &StateChange::Undo(key(9))).starts_with("there is no key 9"));
}

#[test]
fn a_compromise_is_not_taken_back() {
    let bench = Bench::new();
    let custodian = bench.custodian(&["first"]);
    custodian.rotate(Which::One(key(7)), REASON).unwrap();
    custodian
        .manager()
        .unwrap()
        .change_state(&StateChange::Compromised(key_ref(7, 3)), REASON)
        .unwrap();
    let before = bench.bytes();
    assert_eq!(
        refused(&custodian, &StateChange::Undo(key(7))),
        "key 7 version 5 took the place of version 3, which is compromised: there is no way back; \
         `keyward rotate 7` makes another version instead"
    );
    assert_eq!(bench.bytes(), before);
    custodian.rotate(Which::One(key(7)), REASON).unwrap();
    custodian.manager().unwrap().change_state(&StateChange::Undo(key(7)), REASON).unwrap();
    assert_eq!(custodian.latest(key(7)), Some(version(5)), "that rotation is another one");
    assert!(refused(&custodian, &StateChange::Undo(key(7))).contains("no way back"));
}

/// A server re-encrypts for a newer version only: pages that an undone rotation left behind would stay on
/// the compromised version, and so they would after a second undo.
#[test]
fn an_undone_version_that_encrypted_is_replaced_when_it_is_compromised() {
    let bench = Bench::new();
    let custodian = bench.custodian(&["first"]);
    let compromise = |number| {
        let change = StateChange::Compromised(key_ref(7, number));
        custodian.manager().unwrap().change_state(&change, REASON).unwrap()
    };
    let undo = || {
        let change = StateChange::Undo(key(7));
        custodian.manager().unwrap().change_state(&change, REASON).unwrap();
    };
    let rotate = || custodian.rotate(Which::One(key(7)), REASON).unwrap();
    rotate();
    undo();
    assert_eq!(states(&custodian, 7), [(1, KeyState::Active), (3, KeyState::Pending)]);
    assert_eq!(compromise(3), [key_ref(7, 5), key_ref(7, 3)]);
    let active = [(1, KeyState::Retired), (3, KeyState::Compromised), (5, KeyState::Active)];
    assert_eq!(states(&custodian, 7), active);
    assert_eq!(
        refused(&custodian, &StateChange::Undo(key(7))),
        "key 7 version 5 replaces version 3, too, which is compromised: there is no way back; \
         `keyward rotate 7` makes another version instead"
    );
    // Where a newer one encrypts, there is nothing to replace.
    rotate();
    undo();
    assert_eq!(rotate(), [key_ref(7, 9)]);
    assert_eq!(compromise(7), [key_ref(7, 7)]);
    let way_back = refused(&custodian, &StateChange::Undo(key(7)));
    assert!(way_back.contains("replaces version 7, too"), "{way_back}");
    let other = bench.custodian(&["first"]);
    assert_eq!(
        (other.latest(key(7)), other.key(key(7), version(3)).is_some()),
        (Some(version(9)), true)
    );
}

#[test]
fn a_version_that_never_encrypted_is_not_replaced_when_it_is_compromised() {
    let bench = Bench::new();
    let custodian = custodian_with(&bench, two_phase());
    custodian.rotate(Which::One(key(7)), REASON).unwrap();
    let change = StateChange::Compromised(key_ref(7, 3));
    let changed = custodian.manager().unwrap().change_state(&change, REASON).unwrap();
    assert_eq!(changed, [key_ref(7, 3)]);
    assert_eq!(states(&custodian, 7), [(1, KeyState::Active), (3, KeyState::Compromised)]);
    bench.clock.advance(Duration::from_secs(7200));
    assert_eq!(custodian.manager().unwrap().run_policy().unwrap(), [], "nor activated");
}

/// The pending one may be known as well, and would be older than the version that takes its place.
#[test]
fn what_is_planned_is_called_off_when_an_undone_version_is_replaced() {
    let bench = Bench::new();
    let custodian = custodian_with(&bench, two_phase());
    let change = |change| custodian.manager().unwrap().change_state(&change, REASON).unwrap();
    change(StateChange::RotateNow(Which::One(key(7))));
    change(StateChange::Undo(key(7)));
    assert_eq!(custodian.rotate(Which::One(key(7)), REASON).unwrap(), [key_ref(7, 5)]);
    let replaced = change(StateChange::Compromised(key_ref(7, 3)));
    assert_eq!(replaced, [key_ref(7, 7), key_ref(7, 3)]);
    bench.clock.advance(Duration::from_secs(7200));
    assert_eq!(custodian.manager().unwrap().run_policy().unwrap(), []);
    assert_eq!(custodian.latest(key(7)), Some(version(7)));
}

#[test]
fn what_was_pending_when_the_active_version_was_compromised_is_not_activated() {
    let bench = Bench::new();
    let policy = Policy { rotate_after: Some(Duration::from_secs(90 * 86_400)), ..two_phase() };
    let custodian = custodian_with(&bench, policy);
    custodian.rotate(Which::One(key(7)), REASON).unwrap();
    custodian
        .manager()
        .unwrap()
        .change_state(&StateChange::Compromised(key_ref(7, 1)), REASON)
        .unwrap();
    assert_eq!(custodian.latest(key(7)), Some(version(5)));
    bench.clock.advance(Duration::from_secs(7200));
    assert_eq!(custodian.manager().unwrap().run_policy().unwrap(), []);
    assert_eq!(custodian.latest(key(7)), Some(version(5)));
    bench.clock.advance(Duration::from_secs(90 * 86_400));
    assert!(
        custodian.manager().unwrap().run_policy().unwrap().contains(&key_ref(7, 7)),
        "the policy goes on"
    );
}
