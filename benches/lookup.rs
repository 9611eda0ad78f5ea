//! Key look-up: the ring against a map behind a lock, with one and with two threads.
//!
//! `cargo bench --bench lookup`. An operation is what the server does for a page: the latest version of
//! a key id, then that version's key.
#![allow(clippy::expect_used)]

#[path = "common/mod.rs"]
mod common;

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Mutex, RwLock};
use std::time::Instant;

use common::median;
use keyward::key::{Cipher, KeyId, KeyVersion};
use keyward::ring::{Ring, RingKey};
use keyward::secret::DataKey;

/// Keys and versions of each.
const IDS: u32 = 100;
const VERSIONS: u32 = 10;

/// Look-ups between two readings of the clock.
const LAP: u32 = 2000;

/// Latest versions, and keys.
type Maps = (HashMap<u32, u32>, HashMap<(u32, u32), RingKey>);

fn id(number: u32) -> KeyId {
    KeyId::new(number).expect("an id")
}

fn version(number: u32) -> KeyVersion {
    KeyVersion::new(number).expect("a version")
}

fn key() -> RingKey {
    RingKey::new(DataKey::copy_of(&[7; 32]).expect("a key"), Cipher::DEFAULT)
}

/// The same keys in a ring and in maps.
struct Keys {
    ring: Ring,
    mutex: Mutex<Maps>,
    rwlock: RwLock<Maps>,
}

impl Keys {
    fn new() -> Self {
        let ring = Ring::new();
        let mut maps = [Maps::default(), Maps::default()];
        for number in 1..=IDS {
            for step in 1..=VERSIONS {
                ring.insert(id(number), version(step), key()).expect("insert");
                for map in &mut maps {
                    map.1.insert((number, step), key());
                }
            }
            ring.activate(id(number), version(VERSIONS)).expect("activate");
            for map in &mut maps {
                map.0.insert(number, VERSIONS);
            }
        }
        let [first, second] = maps;
        Self { ring, mutex: Mutex::new(first), rwlock: RwLock::new(second) }
    }

    fn latest_in_ring(&self, number: u32) {
        black_box(self.ring.latest(id(number)));
    }

    fn key_in_ring(&self, number: u32) {
        black_box(self.ring.get(id(number), version(1 + number % VERSIONS)).is_some());
    }

    fn both_in_ring(&self, number: u32) {
        let latest = self.ring.latest(id(number)).expect("a latest version");
        black_box(self.ring.get(id(number), latest).is_some());
    }

    fn both_in_mutex(&self, number: u32) {
        let maps = self.mutex.lock().expect("lock");
        let latest = maps.0[&number];
        black_box(maps.1.contains_key(&(number, latest)));
    }

    fn both_in_rwlock(&self, number: u32) {
        let maps = self.rwlock.read().expect("lock");
        let latest = maps.0[&number];
        black_box(maps.1.contains_key(&(number, latest)));
    }

    /// The harness itself.
    fn nothing(&self, number: u32) {
        black_box(number);
    }
}

/// Nanoseconds an operation, in each of `threads` threads at once: the median of many laps.
fn lap(threads: usize, keys: &Keys, work: fn(&Keys, u32)) -> f64 {
    let one = |from: u32| {
        let laps = (0..50).map(|_| {
            let start = Instant::now();
            for i in 0..LAP {
                work(keys, black_box(1 + (from + i) % IDS));
            }
            start.elapsed().as_nanos() as f64 / f64::from(LAP)
        });
        median(laps.collect())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> =
            (1..threads).map(|n| scope.spawn(move || one(n as u32 * 37))).collect();
        let own = one(0);
        others.into_iter().map(|other| other.join().expect("ran")).fold(own, f64::max)
    })
}

fn main() {
    type Work = fn(&Keys, u32);
    let works: [(&str, Work); 6] = [
        ("nothing", Keys::nothing),
        ("ring: latest", Keys::latest_in_ring),
        ("ring: get", Keys::key_in_ring),
        ("ring: latest and get", Keys::both_in_ring),
        ("Mutex<HashMap>: both", Keys::both_in_mutex),
        ("RwLock<HashMap>: both", Keys::both_in_rwlock),
    ];
    println!("CPU: {}", common::cpu());
    println!("{IDS} keys of {VERSIONS} versions; ns an operation, the harness included\n");
    let keys = Keys::new();
    let rounds = if std::env::var_os("KEYWARD_BENCH_SECONDS").is_some() { 5 } else { 60 };
    let mut times = vec![[Vec::new(), Vec::new()]; works.len()];
    for round in 0..rounds {
        for turn in 0..works.len() {
            let at = (turn + round) % works.len();
            for threads in 1..=2 {
                times[at][threads - 1].push(lap(threads, &keys, works[at].1));
            }
        }
    }
    println!("| | 1 thread | 2 threads |\n|---|---|---|");
    for ((name, _), [one, two]) in works.iter().zip(&times) {
        println!("| {name} | {:.1} | {:.1} |", median(one.clone()), median(two.clone()));
    }
    println!();
    let ratio = |a: &[f64], b: &[f64]| median(a.iter().zip(b).map(|(a, b)| a / b).collect());
    let ring = &times[3];
    for (at, name) in [(4, "mutex"), (5, "rwlock")] {
        println!("ratio lookup/{name}/1 {:.2}", ratio(&times[at][0], &ring[0]));
        println!("ratio lookup/{name}/2 {:.2}", ratio(&times[at][1], &ring[1]));
    }
    println!("ratio lookup/ring/two-threads {:.3}", ratio(&ring[0], &ring[1]));
    println!("ns lookup/ring/latest {:.1}", median(times[1][0].clone()));
    println!("ns lookup/ring/get {:.1}", median(times[2][0].clone()));
}
