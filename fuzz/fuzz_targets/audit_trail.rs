//! Any bytes as an audit trail: lines whose chain holds, to which one more can be added, or an error.
#![no_main]
use std::path::PathBuf;
use std::sync::LazyLock;

use keyward::env::{Timestamp, fake::FakeClock};
use keyward::event::checkpoint::Signed;
use keyward::event::{Event, Known, Record, Trail};

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
    for left in trail.files() {
        std::fs::remove_file(left).expect("it is ours");
    }
    std::fs::write(&file, bytes).expect("there is room in memory");
    let before = told(trail.read());
    let verdict = told(trail.verify(Known::default())).expect("it can be read");
    assert!(before.is_none() || verdict.faults.is_empty());
    if let Ok(text) = std::str::from_utf8(bytes) {
        told(Signed::parse(text, "k").and_then(|signed| signed.verified(&[])));
    }
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
