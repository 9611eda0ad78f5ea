//! The keystore file on a real file system: who may touch it, locks, conflicts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/keystores.rs"]
mod keystores;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use keyward::env::{Deadline, System};
use keyward::store::{Guarding, Keystore, StoreFile, Witness};
use keyward::{Kind, Result};
use nix::unistd::geteuid;
use tempfile::TempDir;

use keystores::{key, keystore, open, rotated};

#[test]
fn a_commit_is_seen_by_everybody() {
    let (_folder, file) = committed();
    let other = StoreFile::at(file.path());
    let (sealed, stamp) = other.read().unwrap();
    assert_eq!(sealed.unverified().generation(), 1);
    assert_eq!(other.stamp().unwrap(), stamp);
    let next = commit(&file, &rotated(&open(&file).unwrap(), 1, 3)).unwrap();
    assert_eq!(next.contents().generation(), 2);
    assert_ne!(other.stamp().unwrap(), stamp);
    let read = open(&other).unwrap();
    assert_eq!(read.contents(), next.contents());
    assert!(read.data_key(&key(1, 3)).is_ok());
}

/// A change of one key of many adds a line to the file, until there are too many of them.
#[test]
fn a_long_file_grows_by_what_was_changed() {
    let (_folder, file) = committed_with(400);
    let found = || fs::metadata(file.path()).unwrap();
    let (mut inode, mut len, mut anew) = (found().ino(), found().len(), 0);
    let mut document = len;
    let mut keystore = open(&file).unwrap();
    for version in 2..=200 {
        let changed = rotated(&keystore, 100 + version, 3);
        keystore = match version % 3 {
            // As another process would.
            0 => commit(&file, &rotated(&open(&file).unwrap(), 100 + version, 3)).unwrap(),
            _ => commit(&file, &changed).unwrap(),
        };
        let now = found();
        match now.ino() == inode {
            true => assert!(now.len() > len && now.len() < len + 2_500, "{version}"),
            false => (document, anew) = (now.len(), anew + 1),
        }
        assert!(now.len() <= document + document / 4, "{version}");
        (inode, len) = (now.ino(), now.len());
        if version % 20 == 0 {
            assert_eq!(open(&file).unwrap().contents(), keystore.contents(), "{version}");
        }
    }
    assert!((2..=10).contains(&anew), "written whole {anew} times");
    assert!(open(&file).unwrap().data_key(&key(277, 3)).is_ok());
}

#[test]
fn a_line_is_added_to_the_file_that_was_read_and_to_no_other() {
    let (_folder, file) = committed_with(400);
    let old = open(&file).unwrap();
    commit(&file, &rotated(&old, 1, 3)).unwrap();
    let error = commit(&file, &rotated(&old, 2, 3)).err().unwrap();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.to_string().contains("it is of generation 2 now, not generation 1"), "{error}");

    // Another change of the same length made another generation 2.
    let known = open(&file).unwrap();
    let bytes = fs::read(file.path()).unwrap();
    fs::write(
        file.path(),
        String::from_utf8(bytes).unwrap().split_inclusive("\n}\n").next().unwrap(),
    )
    .unwrap();
    commit(&file, &rotated(&open(&file).unwrap(), 2, 3)).unwrap();
    let inode = fs::metadata(file.path()).unwrap().ino();
    let next = commit(&file, &rotated(&known, 3, 3)).unwrap();
    assert_ne!(fs::metadata(file.path()).unwrap().ino(), inode, "written whole");
    assert_eq!(open(&file).unwrap().contents(), next.contents());

    // A second name is somebody's copy.
    let copy = file.path().with_extension("copy");
    fs::hard_link(file.path(), &copy).unwrap();
    let before = fs::read(&copy).unwrap();
    commit(&file, &rotated(&next, 4, 3)).unwrap();
    assert_eq!(fs::read(&copy).unwrap(), before);
    assert_ne!(fs::read(file.path()).unwrap(), before);
}

#[test]
fn the_file_is_its_owners_alone() {
    let (folder, file) = committed();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(file.path()), 0o600);
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).unwrap();
    commit(&file, &rotated(&open(&file).unwrap(), 1, 3)).unwrap();
    assert_eq!(mode(file.path()), 0o640, "a group's right to read stays");
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|n| n.unwrap().path()).collect();
    names.sort();
    let lock = file.path().with_extension("json.lock");
    assert_eq!(names, [file.path().to_owned(), lock.clone()]);
    assert_eq!(mode(&lock), 0o600);
}

#[test]
fn what_root_writes_belongs_to_the_folders_owner() {
    if !geteuid().is_root() {
        return;
    }
    let (folder, file) = committed();
    chown(folder.path(), Some(65_534), Some(65_534)).unwrap();
    let error = open(&file).err().unwrap().to_string();
    assert!(error.contains("belongs to user 65534; run the command as that user"), "{error}");
    keyward::trust::work_for(65_534);
    commit(&file, &rotated(&open(&file).unwrap(), 1, 3)).unwrap();
    for path in [file.path().to_owned(), file.path().with_extension("json.lock")] {
        let found = fs::metadata(path).unwrap();
        assert_eq!((found.uid(), found.gid()), (65_534, 65_534));
    }
    open(&file).unwrap();
}

#[test]
fn a_file_or_folder_that_others_write_is_refused() {
    let (folder, file) = committed();
    let set =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for (path, mode) in [(file.path(), 0o620), (file.path(), 0o602), (folder.path(), 0o770)] {
        let before = fs::metadata(path).unwrap().permissions().mode();
        let changed = rotated(&open(&file).unwrap(), 1, 3);
        set(path, mode);
        for error in [open(&file).err(), commit(&file, &changed).err()] {
            let error = error.unwrap();
            assert_eq!(error.kind(), Kind::Config);
            let correct = format!("run chmod go-w {}", path.display());
            assert_eq!(error.advice(), Some(correct.as_str()));
        }
        set(path, before);
    }
}

#[test]
fn what_is_no_keystore_file_is_refused() {
    let (folder, file) = committed();
    let link = folder.path().join("link.json");
    symlink(file.path(), &link).unwrap();
    let error = open(&StoreFile::at(&link)).err().unwrap();
    assert!(error.to_string().contains("is a symbolic link; name the file"), "{error}");
    let none = open(&StoreFile::at(folder.path().join("none.json"))).err().unwrap();
    assert_eq!(none.kind(), Kind::NotFound);
    assert!(
        none.to_string().ends_with(
            "put it back from a backup: only it has the keys; where there never was one, keyward \
             init makes it, or the first start of a MySQL server whose component names its `path`"
        ),
        "{none}"
    );
    let error = open(&StoreFile::at(folder.path().join("sub/none.json"))).err().unwrap();
    assert!(error.to_string().starts_with("cannot look at the folder "), "{error}");
    let pipe = folder.path().join("pipe.json");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(open(&StoreFile::at(&pipe)).err().unwrap().to_string().contains("not a regular file"));
    let text = folder.path().join("text.json");
    fs::write(&text, "hello").unwrap();
    fs::set_permissions(&text, fs::Permissions::from_mode(0o600)).unwrap();
    let error = open(&StoreFile::at(&text)).err().unwrap();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.to_string().starts_with(&text.display().to_string()), "{error}");
}

#[test]
fn a_change_to_an_older_generation_is_a_conflict() {
    let (_folder, file) = committed();
    let read = open(&file).unwrap();
    commit(&file, &rotated(&read, 1, 3)).unwrap();
    let before = fs::read(file.path()).unwrap();
    for late in [rotated(&read, 1, 5), keystore(1)] {
        let error = commit(&file, &late).err().unwrap();
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(error.to_string().ends_with("somebody else changed it: read it again"), "{error}");
    }
    assert_eq!(fs::read(file.path()).unwrap(), before);
}

#[test]
fn a_lock_is_waited_for_and_given_up() {
    let (_folder, file) = committed();
    let held = file.lock(soon()).unwrap();
    let start = Instant::now();
    let error = file.lock(Deadline::after(Duration::from_millis(100))).err().unwrap();
    assert_eq!(error.kind(), Kind::Timeout);
    assert!(error.to_string().contains(".lock is locked by another process"), "{error}");
    assert!(start.elapsed() >= Duration::from_millis(100));
    let waiting = std::thread::spawn({
        let file = file.clone();
        move || file.lock(soon()).is_ok()
    });
    std::thread::sleep(Duration::from_millis(50));
    drop(held);
    assert!(waiting.join().unwrap());
}

#[test]
fn the_lock_of_another_keystore_does_not_do() {
    let (_one, file) = committed();
    let (_two, other) = committed();
    let lock = other.lock(soon()).unwrap();
    let error = file.commit(&lock, &open(&file).unwrap(), &System).err().unwrap();
    assert_eq!(error.kind(), Kind::Internal);
}

#[test]
fn writers_at_once_lose_no_change() {
    let (_folder, file) = committed();
    let writers = (1..=4).map(|id| {
        let file = file.clone();
        std::thread::spawn(move || {
            for version in [3, 5, 7, 9, 11] {
                let lock = file.lock(soon()).unwrap();
                let changed = rotated(&open(&file).unwrap(), id, version);
                file.commit(&lock, &changed, &System).unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.join().unwrap();
    }
    let read = open(&file).unwrap();
    assert_eq!(read.contents().generation(), 21);
    for id in 1..=4 {
        assert!(
            [1, 3, 5, 7, 9, 11].iter().all(|version| read.data_key(&key(id, *version)).is_ok())
        );
    }
}

/// The rollback guards of every released format with the keystores of each, all of one id, and what a
/// start makes of them.
#[test]
fn a_guard_of_each_format_stands_by_a_keystore_of_each() {
    let guarding = |guard: &str, keystore: &str, edit: fn(String) -> String| {
        let folder = tempfile::tempdir().unwrap();
        let file = StoreFile::at(folder.path().join("keystore.json"));
        let golden = Path::new("tests/golden");
        let close = fs::Permissions::from_mode(0o600);
        fs::copy(golden.join(format!("keystore/{keystore}.opens.json")), file.path()).unwrap();
        let text = fs::read_to_string(golden.join(format!("guard/{guard}.witness"))).unwrap();
        fs::write(file.guard_path(), edit(text)).unwrap();
        for path in [file.path(), &file.guard_path()] {
            fs::set_permissions(path, close.clone()).unwrap();
        }
        let outcome = file.check_guard(file.guard(), &open(&file).unwrap());
        outcome.map_err(|error| error.kind())
    };
    let same = |text| text;
    assert_eq!(guarding("v1", "v1-keys", same), Ok(Guarding::Current));
    assert_eq!(guarding("v1", "v2-keys", same), Ok(Guarding::Behind));
    assert_eq!(guarding("v2", "v2-keys", same), Ok(Guarding::Current));
    assert_eq!(guarding("v2", "v1-keys", same), Err(Kind::State));
    let edited = |text: String| text.replace("\"generation\": 1", "\"generation\": 0");
    assert_eq!(guarding("v1", "v1-keys", edited), Err(Kind::Corrupt));
    assert_eq!(guarding("v2", "v2-keys", edited), Err(Kind::Corrupt));
    let epoch = |text: String| text.replace("\"epoch\": 1", "\"epoch\": 0");
    assert_eq!(guarding("v2", "v2-keys", epoch), Err(Kind::Corrupt));
    // Another store key's number proves nothing, and that is said.
    let forged = |text: String| text.replace("\"store_key\": 1", "\"store_key\": 2");
    for keystore in ["v1-keys", "v2-keys"] {
        assert_eq!(guarding("v1", keystore, forged), Ok(Guarding::Unverifiable));
    }
    let newer = |text: String| text.replace("\"generation\": 1", "\"generation\": 2");
    assert_eq!(guarding("v2", "v2-keys", newer), Err(Kind::Corrupt));
}

/// A guard is written as it was read.
#[test]
fn guards_are_written_the_same() {
    for name in ["v1", "v2"] {
        let bytes = fs::read(format!("tests/golden/guard/{name}.witness")).unwrap();
        assert_eq!(Witness::parse(&bytes).unwrap().to_bytes().unwrap(), bytes, "{name}");
    }
    let (folder, file) = committed();
    file.write_witness(&open(&file).unwrap(), &System).unwrap();
    assert_eq!(
        fs::read(folder.path().join("keystore.json.witness")).unwrap(),
        fs::read("tests/golden/guard/v2.witness").unwrap()
    );
}

#[test]
fn a_lock_holds_though_its_file_was_removed() {
    let (_folder, file) = committed();
    let before = fs::read(file.path()).unwrap();
    let held = file.lock(soon()).unwrap();
    fs::remove_file(lock_file(&file)).unwrap();
    let error = file.lock(Deadline::after(Duration::from_millis(100))).err().unwrap();
    assert_eq!(error.kind(), Kind::Timeout, "{error}");
    let changed = rotated(&open(&file).unwrap(), 1, 3);
    let error = file.commit(&held, &changed, &System).err().unwrap();
    assert_eq!(error.kind(), Kind::Conflict);
    assert_eq!(
        error.to_string(),
        format!(
            "{} was removed or replaced while it was locked; nothing was changed: try again",
            lock_file(&file).display()
        )
    );
    assert_eq!(fs::read(file.path()).unwrap(), before);
    drop(held);
    commit(&file, &changed).unwrap();
}

#[test]
fn a_lock_file_that_somebody_keeps_removing_loses_no_change() {
    const ATTEMPTS: u32 = 40;
    const REMOVALS: u32 = 100;
    let (_folder, file) = committed();
    let made: Vec<(u32, Vec<u32>)> = std::thread::scope(|scope| {
        let writers: Vec<_> = (1..=4)
            .map(|id| {
                let file = file.clone();
                scope.spawn(move || {
                    let mut made = Vec::new();
                    for attempt in 0..ATTEMPTS {
                        let lock = file.lock(soon()).unwrap();
                        let version = 3 + 2 * attempt;
                        let changed = rotated(&open(&file).unwrap(), id, version);
                        match file.commit(&lock, &changed, &System) {
                            Ok(_) => made.push(version),
                            Err(error) => assert_eq!(error.kind(), Kind::Conflict, "{error}"),
                        }
                    }
                    (id, made)
                })
            })
            .collect();
        for _ in 0..REMOVALS {
            let _ = fs::remove_file(lock_file(&file));
            std::thread::sleep(Duration::from_millis(3));
        }
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let successes: usize = made.iter().map(|(_, made)| made.len()).sum();
    println!("{successes} of {} changes reported as made", 4 * ATTEMPTS);
    assert!(successes > 0 && successes < 4 * ATTEMPTS as usize);
    let read = open(&file).unwrap();
    assert_eq!(read.contents().generation(), 1 + successes as u64);
    for (id, made) in made {
        assert!(made.iter().all(|version| read.data_key(&key(id, *version)).is_ok()));
    }
}

/// The lock file of a keystore.
fn lock_file(file: &StoreFile) -> PathBuf {
    file.path().with_extension("json.lock")
}

/// A keystore of four keys in a folder of its own.
fn committed() -> (TempDir, StoreFile) {
    committed_with(4)
}

fn committed_with(keys: u32) -> (TempDir, StoreFile) {
    let folder = tempfile::tempdir().unwrap();
    let file = StoreFile::at(folder.path().join("keystore.json"));
    commit(&file, &keystore(keys)).unwrap();
    (folder, file)
}

fn commit(file: &StoreFile, changed: &Keystore) -> Result<Keystore> {
    let lock = file.lock(soon())?;
    file.commit(&lock, changed, &System).map(|(next, _)| next)
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}
