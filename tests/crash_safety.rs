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

const PATH: &str = "/store/keystore.json";

/// From which length of the file on a commit adds a line to it: never, and always.
const LINES_FROM: [usize; 2] = [usize::MAX, 0];

/// How many keys there are: so many that a line finds room.
const KEYS: u32 = 20;

#[test]
fn a_commit_cut_off_anywhere_leaves_old_or_new() {
    for from in LINES_FROM {
        let (old, steps) = generations(from);
        let mut kept = [0, 0];
        for step in 0..steps {
            for survival in Survival::all() {
                let disk = disk_with(&old);
                disk.meet(Fate::DieAt(step));
                assert!(rotate(&file(&disk, from)).is_err(), "step {step}");
                let disk = disk.after_power_cut(survival);
                let found = check(&disk, &old, from, &format!("step {step}, {survival:?}"));
                kept[found] += 1;
            }
        }
        println!("{} power cuts: {} old, {} new", kept[0] + kept[1], kept[0], kept[1]);
        assert!(kept[0] > kept[1] && kept[1] > 0);
    }
}

#[test]
fn a_first_commit_cut_off_anywhere_leaves_nothing_or_new() {
    let disk = SimDisk::default();
    disk.meet(Fate::None);
    commit(&file(&disk, usize::MAX), &keystore(KEYS)).unwrap();
    for step in 0..disk.steps() {
        for survival in Survival::all() {
            let disk = SimDisk::default();
            disk.meet(Fate::DieAt(step));
            assert!(commit(&file(&disk, usize::MAX), &keystore(KEYS)).is_err());
            let disk = disk.after_power_cut(survival);
            match open(&file(&disk, usize::MAX)) {
                Ok(open) => assert_eq!(open.contents().generation(), 1),
                Err(none) => {
                    assert_eq!(none.kind(), Kind::NotFound, "step {step}, {survival:?}: {none}");
                    commit(&file(&disk, usize::MAX), &keystore(KEYS)).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_commit_that_fails_anywhere_leaves_old_or_new_and_says_so() {
    for from in LINES_FROM {
        let (old, steps) = generations(from);
        for step in 0..steps {
            for error in [libc::EIO, libc::ENOSPC, libc::EROFS, libc::EACCES, libc::EDQUOT] {
                let disk = disk_with(&old);
                disk.meet(Fate::FailAt(step, error));
                let outcome = rotate(&file(&disk, from));
                let steps_taken = disk.steps();
                disk.meet(Fate::None);
                let at = format!("step {step} of {steps}, error {error}");
                let found = check(&disk, &old, from, &at);
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
}

#[test]
fn a_failed_sync_after_the_rename_is_told_as_what_it_is() {
    for from in LINES_FROM {
        let (old, steps) = generations(from);
        let disk = disk_with(&old);
        // The last step of a commit.
        disk.meet(Fate::FailAt(steps - 1, libc::EIO));
        let told = rotate(&file(&disk, from)).err().unwrap();
        assert_eq!(told.kind(), Kind::Unknown);
        assert!(!told.is_transient());
        assert_eq!(
            told.to_string(),
            "/store/keystore.json: generation 2 was written, but a power cut may undo it: Input/output \
             error; check the disk, then run `keyward status`: if it shows generation 2 or later, do not \
             repeat the change"
        );
    }
}

/// As on a file system of another machine: what was asked for was done, and the answer got lost.
#[test]
fn a_rename_that_happened_though_it_failed_is_a_success() {
    let from = usize::MAX;
    let (old, steps) = generations(from);
    let mut lost = 0;
    for step in 0..steps {
        let disk = disk_with(&old);
        disk.meet(Fate::LoseAnswerAt(step));
        let next = rotate(&file(&disk, from)).unwrap();
        lost += usize::from(disk.steps() > steps);
        let after = disk.after_power_cut(Survival { names: false, bytes: 0 });
        assert_eq!(open(&file(&after, from)).unwrap().contents(), next.contents(), "step {step}");
    }
    assert_eq!(lost, 1);
}

/// From some step on the disk takes nothing any more: what was added to the file in part or without a sync
/// is taken away again, or told.
#[test]
fn a_disk_that_stays_broken_leaves_old_or_new_and_says_so() {
    for from in LINES_FROM {
        let (old, steps) = generations(from);
        for step in 0..steps {
            for error in [libc::EIO, libc::ENOSPC, libc::EROFS] {
                let disk = disk_with(&old);
                disk.meet(Fate::FailFrom(step, error));
                let told = rotate(&file(&disk, from)).err().unwrap();
                disk.meet(Fate::None);
                let at = format!("step {step} of {steps}, error {error}, lines from {from}");
                let found = check(&disk, &old, from, &at);
                match told.kind() {
                    Kind::Unknown => {
                        assert!(told.to_string().contains("generation 2 "), "{at}: {told}");
                    }
                    kind => assert_eq!((kind, found), (Kind::Io, 0), "{at}: {told}"),
                }
            }
        }
    }
}

/// After a power cut the disk may have the end of a line and not its beginning.
#[test]
fn zeros_in_the_place_of_a_line_are_no_line() {
    let (old, _) = generations(0);
    let disk = disk_with(&old);
    rotate(&file(&disk, 0)).unwrap();
    let (bytes, _) = disk.read(PATH.as_ref(), usize::MAX).unwrap();
    let document = bytes.len() - line_of(&bytes).len();
    for hole in (document..bytes.len()).step_by(37) {
        for end in [hole + 1, (hole + 700).min(bytes.len()), bytes.len()] {
            let mut torn = bytes.clone();
            torn[hole..end].fill(0);
            let disk = disk_with(&old);
            disk.overwrite(PATH, &torn);
            assert_eq!(check(&disk, &old, 0, &format!("zeros from {hole} to {end}")), 0);
        }
    }
}

#[test]
fn a_lock_that_was_lost_meanwhile_commits_nothing() {
    for from in LINES_FROM {
        let (old, _) = generations(from);
        let disk = disk_with(&old);
        let file = file(&disk, from);
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
}

/// A writer that dies between rename and sync leaves a generation that a power cut may undo. A
/// server that reads it and encrypts with its keys must still find them after the power cut.
#[test]
fn what_was_read_survives_a_power_cut() {
    for from in LINES_FROM {
        let (old, steps) = generations(from);
        let mut news = 0;
        for step in 0..steps {
            let disk = disk_with(&old);
            disk.meet(Fate::DieAt(step));
            assert!(rotate(&file(&disk, from)).is_err());
            let disk = disk.after_kill();
            let read = open(&file(&disk, from)).unwrap();
            news += usize::from(read.contents().generation() > old.contents().generation());
            let after =
                open(&file(&disk.after_power_cut(Survival { names: false, bytes: 0 }), from))
                    .unwrap();
            assert_eq!(after.contents(), read.contents(), "step {step}");
        }
        assert!(news > 0);
    }
}

#[test]
fn a_read_that_cannot_be_made_sure_fails_only_where_it_matters() {
    for from in LINES_FROM {
        let (old, _) = generations(from);
        let disk = || {
            let disk = disk_with(&old);
            rotate(&file(&disk, from)).unwrap();
            disk
        };
        // The sync of the folder comes last, that of a line before it.
        let undisturbed = disk();
        undisturbed.meet(Fate::None);
        open(&file(&undisturbed, from)).unwrap();
        let syncs = 1 + usize::from(from == 0);
        let last = undisturbed.steps();
        for sync in last - syncs..last {
            for (error, refused) in [(libc::EIO, true), (libc::EROFS, false), (libc::EACCES, false)]
            {
                let disk = disk();
                disk.meet(Fate::FailAt(sync, error));
                assert_eq!(open(&file(&disk, from)).is_err(), refused, "error {error}");
            }
        }
    }
}

#[test]
fn leftovers_of_a_crash_go_with_the_next_commit() {
    for from in LINES_FROM {
        let (old, _) = generations(from);
        let disk = disk_with(&old);
        let stale = "/store/keystore.json.tmp-0123456789abcdef";
        drop(disk.create(stale.as_ref(), 0o600, (27, 27)).unwrap());
        rotate(&file(&disk, from)).unwrap();
        assert_eq!(disk.list("/store".as_ref()).unwrap(), ["keystore.json"]);
    }
}

/// A keystore of generation 1 and how many steps the rotation of it takes.
fn generations(from: usize) -> (Keystore, usize) {
    let disk = SimDisk::default();
    let old = commit(&file(&disk, from), &keystore(KEYS)).unwrap();
    disk.meet(Fate::None);
    rotate(&file(&disk, from)).unwrap();
    let steps = disk.steps();
    assert!(steps >= FEWEST_STEPS);
    let (bytes, _) = disk.read(PATH.as_ref(), usize::MAX).unwrap();
    assert_eq!(line_of(&bytes).is_empty(), from > 0, "the test has to see what it is named after");
    (old, steps)
}

/// The line behind the document of a file, with its end; nothing where there is none.
fn line_of(file: &[u8]) -> &[u8] {
    let end = file.windows(3).position(|three| three == b"\n}\n").unwrap();
    &file[end + 3..]
}

fn disk_with(old: &Keystore) -> SimDisk {
    let disk = SimDisk::default();
    let written = commit(&file(&disk, usize::MAX), &keystore(KEYS)).unwrap();
    assert_eq!(written.contents(), old.contents());
    disk
}

/// Whose commits add lines `from` that length of the file on.
fn file(disk: &SimDisk, from: usize) -> StoreFile {
    StoreFile::on(PATH, Arc::new(disk.clone())).with_lines_from(from)
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
fn check(disk: &SimDisk, old: &Keystore, from: usize, at: &str) -> usize {
    let found = open(&file(disk, from)).unwrap_or_else(|error| panic!("{at}: {error}"));
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
    rotate(&file(&copy, from)).unwrap_or_else(|error| panic!("{at}: {error}"));
    assert_eq!(copy.list("/store".as_ref()).unwrap(), ["keystore.json"], "{at}");
    usize::from(newer == 1)
}
