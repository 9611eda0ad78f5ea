//! Marks of every released format: each is read, or fails as its name says.
//!
//! `WHAT.reads.mark` is read and says the same when it is written again; `WHAT.KIND.mark` is not
//! heeded, for a reason of that kind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use keyward::Kind;
use keyward::env::fake::FakeRng;
use keyward::key::{KeyId, KeyName, KeyRef, KeyVersion};
use keyward::mark::{MARK_NAME, Mark, MarkFile, Read};
use keyward::secret::DataKey;
use keyward::store::OsDisk;

const GOLDEN: &str = "tests/golden/mark";

#[test]
fn every_golden_file_does_as_its_name_says() {
    let (mut read, mut refused) = (0, 0);
    for entry in fs::read_dir(GOLDEN).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let expected = name.rsplit('.').nth(1).unwrap().to_owned();
        let bytes = fs::read(&path).unwrap();
        let outcome = match Mark::parse(&bytes) {
            Ok(mark) => {
                assert!(mark.to_bytes().unwrap() == bytes, "{name} is written differently");
                "reads"
            }
            Err(error) if error.kind() == Kind::Unsupported => "unsupported",
            Err(error) if error.kind() == Kind::Corrupt => "corrupt",
            Err(error) => panic!("{name}: {error}"),
        };
        assert_eq!(outcome, expected, "{name}");
        *(if outcome == "reads" { &mut read } else { &mut refused }) += 1;
    }
    assert!(read >= 2 && refused >= 5, "{read} are read, {refused} are not");
}

/// The file that today's keyward writes, byte for byte. `KEYWARD_GOLDEN=write` makes a missing one.
#[test]
fn todays_marks_are_written_the_same() {
    for (name, mark) in [("v1-mariadb", of_mariadb()), ("v1-mysql", of_mysql())] {
        let path = PathBuf::from(format!("{GOLDEN}/{name}.reads.mark"));
        let bytes = mark.to_bytes().unwrap();
        if !path.exists() && std::env::var("KEYWARD_GOLDEN").is_ok_and(|value| value == "write") {
            fs::write(&path, &bytes).unwrap();
        }
        assert!(fs::read(&path).unwrap() == bytes, "{name} is written differently");
    }
}

#[test]
fn the_golden_hashes_are_those_of_the_keys() {
    let bytes = fs::read(format!("{GOLDEN}/v1-mariadb.reads.mark")).unwrap();
    let mark = Mark::parse(&bytes).unwrap();
    for key in mark.keys() {
        assert_eq!(mark.agrees(key, &data(key)), Some(true), "{key}");
        assert_eq!(mark.agrees(key, &DataKey::copy_of(&[0; 32]).unwrap()), Some(false), "{key}");
    }
}

#[test]
fn a_mark_is_replaced_in_one_step_and_through_no_link() {
    let folder = tempfile::tempdir().unwrap();
    let file = MarkFile::of(folder.path(), Arc::new(OsDisk));
    assert!(matches!(file.read(), Read::None));
    // What a crash left of an earlier write.
    fs::write(folder.path().join("keyward.mark.tmp"), b"{").unwrap();
    file.write(&of_mariadb()).unwrap();
    file.write(&of_mysql()).unwrap();
    let Read::Mark(mark) = file.read() else { panic!("no mark was read") };
    assert_eq!(mark, of_mysql());
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, [MARK_NAME]);

    let elsewhere = folder.path().join("elsewhere");
    fs::rename(file.path(), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, file.path()).unwrap();
    assert!(matches!(file.read(), Read::Unusable(_)), "a link was followed");
    file.write(&of_mariadb()).unwrap();
    assert_eq!(Mark::parse(&fs::read(elsewhere).unwrap()).unwrap(), of_mysql());
}

#[test]
fn a_mark_that_others_may_write_is_not_heeded() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = MarkFile::of(folder.path(), Arc::new(OsDisk));
    file.write(&of_mariadb()).unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o666)).unwrap();
    let Read::Unusable(error) = file.read() else { panic!("it was heeded") };
    assert!(error.to_string().ends_with("can be written by others than its owner"), "{error}");
}

fn of_mariadb() -> Mark {
    let id = "11111111-2222-4333-8444-555555555555";
    let mut mark = Mark::new(id, "66666666-7777-4888-9999-000000000000", &FakeRng::new(1)).unwrap();
    for (id, version) in [(1, 1), (1, 3), (2, 1), (4_294_967_295, 4_294_967_294)] {
        let key = KeyRef::new(KeyId::try_from(id).unwrap(), KeyVersion::try_from(version).unwrap());
        let data = data(&key);
        mark.list(key, &data);
    }
    mark
}

fn of_mysql() -> Mark {
    let id = "11111111-2222-4333-8444-555555555555";
    let mut mark = Mark::new(id, "provider:vault", &FakeRng::new(2)).unwrap();
    for data_id in ["INNODBKey-0c6b-1", "MySQLReplicationKey_0c6b_1", "a user's secret"] {
        let name = KeyName::named(data_id, "");
        let key = KeyRef::new(name, KeyVersion::FIRST);
        let data = data(&key);
        mark.list(key, &data);
    }
    mark
}

/// The key that the golden files have for `key`.
fn data(key: &KeyRef) -> DataKey {
    let seed =
        key.to_string().bytes().fold(7u64, |seed, byte| seed * 31 % 1_000_003 + u64::from(byte));
    DataKey::generate(32, &FakeRng::new(seed)).unwrap()
}
