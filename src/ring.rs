//! The in-memory table of keys that the server's threads read: append-only, and wait-free for readers.
//!
//! A look-up takes no lock, allocates nothing and makes no system call; its cost does not grow with
//! the number of threads. A mutex has writers take turns. The ring drops no key while the server runs;
//! `docs/adr/0003-append-only-ring.md` says why.

#![forbid(unsafe_code)]

mod named;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

pub use named::{NamedKey, NamedKeys};

use crate::error::{Error, Kind, Result};
use crate::key::{CheckValue, Cipher, KeyId, KeyRef, KeyVersion};
use crate::secret::DataKey;

/// One version of a key as the server may use it. Never changes once it is in a ring, but for whether it was used.
pub struct RingKey {
    key: DataKey,
    cipher: Cipher,
    check: CheckValue,
    used: AtomicBool,
}

impl RingKey {
    /// `key`, to be used with `cipher`.
    #[must_use]
    pub fn new(key: DataKey, cipher: Cipher) -> Self {
        let check = key.check_value();
        Self { key, cipher, check, used: AtomicBool::new(false) }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &DataKey {
        &self.key
    }

    /// How pages are encrypted with it.
    #[must_use]
    pub fn cipher(&self) -> Cipher {
        self.cipher
    }

    /// The key's check value.
    #[must_use]
    pub fn check(&self) -> CheckValue {
        self.check
    }

    /// Notes that the server has it. Reads one flag after the first time, and writes nothing that other threads read.
    #[inline]
    pub fn note_use(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the server has had it.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }
}

/// Told of keys before the server may use them, in the thread that adds them.
pub trait Watch: Send + Sync {
    /// The versions in `ring`, and MySQL's keys `named`, may be used as soon as this returns.
    fn before_use(&self, ring: &Ring, named: &NamedKeys);
}

/// From which version to which each of some keys went.
pub type Turned = BTreeMap<KeyId, (KeyVersion, KeyVersion)>;

/// The keys in memory, and which version of each is the latest.
#[derive(Default)]
pub struct Ring {
    keys: Index<RingKey>,
    latest: Index<AtomicU32>,
    /// When each key was last looked up.
    asked: Index<AtomicU64>,
    /// Keys whose latest version is another one, from which to which, until somebody has taken note.
    turned: Mutex<Turned>,
    writer: Mutex<()>,
    named: RwLock<Arc<NamedKeys>>,
    watch: OnceLock<Arc<dyn Watch>>,
}

impl Ring {
    /// A ring without keys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The version of `id` that encrypts, if one was ever activated. Wait-free.
    #[inline]
    #[must_use]
    pub fn latest(&self, id: KeyId) -> Option<KeyVersion> {
        let version = self.latest.get(id_slot(id))?.load(Ordering::Acquire);
        KeyVersion::new(version)
    }

    /// Version `version` of key `id`. Wait-free.
    #[inline]
    #[must_use]
    pub fn get(&self, id: KeyId, version: KeyVersion) -> Option<&RingKey> {
        self.keys.get(key_slot(id, version))
    }

    /// Adds a version; it does not become the latest by that. Adding what already exists changes
    /// nothing.
    ///
    /// # Errors
    /// `Conflict` where the same version is there with another key or another cipher; what was there
    /// stays.
    pub fn insert(&self, id: KeyId, version: KeyVersion, key: RingKey) -> Result<()> {
        let turn = self.turn();
        self.check(id, version, &key)?;
        match self.get(id, version) {
            None => self.keys.append(&turn, key_slot(id, version), key),
            Some(_) => Ok(()),
        }
    }

    /// Whether [`insert`](Self::insert) would take `key` as that version.
    ///
    /// # Errors
    /// As of `insert`.
    pub fn check(&self, id: KeyId, version: KeyVersion, key: &RingKey) -> Result<()> {
        let Some(old) = self.get(id, version) else { return Ok(()) };
        if old.check == key.check && old.cipher == key.cipher {
            return Ok(());
        }
        let differs = if old.check == key.check { "cipher" } else { "key" };
        let key = KeyRef::new(id, version);
        Err(Error::new(Kind::Conflict, format!("{key} is in use with another {differs}"))
            .advise("keep the one in use; data was encrypted with it"))
    }

    /// Makes `version` the latest of `id`, also where a higher one was: a rotation can be undone.
    ///
    /// # Errors
    /// `NotFound` where that version was not inserted before; the latest stays what it was.
    pub fn activate(&self, id: KeyId, version: KeyVersion) -> Result<()> {
        let turn = self.turn();
        if self.get(id, version).is_none() {
            let key = KeyRef::new(id, version);
            return Err(Error::new(Kind::NotFound, format!("cannot activate {key}: not loaded")));
        }
        match self.latest.get(id_slot(id)) {
            Some(latest) => {
                let before = latest.swap(version.get(), Ordering::AcqRel);
                if let Some(before) = KeyVersion::new(before).filter(|before| *before != version) {
                    self.turned().entry(id).or_insert((before, version)).1 = version;
                }
                Ok(())
            }
            None => self.latest.append(&turn, id_slot(id), AtomicU32::new(version.get())),
        }
    }

    /// Whether [`Self::take_turned`] may have something.
    #[must_use]
    pub fn has_turned(&self) -> bool {
        !self.turned().is_empty()
    }

    /// The keys whose latest version is another one than when this was called last.
    #[must_use]
    pub fn take_turned(&self) -> Turned {
        let mut turned = std::mem::take(&mut *self.turned());
        turned.retain(|_, (before, now)| before != now);
        turned
    }

    /// When [`Self::note_asked`] noted that `id`, or that version of it, was asked for. Wait-free.
    #[inline]
    #[must_use]
    pub fn asked(&self, id: KeyId, version: Option<KeyVersion>) -> Option<u64> {
        self.asked.get(asked_slot(id, version)).map(|at| at.load(Ordering::Acquire))
    }

    /// Notes that the key store was asked for `id`, or that version of it, at the time `at`.
    pub fn note_asked(&self, id: KeyId, version: Option<KeyVersion>, at: u64) -> Result<()> {
        let turn = self.turn();
        let slot = asked_slot(id, version);
        match self.asked.get(slot) {
            Some(place) => {
                place.fetch_max(at, Ordering::AcqRel);
                Ok(())
            }
            None => self.asked.append(&turn, slot, AtomicU64::new(at)),
        }
    }

    /// MySQL's keys as they are now.
    #[must_use]
    pub fn named(&self) -> Arc<NamedKeys> {
        Arc::clone(&self.named.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts `keys` in the place of MySQL's keys so far.
    pub fn set_named(&self, keys: NamedKeys) {
        if let Some(watch) = self.watch.get() {
            watch.before_use(self, &keys);
        }
        *self.named.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// Has `watch` told from now on of what the server may use; the first one stays.
    pub fn watch(&self, watch: Arc<dyn Watch>) {
        let _ = self.watch.set(watch);
    }

    /// To be called between inserting versions and activating them: tells the watch.
    pub fn announce(&self) {
        if let Some(watch) = self.watch.get() {
            watch.before_use(self, &self.named());
        }
    }

    /// The versions in the ring, over all of MariaDB's keys, in no order.
    #[must_use]
    pub fn versions(&self) -> Vec<(KeyId, KeyVersion)> {
        self.keys.numbers().into_iter().filter_map(of_slot).collect()
    }

    /// How many versions are in the ring, over all of MariaDB's keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len.load(Ordering::Acquire)
    }

    /// Whether the ring has no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn turned(&self) -> MutexGuard<'_, Turned> {
        self.turned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no other thread writes. A writer that panicked left nothing half done: each
    /// change becomes visible by one last atomic store.
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn id_slot(id: KeyId) -> u64 {
    u64::from(id.get())
}

fn key_slot(id: KeyId, version: KeyVersion) -> u64 {
    u64::from(id.get()) << 32 | u64::from(version.get())
}

/// What [`key_slot`] made a number of.
fn of_slot(slot: u64) -> Option<(KeyId, KeyVersion)> {
    let half = |number: u64| u32::try_from(number & u64::from(u32::MAX)).ok();
    Some((KeyId::new(half(slot >> 32)?)?, KeyVersion::new(half(slot)?)?))
}

/// No version is 0, so that an id by itself has a slot of its own.
fn asked_slot(id: KeyId, version: Option<KeyVersion>) -> u64 {
    version.map_or(u64::from(id.get()) << 32, |version| key_slot(id, version))
}

/// Slots of the first table; each later one has twice as many as the one before.
const FIRST_SLOTS: usize = 64;

/// How many tables there can be: the last has 2^37 slots, more than all 2^32 ids of one version.
const TABLES: usize = 32;

/// An append-only hash map from numbers to values, with readers that never wait.
///
/// Values are found by open addressing in a table of write-once slots. When a table is half full,
/// one of twice the size gets all that it holds and becomes the current one; the old table stays,
/// so that nobody who is reading it is disturbed. All tables share the values.
struct Index<V> {
    tables: [OnceLock<Table<V>>; TABLES],
    current: AtomicUsize,
    len: AtomicUsize,
}

impl<V> Default for Index<V> {
    fn default() -> Self {
        Self {
            tables: [const { OnceLock::new() }; TABLES],
            current: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
        }
    }
}

impl<V> Index<V> {
    #[inline]
    fn get(&self, number: u64) -> Option<&V> {
        self.tables.get(self.current.load(Ordering::Acquire))?.get()?.get(number)
    }

    /// The numbers that have a value.
    fn numbers(&self) -> Vec<u64> {
        let table = self.tables.get(self.current.load(Ordering::Acquire)).and_then(OnceLock::get);
        let slots = table.into_iter().flat_map(|table| table.slots.iter());
        slots.filter_map(OnceLock::get).map(|entry| entry.number).collect()
    }

    /// Adds a value for a number that has none; whoever calls has the writers' turn.
    fn append(&self, _turn: &MutexGuard<'_, ()>, number: u64, value: V) -> Result<()> {
        let full = || Error::new(Kind::Internal, "the key table is full");
        let len = self.len.load(Ordering::Acquire);
        let current = self.current.load(Ordering::Acquire);
        let last = self.tables.get(current).and_then(OnceLock::get);
        let entry = Entry { number, value: Arc::new(value) };
        match last {
            Some(table) if table.has_room(len) => table.put(entry).ok_or_else(full)?,
            _ => {
                let next = current + usize::from(last.is_some());
                let table = Table::twice(last)?;
                table.put(entry).ok_or_else(full)?;
                self.tables.get(next).and_then(|to| to.set(table).ok()).ok_or_else(full)?;
                self.current.store(next, Ordering::Release);
            }
        }
        self.len.store(len + 1, Ordering::Release);
        Ok(())
    }
}

/// Write-once slots; their number is a power of two and less than half of them are ever used.
struct Table<V> {
    slots: Box<[OnceLock<Entry<V>>]>,
    shift: u32,
}

struct Entry<V> {
    number: u64,
    value: Arc<V>,
}

impl<V> Table<V> {
    /// A table with twice as many slots as `old` and everything that is in it.
    fn twice(old: Option<&Self>) -> Result<Self> {
        let size = old.map_or(FIRST_SLOTS, |old| old.slots.len() * 2);
        let mut slots = Vec::new();
        slots
            .try_reserve_exact(size)
            .map_err(|_| Error::new(Kind::Internal, "no memory for a larger key table"))?;
        slots.resize_with(size, OnceLock::new);
        let table = Self { slots: slots.into(), shift: u64::BITS - size.trailing_zeros() };
        for entry in old.iter().flat_map(|old| old.slots.iter()).filter_map(OnceLock::get) {
            let copy = Entry { number: entry.number, value: Arc::clone(&entry.value) };
            table.put(copy).ok_or_else(|| Error::new(Kind::Internal, "the key table is full"))?;
        }
        Ok(table)
    }

    fn has_room(&self, used: usize) -> bool {
        used < self.slots.len() / 2
    }

    #[inline]
    fn get(&self, number: u64) -> Option<&V> {
        let mut at = self.home(number);
        // Ends, because at least half of the slots are empty.
        loop {
            let entry = self.slots.get(at)?.get()?;
            if entry.number == number {
                return Some(&entry.value);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// Puts `entry` into the first free slot of its row, or tells that there is none.
    fn put(&self, mut entry: Entry<V>) -> Option<()> {
        let home = self.home(entry.number);
        for step in 0..self.slots.len() {
            let slot = self.slots.get((home + step) & (self.slots.len() - 1))?;
            match slot.set(entry) {
                Ok(()) => return Some(()),
                Err(back) => entry = back,
            }
        }
        None
    }

    /// Where to look first: Fibonacci hashing (Knuth, volume 3, section 6.4), after the high half,
    /// the id, was folded into the low one.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "less than slots.len(), which is a usize")]
    fn home(&self, number: u64) -> usize {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let mixed = (number ^ (number >> 32).wrapping_mul(GOLDEN)).wrapping_mul(GOLDEN);
        (mixed >> self.shift) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn id(number: u32) -> KeyId {
        KeyId::try_from(number).unwrap()
    }

    fn version(number: u32) -> KeyVersion {
        KeyVersion::try_from(number).unwrap()
    }

    fn key(byte: u8) -> RingKey {
        RingKey::new(DataKey::copy_of(&[byte; 32]).unwrap(), Cipher::DEFAULT)
    }

    #[test]
    fn an_empty_ring_knows_nothing() {
        let ring = Ring::new();
        assert!(ring.is_empty());
        assert_eq!(ring.latest(KeyId::SYSTEM), None);
        assert!(ring.get(KeyId::SYSTEM, KeyVersion::FIRST).is_none());
    }

    #[test]
    fn what_is_inserted_is_served_but_latest_only_when_activated() {
        let ring = Ring::new();
        ring.insert(id(1), version(1), key(1)).unwrap();
        ring.insert(id(1), version(3), key(3)).unwrap();
        assert_eq!(ring.latest(id(1)), None);
        ring.activate(id(1), version(3)).unwrap();
        assert_eq!(ring.latest(id(1)), Some(version(3)));
        assert_eq!(ring.get(id(1), version(1)).unwrap().key().expose(), [1; 32]);
        assert_eq!(ring.get(id(1), version(3)).unwrap().cipher(), Cipher::DEFAULT);
        assert!(ring.get(id(1), version(2)).is_none());
        assert!(ring.get(id(3), version(1)).is_none());
        assert_eq!(ring.len(), 2);
    }

    #[test]
    fn a_watch_is_told_before_the_server_may_use_a_key() {
        #[derive(Default)]
        struct Seen(Mutex<Vec<Told>>);
        type Told = (Vec<(KeyId, KeyVersion)>, Option<KeyVersion>);
        impl Watch for Seen {
            fn before_use(&self, ring: &Ring, _: &NamedKeys) {
                let seen = (ring.versions(), ring.latest(id(1)));
                self.0.lock().unwrap().push(seen);
            }
        }
        let (ring, seen) = (Ring::new(), Arc::new(Seen::default()));
        ring.insert(id(1), version(1), key(1)).unwrap();
        ring.announce();
        ring.watch(Arc::clone(&seen) as Arc<dyn Watch>);
        ring.announce();
        ring.activate(id(1), version(1)).unwrap();
        ring.set_named(NamedKeys::default());
        let told = seen.0.lock().unwrap();
        let versions = vec![(id(1), version(1))];
        assert_eq!(*told, [(versions.clone(), None), (versions, Some(version(1)))]);
    }

    #[test]
    fn a_rotation_can_be_undone() {
        let ring = Ring::new();
        ring.insert(id(1), version(1), key(1)).unwrap();
        ring.insert(id(1), version(3), key(3)).unwrap();
        ring.activate(id(1), version(3)).unwrap();
        ring.activate(id(1), version(1)).unwrap();
        assert_eq!(ring.latest(id(1)), Some(version(1)));
        assert!(ring.get(id(1), version(3)).is_some());
    }

    #[test]
    fn a_turn_is_noted_once() {
        let ring = Ring::new();
        for one in [1_u8, 3, 5] {
            ring.insert(id(1), version(one.into()), key(one)).unwrap();
        }
        ring.activate(id(1), version(1)).unwrap();
        ring.activate(id(1), version(1)).unwrap();
        assert!(ring.take_turned().is_empty());
        ring.activate(id(1), version(3)).unwrap();
        ring.activate(id(1), version(5)).unwrap();
        assert_eq!(ring.take_turned(), Turned::from([(id(1), (version(1), version(5)))]));
        assert!(ring.take_turned().is_empty());
        ring.activate(id(1), version(3)).unwrap();
        ring.activate(id(1), version(5)).unwrap();
        assert!(ring.take_turned().is_empty());
    }

    #[test]
    fn the_same_key_again_changes_nothing() {
        let ring = Ring::new();
        ring.insert(id(1), version(1), key(1)).unwrap();
        ring.insert(id(1), version(1), key(1)).unwrap();
        assert_eq!(ring.len(), 1);
    }

    #[test]
    fn another_key_for_a_version_in_use_is_refused() {
        let ring = Ring::new();
        ring.insert(id(2), version(5), key(1)).unwrap();
        let refused = ring.insert(id(2), version(5), key(2)).unwrap_err();
        assert_eq!(refused.kind(), Kind::Conflict);
        assert_eq!(refused.what(), "key 2 version 5 is in use with another key");
        assert_eq!(ring.get(id(2), version(5)).unwrap().key().expose(), [1; 32]);
    }

    #[test]
    fn another_cipher_for_a_version_in_use_is_refused() {
        let ring = Ring::new();
        ring.insert(id(2), version(5), key(1)).unwrap();
        let cbc = RingKey::new(DataKey::copy_of(&[1; 32]).unwrap(), "aes-256-cbc".parse().unwrap());
        let refused = ring.insert(id(2), version(5), cbc).unwrap_err();
        assert_eq!(refused.what(), "key 2 version 5 is in use with another cipher");
    }

    #[test]
    fn a_version_that_is_not_loaded_cannot_be_activated() {
        let ring = Ring::new();
        ring.insert(id(1), version(1), key(1)).unwrap();
        ring.activate(id(1), version(1)).unwrap();
        let refused = ring.activate(id(1), version(2)).unwrap_err();
        assert_eq!(refused.kind(), Kind::NotFound);
        assert_eq!(refused.what(), "cannot activate key 1 version 2: not loaded");
        assert_eq!(ring.latest(id(1)), Some(version(1)));
    }

    #[test]
    fn keys_stay_where_they_are_while_the_table_grows() {
        let ring = Ring::new();
        ring.insert(id(7), version(1), key(7)).unwrap();
        let first: *const RingKey = ring.get(id(7), version(1)).unwrap();
        for number in 1..=100 {
            for step in 1..=20 {
                ring.insert(id(1000 + number), version(step), key(1)).unwrap();
            }
            ring.activate(id(1000 + number), version(number % 20 + 1)).unwrap();
        }
        assert_eq!(ring.len(), 2001);
        assert!(std::ptr::eq(first, ring.get(id(7), version(1)).unwrap()));
        for number in 1..=100 {
            assert_eq!(ring.latest(id(1000 + number)), Some(version(number % 20 + 1)));
            for step in 1..=20 {
                assert!(ring.get(id(1000 + number), version(step)).is_some());
            }
            assert!(ring.get(id(1000 + number), version(21)).is_none());
        }
    }

    #[test]
    fn readers_never_lose_a_key_while_a_writer_adds_others() {
        let ring = Ring::new();
        ring.insert(id(1), version(1), key(1)).unwrap();
        ring.activate(id(1), version(1)).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| {
                    while !done.load(Ordering::Acquire) {
                        let latest = ring.latest(id(1)).unwrap();
                        let found = ring.get(id(1), latest).unwrap();
                        assert_eq!(u32::from(found.key().expose()[0]), latest.get() % 251);
                    }
                });
            }
            for number in 2..=500u32 {
                let byte = u8::try_from(number % 251).unwrap();
                ring.insert(id(1), version(number), key(byte)).unwrap();
                ring.activate(id(1), version(number)).unwrap();
            }
            done.store(true, Ordering::Release);
        });
        assert_eq!(ring.len(), 500);
    }

    #[test]
    fn rows_stay_short_for_the_numbers_that_servers_use() {
        let longest = |pairs: &mut dyn Iterator<Item = (u32, u32)>| {
            let mut taken = std::collections::HashMap::new();
            let table = Table::<()> { slots: Box::new([]), shift: u64::BITS - 15 };
            for (id, version) in pairs {
                let home = table.home(u64::from(id) << 32 | u64::from(version));
                *taken.entry(home).or_insert(0) += 1;
            }
            taken.into_values().max().unwrap()
        };
        let many_ids = longest(&mut (1..=10_000).map(|id| (id, 1)));
        let many_versions = longest(&mut (1..=10_000).map(|step| (1, 2 * step)));
        let both = longest(&mut (1..=100).flat_map(|id| (1..=100).map(move |v| (id, v))));
        assert!(
            many_ids <= 6 && many_versions <= 6 && both <= 6,
            "{many_ids} {many_versions} {both}"
        );
    }
}
