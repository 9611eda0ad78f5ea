//! What decrypting a binary log costs, next to `openssl enc -d` of as many bytes: `cargo bench --bench
//! binlog`. Both read a file in memory and write to a pipe that is read; they take turns.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../tests/common/binlogs.rs"]
mod binlogs;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use binlogs::{Pair, Sealed, pair};
use keyward::binlog::{LogKey, decrypt};
use keyward::cipher::{Mode, kernel};
use keyward::key::{KeyVersion, PageMode};
use keyward::secret::DataKey;

/// How much of a log there is, in bytes.
const SIZE: usize = 256 << 20;
/// How often each has its turn.
const ROUNDS: usize = 9;
const KEY: [u8; 32] = [7; 32];

/// Bodies of events: as short transactions have them, rows of some kilobytes, and a large one now and then.
const MIXES: [(&str, &[usize]); 2] = [
    ("short: 23 to 300 bytes", &[23, 60, 23, 180, 300, 8]),
    ("mixed: up to 1 MiB", &[23, 60, 8000, 180, 23, 300, 8100, 16_000, 8, 1 << 20]),
];

fn main() {
    println!("kernel {}, {} MiB a log, medians of {ROUNDS} rounds", kernel(), SIZE >> 20);
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    for (mix, bodies) in MIXES {
        for (mode, page, name) in
            [(Mode::Ctr, PageMode::Ctr, "aes-256-ctr"), (Mode::Cbc, PageMode::Cbc, "aes-256-cbc")]
        {
            let mut left = SIZE;
            let bodies = bodies.iter().cycle().map_while(|len| {
                left = left.checked_sub(len + 23)?;
                Some(vec![b'x'; *len])
            });
            let sealed = Sealed { key: &KEY, mode, version: 7, summed: true };
            let Pair { encrypted, plain } = pair(sealed, bodies);
            let path = folder.path().join("log");
            fs::write(&path, &encrypted).expect("room in memory");
            assert!(ours(&path, page).1 == plain.len() as u64);
            drop((encrypted, plain));
            let mut ratios = Vec::new();
            let mut times = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let (ours, theirs) = (ours(&path, page).0, openssl(&path, name));
                ratios.push(theirs.as_secs_f64() / ours.as_secs_f64());
                times.0.push(ours);
                times.1.push(theirs);
            }
            println!(
                "{mix}, {name}: {:.0} MB/s, openssl enc -d {:.0} MB/s, ratio {:.2} ({:.2} to {:.2})",
                speed(&mut times.0),
                speed(&mut times.1),
                median(&mut ratios),
                ratios[0],
                ratios[ROUNDS - 1],
            );
        }
    }
}

/// How long it took, and how many bytes came.
fn ours(path: &Path, mode: PageMode) -> (Duration, u64) {
    let (reader, mut writer) = io::pipe().expect("a pipe");
    let since = Instant::now();
    let drain = thread::spawn(move || drain(reader));
    let key = DataKey::copy_of(&KEY).expect("a key");
    let key = LogKey::Pages(KeyVersion::try_from(7).expect("a version"), &key, mode);
    let log = File::open(path).expect("the log");
    decrypt(&log, key, false, &mut writer).expect("it decrypts");
    drop(writer);
    let bytes = drain.join().expect("it is read");
    (since.elapsed(), bytes)
}

fn openssl(path: &Path, cipher: &str) -> Duration {
    let hex: String = KEY.iter().map(|byte| format!("{byte:02x}")).collect();
    let since = Instant::now();
    let mut child = Command::new("openssl")
        .args(["enc", "-d", "-nopad", &format!("-{cipher}"), "-K", &hex, "-iv", &hex[..32], "-in"])
        .arg(path)
        .stdout(Stdio::piped())
        // The log is no whole number of blocks, of which it complains at the end.
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl");
    drain(child.stdout.take().expect("its output"));
    child.wait().expect("its end");
    since.elapsed()
}

fn drain(mut from: impl Read) -> u64 {
    let (mut room, mut all) = (vec![0; 1 << 16], 0);
    while let Ok(len @ 1..) = from.read(&mut room) {
        all += len as u64;
    }
    all
}

fn speed(times: &mut [Duration]) -> f64 {
    times.sort();
    SIZE as f64 / 1e6 / times[times.len() / 2].as_secs_f64()
}

fn median(ratios: &mut [f64]) -> f64 {
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}
