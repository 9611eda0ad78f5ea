//! A stash whose writing is cut off anywhere is the former one or the new one, whole; and the file
//! that is written today, byte for byte.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyward::Kind;
use keyward::custodian::Custodian;
use keyward::key::KeyState;
use keyward::source::Stash;
use keyward::store::{Disk, StoreFile};

use crate::bench::{Bench, key, version};
use crate::sim_disk::{Fate, SimDisk, Survival};

fn start(bench: &Bench, disk: &SimDisk) -> keyward::Result<Custodian> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let file = StoreFile::on("/store/stash.json", disk);
    let stash = Stash::new(file, bench.wrappers(&["local"]), "test keys", None, bench.env());
    bench.start(bench.source().with_stash(stash))
}

#[test]
fn cut_off_anywhere_it_opens_with_the_keys_before_or_after() {
    let steps = {
        let (bench, disk) = (Bench::new(), SimDisk::default());
        drop(start(&bench, &disk).unwrap());
        bench.server.set(1, 1, KeyState::Retired);
        bench.server.set(1, 2, KeyState::Active);
        disk.meet(Fate::None);
        drop(start(&bench, &disk).unwrap());
        disk.steps()
    };
    assert!(steps > 10, "{steps} steps");
    let mut found = [0, 0];
    for step in 0..steps {
        for survival in Survival::all() {
            let (bench, disk) = (Bench::new(), SimDisk::default());
            drop(start(&bench, &disk).unwrap());
            bench.server.set(1, 1, KeyState::Retired);
            bench.server.set(1, 2, KeyState::Active);
            disk.meet(Fate::DieAt(step));
            // The key store answers: whatever becomes of the stash, the server serves.
            let served = start(&bench, &disk).unwrap();
            assert_eq!(served.latest(key(1)), Some(version(2)));
            drop(served);
            let disk = disk.after_power_cut(survival);
            bench.server.fail(Kind::Unavailable);
            let custodian = start(&bench, &disk).unwrap();
            let latest = custodian.latest(key(1)).unwrap().get();
            found[latest as usize - 1] += 1;
        }
    }
    println!("{steps} steps: {} times the former keys, {} times the new", found[0], found[1]);
    assert!(found[0] > 0 && found[1] > 0);
}

/// `KEYWARD_GOLDEN=write` makes it where it is missing.
#[test]
fn todays_stash_is_written_the_same_and_opens() {
    let golden = golden("v2.json");
    let bench = Bench::new();
    bench.server.set(1, 2, KeyState::Active);
    bench.server.set(1, 1, KeyState::Retired);
    drop(bench.with_stash().unwrap());
    let bytes = std::fs::read(bench.path()).unwrap();
    if !golden.exists() && std::env::var("KEYWARD_GOLDEN").is_ok_and(|value| value == "write") {
        std::fs::write(&golden, &bytes).unwrap();
    }
    assert!(std::fs::read(&golden).unwrap() == bytes, "it is written differently");
    it_serves(&bench, &golden);
}

/// A stash of the former format serves, and the next time that it is taken it is of today's.
#[test]
fn a_stash_of_the_former_format_serves_and_is_upgraded() {
    let bench = Bench::new();
    bench.server.set(1, 2, KeyState::Active);
    bench.server.set(1, 1, KeyState::Retired);
    drop(bench.with_stash().unwrap());
    it_serves(&bench, &golden("v1.json"));
    bench.server.fail(None);
    drop(bench.with_stash().unwrap());
    let same = std::fs::read(golden("v1.json")).unwrap();
    assert!(std::fs::read(bench.path()).unwrap() == same, "written for nothing");
    bench.clock.advance(std::time::Duration::from_secs(3600));
    drop(bench.with_stash().unwrap());
    let text = std::fs::read_to_string(bench.path()).unwrap();
    assert!(text.contains("\"version\": 2,") && text.contains("\"generation\": 2,"));
    bench.server.fail(Kind::Unavailable);
    assert_eq!(bench.with_stash().unwrap().latest(key(1)), Some(version(2)));
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/stash").join(name)
}

/// The stash `golden` in an outage.
fn it_serves(bench: &Bench, golden: &Path) {
    // Written, not copied: the file stays readable for its owner only.
    std::fs::write(bench.path(), std::fs::read(golden).unwrap()).unwrap();
    bench.server.fail(Kind::Unavailable);
    let custodian = bench.with_stash().unwrap();
    assert_eq!(custodian.latest(key(1)), Some(version(2)));
    assert!(custodian.key(key(1), version(1)).is_some());
}
