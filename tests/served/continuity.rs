//! Keys in use that the key store loses or changes: each serves on from memory, the others go on.

use std::path::Path;
use std::sync::Arc;

use keyward::config::Config;
use keyward::custodian::Custodian;
use keyward::env::fake::FakeLog;
use keyward::env::{Env, Level};
use keyward::event::Limits;
use keyward::key::KeyState;
use keyward::source::{Role, Which};
use keyward::store::StoreFile;
use keyward::{Kind, assemble};

use crate::bench::{Bench, REASON, key, version};

fn rotate(custodian: &Custodian, id: u32) -> keyward::Result<()> {
    custodian.rotate(Which::One(key(id)), REASON).map(drop)
}

fn cause(custodian: &Custodian) -> String {
    custodian.refresh().unwrap();
    custodian.status().degraded.map_or_else(String::new, |degraded| degraded.cause)
}

const LEADS_OUT: &str = "a restart would not find the key in use: put the same key back there, or \
                         restart the server if no data needs it";

#[test]
fn a_key_that_vanishes_serves_on_and_the_others_go_on() {
    let bench = Bench::new();
    let custodian = bench.start(bench.source()).unwrap();
    let (key_2, key_1) = (key(2), key(1));
    let held = custodian.key(key_2, version(1)).unwrap().check();
    bench.server.forget(2, 1);
    let place = "provider \"vault\" (the test's folder): ";
    let gone = format!("{place}key 2 version 1 is gone; {LEADS_OUT}");
    assert_eq!(cause(&custodian), gone);
    assert_eq!(cause(&custodian), gone);
    assert_eq!(bench.warnings(), [format!("degraded, the keys in memory go on serving: {gone}")]);
    assert_eq!(custodian.latest(key_2), Some(version(1)));
    assert_eq!(custodian.key(key_2, version(1)).unwrap().check(), held);
    let refused = rotate(&custodian, 2).unwrap_err();
    assert_eq!(refused.kind(), Kind::State);
    assert_eq!(
        refused.to_string(),
        format!(
            "{place}key 2 gets no new version: key 2 version 1 is gone; put the same key back there"
        )
    );
    let refused = custodian.create(key_2, None, REASON).unwrap_err();
    assert!(refused.to_string().contains("key 2 version 1 is gone"), "{refused}");
    assert!(custodian.rotate(Which::All, REASON).is_err());
    // The others go on.
    rotate(&custodian, 1).unwrap();
    assert_eq!(custodian.latest(key_1), Some(version(2)));
    bench.server.set(7, 1, KeyState::Active);
    assert_eq!(cause(&custodian), gone);
    assert_eq!(custodian.latest(key(7)), Some(version(1)));
    // It comes back as it was.
    bench.server.set(2, 1, KeyState::Active);
    assert_eq!(cause(&custodian), "");
    rotate(&custodian, 2).unwrap();
    assert_eq!(custodian.latest(key_2), Some(version(2)));
    let (level, line) = bench.log.lines().pop().unwrap();
    assert_eq!(level, Level::Note);
    assert_eq!(line, "the key store can be read again, and has the keys in use");
}

#[test]
fn a_loss_that_a_creation_finds_is_told_at_once() {
    let bench = Bench::new();
    let custodian = bench.start(bench.source()).unwrap();
    bench.server.forget(2, 1);
    custodian.create(key(7), None, REASON).unwrap();
    let said = custodian.status().degraded.unwrap().cause;
    assert!(said.contains("key 2 version 1 is gone"), "{said}");
}

#[test]
fn a_deletion_there_is_a_loss_whoever_meant_it() {
    let bench = Bench::new();
    let custodian = bench.start(bench.source()).unwrap();
    rotate(&custodian, 1).unwrap();
    bench.server.set_state(1, 2, KeyState::Destroyed);
    bench.server.set_state(1, 1, KeyState::Active);
    let said = cause(&custodian);
    assert!(said.contains("key 1 version 2 is deleted; a restart"), "{said}");
    assert_eq!(custodian.latest(key(1)), Some(version(2)), "never back to an older version");
    assert!(rotate(&custodian, 1).is_err());
    bench.server.set_state(1, 1, KeyState::Retired);
    bench.server.set_state(1, 2, KeyState::Active);
    assert_eq!(cause(&custodian), "");
}

#[test]
fn numbers_that_begin_again_are_refused_and_memory_encrypts_with_its_latest() {
    let bench = Bench::new();
    let custodian = bench.start(bench.source()).unwrap();
    for _ in 0..2 {
        rotate(&custodian, 1).unwrap();
    }
    let held = custodian.key(key(1), version(2)).unwrap().check();
    for number in 1..=3 {
        bench.server.forget(1, number);
    }
    bench.server.put_bytes(1, 1, KeyState::Active, &[7; 32]);
    let said = cause(&custodian);
    let wanted = "key 1 version 1 is another key than the one in use, key 1 version 2 is gone, key \
                  1 version 3 is gone; ";
    assert!(said.contains(wanted), "{said}");
    assert_eq!(custodian.latest(key(1)), Some(version(3)));
    bench.server.put_bytes(1, 1, KeyState::Retired, &[7; 32]);
    bench.server.put_bytes(1, 2, KeyState::Active, &[8; 32]);
    let said = cause(&custodian);
    assert!(said.contains("key 1 version 2 is another key than the one in use"), "{said}");
    // Version 4 was never seen: it can be read, and encrypts nothing.
    bench.server.put_bytes(1, 4, KeyState::Active, &[9; 32]);
    cause(&custodian);
    assert_eq!(custodian.latest(key(1)), Some(version(3)));
    assert_eq!(custodian.key(key(1), version(2)).unwrap().check(), held);
    assert!(rotate(&custodian, 1).is_err());
}

#[test]
fn a_step_back_to_an_older_version_is_told_and_a_rotation_leads_out() {
    let bench = Bench::new();
    let custodian = bench.start(bench.source()).unwrap();
    rotate(&custodian, 1).unwrap();
    bench.server.set(1, 1, KeyState::Active);
    bench.server.set_state(1, 2, KeyState::Retired);
    assert_eq!(
        cause(&custodian),
        "provider \"vault\" (the test's folder): key 1 version 2 is in use, and version 1 encrypts \
         there; `keyward rotate 1` makes one that encrypts there too"
    );
    assert_eq!(custodian.latest(key(1)), Some(version(2)));
    rotate(&custodian, 1).unwrap();
    assert_eq!(custodian.latest(key(1)), Some(version(3)));
    assert!(custodian.status().degraded.is_none());
}

#[test]
fn under_a_stand_ins_name_it_is_a_note() {
    let bench = Bench::new();
    let custodian = bench.start(bench.source().only_noting()).unwrap();
    bench.server.forget(2, 1);
    bench.server.put_bytes(1, 1, KeyState::Active, &[7; 32]);
    for _ in 0..2 {
        assert_eq!(cause(&custodian), "");
    }
    assert_eq!(custodian.latest(key(2)), Some(version(1)));
    assert!(custodian.key(key(1), version(1)).unwrap().key().expose() != [7; 32]);
    let note = "provider \"vault\": key 1 version 1 is another key than the one in use, key 2 \
                version 1 is gone";
    assert_eq!(bench.log.lines(), [(Level::Note, note.to_owned())]);
    rotate(&custodian, 1).unwrap();
}

#[test]
fn what_fails_after_a_key_is_stored_is_a_warning() {
    let bench = Bench::new();
    let trail = StoreFile::at(bench.folder.path().join("keystore.json"));
    let custodian = bench.start(bench.source().with_trail(trail, Limits::default())).unwrap();
    bench.server.die_after_storing();
    let rotated = custodian.rotate(Which::One(key(1)), REASON).unwrap();
    assert_eq!(rotated.len(), 1);
    let line = "key 1 version 2 is stored, but: provider \"vault\": the key store is away";
    assert_eq!(bench.warnings(), [line]);
    bench.server.fail(None);
    let made = custodian.create(key(9), None, REASON).unwrap();
    assert_eq!(made, crate::bench::key_ref(9, 1));
    assert_eq!(bench.warnings().len(), 2);
    bench.server.fail(None);
    custodian.refresh().unwrap();
    assert_eq!(custodian.latest(key(1)), Some(version(2)));
    assert_eq!(custodian.latest(key(9)), Some(version(1)));
}

#[test]
fn a_line_taken_out_of_a_key_file_or_changed_is_told_and_memory_serves_on() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.txt");
    let write = |text: &str| {
        let new = folder.path().join("new.txt");
        std::fs::write(&new, text).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(&new, &keys).unwrap();
    };
    let line = |id: u32, byte: &str| format!("{id};{}\n", byte.repeat(32));
    write(&[line(1, "5a"), line(19, "5b")].concat());
    let at = folder.path().display();
    let text = format!(
        "[keystore]\npath = \"{at}/keystore.json\"\n[[provider]]\nname = \"keys\"\ntype = \"file\"\n\
         mode = \"ctr\"\npath = \"{at}/keys.txt\"\n"
    );
    let log = Arc::new(FakeLog::default());
    let config = Config::parse(Path::new("k.toml"), &text).unwrap();
    let env = Env::system(log.clone());
    let custodian = assemble::start(&config, Role::Daemon, env).unwrap();
    write(&line(1, "5a"));
    let said = cause(&custodian);
    let place = format!("provider \"keys\" ({at}/keys.txt): ");
    assert_eq!(said, format!("{place}key 19 version 1 is gone; {LEADS_OUT}"));
    assert_eq!(log.lines().len(), 1);
    assert_eq!(custodian.latest(key(19)), Some(version(1)));
    write(&[line(1, "5c"), line(19, "5b")].concat());
    let said = cause(&custodian);
    assert!(said.contains("key 1 version 1 is another key than the one in use"), "{said}");
    assert_eq!(custodian.key(key(1), version(1)).unwrap().key().expose(), [0x5a; 32]);
    write(&[line(1, "5a"), line(19, "5b"), line(7, "5d")].concat());
    assert_eq!(cause(&custodian), "");
    assert_eq!(custodian.latest(key(7)), Some(version(1)));
}

#[test]
fn a_key_whose_reply_was_lost_is_asked_for_before_anybody_calls_it_a_failure() {
    let bench = Bench::new();
    let custodian = bench.start(bench.source()).unwrap();
    bench.server.lose_replies();
    rotate(&custodian, 1).unwrap();
    assert_eq!(custodian.latest(key(1)), Some(version(2)));
    bench.server.die_after_storing();
    let unknown = rotate(&custodian, 1).unwrap_err();
    assert_eq!(unknown.kind(), Kind::Unknown);
    assert_eq!(
        unknown.to_string(),
        "provider \"vault\": key 1 version 3 may be stored or not: no answer in time; once the key \
         store answers, `keyward keys list` shows whether it is there; then nothing more is to be done"
    );
    bench.server.fail(None);
    custodian.refresh().unwrap();
    assert_eq!(custodian.latest(key(1)), Some(version(3)));
}
