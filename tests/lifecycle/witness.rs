//! An older copy of the keystore, put back while nothing runs.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use keyward::custodian::Custodian;
use keyward::key::KeyName;
use keyward::manager::{Destruction, Judged, Rewrap, StateChange};
use keyward::secret::DataKey;
use keyward::source::{Role, Which};
use keyward::store::Revision;
use keyward::{Kind, Result};

use crate::bench::{Bench, REASON, key, key_ref, version};

const NEW: Rewrap<'_> = Rewrap::NewStoreKey { prune: false };

const ALL: [Role; 3] = [Role::Server, Role::Reader, Role::Command];

fn witness(bench: &Bench) -> PathBuf {
    bench.folder.path().join("keystore.json.witness")
}

fn put_back(bench: &Bench, bytes: &[u8]) {
    std::fs::write(bench.path(), bytes).unwrap();
}

fn refusal(bench: &Bench, role: Role) -> String {
    bench.start(&["first"], role).err().unwrap().to_string()
}

#[test]
fn an_older_copy_does_not_open_in_any_role() {
    let bench = Bench::new();
    let old = bench.bytes();
    bench.custodian(&["first"]).rotate(Which::All, REASON).unwrap();
    let new = bench.bytes();
    put_back(&bench, &old);
    for role in ALL {
        let told = refusal(&bench, role);
        assert!(
            told.contains(
                "the keystore is of generation 4, but generation 5 was in force; put the"
            ) && told.contains("keyward keystore accept-rollback"),
            "{told}"
        );
    }
    put_back(&bench, &new);
    assert_eq!(bench.custodian(&["first"]).latest(key(7)), Some(version(3)));
}

#[test]
fn a_copy_from_before_a_new_store_key_is_noticed_as_well() {
    let bench = Bench::new();
    let old = bench.bytes();
    bench.custodian(&["first"]).manager().unwrap().rewrap(NEW, REASON).unwrap();
    put_back(&bench, &old);
    assert!(refusal(&bench, Role::Server).contains("generation 5 was in force"));
}

#[test]
fn another_keystore_in_its_place_is_noticed() {
    let (bench, other) = (Bench::new(), Bench::without_keys());
    other.rng.fail_after(u64::MAX);
    // The other one has another id: its random numbers went on before it was made.
    let text = String::from_utf8(other.bytes()).unwrap();
    assert!(text.contains("\"id\""));
    let path = witness(&bench);
    let told = std::fs::read_to_string(&path).unwrap();
    let id = bench.custodian(&["first"]).keystore_id();
    let another = id.replace(|digit: char| digit.is_ascii_digit(), "4");
    std::fs::write(&path, told.replace(&id, &another)).unwrap();
    let told = refusal(&bench, Role::Server);
    assert!(told.contains(&format!("keystore {another} was here before, not {id}")), "{told}");
}

#[test]
fn an_edited_witness_is_noticed() {
    let bench = Bench::new();
    let path = witness(&bench);
    let good = std::fs::read_to_string(&path).unwrap();
    assert!(good.contains("\"generation\": 4"), "{good}");
    for (bad, told) in [
        (good.replace("\"generation\": 4", "\"generation\": 3"), "by something else than keyward"),
        (good.replace("keyward-witness", "x"), "it is no rollback guard of keyward's, or damaged"),
        (good[..40].to_owned(), "it is no rollback guard of keyward's, or damaged"),
        (String::new(), "it is no rollback guard of keyward's, or damaged"),
        (good.replace("\"version\": 2", "\"version\": 3"), "format version 3"),
        (good.replace("\"epoch\": 1", "\"epoch\": 0"), "by something else than keyward"),
    ] {
        std::fs::write(&path, bad).unwrap();
        let refused = refusal(&bench, Role::Server);
        assert!(refused.contains(told), "{refused}");
        assert!(refused.contains("keystore.json.witness"), "{refused}");
    }
    std::fs::write(&path, good).unwrap();
    bench.custodian(&["first"]);
}

#[test]
fn a_reader_writes_none_and_others_make_it_anew() {
    let bench = Bench::new();
    std::fs::remove_file(witness(&bench)).unwrap();
    bench.start(&["first"], Role::Reader).unwrap();
    assert!(!witness(&bench).exists());
    bench.start(&["first"], Role::Server).unwrap();
    assert!(witness(&bench).exists());
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(witness(&bench)).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_witness_left_behind_by_a_crash_is_raised_by_the_next_start() {
    let bench = Bench::new();
    let behind = std::fs::read(witness(&bench)).unwrap();
    bench.custodian(&["first"]).rotate(Which::All, REASON).unwrap();
    let raised = std::fs::read(witness(&bench)).unwrap();
    std::fs::write(witness(&bench), &behind).unwrap();
    bench.custodian(&["first"]);
    assert_eq!(std::fs::read(witness(&bench)).unwrap(), raised);
}

/// A rotation of all keys by another process.
fn rotation_elsewhere(bench: &Bench) -> impl FnOnce() + Send + 'static {
    let (source, env) = (bench.source(&["first"]), bench.env());
    move || {
        let other = Custodian::start(source, Role::Command, env).unwrap();
        other.rotate(Which::All, REASON).unwrap();
    }
}

#[test]
fn a_commit_while_the_key_store_is_asked_is_no_rollback() {
    for role in ALL {
        let bench = Bench::new();
        bench.first.meanwhile(rotation_elsewhere(&bench));
        let custodian = bench.start(&["first"], role).unwrap();
        assert!(custodian.refresh().is_ok());
        assert_eq!(custodian.latest(key(7)), Some(version(3)), "{role:?}");
        assert_eq!(bench.log.lines(), []);
    }
}

#[test]
fn nor_is_one_while_a_running_server_reads_again() {
    let bench = Bench::new();
    let server = bench.start(&["first"], Role::Daemon).unwrap();
    // A new store key, so that the key store is asked again.
    bench.custodian(&["first"]).manager().unwrap().rewrap(NEW, REASON).unwrap();
    bench.first.meanwhile(rotation_elsewhere(&bench));
    server.refresh().unwrap();
    server.refresh().unwrap();
    assert_eq!(server.latest(key(7)), Some(version(3)));
    assert_eq!((server.status().degraded, bench.log.lines()), (None, Vec::new()));
}

#[test]
fn a_start_does_not_lower_the_guard_of_a_commit_meanwhile() {
    let bench = Bench::new();
    std::fs::remove_file(witness(&bench)).unwrap();
    bench.first.meanwhile(rotation_elsewhere(&bench));
    bench.start(&["first"], Role::Server).unwrap();
    let guard = std::fs::read_to_string(witness(&bench)).unwrap();
    assert!(guard.contains("\"generation\": 5"), "{guard}");
}

/// What a real key store is slow at, many processes at once make likely without it.
#[test]
fn starts_and_rotations_at_once_raise_no_alarm() {
    let bench = Bench::new();
    let started = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..50 {
                        bench.custodian(&["first"]).rotate(Which::All, REASON).unwrap();
                    }
                })
            })
            .collect();
        while writers.iter().any(|writer| !writer.is_finished()) {
            let role = ALL[started.fetch_add(1, Ordering::SeqCst) % ALL.len()];
            bench.start(&["first"], role).unwrap_or_else(|error| panic!("{role:?}: {error}"));
        }
    });
    println!("{} starts during 100 rotations", started.load(Ordering::SeqCst));
    assert_eq!(bench.log.lines(), []);
    let custodian = bench.custodian(&["first"]);
    assert_eq!((custodian.status().generation, custodian.keys().len()), (104, 3 * 101));
}

#[test]
fn a_missing_guard_is_written_again_and_told_of() {
    for role in ALL {
        let bench = Bench::new();
        std::fs::remove_file(witness(&bench)).unwrap();
        bench.start(&["first"], role).unwrap();
        let told: Vec<_> = bench.log.lines().into_iter().map(|(_, line)| line).collect();
        let line = format!(
            "the rollback guard {} was missing; it is written again for generation 4: an older copy \
             of the keystore would not have been noticed",
            witness(&bench).display()
        );
        assert_eq!(told, if role == Role::Reader { vec![] } else { vec![line] });
    }
}

/// With an older copy that a process knows as the newest: it cannot refuse that.
#[test]
fn a_guard_that_went_missing_is_told_of_by_who_runs() {
    for role in [Role::Daemon, Role::Reader, Role::Command] {
        let bench = Bench::new();
        let running = bench.start(&["first"], role).unwrap();
        let older = bench.bytes();
        bench.custodian(&["first"]).rotate(Which::All, REASON).unwrap();
        std::fs::remove_file(witness(&bench)).unwrap();
        put_back(&bench, &older);
        for _ in 0..2 {
            running.refresh().unwrap();
            let lines = bench.log.lines();
            match role {
                Role::Reader => assert_eq!(lines, []),
                _ => {
                    assert_eq!(lines.len(), 1);
                    assert!(
                        lines[0].1.contains("was missing; it is written again for generation 4")
                    );
                }
            }
        }
    }
}

/// Whoever runs took an older copy with the guard of its time for the newest; then the newest guard is
/// back. The numbers of what was lost would be used twice.
#[test]
fn no_change_is_made_while_the_guard_knows_a_newer_keystore() {
    let bench = Bench::new();
    let guard_file = || std::fs::read(witness(&bench)).unwrap();
    let (older, guard_of_older) = (bench.bytes(), guard_file());
    bench.custodian(&["first"]).rotate(Which::All, REASON).unwrap();
    let (newest, guard) = (bench.bytes(), guard_file());
    let told = format!(
        "{}: the keystore is of generation 4, but generation 5 was in force; put the newest copy back; \
         if there is none, stop the servers and run `keyward keystore accept-rollback`",
        witness(&bench).display()
    );
    for (what, change) in CHANGES {
        for role in [Role::Daemon, Role::Command] {
            put_back(&bench, &older);
            std::fs::write(witness(&bench), &guard_of_older).unwrap();
            let running = bench.start(&["first"], role).unwrap();
            std::fs::write(witness(&bench), &guard).unwrap();
            let refused = change(&running).expect_err(what);
            assert_eq!(
                (refused.kind(), refused.to_string()),
                (Kind::State, told.clone()),
                "{what}"
            );
            assert!(bench.bytes() == older && guard_file() == guard, "{what}");
            // From now on it is not well, until the newest copy is back.
            assert_eq!(running.refresh().unwrap_err().to_string(), told, "{what}");
            assert!(running.status().degraded.is_some(), "{what}");
            put_back(&bench, &newest);
            running.refresh().unwrap();
            assert_eq!(running.status().degraded, None, "{what}");
            assert_eq!(running.latest(key(7)), Some(version(3)), "{what}");
        }
    }
}

type Made = fn(&Custodian) -> Result<()>;

/// Every kind of change.
const CHANGES: [(&str, Made); 12] = [
    ("rotate", |it| it.rotate(Which::All, REASON).map(drop)),
    ("create", |it| it.create(key(9), None, REASON).map(drop)),
    ("rotate --now", |it| changed(it, &StateChange::RotateNow(Which::One(key(1))))),
    ("compromise", |it| changed(it, &StateChange::Compromised(key_ref(1, 1)))),
    ("retire", |it| changed(it, &StateChange::Retire(key_ref(1, 1)))),
    ("undo", |it| changed(it, &StateChange::Undo(key(1)))),
    ("rewrap", |it| it.manager()?.rewrap(Rewrap::ToLatest, REASON).map(drop)),
    ("rewrap --new-store-key", |it| it.manager()?.rewrap(NEW, REASON).map(drop)),
    ("destroy", |it| {
        let plan = Destruction::Plan(key_ref(7, 1), Duration::ZERO);
        it.manager()?.destroy(&plan, &Judged::default(), REASON)
    }),
    ("import", |it| it.manager()?.import(&[], REASON).map(drop)),
    ("MySQL's store", |it| {
        let data = DataKey::copy_of(&[1; 32])?;
        it.manager()?.store_named(&named("a"), "AES", &data, REASON)
    }),
    ("MySQL's remove", |it| it.manager()?.remove_named(&named("a"), REASON)),
];

fn changed(it: &Custodian, change: &StateChange) -> Result<()> {
    it.manager()?.change_state(change, REASON).map(drop)
}

fn named(id: &str) -> KeyName {
    KeyName::named(id, "")
}

/// It may be the process's own keystore that is the newest, and nobody could rotate ever again.
#[test]
fn a_guard_that_says_nothing_stops_no_change_and_is_a_warning() {
    let bench = Bench::new();
    let running = bench.start(&["first"], Role::Daemon).unwrap();
    std::fs::write(witness(&bench), "{").unwrap();
    assert_eq!(running.rotate(Which::One(key(7)), REASON).unwrap(), [key_ref(7, 3)]);
    let lines = bench.log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].1.contains("it is no rollback guard of keyward's, or damaged"), "{lines:?}");
}

/// The guard of format 1 that a store key of another number made: nobody can verify it.
#[test]
fn a_forged_guard_of_another_store_key_is_told_of() {
    let bench = Bench::new();
    let id = bench.custodian(&["first"]).keystore_id();
    let forged = format!(
        "{{\"format\":\"keyward-witness\",\"version\":1,\"keystore\":\"{id}\",\
         \"generation\":1,\"store_key\":9,\"mac\":\"{}\"}}",
        "00".repeat(32)
    );
    std::fs::write(witness(&bench), &forged).unwrap();
    bench.custodian(&["first"]);
    let lines = bench.log.lines();
    assert!(lines[0].1.contains("was made by a store key that is gone, and proves nothing"));
    let written = std::fs::read_to_string(witness(&bench)).unwrap();
    assert!(written.contains("\"version\": 2"), "{written}");
    // Its number is heeded all the same.
    std::fs::write(witness(&bench), forged.replace(":1,\"store", ":9,\"store")).unwrap();
    assert!(refusal(&bench, Role::Server).contains("but generation 9 was in force"));
}

#[test]
fn the_guard_of_a_keystore_outlives_its_store_key() {
    let bench = Bench::new();
    let before = std::fs::read(witness(&bench)).unwrap();
    bench.custodian(&["first"]).manager().unwrap().rewrap(NEW, REASON).unwrap();
    let text = String::from_utf8(before).unwrap();
    std::fs::write(witness(&bench), text.replace("\"generation\": 4", "\"generation\": 3"))
        .unwrap();
    assert!(refusal(&bench, Role::Server).contains("by something else than keyward"));
}

#[test]
fn a_rollback_that_somebody_accepts_opens() {
    let bench = Bench::new();
    let nothing = bench.source(&["first"]).accept_rollback(&[], REASON).unwrap_err();
    assert_eq!(nothing.kind(), Kind::State);
    let old = bench.bytes();
    bench.custodian(&["first"]).rotate(Which::All, REASON).unwrap();
    put_back(&bench, &old);
    let rollback = bench.source(&["first"]).rollback().unwrap();
    assert!(rollback.refused.contains("generation 5 was in force"));
    let accepted = bench.source(&["first"]).accept_rollback(&[], REASON).unwrap();
    assert_eq!(accepted, Revision { epoch: 2, generation: 5 });
    let custodian = bench.custodian(&["first"]);
    assert_eq!(custodian.latest(key(7)), Some(version(1)));
    assert_eq!(bench.events().last().unwrap(), "rollback-accepted");
}

/// Two older copies accepted one after the other, both of the first epoch: what the first one became is
/// older than what the second one became, however many generations it had.
#[test]
fn of_two_accepted_copies_the_later_counts() {
    let bench = Bench::new();
    let old = bench.bytes();
    let rotate = || bench.custodian(&["first"]).rotate(Which::All, REASON).unwrap();
    rotate();
    put_back(&bench, &old);
    let first = bench.source(&["first"]).accept_rollback(&[], REASON).unwrap();
    (0..3).for_each(|_| drop(rotate()));
    let of_the_first = bench.bytes();
    put_back(&bench, &old);
    let second = bench.source(&["first"]).accept_rollback(&[], REASON).unwrap();
    assert!(second.epoch > first.epoch, "{second} after {first}");
    put_back(&bench, &of_the_first);
    let refused = refusal(&bench, Role::Server);
    assert!(refused.contains("of epoch 3 was in force"), "{refused}");

    // A guard that proves nothing does not tell the epoch: two do not come to the same by chance.
    let forged = std::fs::read_to_string(witness(&bench)).unwrap().replace(": 3,", ": 1,");
    std::fs::write(witness(&bench), forged).unwrap();
    put_back(&bench, &old);
    let third = bench.source(&["first"]).accept_rollback(&[], REASON).unwrap();
    assert!(third.epoch > second.epoch, "{third} after {second}");
}

#[test]
fn a_number_that_was_lost_is_never_used_again() {
    let bench = Bench::new();
    let rotate = || bench.custodian(&["first"]).rotate(Which::One(key(7)), REASON).unwrap();
    (0..12).for_each(|_| drop(rotate()));
    let old = bench.bytes();
    let lost = rotate();
    assert_eq!(lost, [key_ref(7, 27)]);
    bench.custodian(&["first"]).create(key(9), None, REASON).unwrap();
    let newest = bench.bytes();
    let guard = std::fs::read(witness(&bench)).unwrap();
    put_back(&bench, &old);
    bench.source(&["first"]).accept_rollback(&[], REASON).unwrap();
    for made in [
        rotate(),
        bench
            .custodian(&["first"])
            .manager()
            .unwrap()
            .change_state(&StateChange::RotateNow(Which::All), REASON)
            .unwrap(),
    ] {
        assert!(made.iter().all(|made| made.version.get() > 1 << 16), "{made:?}");
    }
    // Key 9 was lost whole: a new one of that name begins elsewhere.
    let made = bench.custodian(&["first"]).create(key(9), None, REASON).unwrap();
    assert!(made.version.get() > 1 << 16, "{made}");
    // What was lost and is found again is older than what was accepted, whatever its generation.
    let accepted = bench.bytes();
    put_back(&bench, &newest);
    let refused = refusal(&bench, Role::Server);
    assert!(refused.contains("of epoch 2 was in force"), "{refused}");
    put_back(&bench, &accepted);
    // The guard of the lost generations yields.
    std::fs::write(witness(&bench), guard).unwrap();
    bench.start(&["first"], Role::Server).unwrap();
    let written = std::fs::read_to_string(witness(&bench)).unwrap();
    assert!(written.contains("\"epoch\": 2"), "{written}");
}
