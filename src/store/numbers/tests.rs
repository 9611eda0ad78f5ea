#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::*;
use crate::env::fake::FakeRng;
use crate::key::{Cipher, KeyId, KeyRef, KeyState};
use crate::provider::WrappedKey;
use crate::secret::DataKey;
use crate::store::{Change, NewVersion, STORE_KEY_LEN, Sealed, Wrapping};

const NOW: Timestamp = Timestamp::from_unix(1_772_366_400);

fn empty() -> Keystore {
    let id = Keystore::new_id(&FakeRng::new(1)).unwrap();
    let store_key = DataKey::generate(STORE_KEY_LEN, &FakeRng::new(2)).unwrap();
    let key = WrappedKey {
        kek: "k1".to_owned(),
        algorithm: "none".to_owned(),
        parameters: Default::default(),
        blob: vec![1],
    };
    let wrapping = Wrapping { provider: "local".to_owned(), key };
    Keystore::create(&id, store_key, vec![wrapping], NOW, &FakeRng::new(3)).unwrap()
}

fn change() -> Change {
    Change { at: NOW, actor: "test".to_owned(), reason: "test".to_owned() }
}

fn with(keystore: &Keystore, key: &KeyRef, rng: &FakeRng) -> Keystore {
    let data = DataKey::generate(32, rng).unwrap();
    let purpose = Cipher::DEFAULT.into();
    let key = key.clone();
    let new = NewVersion { key, purpose, data: &data, state: KeyState::Active, created: NOW };
    keystore.with_version(&new, &change(), rng).unwrap()
}

/// The next version of key `id`, made as a rotation or the first one makes it.
fn next(keystore: &Keystore, id: u32, step: u32) -> KeyRef {
    let name = KeyId::try_from(id).unwrap().into();
    let version = keystore.contents().next_version(&name, step).unwrap();
    KeyRef::new(name, version)
}

fn reopened(keystore: &Keystore) -> Keystore {
    let bytes = keystore.next_generation().to_bytes().unwrap();
    let store_key = DataKey::copy_of(keystore.store_key().expose()).unwrap();
    Sealed::parse(&bytes).unwrap().open(store_key).unwrap()
}

fn below(rng: &FakeRng, end: usize) -> usize {
    let mut random = [0; 8];
    rng.fill(&mut random).unwrap();
    (u64::from_le_bytes(random) % end as u64) as usize
}

/// Keys are made, rotated and destroyed, and at any time an older copy comes back, in a new epoch:
/// no number that was ever given out is given out again, also none of a key that the copy lacks.
#[test]
fn no_number_is_given_out_twice_whatever_is_lost() {
    let (mut made, mut lost) = (0, 0);
    for seed in 0..60 {
        let rng = FakeRng::new(seed);
        let mut given_out = BTreeSet::new();
        let mut copies = vec![empty()];
        for _ in 0..40 {
            let now = copies.last().unwrap();
            let id = 1 + below(&rng, 4) as u32;
            if below(&rng, 8) == 0 {
                let kept = 1 + below(&rng, copies.len());
                lost += copies.len() - kept;
                let epoch = now.contents().epoch();
                copies.truncate(kept);
                let back = copies.last().unwrap().with_epoch_above(epoch, NOW, &rng).unwrap();
                assert!(back.contents().epoch() > epoch);
                copies.push(reopened(&back));
                continue;
            }
            let key = next(now, id, 2);
            assert!(given_out.insert(key.clone()), "seed {seed}: {key} again");
            copies.push(with(now, &key, &rng));
            made += 1;
        }
    }
    println!("{made} numbers given out, {lost} generations lost");
    assert!(lost > 500, "{lost}");
}

#[test]
fn an_epoch_jumps_every_number_and_is_signed_by_the_one_before() {
    let rng = FakeRng::new(7);
    let first = with(&empty(), &next(&empty(), 1, 2), &rng);
    let second = reopened(&first.with_next_epoch(NOW, &rng).unwrap());
    assert!(second.contents().revision() > first.contents().revision());
    assert_eq!(second.contents().revision().to_string(), "generation 1 of epoch 2");
    for (id, newest) in [(1, 2), (9, 1)] {
        let jump = next(&second, id, 2).version.get() - newest;
        assert!((1 << 16..=1 << 20).contains(&jump), "key {id}: {jump}");
    }
    // Once given out, numbers go on as ever.
    let rotated = with(&second, &next(&second, 1, 2), &rng);
    let (before, after) = (next(&second, 1, 2).version, next(&rotated, 1, 2).version);
    assert_eq!(after.get(), before.get() + 2);
    let epochs = second.contents().registers().epochs();
    assert_eq!(epochs.iter().map(|epoch| epoch.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(epochs[0], first.contents().registers().epochs()[0]);
    assert_ne!(epochs[0].fingerprint(), epochs[1].fingerprint());
    assert!(epochs[0].signature.is_none() && epochs[1].signature.is_some());
}

#[test]
fn only_so_many_epochs_are_kept_and_all_but_the_oldest_are_checked() {
    let rng = FakeRng::new(8);
    let mut keystore = empty();
    for _ in 0..MAX_EPOCHS + 3 {
        keystore = keystore.with_next_epoch(NOW, &rng).unwrap();
    }
    let epochs = reopened(&keystore).contents().registers().epochs().to_vec();
    assert_eq!((epochs.len(), epochs[0].number), (MAX_EPOCHS, 5));
}

#[test]
fn a_key_near_the_end_of_the_numbers_keeps_some() {
    let rng = FakeRng::new(9);
    let name: KeyName = KeyId::SYSTEM.into();
    let at = |number| KeyRef::new(name.clone(), KeyVersion::new(number).unwrap());
    let last = u32::MAX - 1;
    for (newest, from) in [(last - 11, last - 5), (last - 1, last), (last, last)] {
        let keystore = with(&empty(), &at(newest), &rng).with_next_epoch(NOW, &rng).unwrap();
        let after = keystore.contents().next_version(&name, 1);
        match newest == last {
            true => assert_eq!(
                after.unwrap_err().to_string(),
                "key 1 has no version numbers left; make a key of another name"
            ),
            false => assert_eq!(after.unwrap().get(), from),
        }
        // Somebody brought these numbers along: new keys need not begin up there.
        assert!(next(&keystore, 2, 1).version.get() < 1 << 21);
    }
}

#[test]
fn a_keystore_of_the_former_format_is_upgraded_by_a_new_epoch() {
    let text = include_bytes!("../../../tests/golden/keystore/v1-keys.opens.json");
    let store_key = DataKey::generate(STORE_KEY_LEN, &FakeRng::new(2)).unwrap();
    let old = Sealed::parse(text).unwrap().open(store_key).unwrap();
    assert_eq!(old.contents().revision(), Revision { epoch: 1, generation: 1 });
    let new = reopened(&old.with_next_epoch(NOW, &FakeRng::new(4)).unwrap());
    assert_eq!(new.contents().revision(), Revision { epoch: 2, generation: 2 });
    assert!(next(&new, 1, 2).version.get() > 1 << 16);
}
