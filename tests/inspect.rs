//! What data files need, on files that MariaDB 10.11 and MySQL 9.7 wrote and on spoilt copies of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use keyward::inspect::{self, Kind, Report, Use};
use keyward::key::{KeyId, KeyVersion};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

const GOLDEN: &str = "tests/golden/inspect";

/// Set to `1`, the expected reports are written again, to be looked at before they are committed.
const BLESS: &str = "BLESS";

#[test]
fn reads_what_a_real_server_wrote() {
    let mut samples: Vec<PathBuf> = fs::read_dir(GOLDEN)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_none_or(|ending| ending != "json"))
        .collect();
    samples.sort();
    assert!(samples.len() >= 10, "the samples are not there");
    for sample in samples {
        let found = serde_json::to_string_pretty(&inspect::file(&sample)).unwrap() + "\n";
        let expected = PathBuf::from(format!("{}.json", sample.display()));
        if std::env::var_os(BLESS).is_some_and(|bless| bless == "1") {
            fs::write(&expected, &found).unwrap();
        }
        assert_eq!(found, fs::read_to_string(&expected).unwrap(), "{}", sample.display());
    }
}

#[test]
fn tells_freed_pages_from_pages_in_use() {
    for sample in ["full-crc32.ibd", "older.ibd", "older-row-compressed.ibd"] {
        let report = inspect::file(&golden(sample));
        assert!(report.unknown.is_empty(), "{sample}: {:?}", report.unknown);
        let (old, new) = (version(5), version(9));
        assert!(!report.needs(key(4), old), "{sample} needs what only freed pages have");
        assert!(report.freed(key(4), old) > 0, "{sample} has no freed pages");
        assert!(report.needs(key(4), new), "{sample}");
        assert!(report.needs.iter().all(|need| need.usage == Use::InUse || need.version == old));
    }
}

#[test]
fn a_damaged_page_in_use_is_named_and_a_freed_one_is_not() {
    let report = inspect::file(&golden("full-crc32.ibd"));
    let first = |usage| report.needs.iter().find(|need| need.usage == usage).unwrap().first;
    for (usage, unclear) in [(Use::InUse, true), (Use::Freed, false)] {
        let page = usize::try_from(first(usage)).unwrap();
        let spoilt = spoilt("full-crc32.ibd", |bytes| bytes[page * 4096 + 100] ^= 1);
        let named = format!("page {page} has a wrong checksum");
        assert_eq!(spoilt.unknown == [named], unclear, "{usage:?}: {:?}", spoilt.unknown);
    }
}

/// A way to spoil a sample.
type Spoil = fn(&mut Vec<u8>);

#[test]
fn what_is_not_understood_is_said_and_not_guessed() {
    let spoils: [(&str, Spoil, &str); 19] = [
        ("mysql.ibd", |bytes| bytes.truncate(6 * 4096), "is cut off: 6 of 7 pages are there"),
        ("mysql-redo", |bytes| bytes.truncate(1500), "is cut off"),
        ("mysql-redo", |bytes| bytes[100] ^= 1, "its header has a wrong checksum"),
        ("mysql-redo", |bytes| bytes[1074] = b'D', "in a way that is not known here"),
        ("mysql-binlog.000001", |bytes| bytes[7] = b'x', "in a way that is not known here"),
        ("mysql-binlog.000001", |bytes| bytes.truncate(60), "in a way that is not known here"),
        ("mysql.ibd", |bytes| bytes[16..34].fill(0), "its page 0 is begun: a running server"),
        ("older.ibd", |bytes| bytes.truncate(20_000), "ends within a page"),
        ("older.ibd", |bytes| bytes.fill(0), "its page 0 is empty"),
        // A flag of MySQL's tablespaces.
        (
            "older.ibd",
            |bytes| bytes[38 + 18] |= 0x40,
            " are MySQL's, and its page 0 has a wrong checksum",
        ),
        ("mysql.ibd", |bytes| bytes[54..58].fill(0xFF), "are not those of a MariaDB tablespace"),
        ("mysql.ibd", |bytes| bytes[3000] ^= 1, "its page 0 has a wrong checksum"),
        ("older.ibd", |bytes| bytes[24..26].fill(7), "does not begin with page 0"),
        ("older.ibd", |bytes| bytes.drain(4096..8192).for_each(drop), "another page's number"),
        // The sign that page 0 names a key.
        ("older.ibd", |bytes| bytes[38 + 150 + 16 * 88] = 0, "yet page 0 names no key"),
        ("aria.MAI", |bytes| bytes[12..14].fill(0xFF), "a header that is not known here"),
        ("binlog.000001", |bytes| bytes[4 + 10] = 0xFF, "its format description is too long"),
        ("binlog.000001", |bytes| bytes.truncate(260), "is cut off"),
        ("binlog.000001", |bytes| bytes[8] = 3, "does not begin with a format description"),
    ];
    for (sample, spoil, why) in spoils {
        let report = spoilt(sample, spoil);
        let said = report.unknown.iter().any(|said| said.contains(why));
        assert!(said, "{sample}: {why:?} is not in {:?}", report.unknown);
    }
}

#[test]
fn every_file_counts_unless_its_name_says_that_no_server_encrypts_it() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    put("notes.xyz", b"who knows");
    put("t1.frm", b"\xfe\x01");
    put("error.log", b"a line\n");
    put("slow.log", b"\x00\x01");
    for of_mysql in [
        "general_log_224.sdi",
        "exported.cfp",
        "temp_1.ibt",
        "#ib_16384_0.dblwr",
        "#ib_redo9_tmp",
        "mysql_upgrade_history",
    ] {
        put(of_mysql, b"\x00\x01");
    }
    put("#ib_redo9", b"\x00\x01");
    put("ibtmp1", b"\x00\x01");
    put("lone.MAD", b"\x00\x01");
    fs::write(folder.path().join("t2.isl"), folder.path().join("gone.ibd").to_str().unwrap())
        .unwrap();
    let (files, failed) = inspect::walk(&[folder.path().to_owned()]);
    let mut unclear: Vec<String> = files
        .iter()
        .map(|file| inspect::file(file))
        .chain(failed)
        .filter(|report| !report.unknown.is_empty())
        .map(|report| report.file.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    unclear.sort();
    assert_eq!(unclear, ["#ib_redo9", "gone.ibd", "lone.MAD", "notes.xyz", "slow.log"]);
}

#[test]
fn a_pipe_or_a_device_is_not_read_in_a_files_place() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let pipe = |name| mkfifo(&at(name), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    fs::copy(golden("aria.MAD"), at("aria.MAD")).unwrap();
    fs::copy(golden("aria.MAD"), at("zero.MAD")).unwrap();
    fs::write(at("ibdata2"), vec![1; 16 << 10]).unwrap();
    pipe("aria.MAI");
    pipe("ibdata1");
    pipe("t1.ibd");
    symlink("/dev/zero", at("zero.MAI")).unwrap();
    for (name, why) in [
        ("aria.MAD", "its index file (.MAI) is not beside it"),
        ("zero.MAD", "its index file (.MAI) is not beside it"),
        ("ibdata2", "the first file, ibdata1, is not beside it"),
        ("t1.ibd", "cannot be read: not a regular file"),
    ] {
        assert_eq!(inspect::file(&at(name)).unknown, [why], "{name}");
    }
}

#[test]
fn of_an_isl_file_no_more_is_read_than_a_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t1.isl");
    // A hole: it takes no room on the disk, and would take all memory.
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let (_, failed) = inspect::walk(&[folder.path().to_owned()]);
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].unknown, ["cannot be read: longer than a path can be"]);
}

#[test]
fn a_redo_log_needs_its_key_and_tells_whether_it_was_ended() {
    let clean = redo(&[CHECKPOINT]);
    let report = inspect_bytes("ib_logfile0", &clean);
    assert_eq!(report.kind, Kind::RedoLog);
    assert_eq!(report.unknown, [""; 0]);
    assert_eq!(report.in_use(key(1), version(7)), 1);
    let torn = redo(&[CHECKPOINT, b"\x34four"]);
    let unclean = ["the server that wrote it was not shut down cleanly"];
    assert_eq!(inspect_bytes("ib_logfile0", &torn).unknown, unclean);
    let without_end = redo(&[b"\x34four"]);
    assert_eq!(inspect_bytes("ib_logfile0", &without_end).unknown, unclean);
    let mut damaged = clean;
    damaged[20] ^= 1;
    let report = inspect_bytes("ib_logfile0", &damaged);
    assert_eq!(report.unknown, ["its header has a wrong checksum"]);
}

#[test]
fn spoilt_samples_never_crash_the_reader() {
    for entry in fs::read_dir(GOLDEN).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        for seed in 0..40_usize {
            let mut spoilt = bytes.clone();
            for n in 0..8 {
                let at = (seed * 7919 + n * 104_729 + n * n) % spoilt.len().min(600 + seed * 64);
                spoilt[at] = (seed * 31 + n * 57) as u8;
            }
            spoilt.truncate(spoilt.len() - seed * 13 % spoilt.len());
            inspect::every_format(&spoilt);
        }
    }
}

/// The record that ends a checkpoint.
const CHECKPOINT: &[u8] = b"\xfaten bytes.";

/// An encrypted redo log of key 1 version 7, its last checkpoint followed by `records`.
fn redo(records: &[&[u8]]) -> Vec<u8> {
    const FIRST: u64 = 12_345;
    let mut log = vec![0; 1 << 20];
    let sum = |log: &mut [u8], from: usize, len: usize| {
        let sum = crc32c(&log[from..from + len]).to_be_bytes();
        log[from + len..from + len + 4].copy_from_slice(&sum);
    };
    log[..4].copy_from_slice(&0xF09F_979D_u32.to_be_bytes());
    log[8..16].copy_from_slice(&FIRST.to_be_bytes());
    log[16..23].copy_from_slice(b"MariaDB");
    log[48..52].copy_from_slice(&1_u32.to_be_bytes());
    log[52..56].copy_from_slice(&7_u32.to_be_bytes());
    sum(&mut log, 0, 508);
    for (block, lsn) in [(4096, FIRST), (8192, FIRST + 1000)] {
        log[block..block + 8].copy_from_slice(&lsn.to_be_bytes());
        log[block + 8..block + 16].copy_from_slice(&lsn.to_be_bytes());
        sum(&mut log, block, 60);
    }
    let mut at = 12_288 + 1000;
    for record in records {
        let (nonce, mut summed) = (*b"\0\0\0\0\0\0\0\x09", record.to_vec());
        summed.extend(nonce);
        let tail = [&[1], nonce.as_slice(), &crc32c(&summed).to_be_bytes()].concat();
        let group = [record, tail.as_slice()].concat();
        log[at..at + group.len()].copy_from_slice(&group);
        at += group.len();
    }
    log
}

/// Bit by bit: another way than the reader's.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            sum >> 1 ^ if sum & 1 == 1 { 0x82F6_3B78 } else { 0 }
        })
    })
}

fn spoilt(sample: &str, spoil: impl FnOnce(&mut Vec<u8>)) -> Report {
    let mut bytes = fs::read(golden(sample)).unwrap();
    spoil(&mut bytes);
    inspect_bytes(sample, &bytes)
}

fn inspect_bytes(name: &str, bytes: &[u8]) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    inspect::file(&path)
}

fn golden(sample: &str) -> PathBuf {
    Path::new(GOLDEN).join(sample)
}

fn key(id: u32) -> KeyId {
    id.try_into().unwrap()
}

fn version(number: u32) -> KeyVersion {
    number.try_into().unwrap()
}
