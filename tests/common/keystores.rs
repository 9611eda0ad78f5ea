//! Keystores to test with.

#![allow(dead_code, reason = "each test program uses a part of it")]

use keyward::Result;
use keyward::env::Timestamp;
use keyward::env::fake::FakeRng;
use keyward::key::{Cipher, KeyId, KeyRef, KeyState, KeyVersion};
use keyward::provider::WrappedKey;
use keyward::secret::DataKey;
use keyward::store::{Change, Keystore, NewVersion, STORE_KEY_LEN, StoreFile, Wrapping};

pub(crate) const NOW: Timestamp = Timestamp::from_unix(1_772_366_400);

pub(crate) fn store_key() -> DataKey {
    DataKey::generate(STORE_KEY_LEN, &FakeRng::new(2)).unwrap()
}

/// A keystore that was never written, with version 1 of keys 1 to `keys`.
pub(crate) fn keystore(keys: u32) -> Keystore {
    let id = Keystore::new_id(&FakeRng::new(1)).unwrap();
    let key = WrappedKey {
        kek: "test".to_owned(),
        algorithm: "none".to_owned(),
        parameters: Default::default(),
        blob: vec![1, 2, 3],
    };
    let wrapping = Wrapping { provider: "local".to_owned(), key };
    let mut keystore =
        Keystore::create(&id, store_key(), vec![wrapping], NOW, &FakeRng::new(3)).unwrap();
    for id in 1..=keys {
        keystore = rotated(&keystore, id, 1);
    }
    keystore
}

pub(crate) fn rotated(keystore: &Keystore, id: u32, version: u32) -> Keystore {
    let data = data_key(id, version);
    let new = NewVersion {
        key: key(id, version),
        purpose: Cipher::DEFAULT.into(),
        data: &data,
        state: KeyState::Active,
        created: NOW,
    };
    let change = Change { at: NOW, actor: "test".to_owned(), reason: "rotation".to_owned() };
    let seed = u64::from(id) << 32 | u64::from(version);
    keystore.with_version(&new, &change, &FakeRng::new(!seed)).unwrap()
}

pub(crate) fn key(id: u32, version: u32) -> KeyRef {
    KeyRef::new(KeyId::try_from(id).unwrap(), KeyVersion::try_from(version).unwrap())
}

pub(crate) fn data_key(id: u32, version: u32) -> DataKey {
    DataKey::generate(32, &FakeRng::new(u64::from(id) << 32 | u64::from(version))).unwrap()
}

pub(crate) fn open(file: &StoreFile) -> Result<Keystore> {
    file.read()?.0.open(store_key())
}
