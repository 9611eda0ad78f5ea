//! What 10, 1,000 and 10,000 keys cost: `cargo bench --bench keystore`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../tests/common/keystores.rs"]
mod keystores;

use std::fs;
use std::time::{Duration, Instant};

use keyward::env::{Deadline, System};
use keyward::key::{KeyRef, KeyState};
use keyward::secret::{DataKey, lock_state, scrubbed};
use keyward::store::{Change, KeyEntry, Keystore, STORE_KEY_LEN, Sealed, StoreFile};

use keystores::{NOW, keystore, open, rotated, store_key};

const SIZES: [u32; 3] = [10, 1_000, 10_000];

/// Each is done so often, and the fastest time told.
const ROUNDS: usize = 7;

fn main() {
    SIZES.into_iter().for_each(measure);
    assert!(store_key().expose().len() == STORE_KEY_LEN);
}

fn measure(keys: u32) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = StoreFile::at(folder.path().join("keystore.json"));
    let mut keystore = committed(&file, &keystore(keys));
    let bytes = fs::read(file.path()).expect("the keystore");
    println!(
        "\n{keys} keys, {} bytes a key on disk, {} in all",
        bytes.len() / keys as usize,
        bytes.len()
    );

    show("parse", || {
        Sealed::parse(&bytes).expect("it parses");
    });
    show("read, parse, verify", || {
        open(&file).expect("it opens");
    });
    show("read, parse, verify, unwrap all", || {
        let keystore = open(&file).expect("it opens");
        assert_eq!(all_keys(&keystore).len(), keys as usize);
    });
    let mut version = 1;
    show("lock, read, open, rotate one, commit", || {
        version += 2;
        keystore = committed(&file, &rotated(&open(&file).expect("it opens"), keys / 2, version));
    });
    show("the same, the keystore open already", || {
        version += 2;
        keystore = committed(&file, &rotated(&keystore, keys / 2, version));
    });
    show("new store key: wrap all again, commit", || {
        let new = DataKey::generate(STORE_KEY_LEN, &System).expect("a key");
        let wrappings = keystore.contents().wrappings().to_vec();
        let next = keystore.with_store_key(new, wrappings, NOW, &System).expect("wrapped again");
        keystore = committed(&file, &next);
    });
    show("one change of state, not written", || {
        let change = Change { at: NOW, actor: "bench".to_owned(), reason: String::new() };
        let key = keystores::key(7, 1);
        keystore.with_state(&key, KeyState::Retired, &change).expect("retired");
    });
    let keys = all_keys(&keystore);
    println!("{} keys in memory: {}", keys.len(), lock_state());
}

fn all_keys(keystore: &Keystore) -> Vec<DataKey> {
    let newest =
        |key: &KeyEntry| KeyRef::new(key.name().clone(), key.newest().expect("a version").version);
    let keys = keystore.contents().keys().map(newest);
    scrubbed(|| keys.map(|key| keystore.data_key(&key).expect("it opens")).collect())
}

fn committed(file: &StoreFile, changed: &Keystore) -> Keystore {
    let lock = file.lock(Deadline::after(Duration::from_secs(5))).expect("the lock");
    file.commit(&lock, changed, &System).expect("the commit").0
}

fn show(what: &str, mut work: impl FnMut()) {
    let times = (0..ROUNDS).map(|_| {
        let (start, start_cpu) = (Instant::now(), on_cpu());
        work();
        (start.elapsed(), on_cpu().saturating_sub(start_cpu))
    });
    let times: Vec<_> = times.collect();
    let least = |time: fn(&(Duration, Duration)) -> Duration| {
        times.iter().map(time).min().unwrap_or_default().as_secs_f64() * 1000.0
    };
    println!(
        "{what:<40} {:>8.2} ms, {:>8.2} ms of CPU",
        least(|time| time.0),
        least(|time| time.1)
    );
}

/// How long this thread has run so far, which other load on the machine does not change.
fn on_cpu() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let spent = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(spent.unwrap_or(0))
}
