//! A commit that is cut off or fails at any step leaves the old generation or the new one, whole.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/keystores.rs"]
mod keystores;
#[path = "common/sim_disk.rs"]
mod sim_disk;

use std::sync::Arc;
use std::time::Duration;

use keyward::env::Deadline;
use keyward::env::fake::FakeRng;
use keyward::store::{Disk, Keystore, StoreFile};
use keyward::{Kind, Result};

use keystores::{data_key, key, keystore, open, rotated};
use sim_disk::{Fate, SimDisk, Survival};

/// Steps of one commit, at least: checks, lock, read, writes, sync, rename, sync of the folder.
const FEWEST_STEPS: usize = 10;

#[test]
fn a_commit_cut_off_anywhere_leaves_old_or_new() {
    let (old, steps) = generations();
    let mut kept = [0, 0];
    for step in 0..steps {
        for survival in Survival::all() {
            let disk = disk_with(&old);
            disk.meet(Fate::DieAt(step));
            assert!(rotate(&file(&disk)).is_err(), "step {step}");
            let disk = disk.after_power_cut(survival);
            let found = check(&disk, &old, &format!("step {step}, {survival:?}"));
            kept[found] += 1;
        }
    }
    println!("{} power cuts: {} old, {} new", kept[0] + kept[1], kept[0], kept[1]);
    assert!(kept[0] > kept[1] && kept[1] > 0);
}

#[test]
fn a_first_commit_cut_off_anywhere_leaves_nothing_or_new() {
    let disk = SimDisk::default();
    disk.meet(Fate::None);
    commit(&file(&disk), &keystore(2)).unwrap();
    for step in 0..disk.steps() {
        for survival in Survival::all() {
            let disk = SimDisk::default();
            disk.meet(Fate::DieAt(step));
            assert!(commit(&file(&disk), &keystore(2)).is_err());
            let disk = disk.after_power_cut(survival);
            match open(&file(&disk)) {
                Ok(open) => assert_eq!(open.contents().generation(), 1),
                Err(none) => {
                    assert_eq!(none.kind(), Kind::NotFound, "step {step}, {survival:?}: {none}");
                    commit(&file(&disk), &keystore(2)).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_commit_that_fails_anywhere_leaves_old_or_new_and_says_so() {
    let (old, steps) = generations();
    for step in 0..steps {
        for error in [libc::EIO, libc::ENOSPC, libc::EROFS, libc::EACCES, libc::EDQUOT] {
            let disk = disk_with(&old);
            disk.meet(Fate::FailAt(step, error));
            let outcome = rotate(&file(&disk));
            let steps_taken = disk.steps();
            disk.meet(Fate::None);
            let at = format!("step {step} of {steps}, error {error}");
            let found = check(&disk, &old, &at);
            match outcome {
                Ok(_) => assert_eq!(found, 1, "{at}"),
                Err(told) => {
                    assert!(told.to_string().contains("/store"), "{at}: {told}");
                    match told.kind() {
                        Kind::Unknown => {
                            assert_eq!(found, 1, "{at}: {told}");
                            assert!(told.to_string().contains("generation 2 "), "{at}: {told}");
                        }
                        kind => assert_eq!((kind, found), (Kind::Io, 0), "{at}: {told}"),
                    }
                    assert!(steps_taken <= steps + 1, "{at}");
                }
            }
        }
    }
}

#[test]
fn a_failed_sync_after_the_rename_is_told_as_what_it_is() {
    let (old, steps) = generations();
    let disk = disk_with(&old);
    // The last step of a commit.
    disk.meet(Fate::FailAt(steps - 1, libc::EIO));
    let told = rotate(&file(&disk)).err().unwrap();
    assert_eq!(told.kind(), Kind::Unknown);
    assert!(!told.is_transient());
    assert_eq!(
        told.to_string(),
        "/store/keystore.json: generation 2 was written, but a power cut may undo it: Input/output \
         error; check the disk, then run `keyward status`: if it shows generation 2 or later, do not \
         repeat the change"
    );
}

/// As on a file system of another machine: what was asked for was done, and the answer got lost.
#[test]
fn a_rename_that_happened_though_it_failed_is_a_success() {
    let (old, steps) = generations();
    let mut lost = 0;
    for step in 0..steps {
        let disk = disk_with(&old);
        disk.meet(Fate::LoseAnswerAt(step));
        let next = rotate(&file(&disk)).unwrap();
        lost += usize::from(disk.steps() > steps);
        let after = disk.after_power_cut(Survival { names: false, bytes: 0 });
        assert_eq!(open(&file(&after)).unwrap().contents(), next.contents(), "step {step}");
    }
    assert_eq!(lost, 1);
}

#[test]
fn a_lock_that_was_lost_meanwhile_commits_nothing() {
    let (old, _) = generations();
    let disk = disk_with(&old);
    let file = file(&disk);
    let lock = file.lock(soon()).unwrap();
    disk.lose_locks();
    let error = file.commit(&lock, &rotated(&old, 3, 3), &FakeRng::new(9)).err().unwrap();
    assert_eq!(error.kind(), Kind::Conflict);
    assert_eq!(
        error.to_string(),
        "/store/keystore.json.lock was removed or replaced while it was locked; nothing was changed: \
         try again"
    );
    assert_eq!(disk.list("/store".as_ref()).unwrap(), ["keystore.json"]);
    assert_eq!(open(&file).unwrap().contents(), old.contents());
}

/// A writer that dies between rename and sync leaves a generation that a power cut may undo. A
/// server that reads it and encrypts with its keys must still find them after the power cut.
#[test]
fn what_was_read_survives_a_power_cut() {
    let (old, steps) = generations();
    let mut news = 0;
    for step in 0..steps {
        let disk = disk_with(&old);
        disk.meet(Fate::DieAt(step));
        assert!(rotate(&file(&disk)).is_err());
        let disk = disk.after_kill();
        let read = open(&file(&disk)).unwrap();
        news += usize::from(read.contents().generation() > old.contents().generation());
        let after =
            open(&file(&disk.after_power_cut(Survival { names: false, bytes: 0 }))).unwrap();
        assert_eq!(after.contents(), read.contents(), "step {step}");
    }
    assert!(news > 0);
}

#[test]
fn a_read_that_cannot_be_made_sure_fails_only_where_it_matters() {
    let (old, _) = generations();
    // The sync of the folder comes last.
    let disk = disk_with(&old);
    disk.meet(Fate::None);
    open(&file(&disk)).unwrap();
    let sync = disk.steps() - 1;
    for (error, refused) in [(libc::EIO, true), (libc::EROFS, false), (libc::EACCES, false)] {
        let disk = disk_with(&old);
        disk.meet(Fate::FailAt(sync, error));
        assert_eq!(open(&file(&disk)).is_err(), refused, "error {error}");
    }
}

#[test]
fn leftovers_of_a_crash_go_with_the_next_commit() {
    let (old, _) = generations();
    let disk = disk_with(&old);
    let stale = "/store/keystore.json.tmp-0123456789abcdef";
    drop(disk.create(stale.as_ref(), 0o600, (27, 27)).unwrap());
    rotate(&file(&disk)).unwrap();
    assert_eq!(disk.list("/store".as_ref()).unwrap(), ["keystore.json"]);
}

/// A keystore of generation 1 and how many steps the rotation of it takes.
fn generations() -> (Keystore, usize) {
    let disk = SimDisk::default();
    let old = commit(&file(&disk), &keystore(5)).unwrap();
    disk.meet(Fate::None);
    rotate(&file(&disk)).unwrap();
    assert!(disk.steps() >= FEWEST_STEPS);
    (old, disk.steps())
}

fn disk_with(old: &Keystore) -> SimDisk {
    let disk = SimDisk::default();
    let written = commit(&file(&disk), &keystore(5)).unwrap();
    assert_eq!(written.contents(), old.contents());
    disk
}

fn file(disk: &SimDisk) -> StoreFile {
    StoreFile::on("/store/keystore.json", Arc::new(disk.clone()))
}

/// What a rotation does: lock, read, open, change, commit.
fn rotate(file: &StoreFile) -> Result<Keystore> {
    let lock = file.lock(soon())?;
    let changed = rotated(&open(file)?, 3, 3);
    file.commit(&lock, &changed, &FakeRng::new(9)).map(|(next, _)| next)
}

fn commit(file: &StoreFile, changed: &Keystore) -> Result<Keystore> {
    file.commit(&file.lock(soon())?, changed, &FakeRng::new(8)).map(|(next, _)| next)
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
}

/// That the disk has the old generation (0) or the next (1), every key of it opens, and the next
/// rotation works and cleans up.
fn check(disk: &SimDisk, old: &Keystore, at: &str) -> usize {
    let found = open(&file(disk)).unwrap_or_else(|error| panic!("{at}: {error}"));
    let newer = found.contents().generation() - old.contents().generation();
    assert!(newer <= 1, "{at}");
    for entry in found.contents().keys() {
        for version in entry.versions() {
            let id = match entry.name() {
                keyward::key::KeyName::Id(id) => id.get(),
                name => panic!("{at}: {name}"),
            };
            let read = found.data_key(&key(id, version.version.get())).unwrap();
            assert!(read.expose() == data_key(id, version.version.get()).expose(), "{at}");
        }
    }
    assert_eq!(found.contents().info(&key(3, 3)).is_some(), newer == 1, "{at}");
    let copy = disk.after_power_cut(Survival { names: true, bytes: 100 });
    rotate(&file(&copy)).unwrap_or_else(|error| panic!("{at}: {error}"));
    assert_eq!(copy.list("/store".as_ref()).unwrap(), ["keystore.json"], "{at}");
    usize::from(newer == 1)
}
