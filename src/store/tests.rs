#![forbid(unsafe_code)]

use super::*;
use crate::env::fake::FakeRng;
use crate::key::{Cipher, KeyId, KeyVersion, PageMode};

const NOW: Timestamp = Timestamp::from_unix(1_772_366_400);

pub(super) fn change(reason: &str) -> Change {
    Change { at: NOW, actor: "test".to_owned(), reason: reason.to_owned() }
}

fn wrapping(provider: &str) -> Wrapping {
    let blob = vec![1, 2, 3];
    let key = WrappedKey {
        kek: "k1".to_owned(),
        algorithm: "none".to_owned(),
        parameters: Default::default(),
        blob,
    };
    Wrapping { provider: provider.to_owned(), key }
}

pub(super) fn store_key(seed: u64) -> DataKey {
    DataKey::generate(STORE_KEY_LEN, &FakeRng::new(seed)).unwrap()
}

pub(super) fn empty() -> Keystore {
    let id = Keystore::new_id(&FakeRng::new(1)).unwrap();
    Keystore::create(&id, store_key(2), vec![wrapping("local")], NOW, &FakeRng::new(9)).unwrap()
}

pub(super) fn at(id: u32, version: u32) -> KeyRef {
    KeyRef::new(KeyId::try_from(id).unwrap(), KeyVersion::try_from(version).unwrap())
}

fn data(id: u32, version: u32) -> DataKey {
    DataKey::generate(32, &FakeRng::new(u64::from(id) << 32 | u64::from(version))).unwrap()
}

pub(super) fn with(keystore: &Keystore, id: u32, version: u32, state: KeyState) -> Keystore {
    try_with(keystore, id, version, state).unwrap()
}

fn try_with(keystore: &Keystore, id: u32, version: u32, state: KeyState) -> Result<Keystore> {
    let data = data(id, version);
    let new = NewVersion {
        key: at(id, version),
        purpose: Cipher::DEFAULT.into(),
        data: &data,
        state,
        created: NOW,
    };
    keystore.with_version(&new, &change("rotated"), &FakeRng::new(u64::from(version)))
}

/// What comes back when it is written and read.
fn reopened(keystore: &Keystore) -> Result<Keystore> {
    let bytes = keystore.next_generation().to_bytes()?;
    Sealed::parse(&bytes)?.open(DataKey::copy_of(keystore.store_key().expose())?)
}

fn states(keystore: &Keystore, id: u32) -> Vec<(u32, KeyState)> {
    let name = KeyId::try_from(id).unwrap().into();
    let key = keystore.contents().key(&name).unwrap();
    key.versions().map(|entry| (entry.version.get(), entry.state)).collect()
}

fn kind<T>(outcome: Result<T>) -> Kind {
    match outcome {
        Ok(_) => panic!("it should have failed"),
        Err(error) => error.kind(),
    }
}

#[test]
fn what_is_written_is_read_back() {
    let mut keystore = empty();
    for id in [3, 1, 2] {
        keystore = with(&keystore, id, 1, KeyState::Active);
        keystore = with(&keystore, id, 3, KeyState::Active);
    }
    let named = KeyName::named("INNODBKey-1", "");
    let data_key = data(9, 9);
    let new = NewVersion {
        key: KeyRef::new(named.clone(), KeyVersion::FIRST),
        purpose: Cipher { mode: PageMode::Cbc, key_len: 32 }.into(),
        data: &data_key,
        state: KeyState::Active,
        created: NOW,
    };
    keystore = keystore.with_version(&new, &change("made"), &FakeRng::new(5)).unwrap();
    let read = reopened(&keystore).unwrap();
    assert_eq!(read.contents(), keystore.next_generation().contents());
    assert_eq!(read.contents().generation(), 1);
    for (id, version) in [(1, 1), (1, 3), (2, 1), (2, 3), (3, 1), (3, 3)] {
        let key = read.data_key(&at(id, version)).unwrap();
        assert!(key.expose() == data(id, version).expose(), "{}", at(id, version));
    }
    assert!(read.data_key(&new.key).unwrap().expose() == data_key.expose());
    assert_eq!(states(&read, 2), [(1, KeyState::Retired), (3, KeyState::Active)]);
    assert_eq!(kind(read.data_key(&at(1, 2))), Kind::NotFound);
}

#[test]
fn it_opens_after_being_laid_out_again() {
    let keystore = with(&empty(), 1, 1, KeyState::Active).next_generation();
    let text = String::from_utf8(keystore.to_bytes().unwrap()).unwrap();
    for layout in [text.replace(['\n', ' '], ""), text.replace(',', " ,\n\t")] {
        // No text in this keystore has a space of its own.
        Sealed::parse(layout.as_bytes()).unwrap().open(store_key(2)).unwrap();
    }
}

#[test]
fn another_store_key_does_not_open_it() {
    let bytes = empty().next_generation().to_bytes().unwrap();
    let error = Sealed::parse(&bytes).unwrap().open(store_key(3)).err().unwrap();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.to_string().contains("another key than its store key 1 came back"), "{error}");
}

#[test]
fn no_plain_key_is_in_the_file() {
    let keystore = with(&empty(), 1, 1, KeyState::Active).next_generation();
    let bytes = keystore.to_bytes().unwrap();
    for secret in [store_key(2), data(1, 1)] {
        let hex = crate::hex::text(secret.expose());
        let text = String::from_utf8_lossy(&bytes);
        assert!(!bytes.windows(8).any(|window| secret.expose().windows(8).any(|s| s == window)));
        assert!(!text.contains(&hex[..16]));
    }
}

#[test]
fn the_same_key_twice_changes_nothing_and_another_is_a_conflict() {
    let once = with(&empty(), 1, 1, KeyState::Active);
    assert_eq!(with(&once, 1, 1, KeyState::Active).contents(), once.contents());
    let other = data(2, 2);
    let new = NewVersion {
        key: at(1, 1),
        purpose: Cipher::DEFAULT.into(),
        data: &other,
        state: KeyState::Active,
        created: NOW,
    };
    let outcome = once.with_version(&new, &change("again"), &FakeRng::new(1));
    assert_eq!(kind(outcome), Kind::Conflict);
}

#[test]
fn a_key_must_fit_its_cipher() {
    let short = DataKey::generate(16, &FakeRng::new(1)).unwrap();
    let new = NewVersion {
        key: at(1, 1),
        purpose: Cipher::DEFAULT.into(),
        data: &short,
        state: KeyState::Active,
        created: NOW,
    };
    assert_eq!(kind(empty().with_version(&new, &change(""), &FakeRng::new(1))), Kind::Config);
}

#[test]
fn every_change_of_state_is_legal_or_refused() {
    use KeyState::{Active, Compromised, Destroyed, Pending, Retired};
    let legal = [
        (Pending, Active),
        (Pending, Compromised),
        (Pending, Destroyed),
        (Active, Retired),
        (Active, Compromised),
        (Retired, Compromised),
        (Retired, Destroyed),
        (Compromised, Destroyed),
    ];
    let in_state = |state| match state {
        Pending | Active | Retired => with(&empty(), 1, 1, state),
        _ => {
            let retired = with(&empty(), 1, 1, Retired);
            retired.with_state(&at(1, 1), state, &change("test")).unwrap()
        }
    };
    for from in [Pending, Active, Retired, Compromised, Destroyed] {
        for to in [Pending, Active, Retired, Compromised, Destroyed] {
            let outcome = in_state(from).with_state(&at(1, 1), to, &change("test"));
            if legal.contains(&(from, to)) {
                let next = reopened(&outcome.unwrap()).unwrap();
                assert_eq!(states(&next, 1), [(1, to)]);
                assert_eq!(next.data_key(&at(1, 1)).is_ok(), to.decrypts());
            } else {
                let error = outcome.err().unwrap();
                assert_eq!(error.kind(), Kind::State, "{from} to {to}");
                let what = format!("key 1 version 1 is {from} and cannot become {to}");
                assert_eq!(error.what(), what);
            }
        }
    }
}

#[test]
fn activating_a_pending_version_retires_the_active_one() {
    let keystore = with(&with(&empty(), 1, 1, KeyState::Active), 1, 3, KeyState::Pending);
    let next = keystore.with_state(&at(1, 3), KeyState::Active, &change("due")).unwrap();
    assert_eq!(states(&next, 1), [(1, KeyState::Retired), (3, KeyState::Active)]);
    assert_eq!(states(&keystore, 1), [(1, KeyState::Active), (3, KeyState::Pending)]);
}

#[test]
fn a_lower_version_does_not_become_active() {
    let keystore = with(&with(&empty(), 1, 1, KeyState::Pending), 1, 3, KeyState::Active);
    let outcome = keystore.with_state(&at(1, 1), KeyState::Active, &change("due"));
    assert_eq!(kind(outcome), Kind::State);
    let keystore = with(&empty(), 1, 5, KeyState::Active);
    assert_eq!(kind(try_with(&keystore, 1, 3, KeyState::Active)), Kind::State);
    with(&keystore, 1, 3, KeyState::Retired);
}

#[test]
fn a_rotation_is_undone_and_done_again() {
    let rotated = with(&with(&empty(), 1, 1, KeyState::Active), 1, 3, KeyState::Active);
    let name = at(1, 1).name;
    let undone = rotated.with_rotation_undone(&name, &change("too early")).unwrap();
    let undone = reopened(&undone).unwrap();
    assert_eq!(states(&undone, 1), [(1, KeyState::Active), (3, KeyState::Pending)]);
    assert_eq!(kind(undone.with_rotation_undone(&name, &change("more"))), Kind::State);
    let again = undone.with_state(&at(1, 3), KeyState::Active, &change("now")).unwrap();
    assert_eq!(states(&again, 1), [(1, KeyState::Retired), (3, KeyState::Active)]);
    let key = again.contents().key(&name).unwrap();
    assert_eq!(key.versions().map(|entry| entry.history.len()).collect::<Vec<_>>(), [4, 3]);
}

#[test]
fn a_destroyed_version_leaves_a_tombstone() {
    let rotated = with(&with(&empty(), 1, 1, KeyState::Active), 1, 3, KeyState::Active);
    let before = rotated.contents().info(&at(1, 1)).unwrap().check;
    let until = Some(Timestamp::from_unix(NOW.as_unix() + 1));
    let kept = rotated.with_retention(&at(1, 1), until).unwrap();
    let error = kept.with_state(&at(1, 1), KeyState::Destroyed, &change("old")).err().unwrap();
    assert!(error.to_string().ends_with("cannot become destroyed before 2026-03-01T12:00:01Z"));
    let gone = rotated.with_state(&at(1, 1), KeyState::Destroyed, &change("old")).unwrap();
    let gone = reopened(&gone).unwrap();
    let info = gone.contents().info(&at(1, 1)).unwrap();
    assert_eq!((info.state, info.check), (KeyState::Destroyed, before));
    assert!(gone.has_key(&at(1, 1), &data(1, 1)) && !gone.has_key(&at(1, 1), &data(1, 3)));
    assert_eq!(kind(gone.data_key(&at(1, 1))), Kind::State);
    assert_eq!(kind(try_with(&gone, 1, 1, KeyState::Retired)), Kind::Conflict);
    assert_eq!(gone.contents().key(&at(1, 1).name).unwrap().newest().unwrap().version.get(), 3);
}

#[test]
fn a_plan_is_kept_and_dropped_by_the_next_change() {
    let keystore = with(&with(&empty(), 1, 1, KeyState::Active), 1, 3, KeyState::Pending);
    let later = change("two-phase");
    let planned = keystore.with_plan(&at(1, 3), Some((KeyState::Active, &later))).unwrap();
    let planned = reopened(&planned).unwrap();
    let plan = |keystore: &Keystore| keystore.version(&at(1, 3)).unwrap().planned.clone();
    assert_eq!(plan(&planned).unwrap().state, KeyState::Active);
    assert_eq!(plan(&planned.with_plan(&at(1, 3), None).unwrap()), None);
    let active = planned.with_state(&at(1, 3), KeyState::Active, &change("due")).unwrap();
    assert_eq!(plan(&active), None);
    let impossible = keystore.with_plan(&at(1, 3), Some((KeyState::Retired, &later)));
    assert_eq!(kind(impossible), Kind::State);
}

#[test]
fn texts_of_a_change_are_short_and_of_one_line() {
    for reason in ["a\nb".to_owned(), "x".repeat(201)] {
        let keystore = with(&empty(), 1, 1, KeyState::Active);
        let outcome = keystore.with_state(&at(1, 1), KeyState::Retired, &change(&reason));
        assert_eq!(kind(outcome), Kind::Config);
    }
}

#[test]
fn wrappings_come_and_go_but_never_the_last() {
    let keystore = empty().with_wrapping(wrapping("kms")).unwrap();
    let mut renewed = wrapping("kms");
    renewed.key.kek = "k2".to_owned();
    let keystore = reopened(&keystore.with_wrapping(renewed.clone()).unwrap()).unwrap();
    assert_eq!(keystore.contents().wrappings(), [wrapping("local"), renewed]);
    assert_eq!(kind(keystore.without_wrapping("none")), Kind::NotFound);
    let one = keystore.without_wrapping("local").unwrap();
    assert_eq!(one.contents().wrappings().len(), 1);
    assert_eq!(kind(one.without_wrapping("kms")), Kind::State);
}

#[test]
fn a_new_store_key_wraps_every_key_again() {
    let mut old = with(&with(&empty(), 1, 1, KeyState::Active), 1, 3, KeyState::Active);
    old = with(&old, 2, 1, KeyState::Active);
    old = old.with_state(&at(1, 1), KeyState::Destroyed, &change("old")).unwrap();
    assert_eq!(old.next_context().unwrap().store_key, 2);
    let new =
        old.with_store_key(store_key(77), vec![wrapping("local")], NOW, &FakeRng::new(78)).unwrap();
    let new = reopened(&new).unwrap();
    assert_eq!(new.contents().wrap_context().store_key, 2);
    for key in [at(1, 3), at(2, 1)] {
        assert!(new.data_key(&key).unwrap().expose() == old.data_key(&key).unwrap().expose());
    }
    let records: Vec<_> = new.contents().store_keys().collect();
    assert_eq!((records[0].retired, records[0].wrappings.len()), (Some(NOW), 0));
    assert_eq!((records[1].retired, records[1].wraps), (None, 3));
    assert!(states(&new, 1) == states(&old, 1) && states(&new, 2) == states(&old, 2));
    // A change made with the new key.
    assert!(with(&new, 3, 1, KeyState::Active).data_key(&at(3, 1)).is_ok());
}

#[test]
fn one_store_key_wraps_only_so_many() {
    let mut keystore = empty();
    keystore.contents = keystore
        .contents
        .with_active(|active| {
            active.wraps = MAX_WRAPS - 1;
            Ok(())
        })
        .unwrap();
    let full = with(&keystore, 1, 1, KeyState::Active);
    let error = try_with(&full, 1, 3, KeyState::Active).err().unwrap();
    assert_eq!(error.kind(), Kind::State);
    assert!(error.to_string().ends_with("make a new store key first"), "{error}");
}

#[test]
fn failing_random_numbers_change_nothing() {
    let rng = FakeRng::new(1);
    rng.fail_after(0);
    let key = data(1, 1);
    let new = NewVersion {
        key: at(1, 1),
        purpose: Cipher::DEFAULT.into(),
        data: &key,
        state: KeyState::Active,
        created: NOW,
    };
    assert_eq!(kind(empty().with_version(&new, &change(""), &rng)), Kind::Internal);
    assert_eq!(kind(Keystore::new_id(&rng)), Kind::Internal);
}

#[test]
fn a_wrapped_key_opens_only_in_its_place() {
    let key = data(1, 1);
    let name = KeyName::Id(KeyId::SYSTEM);
    let version = KeyVersion::FIRST;
    let purpose = &Purpose::from(Cipher::DEFAULT);
    let home = Binding { keystore: "a", name: &name, version, purpose, store_key: 1 };
    let sealer = Sealer::new(&store_key(2)).unwrap();
    let wrapped = sealer.wrap(&key, &home, &FakeRng::new(3)).unwrap();
    assert!(sealer.unwrap(&wrapped, &home).unwrap().expose() == key.expose());
    let other_name = KeyName::Id(KeyId::try_from(2).unwrap());
    let text_name = KeyName::named("1", "");
    let other_version = KeyVersion::try_from(2).unwrap();
    let other_purpose = &Purpose::from(Cipher { mode: PageMode::Cbc, ..Cipher::DEFAULT });
    for elsewhere in [
        Binding { keystore: "b", ..home },
        Binding { name: &other_name, ..home },
        Binding { name: &text_name, ..home },
        Binding { version: other_version, ..home },
        Binding { purpose: other_purpose, ..home },
        Binding { store_key: 2, ..home },
    ] {
        assert_eq!(kind(sealer.unwrap(&wrapped, &elsewhere)), Kind::Corrupt);
    }
    for at in 0..wrapped.len() {
        let mut broken = wrapped.clone();
        broken[at] ^= 1;
        assert_eq!(kind(sealer.unwrap(&broken, &home)), Kind::Corrupt, "byte {at}");
        assert_eq!(kind(sealer.unwrap(&wrapped[..at], &home)), Kind::Corrupt);
    }
    assert_ne!(sealer.wrap(&key, &home, &FakeRng::new(4)).unwrap(), wrapped);
}

#[test]
fn every_flipped_byte_is_noticed_or_harmless() {
    let rotated = with(&with(&empty(), 1, 1, KeyState::Active), 1, 3, KeyState::Active);
    let rotated = rotated.with_wrapping(wrapping("kms")).unwrap();
    let keystore = with(&rotated, 2, 1, KeyState::Pending).next_generation();
    let bytes = keystore.to_bytes().unwrap();
    let mut harmless = 0;
    for at in 0..bytes.len() {
        for flip in [0x01, 0x02, 0x10, 0x20, 0x80, 0xff] {
            let mut broken = bytes.clone();
            broken[at] ^= flip;
            match Sealed::parse(&broken).and_then(|sealed| sealed.open(store_key(2))) {
                Ok(open) => {
                    assert_eq!(open.contents(), keystore.contents(), "byte {at}");
                    harmless += 1;
                }
                // Unsupported: the digit of the format's version.
                Err(error) => assert!(
                    matches!(error.kind(), Kind::Corrupt | Kind::Unsupported),
                    "byte {at}: {error}"
                ),
            }
        }
        // All but the line end behind the last brace is needed.
        let cut = Sealed::parse(&bytes[..at]);
        assert!(cut.is_err() || at == bytes.len() - 1, "cut at {at}");
    }
    // Layout, and hex digits in upper case.
    assert!(harmless * 20 < bytes.len() * 6, "{harmless} of {}", bytes.len() * 6);
}

#[test]
fn an_entry_that_was_removed_is_missed_by_nobody_who_knows_only_what_was_before() {
    let mut contents = with(&empty(), 1, 5, KeyState::Active).contents().clone();
    let revision = |generation| Revision { epoch: 1, generation };
    assert!(!contents.has_pruned(&at(1, 3), revision(0)), "nothing was removed");
    Arc::make_mut(&mut contents.registers).pruned_through = Some(revision(7));
    let mut key = contents.key(&at(1, 5).name).unwrap().clone();
    key.pruned_through = KeyVersion::new(3);
    let contents = contents.with_key(key);
    assert!(
        contents.has_pruned(&at(1, 1), revision(6)) && contents.has_pruned(&at(1, 3), revision(6))
    );
    assert!(!contents.has_pruned(&at(1, 4), revision(6)), "above what was removed");
    assert!(!contents.has_pruned(&at(1, 3), revision(7)), "it was there when this one was read");
    assert!(!contents.has_pruned(&at(2, 1), revision(6)), "another key");
}

#[test]
fn a_kept_text_is_what_would_be_written() {
    let mut keystore = with(&with(&empty(), 1, 1, KeyState::Active), 2, 1, KeyState::Active);
    for (id, version) in [(1, 3), (2, 3), (3, 1)] {
        keystore = with(&keystore, id, version, KeyState::Active).next_generation();
        keystore.read_back().unwrap();
        assert_eq!(keystore.contents().unwritten().keys().len(), 0, "a text was not kept");
        let written = keystore.to_bytes().unwrap();
        assert_eq!(Sealed::parse(&written).unwrap().unverified(), keystore.contents());
        let again = Sealed::parse(&written).unwrap().open(store_key(2)).unwrap();
        assert!(again.contents().unwritten().keys().len() > 0, "a reader keeps texts");
        assert_eq!(again.to_bytes().unwrap(), written);
    }
    let retired = keystore.with_state(&at(3, 1), KeyState::Retired, &change("old")).unwrap();
    let names: Vec<_> = retired.contents().unwritten().keys().map(|key| key.name.clone()).collect();
    assert_eq!(names, [at(3, 1).name], "a changed version goes by its old text");
}

#[test]
fn a_change_is_told_by_the_entries_that_are_not_shared() {
    fn of(before: Option<&Keystore>, now: &Keystore) -> Vec<(String, bool)> {
        let found = now.contents().changed_since(before.map(Keystore::contents));
        found.iter().map(|(name, key)| (name.to_string(), key.is_some())).collect()
    }
    let key = |id: u32| at(id, 1).name.to_string();
    let mut before = empty();
    for id in [1, 3, 5, 7] {
        before = with(&before, id, 1, KeyState::Active);
    }
    assert_eq!(of(Some(&before), &before), []);
    let changed = with(&with(&before, 3, 3, KeyState::Active), 4, 1, KeyState::Active);
    assert_eq!(of(Some(&before), &changed), [(key(3), true), (key(4), true)]);
    assert_eq!(of(Some(&changed), &before), [(key(3), true), (key(4), false)]);
    for id in [0x10, 2] {
        let more = with(&before, id, 1, KeyState::Active);
        assert_eq!(of(Some(&before), &more), [(key(id), true)]);
        assert_eq!(of(Some(&more), &before), [(key(id), false)]);
    }
    assert_eq!(of(None, &before).len(), 4);
    // What was read again is shared with nothing.
    assert_eq!(of(Some(&before), &reopened(&before).unwrap()).len(), 4);
}

#[test]
fn the_beginning_of_a_file_tells_which_it_is() {
    let keystore = with(&empty(), 1, 1, KeyState::Active).next_generation();
    let bytes = keystore.to_bytes().unwrap();
    let is = (keystore.contents().id().to_owned(), keystore.contents().revision());
    assert_eq!(format::peek_beginning(&bytes[..300]).unwrap().unwrap(), is);
    assert_eq!(lines::peek(&bytes).unwrap(), is);
    let text = String::from_utf8(bytes).unwrap();
    let other_ways =
        [text[..100].to_owned(), text.replace('\n', ""), text.replace("\"id\"", "\"i\"")];
    for other in other_ways {
        assert!(format::peek_beginning(other.as_bytes()).is_none(), "{other}");
    }
    let newer = text.replace("\"version\": 2", "\"version\": 3");
    assert_eq!(kind(format::peek_beginning(newer.as_bytes()).unwrap()), Kind::Unsupported);
}
