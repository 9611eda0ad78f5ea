//! A keystore in a folder of its own, and two key stores.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use keyward::Result;
use keyward::custodian::Custodian;
use keyward::env::fake::{FakeClock, FakeLog, FakeRng};
use keyward::env::{Deadline, Env, Timestamp};
use keyward::key::{Cipher, KeyId, KeyRef, KeyVersion};
use keyward::manager::Manager;
use keyward::secret::DataKey;
use keyward::source::{NamedWrapper, Reason, Role};
use keyward::store::{Keystore, StoreFile};

use crate::key_store::{KeyStore, Shared};

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
