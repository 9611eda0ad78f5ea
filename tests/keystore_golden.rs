//! Keystore files of every released format: each opens, or fails as its name says.
//!
//! `WHAT.opens.json` opens and gives back every key; `WHAT.KIND.json` fails to open with an error of
//! that kind; `WHAT.key-corrupt.json` opens, and one of its keys does not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/keystores.rs"]
mod keystores;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use keyward::env::fake::FakeRng;
use keyward::env::{Deadline, Rng, Timestamp};
use keyward::hex::Hex;
use keyward::key::{Cipher, KeyName, KeyRef, KeyState, KeyVersion, Purpose};
use keyward::secret::DataKey;
use keyward::store::{
    Approvers, Backup, Change, DataDirectory, Keystore, NewVersion, Registers, Revision,
    STORE_KEY_LEN, Sealed, StoreFile, TrailAnchor, UsedApproval, Wrapping,
};
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
    for (name, bytes) in [
        ("v2-empty", written(&empty())),
        ("v2-keys", written(&keystore(3))),
        ("v2-all", written(&everything())),
        ("v2-lines", with_lines()),
        ("v2-trail-shortened", written(&shortened())),
    ] {
        let path = folder().join(format!("{name}.opens.json"));
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

/// Every member that the format has: all states, ciphers and names, plans, two store keys, two
/// epochs, all registers.
fn everything() -> Keystore {
    let mut all = rotated(&rotated(&keystore(5), 1, 3), 1, 5);
    for (nth, cipher) in ["aes-128-cbc", "aes-192-ctr", "aes-256-cbc"].iter().enumerate() {
        let key = key(100 + nth as u32, 4_294_967_294);
        all = with(&all, &key, cipher.parse().unwrap(), KeyState::Retired);
    }
    let named = |data_id: &str, auth_id: &str| {
        KeyRef::new(KeyName::named(data_id, auth_id), KeyVersion::FIRST)
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
    all = all.with_store_key(store_key(2), wrappings, later, &FakeRng::new(99)).unwrap();
    all.with_next_epoch(later, &FakeRng::new(98)).unwrap().with_registers(registered).unwrap()
}

/// A long keystore, as lines are added to it: a rotation, a new key, the same destroyed, a register.
fn with_lines() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = StoreFile::at(folder.path().join("keystore.json")).with_lines_from(0);
    let commit = |changed: &Keystore| {
        file.commit(&file.lock(soon()).unwrap(), changed, &FakeRng::new(1)).unwrap().0
    };
    let named = KeyRef::new(KeyName::named("backup", "root@%"), KeyVersion::FIRST);
    let mut all = commit(&keystore(36));
    all = commit(&rotated(&all, 3, 3));
    all = commit(&with(&all, &named, Cipher::DEFAULT, KeyState::Retired));
    all = commit(&all.with_state(&named, KeyState::Destroyed, &change("removed")).unwrap());
    let add_recipient = |registers: &mut Registers| {
        registers.backup_recipients = vec!["age1pq1qqqq".to_owned()];
        Ok(())
    };
    all = commit(&all.with_registers(add_recipient).unwrap());
    let bytes = fs::read(file.path()).unwrap();
    assert_eq!(open(&bytes).unwrap().contents(), all.contents());
    bytes
}

/// With the number and hash of the last line of the trail that was removed.
fn shortened() -> Keystore {
    let anchor = |line| TrailAnchor { line, head: Hex([9; 32]) };
    keystore(1).with_trail(anchor(12)).with_trail_floor(anchor(8))
}

fn registered(registers: &mut Registers) -> Result<()> {
    let seen = |mark: &str| DataDirectory {
        mark: mark.to_owned(),
        host: "db1.example.org".to_owned(),
        path: "/var/lib/mysql/müller".to_owned(),
        last_seen: NOW,
    };
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== ops@example.org".to_owned();
    registers.data_directories = vec![seen("m1"), seen("m2")];
    let revision = Revision { epoch: 1, generation: 7 };
    let backup = |name: &str| Backup {
        name: name.to_owned(),
        host: String::new(),
        revision,
        made: NOW,
        until: None,
        needs: None,
    };
    registers.backups = vec![backup("2026-03-01")];
    registers.approvers = Approvers { keys: vec![key], needed: 1 };
    registers.backup_recipients = vec!["age1qqqq".to_owned()];
    registers.used_approvals = vec![UsedApproval { digest: Hex([7; 32]), expires: NOW }];
    registers.trail = Some(TrailAnchor { line: 12, head: Hex([9; 32]) });
    Ok(())
}

/// What commits write today, from what the former format said: the same keys, nothing of the former
/// check values, and a revision after it.
#[test]
fn a_file_of_the_former_format_is_upgraded_by_the_next_commit() {
    for name in ["v1-empty", "v1-keys", "v1-all"] {
        let bytes = fs::read(folder().join(format!("{name}.opens.json"))).unwrap();
        let before = open(&bytes).unwrap();
        assert_eq!((before.contents().epoch(), before.base().generation), (1, 1));
        let upgraded = committed_over(&bytes, &before);
        let text = String::from_utf8(upgraded.clone()).unwrap();
        let after = open(&upgraded).unwrap();
        assert!(text.contains("\"version\": 2,") && text.contains("\"epoch\": 1,"), "{name}");
        assert!(after.contents().revision() > before.contents().revision(), "{name}");
        check_keys(&after).unwrap();
        for key in before.contents().keys() {
            for old in key.versions() {
                let old_check = old.check.unwrap().to_string();
                assert!(!text.contains(&old_check), "{name}: a check value of the former format");
                let now = after.contents().key(key.name()).unwrap().version(old.version).unwrap();
                assert_eq!((now.state, &now.history), (old.state, &old.history));
                assert_eq!(now.check.is_some(), old.state != KeyState::Destroyed);
            }
        }
    }
}

/// A dictionary against the file, as anybody who has read it can run it: in format 1 it finds a weak
/// secret of MySQL's keyring, even a removed one. After the upgrade it finds none, nor do equal secrets
/// look equal, and the key that is there still opens.
#[test]
fn no_dictionary_finds_a_secret_in_an_upgraded_file() {
    let path = folder().join("../upgrade/v1-mysql-secrets.json");
    let old = fs::read(path).unwrap();
    let dictionary = ["Sommer2025!", "Winter2026!", "Sommer2026!", "hunter2"];
    let found = |file: &[u8]| -> Vec<&str> {
        let text = String::from_utf8(file.to_vec()).unwrap();
        let of = |word: &str| DataKey::copy_of(word.as_bytes()).unwrap().check_value().to_string();
        dictionary.into_iter().filter(|word| text.contains(&of(word))).collect()
    };
    assert_eq!(found(&old), ["Winter2026!", "Sommer2026!"]);

    let bytes: Vec<u8> = (0..32).collect();
    let store_key = || DataKey::copy_of(&bytes).unwrap();
    let before = Sealed::parse(&old).unwrap().open(store_key()).unwrap();
    // Any change will do: here the same weak secret again, under another name.
    let named =
        |data_id: &str| KeyRef::new(KeyName::named(data_id, "root@localhost"), KeyVersion::FIRST);
    let data = DataKey::copy_of(b"Sommer2026!").unwrap();
    let purpose: Purpose = "keyring:SECRET:11".parse().unwrap();
    let (key, state) = (named("again"), KeyState::Active);
    let new = NewVersion { key, purpose, data: &data, state, created: NOW };
    let changed = before.with_version(&new, &change("stored"), &FakeRng::new(6)).unwrap();
    let upgraded = committed_over(&old, &changed);
    assert_eq!(found(&upgraded), [""; 0]);

    let after = Sealed::parse(&upgraded).unwrap().open(store_key()).unwrap();
    let check = |name| after.contents().info(&named(name)).unwrap().check;
    assert_eq!(check("dbpass"), None);
    assert_ne!(check("mail"), check("again"));
    for name in ["mail", "again"] {
        assert!(after.data_key(&named(name)).unwrap().expose() == b"Sommer2026!", "{name}");
    }
}

/// What a commit of `changed` leaves where `bytes` were.
fn committed_over(bytes: &[u8], changed: &Keystore) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = StoreFile::at(folder.path().join("keystore.json"));
    fs::write(file.path(), bytes).unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
    file.commit(&file.lock(soon()).unwrap(), changed, &FakeRng::new(4)).unwrap();
    fs::read(file.path()).unwrap()
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
    let file = StoreFile::at(folder.path().join("keystore.json"));
    file.commit(&file.lock(soon()).unwrap(), keystore, &FakeRng::new(1)).unwrap();
    fs::read(file.path()).unwrap()
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
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
