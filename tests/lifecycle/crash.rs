//! A change that is cut off at any step leaves the old generation or the new one, whole, with a
//! witness that lets it open, and doing it again does it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keyward::Kind;
use keyward::custodian::Custodian;
use keyward::key::{Cipher, KeyName};
use keyward::manager::{Destruction, Judged, Manager, Rewrap, StateChange};
use keyward::secret::DataKey;
use keyward::source::{Role, Which};
use keyward::store::{Disk, DiskFile, DiskLock, Stamp, StoreFile};

use crate::bench::{Bench, REASON, key, key_ref, version};
use crate::sim_disk::{Fate, SimDisk, Survival};

/// A simulated disk in the place of a real folder; the audit trail stays on the real one.
struct Placed {
    disk: SimDisk,
    folder: PathBuf,
}

impl Placed {
    fn there(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.folder) {
            Ok(rest) if rest.as_os_str().is_empty() => "/store".into(),
            Ok(rest) => Path::new("/store").join(rest),
            Err(_) => path.to_owned(),
        }
    }
}

impl Disk for Placed {
    fn read(&self, path: &Path, max: usize) -> io::Result<(Vec<u8>, Stamp)> {
        self.disk.read(&self.there(path), max)
    }

    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        self.disk.stamp(&self.there(path))
    }

    fn create(&self, path: &Path, mode: u32, owner: (u32, u32)) -> io::Result<Box<dyn DiskFile>> {
        self.disk.create(&self.there(path), mode, owner)
    }

    fn open_end(&self, path: &Path, stamp: &Stamp) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open_end(&self.there(path), stamp)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_file(&self.there(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(&self.there(from), &self.there(to))
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.disk.sync_folder(&self.there(folder))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.disk.list(&self.there(folder))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(&self.there(path))
    }

    fn try_lock(&self, path: &Path, owner: (u32, u32)) -> io::Result<Option<Box<dyn DiskLock>>> {
        self.disk.try_lock(&self.there(path), owner)
    }

    fn user(&self) -> u32 {
        self.disk.user()
    }
}

const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// A change to be made by a custodian.
type TryOn = dyn Fn(&Custodian) -> keyward::Result<()>;

/// What is done before it, on the real disk.
type Prepare = dyn Fn(&Bench);

const BOTH: &[&str] = &["first", "second"];

/// The keystore of `bench` and its witness, on a simulated disk that has synced them.
fn disk_of(bench: &Bench) -> SimDisk {
    let disk = SimDisk::default();
    for name in ["keystore.json", "keystore.json.witness"] {
        let path = Path::new("/store").join(name);
        let mut file = disk.create(&path, 0o600, (27, 27)).unwrap();
        file.write_all(&std::fs::read(bench.folder.path().join(name)).unwrap()).unwrap();
        file.sync().unwrap();
    }
    disk.sync_folder("/store".as_ref()).unwrap();
    disk
}

fn start(bench: &Bench, disk: &SimDisk) -> keyward::Result<Custodian> {
    let placed = Placed { disk: disk.clone(), folder: bench.folder.path().to_owned() };
    let file = StoreFile::on(bench.path(), Arc::new(placed));
    let wrappers = BOTH.iter().map(|name| bench.wrapper(name)).collect();
    let source = Manager::new(file, wrappers, Cipher::DEFAULT, 2, bench.env());
    Custodian::start(source, Role::Command, bench.env())
}

/// Cuts `change` off at every step, with every kind of loss; how many cuts left old and new.
fn cut_everywhere(prepare: &Prepare, change: &TryOn) -> [usize; 2] {
    let bench = Bench::new();
    prepare(&bench);
    let first = disk_of(&bench);
    let custodian = start(&bench, &first).unwrap();
    let old = custodian.status().generation;
    let check = custodian.key(key(7), version(1)).unwrap().check();
    let whole = first.after_kill();
    let custodian = start(&bench, &whole).unwrap();
    whole.meet(Fate::None);
    change(&custodian).unwrap();
    let steps = whole.steps();
    let mut kept = [0, 0];
    for step in 0..steps {
        for survival in Survival::all() {
            let disk = first.after_kill();
            let custodian = start(&bench, &disk).unwrap();
            disk.meet(Fate::DieAt(step));
            // What follows the commit may fail without failing the change.
            let _ = change(&custodian);
            drop(custodian);
            let left = disk.after_power_cut(survival);
            let found = start(&bench, &left).unwrap_or_else(|e| panic!("step {step}: {e}"));
            let newer = found.status().generation - old;
            assert!(newer <= 1, "step {step}, {survival:?}");
            assert_eq!(found.key(key(7), version(1)).unwrap().check(), check);
            kept[usize::from(newer == 1)] += 1;
            if newer == 0 {
                change(&found).unwrap_or_else(|e| panic!("again after step {step}: {e}"));
            }
            start(&bench, &left).unwrap();
        }
    }
    println!("{} cuts in {steps} steps: {} old, {} new", kept[0] + kept[1], kept[0], kept[1]);
    kept
}

#[test]
fn every_change_is_whole_or_not_at_all() {
    let changes: [&TryOn; 5] = [
        &|custodian| {
            custodian.manager().unwrap().rewrap(Rewrap::Missing { prune: false }, REASON).map(drop)
        },
        &|custodian| {
            custodian
                .manager()
                .unwrap()
                .rewrap(Rewrap::NewStoreKey { prune: false }, REASON)
                .map(drop)
        },
        &|custodian| {
            custodian
                .manager()
                .unwrap()
                .rewrap(Rewrap::Move { from: "first", to: "second" }, REASON)
                .map(drop)
        },
        &|custodian| {
            custodian
                .manager()
                .unwrap()
                .change_state(&StateChange::Compromised(key_ref(7, 1)), REASON)
                .map(drop)
        },
        &|custodian| custodian.rotate(Which::All, REASON).map(drop),
    ];
    for change in changes {
        let kept = cut_everywhere(&|_| (), change);
        assert!(kept[0] > 0 && kept[1] > 0);
    }
}

#[test]
fn so_are_an_undo_and_each_step_of_a_destruction() {
    let changes: [(&Prepare, &TryOn); 4] = [
        (&rotated, &|custodian| {
            custodian.manager().unwrap().change_state(&StateChange::Undo(key(2)), REASON).map(drop)
        }),
        (&rotated, &|custodian| {
            custodian.manager().unwrap().destroy(
                &Destruction::Plan(key_ref(2, 1), WEEK),
                &Judged::default(),
                REASON,
            )
        }),
        (&planned, &|custodian| {
            custodian.manager().unwrap().destroy(
                &Destruction::Cancel(key_ref(2, 1)),
                &Judged::default(),
                REASON,
            )
        }),
        (&planned, &|custodian| {
            custodian.manager().unwrap().destroy(
                &Destruction::CarryOut(key_ref(2, 1)),
                &Judged::default(),
                REASON,
            )
        }),
    ];
    for (prepare, change) in changes {
        let kept = cut_everywhere(prepare, change);
        assert!(kept[0] > 0 && kept[1] > 0);
    }
}

/// The generation that a start finds on `disk`.
fn generation(bench: &Bench, disk: &SimDisk, at: &str) -> u64 {
    start(bench, disk).unwrap_or_else(|error| panic!("{at}: {error}")).status().generation
}

#[test]
fn an_error_means_unchanged_success_that_it_lasts_and_unknown_is_said() {
    let changes: [&TryOn; 4] = [
        &|custodian| custodian.rotate(Which::All, REASON).map(drop),
        &|custodian| custodian.create(key(9), None, REASON).map(drop),
        &|custodian| {
            custodian
                .manager()
                .unwrap()
                .rewrap(Rewrap::NewStoreKey { prune: false }, REASON)
                .map(drop)
        },
        &|custodian| custodian.manager().unwrap().remove_named(&name(), REASON),
    ];
    let (mut done, mut unchanged, mut unknown) = (0, 0, 0);
    for change in changes {
        let bench = Bench::new();
        bench
            .custodian(BOTH)
            .manager()
            .unwrap()
            .store_named(&name(), "AES", &secret(), REASON)
            .unwrap();
        let first = disk_of(&bench);
        let whole = first.after_kill();
        let custodian = start(&bench, &whole).unwrap();
        let old = custodian.status().generation;
        whole.meet(Fate::None);
        change(&custodian).unwrap();
        for step in 0..whole.steps() {
            for (fate, at) in fates(step) {
                let disk = first.after_kill();
                let custodian = start(&bench, &disk).unwrap();
                disk.meet(fate);
                let outcome = change(&custodian);
                disk.meet(Fate::None);
                let cut = disk.after_power_cut(Survival { names: false, bytes: 0 });
                let found = [generation(&bench, &disk, &at), generation(&bench, &cut, &at)];
                let own = custodian.status().generation;
                match outcome.map_err(|error| (error.kind(), error.to_string())) {
                    Ok(()) => {
                        assert_eq!((found, own), ([old + 1; 2], old + 1), "{at}");
                        done += 1;
                    }
                    Err((Kind::Unknown, told)) => {
                        let maybe = told.contains(" may have been written: ");
                        assert!(maybe || found[0] == old + 1, "{at}: {told}");
                        assert!(told.contains(&format!("generation {}", old + 1)), "{at}: {told}");
                        unknown += 1;
                    }
                    Err((_, told)) => {
                        assert_eq!(found, [old; 2], "{at}: {told}");
                        unchanged += 1;
                    }
                }
                custodian.refresh().unwrap_or_else(|error| panic!("{at}: {error}"));
                assert_eq!(custodian.status().generation, found[0], "{at}");
            }
        }
    }
    println!("{done} done, {unchanged} unchanged, {unknown} unknown");
    assert!(done > 0 && unchanged > 0 && unknown > 0);
}

/// Every way in which a step fails: once, or from then on.
fn fates(step: usize) -> impl Iterator<Item = (Fate, String)> {
    [libc::EIO, libc::EMFILE].into_iter().flat_map(move |error| {
        [Fate::FailAt(step, error), Fate::FailFrom(step, error)]
            .map(|fate| (fate, format!("{fate:?}")))
    })
}

/// A server calls for a key again that it was not given.
#[test]
fn a_key_whose_storing_failed_is_stored_by_the_same_call() {
    let calls: [&TryOn; 2] = [
        &|custodian| custodian.manager().unwrap().store_named(&name(), "AES", &secret(), REASON),
        &|custodian| custodian.manager().unwrap().generate_named(&name(), "AES", 32, REASON),
    ];
    let mut unknown = 0;
    for call in calls {
        let bench = Bench::new();
        let first = disk_of(&bench);
        let whole = first.after_kill();
        let custodian = start(&bench, &whole).unwrap();
        whole.meet(Fate::None);
        call(&custodian).unwrap();
        for step in 0..whole.steps() {
            for (fate, at) in fates(step) {
                let disk = first.after_kill();
                let custodian = start(&bench, &disk).unwrap();
                disk.meet(fate);
                let outcome = call(&custodian);
                disk.meet(Fate::None);
                if let Err(error) = outcome {
                    unknown += usize::from(error.kind() == Kind::Unknown);
                    call(&custodian).unwrap_or_else(|again| panic!("{at}: {error}, {again}"));
                }
                let after = disk.after_power_cut(Survival { names: false, bytes: 0 });
                let found = start(&bench, &after).unwrap();
                let (held, kept) = (custodian.named(&name()), found.named(&name()));
                let (held, kept) = (held.unwrap().unwrap(), kept.unwrap().unwrap());
                assert_eq!(held.check(), kept.check(), "{at}");
                assert_eq!(kept.version(), version(1), "{at}");
                assert_eq!(call(&custodian).unwrap_err().kind(), Kind::Conflict, "{at}");
            }
        }
    }
    assert!(unknown > 0);
}

#[test]
fn a_change_that_expects_a_generation_is_made_once() {
    let bench = Bench::new();
    let custodian = bench.custodian(&["first"]);
    let before = custodian.status().generation;
    for outcome in [None, Some(Kind::State)] {
        let custodian = bench.custodian(&["first"]);
        custodian.manager().unwrap().expect_generation(before);
        let rotated = custodian.rotate(Which::All, REASON);
        assert_eq!(rotated.err().map(|error| error.kind()), outcome);
    }
    assert_eq!(bench.custodian(&["first"]).status().generation, before + 1);
}

fn name() -> KeyName {
    KeyName::named("INNODBKey-1", "")
}

fn secret() -> DataKey {
    DataKey::copy_of(&[7; 32]).unwrap()
}

/// Twice, so that the first versions are none of the newest two, which stay.
fn rotated(bench: &Bench) {
    for _ in 0..2 {
        bench.custodian(&["first"]).rotate(Which::All, REASON).unwrap();
    }
}

/// Version 1 of key 2 is to be destroyed by now.
fn planned(bench: &Bench) {
    rotated(bench);
    let plan = Destruction::Plan(key_ref(2, 1), WEEK);
    bench
        .custodian(&["first"])
        .manager()
        .unwrap()
        .destroy(&plan, &Judged::default(), REASON)
        .unwrap();
    bench.clock.advance(WEEK);
}
