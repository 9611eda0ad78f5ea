//! The custodian on a real keystore file, with a key store that counts its calls and can be told to
//! fail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod checkpoints;
#[path = "../common/key_store.rs"]
mod key_store;
mod notices;
mod pinned;
mod register;
mod rescue;
mod restart;
mod retention;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use keyward::custodian::Custodian;
use keyward::env::fake::{FakeClock, FakeLog, FakeRng};
use keyward::env::{Deadline, Env, Level, Timestamp};
use keyward::key::{Cipher, KeyId, KeyName, KeyState, KeyVersion};
use keyward::manager::Manager;
use keyward::secret::DataKey;
use keyward::source::{NamedWrapper, Reason, Role, Which};
use keyward::store::{Keystore, StoreFile};
use keyward::{Error, Kind, Result};

use key_store::{KeyStore, Shared};

const REASON: Reason<'_> = Reason { actor: "test", text: "because" };

/// A keystore in a folder of its own, and the key store that wraps it.
struct Bench {
    folder: tempfile::TempDir,
    key_store: Arc<KeyStore>,
    rng: Arc<FakeRng>,
    log: Arc<FakeLog>,
    clock: Arc<FakeClock>,
}

impl Bench {
    fn new() -> Self {
        let bench = Self {
            folder: tempfile::tempdir().unwrap(),
            key_store: Arc::new(KeyStore::new("test")),
            rng: Arc::new(FakeRng::new(7)),
            log: Arc::default(),
            clock: Arc::new(FakeClock::at(Timestamp::from_unix(1_700_000_000))),
        };
        bench.found(&bench.path(), 1);
        let custodian = bench.custodian(Role::Command);
        for id in [1, 2, 7] {
            custodian.create(key(id), None, REASON).unwrap();
        }
        bench.key_store.calls.store(0, Ordering::SeqCst);
        bench
    }

    fn found(&self, path: &Path, seed: u64) {
        let rng = FakeRng::new(seed);
        let store_key = DataKey::generate(32, &rng).unwrap();
        let id = Keystore::new_id(&rng).unwrap();
        let wrapping = self.wrapper().wrap(&store_key, &Keystore::first_context(&id)).unwrap();
        let now = Timestamp::from_unix(1_700_000_000);
        let keystore = Keystore::create(&id, store_key, vec![wrapping], now, &rng).unwrap();
        let file = StoreFile::at(path);
        let lock = file.lock(soon()).unwrap();
        file.commit(&lock, &keystore, &rng).unwrap();
    }

    fn wrapper(&self) -> NamedWrapper {
        let wrapper = Box::new(Shared(self.key_store.clone()));
        NamedWrapper { name: "test".into(), timeout: Duration::from_secs(1), wrapper }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("keystore.json")
    }

    fn start(&self, role: Role) -> Result<Custodian> {
        let env = Env { clock: self.clock.clone(), rng: self.rng.clone(), log: self.log.clone() };
        let file = StoreFile::at(self.path());
        let source = Manager::new(file, vec![self.wrapper()], Cipher::DEFAULT, 2, env.clone());
        Custodian::start(source, role, env)
    }

    fn custodian(&self, role: Role) -> Custodian {
        self.start(role).unwrap()
    }

    /// Every file of the folder with its content.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files: Vec<_> = std::fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
}

fn key(id: u32) -> KeyId {
    KeyId::try_from(id).unwrap()
}

fn version(number: u32) -> KeyVersion {
    KeyVersion::try_from(number).unwrap()
}

/// How long it takes until `what` holds; nothing where it does not come to that.
fn time_until(what: impl Fn() -> bool) -> Option<Duration> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        if what() {
            return Some(start.elapsed());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

fn in_time(what: impl Fn() -> bool) -> bool {
    time_until(what).is_some()
}

#[test]
fn serves_what_the_keystore_holds() {
    let bench = Bench::new();
    let custodian = bench.custodian(Role::Reader);
    assert_eq!(custodian.latest(key(7)), Some(version(1)));
    assert_eq!(custodian.key(key(7), version(1)).unwrap().key().expose().len(), 32);
    assert!(custodian.latest(key(3)).is_none());
    assert!(custodian.key(key(7), version(9)).is_none());
    let status = custodian.status();
    assert_eq!((status.keys, status.versions, status.provider.as_str()), (3, 3, "test"));
    assert_eq!(bench.key_store.calls.load(Ordering::SeqCst), 1, "one call opens all keys");
}

#[test]
fn rotation_raises_the_version_by_the_step_and_is_on_disk() {
    let bench = Bench::new();
    let custodian = bench.custodian(Role::Command);
    let before = custodian.status().generation;
    let rotated = custodian.rotate(Which::All, REASON).unwrap();
    assert_eq!(rotated.len(), 3);
    assert_eq!(custodian.status().generation, before + 1, "all keys in one commit");
    for id in [1, 2, 7] {
        assert_eq!(custodian.latest(key(id)), Some(version(3)));
        assert!(custodian.key(key(id), version(1)).is_some(), "the old version still decrypts");
    }
    let other = bench.custodian(Role::Reader);
    assert_eq!(other.latest(key(7)), Some(version(3)));
    let states: Vec<_> = other.keys().iter().map(|info| info.state).collect();
    assert_eq!(states, [KeyState::Retired, KeyState::Active].repeat(3));
    let same = |c: &Custodian| c.key(key(1), version(3)).unwrap().check();
    assert_eq!(same(&custodian), same(&other));
}

#[test]
fn the_server_follows_the_command_in_time() {
    let bench = Bench::new();
    let server = bench.custodian(Role::Server);
    let command = bench.custodian(Role::Command);
    // A busy machine may hold up one of them.
    let took = (1..=5).map(|round| {
        command.rotate(Which::One(key(7)), REASON).unwrap();
        command.create(key(9 + round), None, REASON).unwrap();
        let follows = || {
            server.latest(key(7)) == Some(version(1 + 2 * round))
                && server.latest(key(9 + round)) == Some(version(1))
        };
        time_until(follows).expect("the server does not follow")
    });
    assert!(took.min().unwrap() < Duration::from_secs(1));
}

#[test]
fn an_absent_key_is_remembered_until_the_keystore_changes() {
    let bench = Bench::new();
    let reader = bench.custodian(Role::Reader);
    for _ in 0..3 {
        assert!(reader.latest(key(9)).is_none());
    }
    bench.custodian(Role::Command).create(key(9), None, REASON).unwrap();
    reader.refresh().unwrap();
    assert_eq!(reader.latest(key(9)), Some(version(1)));
}

#[test]
fn nothing_needs_the_key_store_once_it_has_opened() {
    let bench = Bench::new();
    let server = bench.custodian(Role::Server);
    let command = bench.custodian(Role::Command);
    command.rotate(Which::All, REASON).unwrap();
    bench.key_store.away.store(true, Ordering::SeqCst);
    assert!(in_time(|| server.latest(key(1)) == Some(version(3))));
    assert!(server.status().degraded.is_none());
    // But for a new key: after a restart nobody could read it.
    let refused = server.rotate(Which::All, REASON).unwrap_err();
    assert!(refused.what().starts_with("no new key is made: "), "{refused}");
    let refused = bench.start(Role::Command).err().unwrap();
    assert_eq!(refused.kind(), Kind::Unavailable);
    assert!(refused.to_string().contains("provider \"test\": the key store is away"), "{refused}");
}

#[test]
fn no_key_of_mysqls_is_made_while_the_key_store_is_away() {
    let bench = Bench::new();
    let server = bench.custodian(Role::Server);
    let name = |id: &str| KeyName::named(id, "");
    server.manager().unwrap().generate_named(&name("INNODBKey-1"), "AES", 32, REASON).unwrap();
    let (before, known) = (bench.files(), server.all_named().names().count());
    bench.key_store.away.store(true, Ordering::SeqCst);
    let refused = server
        .manager()
        .unwrap()
        .generate_named(&name("INNODBKey-2"), "AES", 32, REASON)
        .unwrap_err();
    assert_eq!(refused.kind(), Kind::Unavailable);
    assert!(refused.to_string().contains("provider \"test\": the key store is away"), "{refused}");
    assert_eq!(bench.files(), before);
    assert_eq!(server.all_named().names().count(), known);
    assert!(server.named(&name("INNODBKey-1")).unwrap().is_some());
    let calls = bench.key_store.calls.load(Ordering::SeqCst);
    let taken = server
        .manager()
        .unwrap()
        .generate_named(&name("INNODBKey-1"), "AES", 32, REASON)
        .unwrap_err();
    assert_eq!(taken.kind(), Kind::Conflict);
    assert_eq!(bench.key_store.calls.load(Ordering::SeqCst), calls, "asked for nothing");
    bench.key_store.away.store(false, Ordering::SeqCst);
    server.manager().unwrap().generate_named(&name("INNODBKey-2"), "AES", 32, REASON).unwrap();
    assert!(server.named(&name("INNODBKey-2")).unwrap().is_some());
}

#[test]
fn an_older_copy_is_refused_and_the_keys_in_memory_go_on() {
    let bench = Bench::new();
    let old = std::fs::read(bench.path()).unwrap();
    let server = bench.custodian(Role::Server);
    server.rotate(Which::All, REASON).unwrap();
    let new = std::fs::read(bench.path()).unwrap();

    std::fs::write(bench.path(), &old).unwrap();
    assert!(in_time(|| server.status().degraded.is_some()));
    let cause = server.status().degraded.unwrap().cause;
    assert!(cause.contains("went back from generation"), "{cause}");
    assert_eq!(server.latest(key(1)), Some(version(3)));
    assert!(server.rotate(Which::All, REASON).is_err());

    std::fs::write(bench.path(), &new).unwrap();
    assert!(in_time(|| server.status().degraded.is_none()));
    let levels: Vec<_> = bench.log.lines().into_iter().map(|(level, _)| level).collect();
    assert_eq!(levels, [Level::Warning, Level::Note], "told once, and once when it ends");
}

#[test]
fn another_keystore_in_its_place_is_refused() {
    let bench = Bench::new();
    let reader = bench.custodian(Role::Reader);
    std::fs::remove_file(bench.path()).unwrap();
    bench.found(&bench.path(), 2);
    let error = reader.refresh().unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.to_string().contains("is keystore"), "{error}");
    assert_eq!(reader.latest(key(1)), Some(version(1)));
}

#[test]
fn a_reader_writes_nothing_at_all() {
    let bench = Bench::new();
    let before = bench.files();
    let reader = bench.custodian(Role::Reader);
    assert_eq!(reader.rotate(Which::All, REASON).unwrap_err().kind(), Kind::Unsupported);
    assert_eq!(reader.create(key(9), None, REASON).unwrap_err().kind(), Kind::Unsupported);
    reader.refresh().unwrap();
    drop(reader);
    assert_eq!(bench.files(), before);
}

#[test]
fn a_rotation_that_fails_on_the_way_changes_nothing() {
    let bench = Bench::new();
    let custodian = bench.custodian(Role::Command);
    let mut failures = 0;
    loop {
        let before = bench.files();
        bench.rng.fail_after(failures);
        let outcome = custodian.rotate(Which::All, REASON);
        bench.rng.fail_after(u64::MAX);
        if outcome.is_ok() {
            break;
        }
        failures += 1;
        let keystore = |files: &[(PathBuf, Vec<u8>)]| {
            files.iter().find(|(path, _)| *path == bench.path()).cloned()
        };
        assert_eq!(keystore(&bench.files()), keystore(&before));
        assert_eq!(custodian.latest(key(1)), Some(version(1)));
        assert!(custodian.key(key(1), version(3)).is_none());
    }
    assert!(failures >= 6, "a rotation of three keys draws random bytes at least six times");
}

#[test]
fn a_key_is_not_made_twice_and_one_that_is_not_there_not_rotated() {
    let bench = Bench::new();
    let custodian = bench.custodian(Role::Command);
    let twice = custodian.create(key(7), None, REASON).unwrap_err();
    assert_eq!(
        twice.to_string(),
        "key 7 already exists; `keyward rotate 7` gives it a new version"
    );
    let absent = custodian.rotate(Which::One(key(5)), REASON).unwrap_err();
    assert_eq!(absent.to_string(), "there is no key 5; `keyward keys create 5` makes it");
}

#[test]
fn two_writers_take_turns() {
    let bench = Bench::new();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let custodian = bench.custodian(Role::Command);
                for _ in 0..10 {
                    custodian.rotate(Which::One(key(1)), REASON).unwrap();
                }
            });
        }
    });
    let reader = bench.custodian(Role::Reader);
    assert_eq!(reader.latest(key(1)), Some(version(1 + 20 * 2)));
    assert_eq!(reader.status().versions, 3 + 20);
}

#[test]
fn stop_ends_the_worker_at_once_and_for_good() {
    let bench = Bench::new();
    // A busy machine may hold up one of them.
    let stops = (0..5).map(|_| {
        let server = bench.custodian(Role::Server);
        let start = Instant::now();
        server.stop();
        server.stop();
        start.elapsed()
    });
    let quickest = stops.min().unwrap();
    assert!(quickest < Duration::from_millis(400), "stop does not wait for the next look");
    let server = bench.custodian(Role::Server);
    server.stop();
    bench.custodian(Role::Command).rotate(Which::All, REASON).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(server.latest(key(1)), Some(version(1)), "nobody follows after the stop");
}
