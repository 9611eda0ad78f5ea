//! Keys that are looked up one at a time, and again when what was said is too old: as the plugins do
//! that keyward stands in for.
//!
//! What is in memory goes on serving whatever becomes of the key store: InnoDB ends the server when
//! a version that it was given is invalid later.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::summary::Held;
use super::{Chore, KeySource, MAX_ABSENT, Reason, Shared, Which, lock};
use crate::env::{Deadline, Level};
use crate::error::{Error, Kind, Result};
use crate::key::{Cipher, KeyId, KeyInfo, KeyRef, KeyState, KeyVersion};
use crate::provider::{Found, KeyLookup};
use crate::ring::{Ring, RingKey};

/// For how long a key store that could not be asked is left alone, where memory has the answer.
const BACK_OFF: Duration = Duration::from_secs(5);

/// The pause before a second attempt; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// How often and how patiently a key store is asked. It may change while keys are served.
#[derive(Default)]
pub struct Terms {
    /// Milliseconds that one attempt may take.
    timeout: AtomicU64,
    /// How often an attempt that failed for now is repeated.
    retries: AtomicU32,
    /// For how many milliseconds it is believed which version is the newest.
    newest_age: AtomicU64,
    /// For how many milliseconds a key is believed to be what it was.
    key_age: AtomicU64,
}

impl Terms {
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

    fn age(&self, version: Option<KeyVersion>) -> u64 {
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
    pub terms: Arc<Terms>,
}

/// One key store that is asked key by key, as a source.
pub struct LookupSource {
    lookup: NamedLookup,
    known: BTreeMap<KeyRef, KeyInfo>,
}

impl LookupSource {
    /// The keys of `lookup`; nothing is asked yet.
    #[must_use]
    pub fn new(lookup: NamedLookup) -> Self {
        Self { lookup, known: BTreeMap::new() }
    }

    /// Asks, and again as often as the terms say where the failure may pass by itself.
    fn patiently<T>(&self, ask: impl Fn(&dyn KeyLookup, Deadline) -> Result<T>) -> Result<T> {
        let terms = &self.lookup.terms;
        let mut left = terms.retries.load(Ordering::Relaxed);
        let mut pause = FIRST_PAUSE;
        loop {
            match ask(&*self.lookup.store, Deadline::after(terms.timeout())) {
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

    fn note(&mut self, key: KeyRef, check: crate::key::CheckValue, cipher: Cipher, newest: bool) {
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
    fn has_changed(&self) -> bool {
        false
    }

    fn chores(&self) -> Vec<Chore> {
        let upkeep = self.lookup.store.upkeep();
        let chore = |upkeep| Chore::new(&self.lookup.name, self.lookup.terms.timeout(), upkeep);
        upkeep.map(chore).into_iter().collect()
    }

    fn load(&mut self, _: &Ring) -> Result<()> {
        self.patiently(|store, by| store.begin(by))
    }

    fn terms(&self) -> Option<Arc<Terms>> {
        Some(Arc::clone(&self.lookup.terms))
    }

    fn look_up(&mut self, ring: &Ring, id: KeyId, version: Option<KeyVersion>) -> Result<()> {
        let Found { version: found, data, cipher } = match version {
            None => self.patiently(|store, by| store.newest(id, by))?,
            Some(version) => self.patiently(|store, by| store.version(id, version, by))?,
        };
        let key = RingKey::new(data, cipher);
        let check = key.check();
        ring.insert(id, found, key)?;
        if version.is_none() {
            ring.activate(id, found)?;
        }
        self.note(KeyRef::new(id, found), check, cipher, version.is_none());
        Ok(())
    }

    fn rotate(&mut self, _: &Ring, _: Which, _: Reason<'_>) -> Result<Vec<KeyRef>> {
        Err(self.unsupported())
    }

    fn create(&mut self, _: &Ring, _: KeyId, _: Option<Cipher>, _: Reason<'_>) -> Result<KeyRef> {
        Err(self.unsupported())
    }

    fn keys(&self) -> Vec<KeyInfo> {
        self.known.values().cloned().collect()
    }

    fn generation(&self) -> u64 {
        0
    }

    fn provider(&self) -> &str {
        &self.lookup.name
    }
}

/// What the threads that ask remember together. Times are milliseconds since the start.
pub(super) struct Lookups {
    terms: Arc<Terms>,
    began: Instant,
    /// Until when memory answers without the key store being asked.
    not_before: AtomicU64,
    /// What was not there and has been told of. It is asked for again each time all the same: whoever
    /// has just put it there means to use it.
    absent: Mutex<HashSet<(KeyId, Option<KeyVersion>)>>,
}

impl Lookups {
    pub(super) fn new(terms: Arc<Terms>) -> Self {
        let (not_before, absent) = (AtomicU64::new(0), Mutex::default());
        Self { terms, began: Instant::now(), not_before, absent }
    }

    fn now(&self) -> u64 {
        millis(self.began.elapsed())
    }

    /// Whether what was heard at the time `asked` needs no second look.
    fn believes(&self, asked: Option<u64>, version: Option<KeyVersion>, now: u64) -> bool {
        let age = self.terms.age(version);
        now < self.not_before.load(Ordering::Relaxed)
            || asked.is_some_and(|at| now.saturating_sub(at) < age)
    }

    /// Whether this is news.
    fn remember_absent(&self, id: KeyId, version: Option<KeyVersion>) -> bool {
        let mut absent = lock(&self.absent);
        if absent.len() >= MAX_ABSENT {
            absent.clear();
        }
        absent.insert((id, version))
    }
}

impl Shared {
    /// The version of `id` that encrypts, if that is known or can be asked.
    pub(super) fn latest_of(&self, lookups: &Lookups, id: KeyId) -> Option<KeyVersion> {
        let known = self.ring.latest(id).is_some();
        self.ask_if_old(lookups, id, None, known);
        self.ring.latest(id)
    }

    /// Version `version` of key `id`, if it is known or can be asked for.
    pub(super) fn key_of(
        &self,
        lookups: &Lookups,
        id: KeyId,
        version: KeyVersion,
    ) -> Option<&RingKey> {
        let known = self.ring.get(id, version).is_some();
        self.ask_if_old(lookups, id, Some(version), known);
        self.ring.get(id, version)
    }

    fn ask_if_old(&self, lookups: &Lookups, id: KeyId, version: Option<KeyVersion>, known: bool) {
        let now = lookups.now();
        if known && lookups.believes(self.ring.asked(id, version), version, now) {
            return;
        }
        // What is only older than wished goes on serving while another thread asks.
        let source = match known && lookups.terms.age(version) > 0 {
            true => Held::try_new(&self.source, &self.summary),
            false => Some(self.source()),
        };
        let Some(mut source) = source else { return };
        let is_known = |ring: &Ring| match version {
            None => ring.latest(id).is_some(),
            Some(version) => ring.get(id, version).is_some(),
        };
        // While this one waited, another may have asked for the same, or met a store that is away.
        let heard = self.ring.asked(id, version).is_some_and(|at| at >= now);
        if is_known(&self.ring) && (heard || lookups.believes(None, version, lookups.now())) {
            return;
        }
        self.ask(lookups, &mut *source, id, version, is_known(&self.ring));
    }

    fn ask(
        &self,
        lookups: &Lookups,
        source: &mut dyn KeySource,
        id: KeyId,
        version: Option<KeyVersion>,
        known: bool,
    ) {
        let at = lookups.now();
        let outcome = source.look_up(&self.ring, id, version);
        let asked = |version| self.ring.note_asked(id, version, at);
        match &outcome {
            Ok(()) => {
                // The newest came with its key. What cannot be noted is asked for again.
                let came = version.or_else(|| self.ring.latest(id));
                let _ = asked(version).and_then(|()| asked(came));
                self.note_outcome(None, source);
            }
            Err(error) if error.kind() == Kind::NotFound => {
                self.note_outcome(known.then_some(error), source);
                if known {
                    let _ = asked(version);
                } else if lookups.remember_absent(id, version) {
                    self.env.log.log(Level::Note, &error.to_string());
                }
            }
            Err(error) => {
                self.note_outcome(Some(error), source);
                let until = lookups.now().saturating_add(millis(BACK_OFF));
                lookups.not_before.store(until, Ordering::Relaxed);
            }
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::custodian::{Custodian, Role};
    use crate::env::Env;
    use crate::env::fake::FakeLog;
    use crate::secret::DataKey;

    /// Key 1, whose newest version can be raised; it counts who asks.
    #[derive(Default)]
    struct Store {
        newest: AtomicU32,
        asked: AtomicU32,
        away: AtomicBool,
    }

    impl Store {
        fn asked(&self) -> u32 {
            self.asked.swap(0, Ordering::SeqCst)
        }

        fn answer(&self, id: KeyId, version: Option<KeyVersion>) -> Result<Found> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.away.load(Ordering::SeqCst) {
                return Err(Error::new(Kind::Unavailable, "the store is away"));
            }
            let newest = self.newest.load(Ordering::SeqCst);
            let version = version.map_or(newest, KeyVersion::get);
            if id != KeyId::SYSTEM || version > newest {
                return Err(Error::new(Kind::NotFound, format!("no key {id}")));
            }
            Ok(Found {
                version: KeyVersion::try_from(version)?,
                data: DataKey::copy_of(&[version as u8; 32])?,
                cipher: Cipher::DEFAULT,
            })
        }
    }

    impl KeyLookup for Arc<Store> {
        fn begin(&self, _: Deadline) -> Result<()> {
            Ok(())
        }

        fn newest(&self, id: KeyId, _: Deadline) -> Result<Found> {
            self.answer(id, None)
        }

        fn version(&self, id: KeyId, version: KeyVersion, _: Deadline) -> Result<Found> {
            self.answer(id, Some(version))
        }
    }

    struct Bench {
        custodian: Custodian,
        store: Arc<Store>,
        terms: Arc<Terms>,
        log: Arc<FakeLog>,
    }

    /// A minute and for ever, as the original has it.
    fn bench() -> Bench {
        let (store, terms) = (Arc::new(Store::default()), Arc::new(Terms::default()));
        store.newest.store(1, Ordering::SeqCst);
        terms.set_patience(Duration::from_secs(1), 0);
        terms.set_ages(Duration::from_secs(60), Duration::MAX);
        let lookup = NamedLookup {
            name: "test".to_owned(),
            store: Box::new(Arc::clone(&store)),
            terms: Arc::clone(&terms),
        };
        let log = Arc::new(FakeLog::default());
        let env = Env::system(Arc::clone(&log) as _);
        let source = Box::new(LookupSource::new(lookup));
        let custodian = Custodian::start(source, Role::Reader, env).unwrap();
        Bench { custodian, store, terms, log }
    }

    fn latest(bench: &Bench, id: u32) -> Option<u32> {
        bench.custodian.latest(KeyId::try_from(id).unwrap()).map(KeyVersion::get)
    }

    fn has(bench: &Bench, version: u32) -> bool {
        bench.custodian.key(KeyId::SYSTEM, KeyVersion::try_from(version).unwrap()).is_some()
    }

    #[test]
    fn a_key_is_asked_for_once_while_what_was_said_is_believed() {
        let bench = bench();
        assert_eq!(bench.store.asked(), 0, "before anybody wants a key");
        for _ in 0..3 {
            assert_eq!(latest(&bench, 1), Some(1));
            assert!(has(&bench, 1));
        }
        assert_eq!(bench.store.asked(), 1);
        bench.store.newest.store(2, Ordering::SeqCst);
        assert_eq!(latest(&bench, 1), Some(1), "within the minute");
        assert!(has(&bench, 2), "a version that is wanted by its number is asked for");
        assert_eq!(bench.store.asked(), 1);
    }

    #[test]
    fn without_an_age_every_question_goes_to_the_store() {
        let bench = bench();
        assert_eq!(latest(&bench, 1), Some(1));
        bench.terms.set_ages(Duration::ZERO, Duration::ZERO);
        bench.store.newest.store(2, Ordering::SeqCst);
        bench.store.asked();
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(latest(&bench, 1), Some(2));
        std::thread::sleep(Duration::from_millis(2));
        assert!(has(&bench, 1));
        assert_eq!(bench.store.asked(), 2);
    }

    #[test]
    fn what_is_in_memory_serves_while_the_store_is_away() {
        let bench = bench();
        assert_eq!(latest(&bench, 1), Some(1));
        bench.store.away.store(true, Ordering::SeqCst);
        bench.terms.set_ages(Duration::ZERO, Duration::ZERO);
        bench.terms.set_patience(Duration::from_secs(1), 1);
        bench.store.asked();
        std::thread::sleep(Duration::from_millis(2));
        for _ in 0..10 {
            assert_eq!(latest(&bench, 1), Some(1));
            assert!(has(&bench, 1));
        }
        assert_eq!(bench.store.asked(), 2, "one attempt, one repetition, then it is left alone");
        assert!(bench.custodian.status().degraded.is_some());
        assert_eq!(latest(&bench, 7), None);
        assert_eq!(bench.store.asked(), 2, "a key that is not in memory is asked for all the same");
        let lines = bench.log.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].1.ends_with("the store is away"), "{lines:?}");
    }

    #[test]
    fn an_absent_key_is_asked_for_each_time_and_told_of_once() {
        let bench = bench();
        for _ in 0..5 {
            assert_eq!(latest(&bench, 33), None);
        }
        assert_eq!(bench.store.asked(), 5);
        assert!(bench.custodian.status().degraded.is_none());
        assert_eq!(bench.log.lines(), [(Level::Note, "no key 33".to_owned())]);
        assert!(!has(&bench, 2), "nobody has put it there yet");
        bench.store.newest.store(2, Ordering::SeqCst);
        assert!(has(&bench, 2), "a key is there as soon as it was put there");
    }

    #[test]
    fn a_version_that_vanished_goes_on_serving() {
        let bench = bench();
        bench.store.newest.store(2, Ordering::SeqCst);
        assert_eq!(latest(&bench, 1), Some(2));
        bench.store.newest.store(1, Ordering::SeqCst);
        bench.terms.set_ages(Duration::from_secs(60), Duration::ZERO);
        std::thread::sleep(Duration::from_millis(2));
        assert!(has(&bench, 2));
        assert!(bench.custodian.status().degraded.is_some());
    }
}
