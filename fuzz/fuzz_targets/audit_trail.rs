//! Any bytes as an audit trail: lines whose chain holds, to which one more can be added, or an error.
#![no_main]
use std::path::PathBuf;
use std::sync::LazyLock;

use keyward::event::{Event, Record, Trail};
use keyward::env::{Timestamp, fake::FakeClock};

mod told;
use told::told;

/// A keystore that is not there, beside which the trail is: in memory, and this process's own.
static KEYSTORE: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = PathBuf::from(format!("/dev/shm/keyward-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("there is room in memory");
    folder.join("keystore.json")
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let trail = Trail::beside(&KEYSTORE);
    let file = KEYSTORE.with_file_name("audit.jsonl");
    std::fs::write(&file, bytes).expect("there is room in memory");
    let before = told(trail.read());
    let record =
        Record { event: Event::Rotated, keys: &[], generation: 1, actor: "me", reason: "" };
    let clock = FakeClock::at(Timestamp::from_unix(1_800_000_000));
    let added = told(trail.append(&clock, &record));
    if let (Some(before), Some(())) = (before, added)
        && (bytes.is_empty() || bytes.ends_with(b"\n"))
    {
        let after = told(trail.read()).expect("the chain goes on");
        assert_eq!(after[..before.len()], before);
        assert_eq!(after.len(), before.len() + 1);
    }
});
