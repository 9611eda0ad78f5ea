//! Keystore files of every released format: each opens, or fails as its name says.
//!
//! `WHAT.opens.json` opens and gives back every key; `WHAT.KIND.json` fails to open with an error of
//! that kind; `WHAT.key-corrupt.json` opens, and one of its keys does not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/keystores.rs"]
mod keystores;

use std::fs;
use std::path::PathBuf;

use keyward::env::fake::FakeRng;
use keyward::env::{Rng, Timestamp};
use keyward::key::{Cipher, KeyName, KeyRef, KeyState, KeyVersion, Purpose};
use keyward::secret::DataKey;
use keyward::store::{Change, Keystore, NewVersion, STORE_KEY_LEN, Sealed, Wrapping};
use keyward::{Kind, Result};

use keystores::{NOW, key, keystore, rotated};

#[test]
fn every_golden_file_does_as_its_name_says() {
    let (mut opened, mut refused) = (0, 0);
    for path in files() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let expected = name.rsplit('.').nth(1).unwrap().to_owned();
        let outcome = outcome(&fs::read(&path).unwrap());
        assert_eq!(outcome, expected, "{name}");
        *(if expected == "opens" { &mut opened } else { &mut refused }) += 1;
    }
    println!("{opened} golden files open, {refused} are refused");
    assert!(opened >= 4 && refused >= 4 * opened, "{opened} open, {refused} do not");
}

/// The files that today's keyward writes, byte for byte. `KEYWARD_GOLDEN=write` makes missing ones.
#[test]
fn todays_files_are_written_the_same() {
    for (name, keystore) in
        [("v1-empty", empty()), ("v1-keys", keystore(3)), ("v1-all", everything())]
    {
        let path = folder().join(format!("{name}.opens.json"));
        let bytes = written(&keystore);
        if !path.exists() && std::env::var("KEYWARD_GOLDEN").is_ok_and(|value| value == "write") {
            fs::write(&path, &bytes).unwrap();
        }
        assert!(fs::read(&path).unwrap() == bytes, "{name} is written differently");
    }
}

/// "opens", or the kind of the error.
fn outcome(bytes: &[u8]) -> String {
    let text = |kind| match kind {
        Kind::Corrupt => "corrupt".to_owned(),
        Kind::Unsupported => "unsupported".to_owned(),
        other => format!("{other:?}"),
    };
    match open(bytes) {
        Err(error) => text(error.kind()),
        Ok(keystore) => match check_keys(&keystore) {
            Err(error) => format!("key-{}", text(error.kind())),
            Ok(()) => "opens".to_owned(),
        },
    }
}

/// Opens it with the store key of its number.
fn open(bytes: &[u8]) -> Result<Keystore> {
    let sealed = Sealed::parse(bytes)?;
    let number = sealed.unverified().wrap_context().store_key;
    sealed.open(store_key(number))
}

/// That every version that has a key gives the one it was made with.
fn check_keys(keystore: &Keystore) -> Result<()> {
    for entry in keystore.contents().keys() {
        for version in entry.versions().filter(|version| version.state.decrypts()) {
            let key = KeyRef::new(entry.name().clone(), version.version);
            let data = keystore.data_key(&key)?;
            assert!(data.expose() == known_key(&key, &version.purpose).expose(), "{key}");
        }
    }
    Ok(())
}

fn known_key(key: &KeyRef, purpose: &Purpose) -> DataKey {
    let id = match &key.name {
        KeyName::Id(id) => id.get(),
        KeyName::Named { .. } => 0,
    };
    let seed = u64::from(id) << 32 | u64::from(key.version.get());
    DataKey::generate(purpose.key_len(), &FakeRng::new(seed)).unwrap()
}

fn store_key(number: u32) -> DataKey {
    DataKey::generate(STORE_KEY_LEN, &FakeRng::new(u64::from(number) + 1)).unwrap()
}

fn empty() -> Keystore {
    keystore(0)
}

/// Every member that the format has: all states, ciphers and names, plans, two store keys.
fn everything() -> Keystore {
    let mut all = rotated(&rotated(&keystore(5), 1, 3), 1, 5);
    for (nth, cipher) in ["aes-128-cbc", "aes-192-ctr", "aes-256-cbc"].iter().enumerate() {
        let key = key(100 + nth as u32, 4_294_967_294);
        all = with(&all, &key, cipher.parse().unwrap(), KeyState::Retired);
    }
    let named = |data_id: &str, auth_id: &str| {
        let (data_id, auth_id) = (data_id.to_owned(), auth_id.to_owned());
        KeyRef::new(KeyName::Named { data_id, auth_id }, KeyVersion::FIRST)
    };
    all = with(&all, &named("INNODBKey-1", ""), Cipher::DEFAULT, KeyState::Active);
    all = with(&all, &named("\"müller\"\\\u{1}/", "root@%"), Cipher::DEFAULT, KeyState::Active);
    all = with(&all, &key(2, 3), Cipher::DEFAULT, KeyState::Pending);
    let later = Timestamp::from_unix(NOW.as_unix() + 86_400);
    let plan = Change { at: later, ..change("two-phase rotation") };
    all = all.with_plan(&key(2, 3), Some((KeyState::Active, &plan))).unwrap();
    all = all.with_retention(&key(1, 3), Some(later)).unwrap();
    all = all.with_state(&key(1, 1), KeyState::Destroyed, &change("no page needs it")).unwrap();
    all = all.with_state(&key(3, 1), KeyState::Compromised, &change("seen in a log")).unwrap();
    let mut second = wrapping("kms");
    second.key.parameters.insert("salt".to_owned(), "00ff".to_owned());
    let wrappings = vec![wrapping("local"), second];
    all.with_store_key(store_key(2), wrappings, later, &FakeRng::new(99)).unwrap()
}

fn with(keystore: &Keystore, key: &KeyRef, cipher: Cipher, state: KeyState) -> Keystore {
    let purpose = Purpose::from(cipher);
    let data = known_key(key, &purpose);
    let new = NewVersion { key: key.clone(), purpose, data: &data, state, created: NOW };
    let mut seed = [0; 8];
    FakeRng::new(u64::from(key.version.get()) << 8 | key.to_string().len() as u64)
        .fill(&mut seed)
        .unwrap();
    let rng = FakeRng::new(u64::from_ne_bytes(seed));
    keystore.with_version(&new, &change("test"), &rng).unwrap()
}

fn wrapping(provider: &str) -> Wrapping {
    let wrapping = keystore(0).contents().wrappings()[0].clone();
    Wrapping { provider: provider.to_owned(), ..wrapping }
}

fn change(reason: &str) -> Change {
    Change { at: NOW, actor: "test".to_owned(), reason: reason.to_owned() }
}

/// What a first commit writes.
fn written(keystore: &Keystore) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = keyward::store::StoreFile::at(folder.path().join("keystore.json"));
    let soon = keyward::env::Deadline::after(std::time::Duration::from_secs(5));
    file.commit(&file.lock(soon).unwrap(), keystore, &FakeRng::new(1)).unwrap();
    fs::read(file.path()).unwrap()
}

fn files() -> Vec<PathBuf> {
    let found = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        found.filter(|path| path.extension() == Some("json".as_ref())).collect();
    files.sort();
    files
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/keystore")
}
