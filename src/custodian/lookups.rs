//! Keys that are asked for one at a time, and again when an answer is too old: as the plugins do that
//! keyward stands in for.
//!
//! What is in memory goes on serving whatever becomes of the key store: InnoDB ends the server when
//! a version that it was given is invalid later.

#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::held::{Guard, Held};
use super::{MAX_ABSENT, Shared, lock};
use crate::env::Level;
use crate::error::Kind;
use crate::key::{KeyId, KeyVersion};
use crate::ring::{Ring, RingKey};
use crate::source::{LookupOptions, millis};

/// For how long a key store that could not be asked is left alone, where memory has the answer.
const BACK_OFF: Duration = Duration::from_secs(5);

/// What the threads that ask remember together. Times are milliseconds since the start.
pub(super) struct Lookups {
    options: Arc<LookupOptions>,
    began: Instant,
    /// Until when memory answers without the key store being asked.
    not_before: AtomicU64,
    /// What was not there and has been told of. It is asked for again each time all the same: whoever
    /// has just put it there means to use it.
    absent: Mutex<HashSet<(KeyId, Option<KeyVersion>)>>,
}

impl Lookups {
    pub(super) fn new(options: Arc<LookupOptions>) -> Self {
        let (not_before, absent) = (AtomicU64::new(0), Mutex::default());
        Self { options, began: Instant::now(), not_before, absent }
    }

    fn now(&self) -> u64 {
        millis(self.began.elapsed())
    }

    /// Whether what was heard at the time `asked` needs no second look.
    fn believes(&self, asked: Option<u64>, version: Option<KeyVersion>, now: u64) -> bool {
        let age = self.options.age(version);
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
        let source = match known && lookups.options.age(version) > 0 {
            true => self.try_source(),
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
        self.ask(lookups, &mut source, id, version, is_known(&self.ring));
    }

    fn ask(
        &self,
        lookups: &Lookups,
        source: &mut Held<'_>,
        id: KeyId,
        version: Option<KeyVersion>,
        known: bool,
    ) {
        let at = lookups.now();
        let Guard::LookedUp(looked_up) = &mut **source else { return };
        let outcome = looked_up.look_up(id, version);
        let asked = |version| self.ring.note_asked(id, version, at);
        match &outcome {
            Ok(()) => {
                // The newest came with its key. What cannot be noted is asked for again.
                let came = version.or_else(|| self.ring.latest(id));
                let _ = asked(version).and_then(|()| asked(came));
                self.note_outcome(None, &***source);
            }
            Err(error) if error.kind() == Kind::NotFound => {
                self.note_outcome(known.then_some(error), &***source);
                if known {
                    let _ = asked(version);
                } else if lookups.remember_absent(id, version) {
                    self.env.log.log(Level::Note, &error.to_string());
                }
            }
            Err(error) => {
                self.note_outcome(Some(error), &***source);
                let until = lookups.now().saturating_add(millis(BACK_OFF));
                lookups.not_before.store(until, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32};

    use super::*;
    use crate::custodian::{Custodian, Role};
    use crate::env::fake::FakeLog;
    use crate::env::{Deadline, Env};
    use crate::error::{Error, Result};
    use crate::key::Cipher;
    use crate::provider::{Found, KeyLookup};
    use crate::secret::DataKey;
    use crate::source::{LookupSource, NamedLookup};

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
        options: Arc<LookupOptions>,
        log: Arc<FakeLog>,
    }

    /// A minute and for ever, as the original has it.
    fn bench() -> Bench {
        let (store, options) = (Arc::new(Store::default()), Arc::new(LookupOptions::default()));
        store.newest.store(1, Ordering::SeqCst);
        options.set_patience(Duration::from_secs(1), 0);
        options.set_ages(Duration::from_secs(60), Duration::MAX);
        let lookup = NamedLookup {
            name: "test".to_owned(),
            store: Box::new(Arc::clone(&store)),
            options: Arc::clone(&options),
        };
        let log = Arc::new(FakeLog::default());
        let env = Env::system(Arc::clone(&log) as _);
        let source = LookupSource::new(lookup);
        let custodian = Custodian::start(source, Role::Reader, env).unwrap();
        Bench { custodian, store, options, log }
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
        bench.options.set_ages(Duration::ZERO, Duration::ZERO);
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
        bench.options.set_ages(Duration::ZERO, Duration::ZERO);
        bench.options.set_patience(Duration::from_secs(1), 1);
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
        bench.options.set_ages(Duration::from_secs(60), Duration::ZERO);
        std::thread::sleep(Duration::from_millis(2));
        assert!(has(&bench, 2));
        assert!(bench.custodian.status().degraded.is_some());
    }
}
