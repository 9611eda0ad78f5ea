//! After work with a keystore, no memory that a core dump has in it holds a key of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use keyward::cipher::{Mode, Series};
use keyward::env::{Deadline, System, Timestamp};
use keyward::key::{Cipher, KeyId, KeyRef, KeyState, KeyVersion};
use keyward::provider::WrappedKey;
use keyward::secret::DataKey;
use keyward::store::{Change, Keystore, NewVersion, STORE_KEY_LEN, StoreFile, Wrapping};

const KEYS: u32 = 50;
const NOW: Timestamp = Timestamp::from_unix(1_772_366_400);

#[test]
fn no_key_is_left_outside_of_locked_memory() {
    let known = b"keyward finds this if it looks....".to_vec();
    assert!(!found(&[&known]).is_empty(), "the search finds what lies open");

    let folder = tempfile::tempdir().unwrap();
    let file = StoreFile::at(folder.path().join("keystore.json"));
    // Random numbers that the kernel writes straight into locked memory.
    let generate = |len| DataKey::generate(len, &System).unwrap();
    let (first, second) = (generate(STORE_KEY_LEN), generate(STORE_KEY_LEN));
    let copy = |key: &DataKey| DataKey::copy_of(key.expose()).unwrap();
    let keys: Vec<_> = (1..=KEYS).map(|_| generate(32)).collect();

    let id = Keystore::new_id(&System).unwrap();
    let mut keystore = Keystore::create(&id, copy(&first), vec![wrapping()], NOW, &System).unwrap();
    for (data, id) in keys.iter().zip(1..) {
        let new = NewVersion {
            key: key(id),
            purpose: Cipher::DEFAULT.into(),
            data,
            state: KeyState::Active,
            created: NOW,
        };
        keystore = keystore.with_version(&new, &change(), &System).unwrap();
    }
    let keystore = commit(&file, &keystore);
    let next = keystore.with_store_key(copy(&second), vec![wrapping()], NOW, &System).unwrap();
    commit(&file, &next);
    let opened = file.read().unwrap().0.open(copy(&second)).unwrap();
    let served: Vec<_> = (1..=KEYS).map(|id| opened.data_key(&key(id)).unwrap()).collect();

    let secrets = keys.iter().chain([&first, &second]).map(DataKey::expose);
    let secrets: Vec<_> = secrets.collect();
    assert_eq!(found(&secrets), [0_usize; 0], "addresses of keys in dumped memory");
    assert!(served.iter().zip(&keys).all(|(a, b)| a.expose() == b.expose()));
}

#[test]
fn what_a_key_is_expanded_to_is_in_locked_memory() {
    let key = DataKey::generate(32, &System).unwrap();
    for mode in [Mode::Cbc, Mode::Ctr] {
        // AES-256's first round keys are the key.
        let series = Series::new(mode, key.expose()).unwrap();
        assert_eq!(found(&[key.expose()]), [0_usize; 0], "{mode:?}");
        drop(series);
    }
}

/// Where any 16 bytes of the secrets' start or end lie in memory that a core dump would have.
fn found(secrets: &[&[u8]]) -> Vec<usize> {
    let ends = secrets.iter().flat_map(|secret| [&secret[..16], &secret[secret.len() - 16..]]);
    let ends: Vec<_> = ends.collect();
    // Which pairs of bytes a secret starts with: all others are passed over at once.
    let mut starts = vec![false; 1 << 16];
    ends.iter().for_each(|end| starts[usize::from(u16::from_ne_bytes([end[0], end[1]]))] = true);
    let memory = File::open("/proc/self/mem").unwrap();
    let mut buffer = vec![0; 1 << 20];
    let own = buffer.as_ptr_range();
    let mut places = Vec::new();
    for (from, to) in dumped() {
        for at in (from..to).step_by(buffer.len() - 16) {
            let len = buffer.len().min(to - at);
            let Ok(len) = memory.read_at(&mut buffer[..len], at as u64) else { continue };
            for offset in 0..len.saturating_sub(15) {
                let start = u16::from_ne_bytes([buffer[offset], buffer[offset + 1]]);
                if starts[usize::from(start)]
                    && ends.contains(&&buffer[offset..offset + 16])
                    && !own.contains(&((at + offset) as *const u8))
                {
                    places.push(at + offset);
                }
            }
        }
        buffer.fill(0);
    }
    places
}

/// The writable mappings that are not left out of core dumps.
fn dumped() -> Vec<(usize, usize)> {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut mappings = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        let first = line.split(' ').next().unwrap_or_default();
        let bound = |text| usize::from_str_radix(text, 16).ok();
        if let Some((from, to)) = first.split_once('-')
            && let (Some(from), Some(to)) = (bound(from), bound(to))
        {
            current = Some((from, to));
        }
        if let Some(flags) = line.strip_prefix("VmFlags:")
            && flags.split_whitespace().any(|flag| flag == "wr")
            && !flags.split_whitespace().any(|flag| flag == "dd")
        {
            mappings.extend(current.take());
        }
    }
    mappings
}

fn commit(file: &StoreFile, changed: &Keystore) -> Keystore {
    let lock = file.lock(Deadline::after(Duration::from_secs(5))).unwrap();
    file.commit(&lock, changed, &System).unwrap().0
}

fn key(id: u32) -> KeyRef {
    KeyRef::new(KeyId::try_from(id).unwrap(), KeyVersion::FIRST)
}

fn wrapping() -> Wrapping {
    let key = WrappedKey {
        kek: "test".to_owned(),
        algorithm: "none".to_owned(),
        parameters: Default::default(),
        blob: vec![1, 2, 3],
    };
    Wrapping { provider: "local".to_owned(), key }
}

fn change() -> Change {
    Change { at: NOW, actor: "test".to_owned(), reason: "test".to_owned() }
}
