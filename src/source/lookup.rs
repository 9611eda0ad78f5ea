//! Keys that are looked up one at a time in a key store that is not listed.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use super::{KeySource, Looked, Maintenance, Reason, Role, SourceState, Which};
use crate::env::Deadline;
use crate::error::{Error, Kind, Result};
use crate::key::{CheckValue, Cipher, KeyId, KeyInfo, KeyRef, KeyState, KeyVersion};
use crate::provider::{Found, KeyLookup};
use crate::ring::{Ring, RingKey};

/// The pause before a second attempt; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// How often and how patiently a key store is asked. It may change while keys are served.
#[derive(Default)]
pub struct LookupOptions {
    /// Milliseconds that one attempt may take.
    timeout: AtomicU64,
    /// How often an attempt that failed for now is repeated.
    retries: AtomicU32,
    /// Cache time of the newest version, in ms.
    newest_age: AtomicU64,
    /// Cache time of a key, in ms.
    key_age: AtomicU64,
}

impl LookupOptions {
    /// How long one attempt may take, and how often it is repeated.
    pub fn set_patience(&self, timeout: Duration, retries: u32) {
        self.timeout.store(millis(timeout), Ordering::Relaxed);
        self.retries.store(retries, Ordering::Relaxed);
    }

    /// For how long it is believed which version of a key is the newest, and that a version is the
    /// key that it was; zero = never.
    pub fn set_ages(&self, newest: Duration, key: Duration) {
        self.newest_age.store(millis(newest), Ordering::Relaxed);
        self.key_age.store(millis(key), Ordering::Relaxed);
    }

    /// How long one attempt may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout.load(Ordering::Relaxed))
    }

    /// Cache time of that version, or of the newest, in ms.
    pub(crate) fn age(&self, version: Option<KeyVersion>) -> u64 {
        let age = if version.is_some() { &self.key_age } else { &self.newest_age };
        age.load(Ordering::Relaxed)
    }
}

/// A key store that is asked, under the name that people know it by.
pub struct NamedLookup {
    /// Its name.
    pub name: String,
    /// The key store.
    pub store: Box<dyn KeyLookup>,
    /// How it is asked.
    pub options: Arc<LookupOptions>,
}

/// One key store that is asked key by key, as a source.
pub struct LookupSource {
    lookup: NamedLookup,
    ring: Arc<Ring>,
    known: BTreeMap<KeyRef, KeyInfo>,
}

impl LookupSource {
    /// The keys of `lookup`; nothing is asked yet.
    #[must_use]
    pub fn new(lookup: NamedLookup) -> Self {
        Self { lookup, ring: Arc::default(), known: BTreeMap::new() }
    }

    /// How it is asked.
    #[must_use]
    pub fn options(&self) -> Arc<LookupOptions> {
        Arc::clone(&self.lookup.options)
    }

    /// Asks for key `id` alone, or for that version of it, and puts it into the ring.
    pub fn look_up(&mut self, id: KeyId, version: Option<KeyVersion>) -> Result<()> {
        let Found { version: found, data, cipher } = match version {
            None => self.patiently(|store, by| store.newest(id, by))?,
            Some(version) => self.patiently(|store, by| store.version(id, version, by))?,
        };
        let key = RingKey::new(data, cipher);
        let check = key.check();
        self.ring.insert(id, found, key)?;
        if version.is_none() {
            self.ring.activate(id, found)?;
        }
        self.note(KeyRef::new(id, found), check, cipher, version.is_none());
        Ok(())
    }

    /// Asks, and again as often as the options say where the failure may pass by itself.
    fn patiently<T>(&self, ask: impl Fn(&dyn KeyLookup, Deadline) -> Result<T>) -> Result<T> {
        let options = &self.lookup.options;
        let mut left = options.retries.load(Ordering::Relaxed);
        let mut pause = FIRST_PAUSE;
        loop {
            match ask(&*self.lookup.store, Deadline::after(options.timeout())) {
                Err(error) if error.is_transient() && left > 0 => sleep(pause),
                outcome => return outcome,
            }
            left -= 1;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    fn unsupported(&self) -> Error {
        let what = format!("{} only looks keys up", self.lookup.name);
        Error::new(Kind::Unsupported, what).advise("make or rotate them in the key store itself")
    }

    fn note(&mut self, key: KeyRef, check: CheckValue, cipher: Cipher, newest: bool) {
        if newest {
            for info in self.known.values_mut().filter(|info| info.key.name == key.name) {
                info.state = KeyState::Retired;
            }
        }
        let state = match self.known.get(&key) {
            _ if newest => KeyState::Active,
            Some(before) => before.state,
            None => KeyState::Retired,
        };
        let info = KeyInfo {
            key: key.clone(),
            state,
            purpose: cipher.into(),
            created: None,
            check: Some(check),
        };
        self.known.insert(key, info);
    }
}

impl KeySource for LookupSource {
    fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    fn begin(&mut self, _: Role) {}

    fn has_changed(&self) -> bool {
        false
    }

    fn load(&mut self) -> Result<()> {
        self.patiently(|store, by| store.begin(by))
    }

    fn look_for(&mut self, id: KeyId, _: bool) -> Result<Looked> {
        self.look_up(id, None).map(|()| Looked::ReadAgain)
    }

    fn rotate(&mut self, _: Which, _: Reason<'_>) -> Result<Vec<KeyRef>> {
        Err(self.unsupported())
    }

    fn create(&mut self, _: KeyId, _: Option<Cipher>, _: Reason<'_>) -> Result<KeyRef> {
        Err(self.unsupported())
    }

    fn keys(&self) -> Vec<KeyInfo> {
        self.known.values().cloned().collect()
    }

    fn state(&self) -> SourceState {
        SourceState { provider: self.lookup.name.clone(), ..SourceState::default() }
    }

    fn maintenance(&self) -> Vec<Maintenance> {
        let NamedLookup { name, store, options } = &self.lookup;
        let maintenance = store.maintenance();
        let due = |maintenance| Maintenance::new(name, options.timeout(), maintenance);
        maintenance.map(due).into_iter().collect()
    }
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
