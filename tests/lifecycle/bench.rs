//! A keystore in a folder of its own, and key stores that remember what they wrapped.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keyward::custodian::Custodian;
use keyward::env::fake::{FakeClock, FakeLog, FakeRng};
use keyward::env::{Deadline, Env, Timestamp};
use keyward::key::{Cipher, KeyId, KeyRef, KeyVersion};
use keyward::manager::Manager;
use keyward::provider::{KekInfo, KeyWrapper, Probe, WrapContext, WrappedKey};
use keyward::secret::DataKey;
use keyward::source::{NamedWrapper, Reason, Role};
use keyward::store::{Keystore, StoreFile};
use keyward::{Error, Kind, Result};

pub(crate) const REASON: Reason<'_> = Reason { actor: "test", text: "because" };
pub(crate) const START: Timestamp = Timestamp::from_unix(1_700_000_000);

pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) first: Arc<KeyStore>,
    pub(crate) second: Arc<KeyStore>,
    pub(crate) rng: Arc<FakeRng>,
    pub(crate) log: Arc<FakeLog>,
    pub(crate) clock: Arc<FakeClock>,
}

/// "Wraps" by putting its key's name and version and the context before the key.
pub(crate) struct KeyStore {
    name: &'static str,
    pub(crate) calls: AtomicUsize,
    pub(crate) away: AtomicBool,
    pub(crate) kek_version: AtomicU64,
    /// While a test has it, calls wait.
    pub(crate) gate: Mutex<()>,
    /// What happens elsewhere during the next call.
    meanwhile: Mutex<Option<Meanwhile>>,
}

type Meanwhile = Box<dyn FnOnce() + Send>;

impl Bench {
    /// Keys 1, 2 and 7, wrapped by the key store "first".
    pub(crate) fn new() -> Self {
        let bench = Self::without_keys();
        let custodian = bench.custodian(&["first"]);
        for id in [1, 2, 7] {
            custodian.create(key(id), None, REASON).unwrap();
        }
        bench.first.calls.store(0, Ordering::SeqCst);
        bench
    }

    pub(crate) fn without_keys() -> Self {
        let bench = Self {
            folder: tempfile::tempdir().unwrap(),
            first: Arc::new(KeyStore::new("first")),
            second: Arc::new(KeyStore::new("second")),
            rng: Arc::new(FakeRng::new(7)),
            log: Arc::default(),
            clock: Arc::new(FakeClock::at(START)),
        };
        let store_key = DataKey::generate(32, &*bench.rng).unwrap();
        let id = Keystore::new_id(&*bench.rng).unwrap();
        let wrapping =
            bench.wrapper("first").wrap(&store_key, &Keystore::first_context(&id)).unwrap();
        let keystore =
            Keystore::create(&id, store_key, vec![wrapping], START, &*bench.rng).unwrap();
        let file = StoreFile::at(bench.path());
        let lock = file.lock(soon()).unwrap();
        file.commit(&lock, &keystore, &*bench.rng).unwrap();
        bench
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("keystore.json")
    }

    pub(crate) fn env(&self) -> Env {
        Env { clock: self.clock.clone(), rng: self.rng.clone(), log: self.log.clone() }
    }

    pub(crate) fn wrapper(&self, name: &str) -> NamedWrapper {
        let key_store = if name == "first" { &self.first } else { &self.second };
        NamedWrapper {
            name: name.to_owned(),
            timeout: Duration::from_secs(1),
            wrapper: Box::new(Shared(key_store.clone())),
        }
    }

    pub(crate) fn source(&self, providers: &[&str]) -> Manager {
        let wrappers = providers.iter().map(|name| self.wrapper(name)).collect();
        Manager::new(StoreFile::at(self.path()), wrappers, Cipher::DEFAULT, 2, self.env())
    }

    pub(crate) fn start(&self, providers: &[&str], role: Role) -> Result<Custodian> {
        Custodian::start(self.source(providers), role, self.env())
    }

    pub(crate) fn custodian(&self, providers: &[&str]) -> Custodian {
        self.start(providers, Role::Command).unwrap()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }

    /// The events of the audit trail, without those that only announce.
    pub(crate) fn events(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("audit.jsonl")).unwrap();
        let event = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["event"].as_str().unwrap().to_owned()
        };
        text.lines().map(event).filter(|event| event != "intended").collect()
    }
}

struct Shared(Arc<KeyStore>);

impl KeyStore {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            calls: AtomicUsize::new(0),
            away: AtomicBool::new(false),
            kek_version: AtomicU64::new(1),
            gate: Mutex::default(),
            meanwhile: Mutex::default(),
        }
    }

    /// Has something happen elsewhere during the next call.
    pub(crate) fn meanwhile(&self, what: impl FnOnce() + Send + 'static) {
        *self.meanwhile.lock().unwrap() = Some(Box::new(what));
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.swap(0, Ordering::SeqCst)
    }

    pub(crate) fn go_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    fn answer<T>(&self, answer: impl FnOnce() -> Result<T>) -> Result<T> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let meanwhile = self.meanwhile.lock().unwrap().take();
        meanwhile.into_iter().for_each(|happen| happen());
        let _open = self.gate.lock().unwrap();
        if self.away.load(Ordering::SeqCst) {
            return Err(Error::new(Kind::Unavailable, "the key store is away"));
        }
        answer()
    }

    fn wrapped(&self, data: &[u8], context: &WrapContext) -> WrappedKey {
        let mut blob = context.to_bytes();
        blob.extend(data);
        WrappedKey {
            kek: format!("{}:{}", self.name, self.kek_version.load(Ordering::SeqCst)),
            algorithm: "none".into(),
            parameters: Default::default(),
            blob,
        }
    }

    fn unwrapped(&self, wrapped: &WrappedKey, context: &WrapContext) -> Result<DataKey> {
        if !wrapped.kek.starts_with(self.name) {
            return Err(Error::new(Kind::NotMine, "another wrapping key made it"));
        }
        match wrapped.blob.strip_prefix(context.to_bytes().as_slice()) {
            Some(data) => DataKey::copy_of(data),
            None => Err(Error::new(Kind::Corrupt, "another context")),
        }
    }
}

impl KeyWrapper for Shared {
    fn wrap(&self, data: &DataKey, context: &WrapContext, _: Deadline) -> Result<WrappedKey> {
        self.0.answer(|| Ok(self.0.wrapped(data.expose(), context)))
    }

    fn unwrap(&self, wrapped: &WrappedKey, context: &WrapContext, _: Deadline) -> Result<DataKey> {
        self.0.answer(|| self.0.unwrapped(wrapped, context))
    }

    fn rewrap(
        &self,
        wrapped: &WrappedKey,
        context: &WrapContext,
        _: Deadline,
    ) -> Result<WrappedKey> {
        self.0.answer(|| {
            let data = self.0.unwrapped(wrapped, context)?;
            Ok(self.0.wrapped(data.expose(), context))
        })
    }

    fn describe(&self, _: Deadline) -> Result<KekInfo> {
        Err(Error::new(Kind::Unsupported, "nothing to tell"))
    }

    fn probe(&self, _: Deadline) -> Result<Probe> {
        self.0.answer(|| Ok(Probe::default()))
    }
}

pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
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

pub(crate) fn within_seconds(seconds: u64, what: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(seconds) {
        if what() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}
