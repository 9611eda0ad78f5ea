//! Restores and forks that meet a full disk, or each other.

use std::fs;
use std::process::{Child, Command};

use crate::{Site, said};

/// What a limit on the size of files is set by; writing beyond it fails as on a full disk.
const LIMITED: &str = "trap '' XFSZ; exec prlimit --fsize=2500 -- \"$0\" \"$@\"";

#[test]
fn a_full_disk_changes_nothing() {
    let old = Site::with_keys();
    let (identity, fingerprint) = old.identity();
    let backup = old.backup();
    let new = Site::new();
    let restore = ["keystore", "restore", &backup, "--identity", &identity, "--replace"];
    let restore = [&restore[..], &["--fingerprint", &fingerprint]].concat();
    let data = old.text("");
    let fork = ["keystore", "fork", "--datadir", &data];
    for (site, words) in [(&new, &restore[..]), (&old, &fork[..])] {
        // What it has is longer than a file may be here.
        fs::remove_file(site.keystore().with_file_name("audit.jsonl")).unwrap();
        let before = fs::read(site.keystore()).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", LIMITED, env!("CARGO_BIN_EXE_keyward")]).args(site.call(words));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains("File too large"), "{}", said(&output));
        assert!(fs::read(site.keystore()).unwrap() == before, "{words:?} changed the keystore");
        let beside = fs::read_dir(site.keystore().parent().unwrap()).unwrap();
        let names: Vec<_> = beside.map(|entry| entry.unwrap().file_name()).collect();
        let left = names.iter().find(|name| {
            let name = name.to_str().unwrap();
            name.contains("tmp") || name.contains("before-rescue")
        });
        assert!(left.is_none(), "{words:?} left {left:?}");
        site.ok(words);
    }
}

#[test]
fn of_several_at_once_one_is_done_and_the_keystore_is_whole() {
    let old = Site::with_keys();
    let (identity, fingerprint) = old.identity();
    let backup = old.backup();
    let (keys, new) = (old.keys("keys"), Site::new());
    let restore = ["keystore", "restore", &backup, "--identity", &identity, "--replace"];
    let restore = [&restore[..], &["--fingerprint", &fingerprint]].concat();
    let start = |words: &[&str]| -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        command.args(new.call(words)).spawn().unwrap()
    };
    let calls: Vec<_> = (0..4).map(|_| start(&restore)).collect();
    let done = calls.into_iter().map(|mut call| call.wait().unwrap().success());
    // The others find that it opens and has all keys.
    assert_eq!(done.filter(|done| *done).count(), 1);
    assert_eq!(new.keys("keys"), keys);
    let data = new.text("");
    let fork = ["keystore", "fork", "--datadir", &data];
    let calls: Vec<_> = (0..3).map(|_| start(&fork)).collect();
    let done = calls.into_iter().map(|mut call| call.wait().unwrap().success());
    assert!(done.filter(|done| *done).count() >= 1);
    assert_eq!(new.keys("again"), keys);
    new.ok(&["rotate", "--all"]);
}
