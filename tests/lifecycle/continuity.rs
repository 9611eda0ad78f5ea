//! A version is for ever: an older copy of the keystore that was put back next to a running server
//! and then went on in another way.

use std::time::Duration;

use keyward::Kind;
use keyward::custodian::Custodian;
use keyward::env::Level;
use keyward::key::KeyName;
use keyward::manager::{Destruction, Judged, Rewrap, StateChange};
use keyward::secret::DataKey;
use keyward::source::{Role, Which};

use crate::bench::{Bench, REASON, key, key_ref, version};

const NEW: Rewrap<'_> = Rewrap::NewStoreKey { prune: false };

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

const ADVICE: &str = "an older copy took its place and was changed: put the newest copy back; if \
                      there is none, keyward_rescue writes the keys in the server's memory into a new \
                      keystore: do not stop it before";

/// A copy of the keystore's folder.
struct Copy(Vec<(std::path::PathBuf, Vec<u8>)>);

impl Copy {
    fn of(bench: &Bench) -> Self {
        let files = std::fs::read_dir(bench.folder.path()).unwrap();
        let paths = files.map(|entry| entry.unwrap().path());
        Self(paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect())
    }

    fn put_back(&self) {
        for (path, bytes) in &self.0 {
            std::fs::write(path, bytes).unwrap();
        }
    }
}

/// A server that reads when it is told to.
fn server(bench: &Bench) -> Custodian {
    bench.start(&["first"], Role::Daemon).unwrap()
}

fn rotate(custodian: &Custodian, id: u32) {
    custodian.rotate(Which::One(key(id)), REASON).unwrap();
}

/// What the refusal says after the path.
fn refusal(bench: &Bench, server: &Custodian) -> String {
    let error = server.refresh().unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert_eq!(server.status().degraded.unwrap().cause, error.to_string());
    let path = format!("{}: ", bench.path().display());
    error.to_string().strip_prefix(&path).unwrap().to_owned()
}

fn name(id: &str) -> KeyName {
    KeyName::named(id, "")
}

#[test]
fn an_older_copy_that_went_on_is_refused_and_memory_encrypts_with_what_it_has() {
    let bench = Bench::new();
    let old = Copy::of(&bench);
    let server = server(&bench);
    rotate(&server, 1);
    let newest = Copy::of(&bench);
    old.put_back();
    assert!(refusal_of_any(&server).contains("went back from generation 5 to 4"));
    // The command cannot know: its copy of the folder is whole.
    bench.custodian(&["first"]).create(key(5), None, REASON).unwrap();
    let repeated = format!("generation 5 has other contents than before; {ADVICE}");
    assert_eq!(refusal(&bench, &server), repeated);
    for more in 11..14 {
        bench.custodian(&["first"]).create(key(more), None, REASON).unwrap();
        let gone = format!("key 1 version 3 is gone; {ADVICE}");
        assert_eq!(refusal(&bench, &server), gone);
    }
    assert!(server.rotate(Which::One(key(1)), REASON).is_err());
    assert!(server.create(key(9), None, REASON).is_err());
    assert_eq!(server.latest(key(1)), Some(version(3)));
    assert!(server.latest(key(5)).is_none(), "nothing of a refused keystore is served");
    newest.put_back();
    server.refresh().unwrap();
    assert!(server.status().degraded.is_none());
    rotate(&server, 1);
    assert_eq!(server.latest(key(1)), Some(version(5)));
    let warnings = bench.log.lines().into_iter().filter(|(level, _)| *level == Level::Warning);
    assert_eq!(warnings.count(), 3, "one line for each cause");
}

fn refusal_of_any(server: &Custodian) -> String {
    server.refresh().unwrap_err().to_string()
}

#[test]
fn a_number_made_again_after_an_accepted_rollback_is_refused() {
    let bench = Bench::new();
    let old = bench.bytes();
    let server = server(&bench);
    rotate(&server, 1);
    let held = server.key(key(1), version(3)).unwrap().check();
    std::fs::write(bench.path(), old).unwrap();
    bench.source(&["first"]).accept_rollback(&[], REASON).unwrap();
    let command = bench.custodian(&["first"]);
    for _ in 0..2 {
        rotate(&command, 1);
    }
    let said = refusal(&bench, &server);
    assert!(said.starts_with("key 1 version 3 is "), "{said}");
    assert_eq!(server.latest(key(1)), Some(version(3)));
    assert_eq!(server.key(key(1), version(3)).unwrap().check(), held);
    assert!(server.key(key(1), version(5)).is_none());
}

#[test]
fn a_change_of_state_that_the_keystore_forgot_is_refused() {
    let bench = Bench::new();
    rotate(&bench.custodian(&["first"]), 1);
    let old = Copy::of(&bench);
    let server = server(&bench);
    server
        .manager()
        .unwrap()
        .change_state(&StateChange::Compromised(key_ref(1, 1)), REASON)
        .unwrap();
    old.put_back();
    for id in [5, 6] {
        bench.custodian(&["first"]).create(key(id), None, REASON).unwrap();
    }
    let forgot = format!("key 1 version 1 was compromised before and is not now; {ADVICE}");
    assert_eq!(refusal(&bench, &server), forgot);
}

#[test]
fn whatever_keyward_does_goes_on_after_any_number_of_generations_missed() {
    let bench = Bench::new();
    let server = server(&bench);
    let command = bench.custodian(&["first"]);
    for id in [1, 1, 2] {
        rotate(&command, id);
    }
    command.manager().unwrap().change_state(&StateChange::Undo(key(1)), REASON).unwrap();
    command
        .manager()
        .unwrap()
        .change_state(&StateChange::Compromised(key_ref(2, 3)), REASON)
        .unwrap();
    command.manager().unwrap().rewrap(NEW, REASON).unwrap();
    command.create(key(9), None, REASON).unwrap();
    command
        .manager()
        .unwrap()
        .destroy(&Destruction::Plan(key_ref(2, 1), WEEK), &Judged::default(), REASON)
        .unwrap();
    bench.clock.advance(WEEK);
    command
        .manager()
        .unwrap()
        .destroy(&Destruction::CarryOut(key_ref(2, 1)), &Judged::default(), REASON)
        .unwrap();
    server.refresh().unwrap();
    assert_eq!(server.latest(key(1)), Some(version(3)));
    assert_eq!(server.latest(key(2)), Some(version(5)));
    assert!(server.key(key(1), version(5)).is_some());
    command.manager().unwrap().rewrap(NEW, REASON).unwrap();
    server.refresh().unwrap();
    assert!(server.status().degraded.is_none());
}

#[test]
fn a_key_of_mysqls_that_is_removed_goes_on_and_one_that_another_took_the_place_of_is_refused() {
    let bench = Bench::new();
    let server = server(&bench);
    let store = |custodian: &Custodian, id: &str, byte: u8| {
        let data = DataKey::copy_of(&[byte; 32]).unwrap();
        custodian.manager().unwrap().store_named(&name(id), "AES", &data, REASON).unwrap();
    };
    let command = bench.custodian(&["first"]);
    store(&command, "a", 1);
    server.refresh().unwrap();
    command.manager().unwrap().remove_named(&name("a"), REASON).unwrap();
    store(&command, "a", 2);
    server.refresh().unwrap();
    let held = server.named(&name("a")).unwrap().unwrap();
    assert_eq!((held.version().get(), held.data().expose()), (2, [2; 32].as_slice()));
    let old = Copy::of(&bench);
    store(&command, "b", 3);
    server.refresh().unwrap();
    old.put_back();
    let other = bench.custodian(&["first"]);
    store(&other, "c", 4);
    store(&other, "b", 5);
    let said = refusal(&bench, &server);
    assert!(said.starts_with("key b version 1 is "), "{said}");
    assert_eq!(server.named(&name("b")).unwrap().unwrap().data().expose(), [3; 32]);
}
