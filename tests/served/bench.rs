//! A key store that serves, another that wraps, and a custodian on them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keyward::custodian::Custodian;
use keyward::env::fake::{FakeClock, FakeLog, FakeRng};
use keyward::env::{Deadline, Env, Level, Timestamp};
use keyward::key::{Cipher, KeyId, KeyInfo, KeyRef, KeyState, KeyVersion};
use keyward::provider::{KeyServer, Probe};
use keyward::secret::DataKey;
use keyward::source::{NamedServer, NamedWrapper, Reason, Role, ServedSource, Stash};
use keyward::store::StoreFile;
use keyward::{Error, Kind, Result};

use crate::key_store::{KeyStore, Shared};

pub(crate) const REASON: Reason<'_> = Reason { actor: "test", text: "because" };
pub(crate) const NOW: Timestamp = Timestamp::from_unix(1_772_366_400);

/// Serves what it is told to.
#[derive(Default)]
pub(crate) struct Server {
    keys: Mutex<BTreeMap<KeyRef, (KeyState, Vec<u8>)>>,
    /// What it answers instead, and after how long.
    failing: Mutex<Option<(Kind, Duration)>>,
    /// Whether it goes away once it has stored a key.
    dies_after_storing: AtomicBool,
    /// Whether its replies to what is stored are lost.
    loses_replies: AtomicBool,
    calls: AtomicUsize,
    /// Whether a listing has no check values.
    tells_little: AtomicBool,
}

struct Of(Arc<Server>);

pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) server: Arc<Server>,
    pub(crate) sealer: Arc<KeyStore>,
    pub(crate) log: Arc<FakeLog>,
    pub(crate) clock: Arc<FakeClock>,
    rng: Arc<FakeRng>,
}

impl Bench {
    /// Keys 1 and 2 with one version each.
    pub(crate) fn new() -> Self {
        let (server, sealer) = (Arc::new(Server::default()), KeyStore::new("test"));
        // As the golden files have it.
        sealer.kek_version.store(0, Ordering::SeqCst);
        server.set(1, 1, KeyState::Active);
        server.set(2, 1, KeyState::Active);
        Self {
            folder: tempfile::tempdir().unwrap(),
            server,
            sealer: Arc::new(sealer),
            log: Arc::default(),
            clock: Arc::new(FakeClock::at(NOW)),
            rng: Arc::new(FakeRng::new(3)),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("stash.json")
    }

    pub(crate) fn env(&self) -> Env {
        Env { clock: self.clock.clone(), rng: self.rng.clone(), log: self.log.clone() }
    }

    pub(crate) fn source(&self) -> ServedSource {
        ServedSource::new(self.named_server()(), Cipher::DEFAULT, self.env())
    }

    /// Opens the key store as often as wanted.
    pub(crate) fn named_server(&self) -> impl Fn() -> NamedServer + Send + use<> {
        let server = self.server.clone();
        move || NamedServer {
            name: "vault".into(),
            timeout: Duration::from_secs(5),
            refresh: Duration::from_secs(600),
            server: Box::new(Of(server.clone())),
        }
    }

    /// The same for the stash.
    pub(crate) fn stash_maker(&self) -> impl Fn() -> Stash + Send + use<> {
        let (path, sealer, env) = (self.path(), self.sealer.clone(), self.env());
        move || {
            let wrapper = Box::new(Shared(sealer.clone()));
            let timeout = Duration::from_secs(5);
            let wrappers = vec![NamedWrapper { name: "local".to_owned(), timeout, wrapper }];
            Stash::new(StoreFile::at(&path), wrappers, "test keys", None, env.clone())
        }
    }

    pub(crate) fn wrappers(&self, names: &[&str]) -> Vec<NamedWrapper> {
        let wrapper = |name: &&str| NamedWrapper {
            name: (*name).to_owned(),
            timeout: Duration::from_secs(5),
            wrapper: Box::new(Shared(self.sealer.clone())),
        };
        names.iter().map(wrapper).collect()
    }

    pub(crate) fn stash(&self, max_age: Option<Duration>) -> Stash {
        let file = StoreFile::at(self.path());
        Stash::new(file, self.wrappers(&["local"]), "test keys", max_age, self.env())
    }

    /// Without a worker: it reads when it is told to.
    pub(crate) fn start(&self, source: ServedSource) -> Result<Custodian> {
        Custodian::start(source, Role::Daemon, self.env())
    }

    pub(crate) fn with_stash(&self) -> Result<Custodian> {
        self.start(self.source().with_stash(self.stash(None)))
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        let lines = self.log.lines().into_iter();
        lines.filter(|(level, _)| *level == Level::Warning).map(|(_, line)| line).collect()
    }
}

impl Server {
    /// Version `version` of key `id`: always the same key.
    pub(crate) fn set(&self, id: u32, version: u32, state: KeyState) {
        let seed = u64::from(id) << 32 | u64::from(version);
        let data = DataKey::generate(32, &FakeRng::new(seed)).unwrap();
        self.put_bytes(id, version, state, data.expose());
    }

    /// The same key in another state.
    pub(crate) fn set_state(&self, id: u32, version: u32, state: KeyState) {
        self.keys.lock().unwrap().get_mut(&key_ref(id, version)).unwrap().0 = state;
    }

    /// Lists from now on without check values.
    pub(crate) fn hide_checks(&self) {
        self.tells_little.store(true, Ordering::SeqCst);
    }

    /// As if that version had never been.
    pub(crate) fn forget(&self, id: u32, version: u32) {
        self.keys.lock().unwrap().remove(&key_ref(id, version));
    }

    pub(crate) fn put_bytes(&self, id: u32, version: u32, state: KeyState, bytes: &[u8]) {
        self.keys.lock().unwrap().insert(key_ref(id, version), (state, bytes.to_vec()));
    }

    pub(crate) fn fail(&self, kind: impl Into<Option<Kind>>) {
        *self.failing.lock().unwrap() = kind.into().map(|kind| (kind, Duration::ZERO));
    }

    pub(crate) fn die_after_storing(&self) {
        self.dies_after_storing.store(true, Ordering::SeqCst);
    }

    pub(crate) fn lose_replies(&self) {
        self.loses_replies.store(true, Ordering::SeqCst);
    }

    pub(crate) fn fail_slowly(&self, kind: Kind, after: Duration) {
        *self.failing.lock().unwrap() = Some((kind, after));
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.swap(0, Ordering::SeqCst)
    }

    fn answer<T>(&self, answer: impl FnOnce() -> Result<T>) -> Result<T> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let failing = *self.failing.lock().unwrap();
        match failing {
            Some((kind, after)) => {
                std::thread::sleep(after);
                Err(Error::new(kind, "the key store is away"))
            }
            None => answer(),
        }
    }
}

impl KeyServer for Of {
    fn list(&self, _: Deadline) -> Result<Vec<KeyInfo>> {
        self.0.answer(|| {
            let keys = self.0.keys.lock().unwrap();
            let info = |(key, (state, bytes)): (&KeyRef, &(KeyState, Vec<u8>))| KeyInfo {
                key: key.clone(),
                state: *state,
                purpose: Cipher::DEFAULT.into(),
                created: Some(NOW),
                check: (!self.0.tells_little.load(Ordering::SeqCst))
                    .then(|| DataKey::copy_of(bytes).unwrap().check_value()),
            };
            Ok(keys.iter().map(info).collect())
        })
    }

    fn fetch(&self, key: &KeyRef, _: Deadline) -> Result<DataKey> {
        self.0.answer(|| DataKey::copy_of(&self.0.keys.lock().unwrap()[key].1))
    }

    fn put(&self, key: &KeyRef, data: &DataKey, _: Deadline) -> Result<()> {
        self.0.answer(|| {
            let mut keys = self.0.keys.lock().unwrap();
            for (_, (state, _)) in keys.iter_mut().filter(|(old, _)| old.name == key.name) {
                *state = KeyState::Retired;
            }
            keys.insert(key.clone(), (KeyState::Active, data.expose().to_vec()));
            if self.0.dies_after_storing.load(Ordering::SeqCst) {
                self.0.fail(Kind::Unavailable);
            }
            match self.0.loses_replies.load(Ordering::SeqCst) {
                true => Err(Error::new(Kind::Timeout, "no answer in time")),
                false => Ok(()),
            }
        })
    }

    fn remove(&self, _: &KeyRef, _: Deadline) -> Result<()> {
        Err(Error::new(Kind::Unsupported, "it stays"))
    }

    fn probe(&self, _: Deadline) -> Result<Probe> {
        self.0.answer(|| Ok(Probe::default()))
    }

    fn identity(&self) -> String {
        "keys".to_owned()
    }

    fn place(&self) -> String {
        "the test's folder".to_owned()
    }
}

pub(crate) fn key(id: u32) -> KeyId {
    KeyId::try_from(id).unwrap()
}

pub(crate) fn version(number: u32) -> KeyVersion {
    KeyVersion::try_from(number).unwrap()
}

pub(crate) fn key_ref(id: u32, number: u32) -> KeyRef {
    KeyRef::new(key(id), version(number))
}

/// What `work` gives, and how long it took.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let done = work();
    (done, began.elapsed())
}
