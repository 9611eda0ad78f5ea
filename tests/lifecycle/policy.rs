//! The policy over years of a clock that tests move.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keyward::config::Config;
use keyward::custodian::Custodian;
use keyward::env::fake::FakeClock;
use keyward::env::{Clock, Env, Level, Timestamp};
use keyward::key::{Cipher, KeyName, KeyState};
use keyward::manager::{Manager, Rewrap};
use keyward::policy::{Ahead, DueAction, Policy};
use keyward::secret::DataKey;
use keyward::source::{Role, Which};
use keyward::store::StoreFile;

use crate::bench::{Bench, REASON, START, key, key_ref, version, within_seconds};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

fn days(count: u64) -> Duration {
    Duration::from_secs(count * DAY)
}

fn custodian(bench: &Bench, policy: &Policy, role: Role) -> Custodian {
    let source = bench.source(&["first"]).with_policy(policy.clone());
    Custodian::start(source, role, bench.env()).unwrap()
}

/// SplitMix64: repeatable numbers.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^ (z >> 31)
}

fn policy_from(seed: &mut u64) -> Policy {
    let mut some = |most: u64| random(seed) % most;
    let rotate_after = 2 * HOUR + some(60 * DAY);
    let early = rotate_after / 3;
    Policy {
        version_step: 1 + u32::try_from(some(3)).unwrap(),
        rotate_after: Some(Duration::from_secs(rotate_after)),
        notify_before: Duration::from_secs(some(rotate_after)),
        jitter: Duration::from_secs(some(early)),
        activate_after: (some(2) == 1).then(|| Duration::from_secs(some(early))),
        keep_retired: (some(2) == 1).then(|| Duration::from_secs(some(90 * DAY))),
        keep_versions: 1 + u32::try_from(some(4)).unwrap(),
        ..Policy::default()
    }
}

/// Whatever the policy and however the clock moves: one active version, never older than
/// `rotate_after` when the policy was just kept, and nothing due twice.
#[test]
fn holds_under_any_policy_and_any_steps_of_the_clock() {
    for mut seed in 0..12 {
        let bench = Bench::new();
        let policy = policy_from(&mut seed);
        let custodian = custodian(&bench, &policy, Role::Command);
        let mut last = version(1);
        for _ in 0..25 {
            let most = policy.rotate_after.unwrap().as_secs() / 2;
            bench.clock.advance(Duration::from_secs(random(&mut seed) % most));
            custodian.manager().unwrap().run_policy().unwrap();
            // An activation can make the next rotation due at once, where nobody looked for long.
            custodian.manager().unwrap().run_policy().unwrap();
            assert_eq!(custodian.manager().unwrap().run_policy().unwrap(), [], "{policy:?}");
            check(&bench, &custodian, &policy, seed);
            let latest = custodian.latest(key(7)).unwrap();
            assert!(latest >= last, "it never goes back by itself");
            last = latest;
        }
        assert!(last > version(1), "{policy:?}");
    }
}

fn check(bench: &Bench, custodian: &Custodian, policy: &Policy, seed: u64) {
    let now = bench.clock.now();
    let entry = custodian.entry(&key(7).into()).unwrap();
    let active: Vec<_> = entry.versions().filter(|one| one.state == KeyState::Active).collect();
    assert_eq!(active.len(), 1, "seed {seed}");
    let next = policy.next_rotation(&custodian.keystore_id(), &entry).unwrap();
    let pending = entry.versions().filter(|one| one.state == KeyState::Pending).count();
    assert!(now < next || pending == 1, "seed {seed}: overdue and nothing prepared");
    for one in entry.versions().filter(|one| one.state == KeyState::Retired) {
        assert_eq!(one.retain_until.is_some(), policy.keep_retired.is_some(), "seed {seed}");
    }
    let steps: BTreeSet<_> = entry.versions().map(|one| one.version.get() - 1).collect();
    assert!(steps.iter().all(|step| step % policy.version_step == 0));
}

#[test]
fn nothing_is_due_under_the_default_policy() {
    let bench = Bench::new();
    let custodian = custodian(&bench, &Policy::default(), Role::Command);
    bench.clock.advance(days(10_000));
    assert_eq!(custodian.manager().unwrap().run_policy().unwrap(), []);
    assert!(Policy::default().is_idle());
}

#[test]
fn all_keys_of_a_keystore_rotate_in_one_commit() {
    let bench = Bench::new();
    let policy = Policy { rotate_after: Some(days(90)), ..Policy::default() };
    let custodian = custodian(&bench, &policy, Role::Command);
    let before = custodian.status().generation;
    bench.clock.advance(days(90) - Duration::from_secs(1));
    assert_eq!(custodian.manager().unwrap().run_policy().unwrap(), []);
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(custodian.manager().unwrap().run_policy().unwrap().len(), 3);
    assert_eq!(custodian.status().generation, before + 1);
    let entry = custodian.entry(&key(7).into()).unwrap();
    let event = entry.versions().next_back().unwrap().history[0].clone();
    assert_eq!((event.actor.as_str(), event.reason.as_str()), ("policy", "rotate_after = 90d"));
}

#[test]
fn a_clock_that_goes_back_makes_nothing_due() {
    let bench = Bench::new();
    let policy = Policy { rotate_after: Some(days(90)), ..Policy::default() };
    let custodian = custodian(&bench, &policy, Role::Command);
    let entry = custodian.entry(&key(7).into()).unwrap();
    let before = Timestamp::from_unix(START.as_unix() - 1000 * DAY);
    assert_eq!(policy.due(before, "id", [&entry].into_iter()), []);
    let after = Timestamp::from_unix(START.as_unix() + 1000 * DAY);
    assert_eq!(policy.due(after, "id", [&entry].into_iter()), [DueAction::Rotate(key(7))]);
}

#[test]
fn jitter_is_the_same_every_time_and_differs_between_keystores() {
    let bench = Bench::new();
    let custodian = custodian(&bench, &Policy::default(), Role::Command);
    let entry = custodian.entry(&key(7).into()).unwrap();
    let policy = Policy { rotate_after: Some(days(90)), jitter: days(10), ..Policy::default() };
    let mut times = BTreeSet::new();
    for n in 0..50 {
        let id = format!("keystore {n}");
        let at = policy.next_rotation(&id, &entry).unwrap();
        assert_eq!(policy.next_rotation(&id, &entry), Some(at));
        let age = at.since(START);
        assert!(age <= days(90) && age >= days(80), "earlier, never later");
        times.insert(at);
    }
    assert!(times.len() > 45);
}

#[test]
fn a_version_is_kept_for_its_time_and_the_newest_whatever_their_age() {
    let bench = Bench::new();
    let policy =
        Policy { rotate_after: Some(days(90)), keep_retired: Some(days(100)), ..Policy::default() };
    let custodian = custodian(&bench, &policy, Role::Command);
    for _ in 0..3 {
        bench.clock.advance(days(90));
        custodian.manager().unwrap().run_policy().unwrap();
    }
    let entry = custodian.entry(&key(7).into()).unwrap();
    let told = |number| {
        let one = entry.version(version(number)).unwrap();
        policy.may_destroy(bench.clock.now(), &entry, one).err().map(|error| error.to_string())
    };
    assert_eq!(told(1), None, "retired 180 days ago");
    assert_eq!(told(3).unwrap(), "key 7 version 3 is to be kept until 2024-08-20T22:13:20Z");
    assert_eq!(
        told(7).unwrap(),
        "key 7 version 7 is one of the newest 2 versions, which stay; keep_versions in [policy] is \
         how many; a further rotation adds a newer one"
    );
}

#[test]
fn the_server_keeps_it_and_tells_beforehand() {
    let bench = Bench::new();
    let policy = Policy {
        rotate_after: Some(Duration::from_secs(10)),
        notify_before: Duration::from_secs(4),
        ..Policy::default()
    };
    let server = custodian(&bench, &policy, Role::Server);
    bench.clock.advance(Duration::from_secs(7));
    let note = (Level::Note, "key 7 version 1 is to be rotated at 2023-11-14T22:13:30Z".to_owned());
    assert!(within_seconds(3, || bench.log.lines().contains(&note)));
    assert_eq!(server.latest(key(7)), Some(version(1)));
    bench.clock.advance(Duration::from_secs(3));
    assert!(within_seconds(3, || server.latest(key(7)) == Some(version(3))));
    assert_eq!(bench.log.lines().iter().filter(|line| **line == note).count(), 1, "told once");
}

#[test]
fn two_servers_and_a_timer_rotate_once() {
    let bench = Bench::new();
    let policy = Policy { rotate_after: Some(Duration::from_secs(10)), ..Policy::default() };
    let nodes: Vec<_> = (0..2).map(|_| custodian(&bench, &policy, Role::Server)).collect();
    let timer = custodian(&bench, &policy, Role::Command);
    bench.clock.advance(Duration::from_secs(10));
    timer.manager().unwrap().run_policy().unwrap();
    let done = || nodes.iter().all(|node| node.latest(key(7)) == Some(version(3)));
    assert!(within_seconds(3, done));
    std::thread::sleep(Duration::from_millis(1200));
    assert!(done(), "and not once more");
    assert_eq!(bench.events().iter().filter(|event| *event == "rotated").count(), 1);
}

#[test]
fn a_failure_is_told_once_and_tried_again() {
    let bench = Bench::new();
    let policy = Policy { rotate_after: Some(Duration::from_secs(10)), ..Policy::default() };
    let server = custodian(&bench, &policy, Role::Server);
    bench.rng.fail_after(0);
    bench.clock.advance(Duration::from_secs(10));
    let told = || bench.log.lines().len();
    assert!(within_seconds(3, || told() == 1));
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(told(), 1);
    let line = bench.log.lines()[0].1.clone();
    assert!(line.starts_with("what the policy wants could not be done: "), "{line}");
    bench.rng.fail_after(u64::MAX);
    assert!(within_seconds(3, || server.latest(key(7)) == Some(version(3))));
}

#[test]
fn the_status_tells_of_the_next_rotation_and_does_not_wait_for_a_key_store() {
    let bench = Bench::new();
    let policy =
        Policy { rotate_after: Some(days(90)), notify_before: days(7), ..Policy::default() };
    let custodian = custodian(&bench, &policy, Role::Command);
    let at = |days: u64| Some(Timestamp::from_unix(START.as_unix() + days * DAY));
    let told = || (custodian.status().next_rotation, custodian.status().rotation_due);
    assert_eq!(told(), (at(90), false));
    bench.clock.advance(days(83));
    assert_eq!(told(), (at(90), true));
    bench.clock.advance(days(8));
    assert_eq!(told(), (at(90), true), "overdue as long as nobody did it");
    let (generation, versions) = (custodian.status().generation, custodian.status().versions);
    custodian.manager().unwrap().run_policy().unwrap();
    assert_eq!(told(), (at(91 + 90), false));
    let status = custodian.status();
    assert!(status.generation > generation && status.versions > versions, "{status:?}");
    let without = bench.custodian(&["first"]).status();
    assert_eq!((without.next_rotation, without.rotation_due), (None, false));

    let closed = bench.first.gate.lock().unwrap();
    bench.first.calls();
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| custodian.manager().unwrap().rewrap(Rewrap::ToLatest, REASON));
        assert!(within_seconds(5, || bench.first.calls.load(Ordering::SeqCst) > 0));
        assert_eq!(custodian.status().generation, status.generation);
        drop(closed);
        busy.join().unwrap().unwrap();
    });
    assert!(custodian.status().generation > status.generation);
}

/// The same keystore by a clock that runs `days` ahead of the bench's.
fn ahead(bench: &Bench, policy: &Policy, by: u64) -> Custodian {
    let clock = FakeClock::at(Timestamp::from_unix(bench.clock.now().as_unix() + by * DAY));
    let env = Env { clock: Arc::new(clock), ..bench.env() };
    let wrappers = vec![bench.wrapper("first")];
    let source = Manager::new(StoreFile::at(bench.path()), wrappers, Cipher::DEFAULT, 2, env);
    Custodian::start(source.with_policy(policy.clone()), Role::Command, bench.env()).unwrap()
}

#[test]
fn a_version_dated_by_a_clock_that_ran_ahead_is_not_young() {
    let bench = Bench::new();
    let policy = Policy { rotate_after: Some(days(90)), ..Policy::default() };
    assert_eq!(ahead(&bench, &policy, 3650).manager().unwrap().run_policy().unwrap().len(), 3);
    let custodian = custodian(&bench, &policy, Role::Command);
    let entry = custodian.entry(&key(7).into()).unwrap();
    let found = policy.ahead(bench.clock.now(), [&entry].into_iter());
    let since = Timestamp::from_unix(START.as_unix() + 3650 * DAY);
    assert_eq!(found, [Ahead { key: key_ref(7, 3), since }]);
    assert_eq!(policy.ahead(since, [&entry].into_iter()), [], "by that clock all is well");

    assert_eq!(custodian.manager().unwrap().run_policy().unwrap().len(), 3, "not in ten years");
    let told = bench.log.lines();
    assert_eq!(told.len(), 3);
    assert_eq!(
        told[2],
        (
            Level::Warning,
            "key 7 version 3 is dated 2033-11-11T22:13:20Z, and the clock says \
             2023-11-14T22:13:20Z: its age is not known, so the policy takes it for due"
                .to_owned()
        )
    );
    assert_eq!(custodian.manager().unwrap().run_policy().unwrap(), [], "once");
    bench.clock.advance(days(90));
    assert_eq!(
        custodian.manager().unwrap().run_policy().unwrap().len(),
        3,
        "and from then on as ever"
    );
    assert_eq!(bench.log.lines().len(), 3);
}

#[test]
fn what_a_clock_that_ran_ahead_planned_is_planned_again() {
    let bench = Bench::new();
    let policy =
        Policy { rotate_after: Some(days(90)), activate_after: Some(days(2)), ..Policy::default() };
    ahead(&bench, &policy, 3650).manager().unwrap().run_policy().unwrap();
    let custodian = custodian(&bench, &policy, Role::Command);
    assert_eq!(custodian.latest(key(7)), Some(version(1)));
    assert_eq!(custodian.manager().unwrap().run_policy().unwrap().len(), 3);
    let entry = custodian.entry(&key(7).into()).unwrap();
    let (pending, at) = keyward::policy::planned(&entry).unwrap();
    assert_eq!((pending.version, at.since(START)), (version(3), days(2)));
    assert_eq!(custodian.manager().unwrap().run_policy().unwrap(), []);
    bench.clock.advance(days(2));
    assert_eq!(custodian.manager().unwrap().run_policy().unwrap().len(), 3);
    assert_eq!(custodian.latest(key(7)), Some(version(3)));
    bench.clock.advance(days(88));
    assert_eq!(
        custodian.manager().unwrap().run_policy().unwrap().len(),
        3,
        "the next is made in time"
    );
}

#[test]
fn clocks_of_two_machines_may_be_apart_a_little() {
    let bench = Bench::new();
    let custodian = custodian(&bench, &Policy::default(), Role::Command);
    let entry = custodian.entry(&key(7).into()).unwrap();
    let at = |seconds: u64| Timestamp::from_unix(START.as_unix() - seconds);
    for (rotate_after, apart) in [(None, DAY), (Some(days(90)), DAY), (Some(days(1)), DAY / 10)] {
        let policy = Policy { rotate_after, ..Policy::default() };
        let doubts = |seconds| {
            let ahead = policy.ahead(at(seconds), [&entry].into_iter());
            (ahead.len(), policy.check_clock(at(seconds), [&entry].into_iter()).is_err())
        };
        assert_eq!((doubts(apart), doubts(apart + 1)), ((0, false), (1, true)), "{rotate_after:?}");
    }
}

#[test]
fn a_clock_before_every_date_is_told_and_nothing_is_rotated_by_it() {
    let bench = Bench::new();
    let policy = Policy { rotate_after: Some(days(90)), ..Policy::default() };
    let old = ahead(&bench, &policy, 0);
    bench.clock.advance(days(3650));
    old.rotate(Which::All, REASON).unwrap();
    let clock = Arc::new(FakeClock::at(Timestamp::from_unix(START.as_unix() - 3650 * DAY)));
    let env = Env { clock, ..bench.env() };
    let wrappers = vec![bench.wrapper("first")];
    let source = Manager::new(StoreFile::at(bench.path()), wrappers, Cipher::DEFAULT, 2, env);
    let source = source.with_policy(policy);
    let custodian = Custodian::start(source, Role::Command, bench.env()).unwrap();
    assert_eq!(
        custodian.manager().unwrap().run_policy().unwrap_err().to_string(),
        "the clock says 2013-11-16T22:13:20Z, but the oldest key version is of \
         2023-11-14T22:13:20Z; set the clock; if it is right, `keyward rotate --all` makes versions \
         of today"
    );
    custodian.rotate(Which::All, REASON).unwrap();
    assert_eq!(custodian.manager().unwrap().run_policy().unwrap(), [], "the way out leads out");
}

#[test]
fn doctor_and_the_timer_tell_of_a_date_in_the_future() {
    let shell = crate::command::Shell::new();
    let config = Config::load(&shell.config()).unwrap();
    let clock = Arc::new(FakeClock::at(Timestamp::from_unix(4_000_000_000)));
    let env = Env { clock, ..Bench::without_keys().env() };
    let custodian = keyward::assemble::start(&config, Role::Command, env).unwrap();
    custodian.rotate(Which::One(key(1)), REASON).unwrap();
    let dates = |told: &str| {
        let told: Vec<_> = told.lines().filter(|line| line.contains("dates: ")).collect();
        told.join("\n")
    };
    let told = dates(&shell.run(&["doctor"]).out);
    let line = "warn  dates: key 1 version 3 is of 2096-10-02T07:06:40Z, and the clock says 2";
    assert!(told.starts_with(line) && told.lines().count() == 1, "{told}");
    shell.configure_before("[[provider]]", "[policy]\nrotate_after = \"90d\"\n");
    let due = shell.run(&["rotate", "--due"]);
    assert!(due.err.starts_with("keyward: warning: key 1 version 3 is dated 2096"), "{due:?}");
    assert!(due.out.starts_with("key 1 version 5 is active\n"), "{due:?}");
    assert_eq!(dates(&shell.run(&["doctor"]).out), "");
}

/// The names that a server gives its master keys.
fn master_key(kind: &str, server: u32, apart: char, number: u32) -> KeyName {
    KeyName::named(format!("{kind}{server:08}-e639-11f1-b21a-02fc00000001{apart}{number}"), "")
}

#[test]
fn of_mysqls_keys_the_newest_master_keys_are_due() {
    let bench = Bench::new();
    let policy = Policy { rotate_after: Some(days(90)), ..Policy::default() };
    let custodian = custodian(&bench, &policy, Role::Command);
    let innodb = |server, number| master_key("INNODBKey-", server, '-', number);
    let binlog = |server, number| master_key("MySQLReplicationKey_", server, '_', number);
    let secret = KeyName::named("a secret", "joe@localhost");
    let store = |name: &KeyName| {
        let data = DataKey::copy_of(&[1; 32]).unwrap();
        custodian.manager().unwrap().store_named(name, "AES", &data, REASON).unwrap();
    };
    let due = || -> Vec<_> {
        let entries = custodian.entries();
        let due = policy.master_keys_due(bench.clock.now(), "id", entries.iter());
        due.into_iter().map(|key| (key.kind.to_string(), key.server[..8].to_owned())).collect()
    };
    for name in [innodb(1, 9), innodb(2, 1), binlog(1, 1), secret.clone()] {
        store(&name);
    }
    bench.clock.advance(days(60));
    store(&innodb(1, 10));
    assert_eq!(due(), []);
    bench.clock.advance(days(30));
    let of = |kind: &str, server: u32| (kind.to_owned(), format!("{server:08}"));
    assert_eq!(due(), [of("InnoDB", 2), of("binary log", 1)]);
    bench.clock.advance(days(60));
    assert_eq!(due(), [of("InnoDB", 1), of("InnoDB", 2), of("binary log", 1)]);
    // The policy itself rotates none of them.
    let rotated = custodian.manager().unwrap().run_policy().unwrap();
    assert!(rotated.iter().all(|key| matches!(key.name, KeyName::Id(_))), "{rotated:?}");
    let entry = |name: &KeyName| custodian.entry(name).unwrap();
    assert_eq!(policy.next_rotation("id", &entry(&secret)), None);
    assert_eq!(policy.notice(bench.clock.now(), "id", &entry(&binlog(1, 1))), None);
    // What is due longest: MariaDB's keys have just rotated.
    let coming = policy.coming("id", custodian.entries().iter()).unwrap();
    assert_eq!(coming.at.as_unix(), START.as_unix() + 90 * DAY);
}
