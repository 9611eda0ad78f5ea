//! An older copy of the keystore, put back while nothing runs.

use std::path::PathBuf;

use keyward::Kind;
use keyward::custodian::{Rewrap, Role, Which};

use crate::bench::{Bench, REASON, key, version};

const NEW: Rewrap<'_> = Rewrap::NewStoreKey { prune: false };

const ALL: [Role; 3] = [Role::Server, Role::Reader, Role::Command];

fn witness(bench: &Bench) -> PathBuf {
    bench.folder.path().join("keystore.json.witness")
}

fn put_back(bench: &Bench, bytes: &[u8]) {
    std::fs::write(bench.path(), bytes).unwrap();
}

fn refusal(bench: &Bench, role: Role) -> String {
    bench.start(&["first"], role).err().unwrap().to_string()
}

#[test]
fn an_older_copy_does_not_open_in_any_role() {
    let bench = Bench::new();
    let old = bench.bytes();
    bench.custodian(&["first"]).rotate(Which::All, REASON).unwrap();
    let new = bench.bytes();
    put_back(&bench, &old);
    for role in ALL {
        let told = refusal(&bench, role);
        assert!(
            told.contains(
                "the keystore is of generation 4, but generation 5 was in force; put the"
            ) && told.contains("keyward accept-rollback"),
            "{told}"
        );
    }
    put_back(&bench, &new);
    assert_eq!(bench.custodian(&["first"]).latest(key(7)), Some(version(3)));
}

#[test]
fn a_copy_from_before_a_new_store_key_is_noticed_as_well() {
    let bench = Bench::new();
    let old = bench.bytes();
    bench.custodian(&["first"]).rewrap(NEW, REASON).unwrap();
    put_back(&bench, &old);
    assert!(refusal(&bench, Role::Server).contains("generation 5 was in force"));
}

#[test]
fn another_keystore_in_its_place_is_noticed() {
    let (bench, other) = (Bench::new(), Bench::without_keys());
    other.rng.fail_after(u64::MAX);
    // The other one has another id: its random numbers went on before it was made.
    let text = String::from_utf8(other.bytes()).unwrap();
    assert!(text.contains("\"id\""));
    let path = witness(&bench);
    let told = std::fs::read_to_string(&path).unwrap();
    let id = bench.custodian(&["first"]).keystore_id();
    let another = id.replace(|digit: char| digit.is_ascii_digit(), "4");
    std::fs::write(&path, told.replace(&id, &another)).unwrap();
    let told = refusal(&bench, Role::Server);
    assert!(told.contains(&format!("keystore {another} was here before, not {id}")), "{told}");
}

#[test]
fn an_edited_witness_is_noticed() {
    let bench = Bench::new();
    let path = witness(&bench);
    let good = std::fs::read_to_string(&path).unwrap();
    assert!(good.contains("\"generation\": 4"), "{good}");
    for (bad, told) in [
        (good.replace("\"generation\": 4", "\"generation\": 3"), "by something else than keyward"),
        (good.replace("keyward-witness", "x"), "it is no keyward witness, or damaged"),
        (good[..40].to_owned(), "it is no keyward witness, or damaged"),
        (String::new(), "it is no keyward witness, or damaged"),
        (good.replace("\"version\": 1", "\"version\": 2"), "format version 2"),
    ] {
        std::fs::write(&path, bad).unwrap();
        let refused = refusal(&bench, Role::Server);
        assert!(refused.contains(told), "{refused}");
        assert!(refused.contains("keystore.json.witness"), "{refused}");
    }
    std::fs::write(&path, good).unwrap();
    bench.custodian(&["first"]);
}

#[test]
fn a_reader_writes_none_and_others_make_it_anew() {
    let bench = Bench::new();
    std::fs::remove_file(witness(&bench)).unwrap();
    bench.start(&["first"], Role::Reader).unwrap();
    assert!(!witness(&bench).exists());
    bench.start(&["first"], Role::Server).unwrap();
    assert!(witness(&bench).exists());
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(witness(&bench)).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_witness_left_behind_by_a_crash_is_raised_by_the_next_start() {
    let bench = Bench::new();
    let behind = std::fs::read(witness(&bench)).unwrap();
    bench.custodian(&["first"]).rotate(Which::All, REASON).unwrap();
    let raised = std::fs::read(witness(&bench)).unwrap();
    std::fs::write(witness(&bench), &behind).unwrap();
    bench.custodian(&["first"]);
    assert_eq!(std::fs::read(witness(&bench)).unwrap(), raised);
}

#[test]
fn a_rollback_that_somebody_accepts_opens() {
    let bench = Bench::new();
    let nothing = bench.source(&["first"]).accept_rollback(REASON).unwrap_err();
    assert_eq!(nothing.kind(), Kind::State);
    let old = bench.bytes();
    bench.custodian(&["first"]).rotate(Which::All, REASON).unwrap();
    put_back(&bench, &old);
    let (refused, generation) = bench.source(&["first"]).accept_rollback(REASON).unwrap();
    assert!(refused.contains("generation 5 was in force"));
    assert_eq!(generation, 4);
    let custodian = bench.custodian(&["first"]);
    assert_eq!(custodian.latest(key(7)), Some(version(1)));
    assert_eq!(bench.events().last().unwrap(), "rollback-accepted");
}
