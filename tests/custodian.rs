//! The custodian on a real keystore file, with a key store that counts its calls and can be told to
//! fail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keyward::event::{Event, Trail};
use keyward::custodian::{Custodian, NextSource, NextStart};
use keyward::event::Answer;
use keyward::env::fake::{FakeClock, FakeLog, FakeRng};
use keyward::env::{Deadline, Env, Level, Timestamp};
use keyward::key::{Cipher, KeyId, KeyName, KeyState, KeyVersion};
use keyward::manager::{Home, Manager};
use keyward::provider::{FreshLogin, KekInfo, KeyWrapper, Probe, WrapContext, WrappedKey};
use keyward::secret::DataKey;
use keyward::source::{NamedWrapper, Reason, Role, Which};
use keyward::store::{Keystore, StoreFile, Wrapping};
use keyward::{Error, Kind, Result};

const REASON: Reason<'_> = Reason { actor: "test", text: "because" };

/// A keystore in a folder of its own, and the key store that wraps it.
struct Bench {
    folder: tempfile::TempDir,
    key_store: Arc<KeyStore>,
    rng: Arc<FakeRng>,
    log: Arc<FakeLog>,
    clock: Arc<FakeClock>,
}

/// "Wraps" by remembering: enough to see who was asked, how often, and what a failure does.
#[derive(Default)]
struct KeyStore {
    calls: AtomicUsize,
    away: AtomicBool,
}

impl Bench {
    fn new() -> Self {
        let bench = Self {
            folder: tempfile::tempdir().unwrap(),
            key_store: Arc::default(),
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
        let key = self.key_store.wrap(&store_key, &Keystore::first_context(&id), soon()).unwrap();
        let wrappings = vec![Wrapping { provider: "test".into(), key }];
        let now = Timestamp::from_unix(1_700_000_000);
        let keystore = Keystore::create(&id, store_key, wrappings, now, &rng).unwrap();
        let file = StoreFile::at(path);
        let lock = file.lock(soon()).unwrap();
        file.commit(&lock, &keystore, &rng).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("keystore.json")
    }

    fn start(&self, role: Role) -> Result<Custodian> {
        let env = Env { clock: self.clock.clone(), rng: self.rng.clone(), log: self.log.clone() };
        let wrapper = Box::new(Shared(self.key_store.clone()));
        let timeout = Duration::from_secs(1);
        let wrappers = vec![NamedWrapper { name: "test".into(), timeout, wrapper }];
        let file = StoreFile::at(self.path());
        let source = Manager::new(file, wrappers, Cipher::DEFAULT, 2, env.clone());
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

struct Shared(Arc<KeyStore>);

impl KeyStore {
    fn answer<T>(&self, answer: impl FnOnce() -> Result<T>) -> Result<T> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.away.load(Ordering::SeqCst) {
            return Err(Error::new(Kind::Unavailable, "the key store is away"));
        }
        answer()
    }

    fn wrap(&self, data: &DataKey, context: &WrapContext, _: Deadline) -> Result<WrappedKey> {
        self.answer(|| {
            let mut blob = context.to_bytes();
            blob.extend(data.expose());
            Ok(WrappedKey {
                kek: "test".into(),
                algorithm: "none".into(),
                parameters: Default::default(),
                blob,
            })
        })
    }
}

impl KeyWrapper for Shared {
    fn wrap(&self, data: &DataKey, context: &WrapContext, by: Deadline) -> Result<WrappedKey> {
        self.0.wrap(data, context, by)
    }

    fn unwrap(&self, wrapped: &WrappedKey, context: &WrapContext, _: Deadline) -> Result<DataKey> {
        self.0.answer(|| match wrapped.blob.strip_prefix(context.to_bytes().as_slice()) {
            Some(data) => DataKey::copy_of(data),
            None => Err(Error::new(Kind::Corrupt, "another context")),
        })
    }

    fn rewrap(&self, wrapped: &WrappedKey, _: &WrapContext, _: Deadline) -> Result<WrappedKey> {
        self.0.answer(|| Ok(wrapped.clone()))
    }

    fn describe(&self, _: Deadline) -> Result<KekInfo> {
        Err(Error::new(Kind::Unsupported, "nothing to tell"))
    }

    fn probe(&self, _: Deadline) -> Result<Probe> {
        self.0.answer(|| Ok(Probe::default()))
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

fn within_a_second(what: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        if what() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
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
fn the_server_follows_the_command_within_a_second() {
    let bench = Bench::new();
    let server = bench.custodian(Role::Server);
    let command = bench.custodian(Role::Command);
    command.rotate(Which::One(key(7)), REASON).unwrap();
    command.create(key(9), None, REASON).unwrap();
    assert!(within_a_second(|| server.latest(key(7)) == Some(version(3))));
    assert!(within_a_second(|| server.latest(key(9)) == Some(version(1))));
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
    assert!(within_a_second(|| server.latest(key(1)) == Some(version(3))));
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
    let name = |id: &str| KeyName::Named { data_id: id.into(), auth_id: String::new() };
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
    assert!(within_a_second(|| server.status().degraded.is_some()));
    let cause = server.status().degraded.unwrap().cause;
    assert!(cause.contains("went back from generation"), "{cause}");
    assert_eq!(server.latest(key(1)), Some(version(3)));
    assert!(server.rotate(Which::All, REASON).is_err());

    std::fs::write(bench.path(), &new).unwrap();
    assert!(within_a_second(|| server.status().degraded.is_none()));
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
    let server = bench.custodian(Role::Server);
    let start = Instant::now();
    server.stop();
    server.stop();
    assert!(start.elapsed() < Duration::from_millis(400), "stop does not wait for the next look");
    bench.custodian(Role::Command).rotate(Which::All, REASON).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(server.latest(key(1)), Some(version(1)), "nobody follows after the stop");
}

/// A provider that must not be logged in to once more, and fails whoever tries to use it.
struct OneLogin;

impl KeyWrapper for OneLogin {
    fn wrap(&self, _: &DataKey, _: &WrapContext, _: Deadline) -> Result<WrappedKey> {
        Err(Error::new(Kind::Unsupported, "not tried"))
    }

    fn unwrap(&self, _: &WrappedKey, _: &WrapContext, _: Deadline) -> Result<DataKey> {
        Err(Error::new(Kind::Unsupported, "not tried"))
    }

    fn rewrap(&self, _: &WrappedKey, _: &WrapContext, _: Deadline) -> Result<WrappedKey> {
        Err(Error::new(Kind::Unsupported, "not tried"))
    }

    fn describe(&self, _: Deadline) -> Result<KekInfo> {
        Err(Error::new(Kind::Unsupported, "not tried"))
    }

    fn probe(&self, _: Deadline) -> Result<Probe> {
        Err(Error::new(Kind::Unsupported, "not tried"))
    }

    fn fresh_login(&self) -> FreshLogin {
        FreshLogin::Spends("a log-in may use up its secret")
    }
}

/// The next start of a bench: with its key store as it is, or with [`OneLogin`].
struct Next {
    path: PathBuf,
    env: Env,
    key_store: Option<Arc<KeyStore>>,
}

impl NextStart for Next {
    fn open(&mut self) -> Result<NextSource> {
        let wrapper: Box<dyn KeyWrapper> = match &self.key_store {
            Some(key_store) => Box::new(Shared(key_store.clone())),
            None => Box::new(OneLogin),
        };
        let wrappers =
            vec![NamedWrapper { name: "test".into(), timeout: Duration::from_secs(1), wrapper }];
        let file = StoreFile::at(&self.path);
        let source = Manager::new(file, wrappers, Cipher::DEFAULT, 2, self.env.clone());
        Ok(NextSource::Keystore(Box::new(source.as_role(Role::Reader))))
    }
}

impl Bench {
    fn next(&self, repeatable: bool) -> Box<Next> {
        let clock = Arc::new(FakeClock::at(Timestamp::from_unix(1_700_000_000)));
        let env = Env { clock, rng: self.rng.clone(), log: Arc::new(FakeLog::default()) };
        let key_store = repeatable.then(|| self.key_store.clone());
        Box::new(Next { path: self.path(), env, key_store })
    }
}

#[test]
fn a_restart_is_checked_soon_then_hourly_and_every_minute_while_it_would_fail() {
    let bench = Bench::new();
    let server = bench.custodian(Role::Daemon);
    server.watch_restart(bench.next(true));
    let start = Instant::now();
    let checked = |after: u64| {
        bench.key_store.calls.store(0, Ordering::SeqCst);
        server.check_restart_in_time(start + Duration::from_secs(after));
        bench.key_store.calls.load(Ordering::SeqCst)
    };
    assert_eq!(checked(55), 0);
    assert_eq!(server.status().restart.answer, Answer::Unknown);
    assert_eq!(checked(65), 1, "one unwrap");
    assert_eq!(server.status().restart.answer, Answer::Yes);
    assert_eq!((checked(70), checked(3600)), (0, 0));
    bench.key_store.away.store(true, Ordering::SeqCst);
    assert_eq!(checked(3670), 1);
    assert_eq!(server.status().restart.answer, Answer::No);
    assert_eq!((checked(3700), checked(3735)), (0, 1));
    bench.key_store.away.store(false, Ordering::SeqCst);
    assert_eq!(checked(3800), 1);
    assert_eq!((checked(3900), checked(7300)), (0, 0));
    assert!(server.status().degraded.is_none());
}

#[test]
fn nothing_that_a_log_in_would_use_up_is_tried() {
    let bench = Bench::new();
    let server = bench.custodian(Role::Daemon);
    server.watch_restart(bench.next(false));
    bench.key_store.calls.store(0, Ordering::SeqCst);
    let found = server.check_restart();
    assert_eq!(found.answer, Answer::Unknown);
    assert_eq!(
        found.reason,
        "provider \"test\" opens the keystore now; a log-in may use up its secret"
    );
    assert_eq!(bench.key_store.calls.load(Ordering::SeqCst), 1, "by the log-in that is open");
    server.rotate(Which::All, REASON).unwrap();
    bench.key_store.away.store(true, Ordering::SeqCst);
    let found = server.check_restart();
    assert_eq!(found.answer, Answer::No);
    assert_eq!(found.reason, "provider \"test\": the key store is away");
}

#[test]
fn no_key_is_made_while_no_provider_opens_the_keystore() {
    let bench = Bench::new();
    let custodian = bench.custodian(Role::Daemon);
    let before = bench.files();
    bench.key_store.away.store(true, Ordering::SeqCst);
    for refused in [
        custodian.rotate(Which::All, REASON).unwrap_err(),
        custodian.create(key(11), None, REASON).unwrap_err(),
        custodian
            .manager()
            .unwrap()
            .change_state(&keyward::manager::StateChange::RotateNow(Which::One(key(7))), REASON)
            .unwrap_err(),
    ] {
        assert_eq!(refused.kind(), Kind::Unavailable);
        assert!(refused.what().starts_with("no new key is made: "), "{refused}");
    }
    assert_eq!(bench.files(), before);
}

impl Bench {
    /// Empties the folder, but for the lock that a running server may hold.
    fn empty(&self) {
        for (path, _) in self.files() {
            std::fs::remove_file(path).unwrap();
        }
    }

    /// The names of the files that were set aside.
    fn set_aside(&self) -> Vec<PathBuf> {
        let files = self.files().into_iter().map(|(path, _)| path);
        files.filter(|path| path.display().to_string().contains(".before-rescue-")).collect()
    }

    /// Every version as a new process has it, and as `server` has it.
    fn agrees(&self, server: &Custodian) {
        let new = self.custodian(Role::Reader);
        assert_eq!(new.keys().len(), server.keys().len());
        for info in server.keys() {
            let KeyName::Id(id) = info.key.name else { panic!("{}", info.key) };
            let bytes = |custodian: &Custodian| {
                let key = custodian.key(id, info.key.version).unwrap();
                key.key().expose().to_vec()
            };
            assert!(bytes(&new) == bytes(server), "{}", info.key);
            assert_eq!(new.latest(id), server.latest(id));
        }
        let state = |custodian: &Custodian| -> Vec<_> {
            custodian.keys().iter().map(|info| (info.key.clone(), info.state)).collect()
        };
        assert_eq!(state(&new), state(server));
    }
}

#[test]
fn the_keys_in_memory_are_rescued_from_an_empty_folder() {
    let bench = Bench::new();
    let server = bench.custodian(Role::Daemon);
    server.rotate(Which::One(key(7)), REASON).unwrap();
    let whole = server.rescue(REASON).unwrap();
    assert_eq!((whole.versions, whole.aside), (0, None), "nothing to rescue");
    bench.empty();
    server.refresh().unwrap_err();
    let rescued = server.rescue(REASON).unwrap();
    assert_eq!((rescued.path, rescued.versions, rescued.aside), (bench.path(), 4, None));
    assert!(server.status().degraded.is_none());
    bench.agrees(&server);
    server.rotate(Which::All, REASON).unwrap();
    bench.agrees(&server);
    assert_eq!(server.rescue(REASON).unwrap().versions, 0);
    let trail = keyward::event::Trail::beside(&bench.path()).read().unwrap();
    assert_eq!(trail[1].event, keyward::event::Event::Rescued);
    assert_eq!(trail[1].keys.len(), 4);
}

#[test]
fn what_is_in_the_place_of_the_keystore_is_set_aside_and_stays() {
    let bench = Bench::new();
    let older = bench.files();
    let server = bench.custodian(Role::Daemon);
    server.rotate(Which::All, REASON).unwrap();
    let put_back = |bytes: &[u8]| {
        let new = bench.folder.path().join("new");
        std::fs::write(&new, bytes).unwrap();
        std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        std::fs::rename(new, bench.path()).unwrap();
    };
    let copy = &older.iter().find(|(path, _)| *path == bench.path()).unwrap().1;
    for (n, content) in [copy.as_slice(), b"{", b""].into_iter().enumerate() {
        put_back(content);
        server.refresh().unwrap_err();
        let rescued = server.rescue(REASON).unwrap();
        assert_eq!(rescued.versions, server.keys().len());
        let aside = rescued.aside.unwrap();
        assert!(aside.display().to_string().ends_with(&format!("-{}", n + 1)), "{aside:?}");
        assert_eq!(std::fs::read(&aside).unwrap(), content);
        assert_eq!(bench.set_aside().len(), n + 1, "none was overwritten");
        bench.agrees(&server);
        server.rotate(Which::One(key(1)), REASON).unwrap();
    }
}

#[test]
fn a_rescue_that_no_provider_could_open_changes_nothing() {
    let bench = Bench::new();
    let server = bench.custodian(Role::Daemon);
    bench.found(&bench.folder.path().join("other.json"), 9);
    std::fs::rename(bench.folder.path().join("other.json"), bench.path()).unwrap();
    server.refresh().unwrap_err();
    bench.key_store.away.store(true, Ordering::SeqCst);
    let before = bench.files();
    let refused = server.rescue(REASON).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "nothing was rescued, because no provider wraps the keystore: provider \"test\": the key \
         store is away"
    );
    assert_eq!(bench.files(), before);
    bench.key_store.away.store(false, Ordering::SeqCst);
    assert_eq!(server.rescue(REASON).unwrap().versions, 3);
    bench.agrees(&server);
}

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const SECOND: Duration = Duration::from_secs(1);

fn home(mark: Option<&'static str>) -> Home {
    let mark = Box::new(move || mark.map(str::to_owned));
    Home { host: "db1".to_owned(), path: "/var/lib/mysql".to_owned(), mark }
}

fn in_time(what: impl Fn() -> bool) -> bool {
    (0..20).any(|_| within_a_second(&what))
}

/// Long enough for the worker to have looked.
fn let_the_worker_look() {
    std::thread::sleep(Duration::from_millis(1_300));
}

#[test]
fn a_server_registers_its_data_directory_after_a_minute_and_then_daily() {
    let bench = Bench::new();
    let server = bench.custodian(Role::Server);
    server.register(home(Some("mark-1")));
    let first = server.status().generation;
    bench.clock.advance(MINUTE - SECOND);
    let_the_worker_look();
    assert_eq!(server.status().generation, first);
    bench.clock.advance(SECOND);
    assert!(in_time(|| server.status().generation == first + 1));
    let [entry] = &server.data_directories()[..] else { panic!("no entry, or several") };
    assert_eq!((entry.mark.as_str(), entry.host.as_str()), ("mark-1", "db1"));
    assert_eq!(entry.path, "/var/lib/mysql");
    assert_eq!(entry.last_seen, Timestamp::from_unix(1_700_000_060));
    let trail = Trail::beside(&bench.path()).read().unwrap();
    let line = trail.iter().find(|line| line.event == Event::DataDirectoryRegistered).unwrap();
    assert_eq!(line.reason, "data directory /var/lib/mysql on db1, mark mark-1");
    bench.clock.advance(DAY - SECOND);
    let_the_worker_look();
    assert_eq!(server.status().generation, first + 1);
    bench.clock.advance(SECOND);
    assert!(in_time(|| server.status().generation == first + 2));
    server.stop();
    // A start the same day changes nothing.
    let again = bench.custodian(Role::Server);
    again.register(home(Some("mark-1")));
    bench.clock.advance(2 * MINUTE);
    let_the_worker_look();
    assert_eq!(again.status().generation, first + 2);
}

#[test]
fn a_change_that_a_server_makes_anyway_registers_it() {
    let bench = Bench::new();
    let server = bench.custodian(Role::Daemon);
    server.register(home(Some("mark-1")));
    let first = server.status().generation;
    let seen = || server.data_directories().first().map(|one| one.last_seen.as_unix());
    server.rotate(Which::One(key(1)), REASON).unwrap();
    assert_eq!((server.status().generation, seen()), (first + 1, Some(1_700_000_000)));
    bench.clock.advance(MINUTE);
    server.create(key(9), None, REASON).unwrap();
    assert_eq!((server.status().generation, seen()), (first + 2, Some(1_700_000_000)));
    bench.clock.advance(DAY);
    server.rotate(Which::One(key(1)), REASON).unwrap();
    assert_eq!((server.status().generation, seen()), (first + 3, Some(1_700_086_460)));
}

#[test]
fn nobody_else_is_registered() {
    let bench = Bench::new();
    let command = bench.custodian(Role::Command);
    command.register(home(Some("mark-1")));
    command.rotate(Which::One(key(1)), REASON).unwrap();
    assert!(command.data_directories().is_empty());
    let unmarked = bench.custodian(Role::Daemon);
    unmarked.register(home(None));
    unmarked.rotate(Which::One(key(1)), REASON).unwrap();
    assert!(unmarked.data_directories().is_empty());
}

#[test]
fn a_server_that_cannot_be_registered_says_so_once_and_serves() {
    let bench = Bench::new();
    let server = bench.custodian(Role::Server);
    server.register(home(Some("mark-1")));
    let trail = bench.folder.path().join("audit.jsonl");
    let aside = bench.folder.path().join("aside");
    std::fs::rename(&trail, &aside).unwrap();
    std::fs::create_dir(&trail).unwrap();
    let told = || {
        let lines = bench.log.lines();
        let lines = lines.iter().filter(|(level, _)| *level == Level::Warning);
        lines.filter(|(_, line)| line.starts_with("this server could not be registered")).count()
    };
    bench.clock.advance(MINUTE);
    assert!(in_time(|| told() == 1));
    for _ in 0..2 {
        bench.clock.advance(60 * MINUTE);
        let_the_worker_look();
    }
    assert_eq!(told(), 1);
    assert_eq!(server.latest(key(1)), Some(version(1)));
    std::fs::remove_dir(&trail).unwrap();
    std::fs::rename(&aside, &trail).unwrap();
    bench.clock.advance(60 * MINUTE);
    assert!(in_time(|| server.data_directories().len() == 1));
}
