//! Binary logs that are decrypted offline: those that servers wrote, and all that can be wrong with one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/binlogs.rs"]
mod binlogs;

use std::fs;
use std::io::{self, Write};

use binlogs::{Pair, Sealed, pair};
use keyward::Kind;
use keyward::binlog::{LogKey, Need, Torn, Written, decrypt, need};
use keyward::cipher::Mode;
use keyward::key::{KeyName, KeyVersion, PageMode};
use keyward::secret::DataKey;

const GOLDEN: &str = "tests/golden/binlog";

/// What wrapped the samples of MariaDB's: key 1, version 1.
const MARIADB: &str = "a7addd9adea9978fda19f21e6be987880e68ac92632ca052e5bb42b1a506939a";
/// What wrapped that of MySQL's, and its name.
const MYSQL: &str = "E378D88899587B5ACA2D2C589FD668B0B02DEF426DA1F7FA4E617F2B6450FB14";
const MYSQL_NAME: &str = "MySQLReplicationKey_fdbb75d8-ec87-11f1-9572-02fc00000001_2";

#[test]
fn what_real_servers_wrote_comes_out_plain() {
    let mariadb = key(MARIADB);
    let mysql = key(MYSQL);
    let version = KeyVersion::FIRST;
    for (name, wanted, key) in [
        ("mariadb-ctr", Need::Version(version), LogKey::Pages(version, &mariadb, PageMode::Ctr)),
        ("mariadb-cbc", Need::Version(version), LogKey::Pages(version, &mariadb, PageMode::Cbc)),
        ("mysql", Need::Named(KeyName::named(MYSQL_NAME, "")), LogKey::Keyring(&mysql)),
    ] {
        let log = fs::read(format!("{GOLDEN}/{name}")).unwrap();
        let plain = fs::read(format!("{GOLDEN}/{name}.plain")).unwrap();
        assert_eq!(need(&log[..]).unwrap(), wanted, "{name}");
        let (out, written) = run(&log, key);
        assert!(out == plain, "{name}");
        assert!(
            written.is_ok_and(|written| written.events > 3 && written.torn.is_none()),
            "{name}"
        );
        // A plain one goes through as it is, and behind another it has no beginning of its own.
        assert_eq!(need(&plain[..]).unwrap(), Need::Nothing);
        assert!(run(&plain, LogKey::Nothing).0 == plain, "{name}");
        let mut second = Vec::new();
        decrypt(&log[..], key, true, &mut second).unwrap();
        assert!(second == plain[4..], "{name}");
    }
}

#[test]
fn every_cipher_and_length_comes_out_as_it_went_in() {
    let lengths = (0..100).chain([1000, 65_536, 131_000, 131_072, 262_144, 300_001, 1_000_003]);
    let bodies: Vec<Vec<u8>> = lengths.map(body).collect();
    for (len, mode, summed) in [
        (16, PageMode::Cbc, true),
        (24, PageMode::Cbc, false),
        (32, PageMode::Cbc, true),
        (16, PageMode::Ctr, false),
        (24, PageMode::Ctr, true),
        (32, PageMode::Ctr, true),
    ] {
        let key = body(len);
        let Pair { encrypted, plain } = pair(sealed(&key, mode, summed), bodies.clone());
        let key = DataKey::copy_of(&key).unwrap();
        let version = KeyVersion::try_from(7).unwrap();
        assert_eq!(need(&encrypted[..]).unwrap(), Need::Version(version));
        let (out, written) = run(&encrypted, LogKey::Pages(version, &key, mode));
        assert!(out == plain, "{len} {mode:?} {summed}");
        assert_eq!(written.unwrap().events, 2 + bodies.len() as u64);
    }
}

#[test]
fn another_key_is_told_and_nothing_of_it_comes_out() {
    for summed in [true, false] {
        let Pair { encrypted, .. } = pair(sealed(&body(32), PageMode::Ctr, summed), small());
        let mut told = 0;
        for wrong in 1..=20 {
            let wrong = DataKey::copy_of(&[wrong; 32]).unwrap();
            let (out, written) = run(&encrypted, pages(&wrong));
            if let Err(error) = written {
                told += 1;
                assert_eq!(error.kind(), Kind::NotMine, "{error}");
                assert!(out.len() <= 4 + 252 + 40, "{} bytes came out", out.len());
            }
        }
        assert!(told == 20, "{told} of 20 wrong keys were told, summed {summed}");
    }
    let log = fs::read(format!("{GOLDEN}/mysql")).unwrap();
    let (out, written) = run(&log, LogKey::Keyring(&key(MARIADB)));
    assert!(out.is_empty());
    assert_eq!(written.unwrap_err().kind(), Kind::NotMine);
}

#[test]
fn a_log_that_is_cut_off_anywhere_ends_with_its_last_whole_event() {
    let right = body(32);
    let key = DataKey::copy_of(&right).unwrap();
    let Pair { encrypted, plain } = pair(sealed(&right, PageMode::Cbc, true), small());
    let mysql = (fs::read(format!("{GOLDEN}/mysql")).unwrap(), self::key(MYSQL));
    let mysql_plain = fs::read(format!("{GOLDEN}/mysql.plain")).unwrap();
    for (log, plain, key, before) in [
        (&encrypted, &plain, pages(&key), 0),
        (&mysql.0, &mysql_plain, LogKey::Keyring(&mysql.1), 512),
        (&plain, &plain, LogKey::Nothing, 0),
    ] {
        let ends = ends(plain);
        for len in before + 4..log.len() {
            let (out, written) = run(&log[..len], key);
            let whole = *ends.iter().rev().find(|end| **end <= len - before).unwrap();
            assert!(out == plain[..whole], "cut at {len}: {} bytes, not {whole}", out.len());
            let left = (len - before - whole) as u64;
            let torn = (left > 0).then_some(Torn { at: whole as u64, len: left });
            assert_eq!(written.unwrap().torn, torn, "cut at {len}");
        }
    }
    // A power cut may leave zeros where an event was to be.
    let zeros = [&encrypted[..], &[0; 5000]].concat();
    let (out, written) = run(&zeros, pages(&key));
    assert!(out == plain);
    assert_eq!(written.unwrap().torn, Some(Torn { at: plain.len() as u64, len: 5000 }));
}

#[test]
fn a_changed_byte_never_comes_out() {
    let right = body(16);
    let key = DataKey::copy_of(&right).unwrap();
    let Pair { encrypted, plain } = pair(sealed(&right, PageMode::Ctr, true), small());
    let first = ends(&plain)[2];
    for at in first..encrypted.len() {
        let mut log = encrypted.clone();
        log[at] ^= 0x10;
        let (out, written) = run(&log, pages(&key));
        assert!(plain.starts_with(&out), "byte {at}");
        let end = *ends(&plain).iter().find(|end| **end > at).unwrap();
        assert!(out.len() < end, "byte {at}: its event came out");
        match written {
            Ok(Written { torn, .. }) => assert!(torn.is_some(), "byte {at} was not missed"),
            Err(error) => {
                let wanted = if end == ends(&plain)[3] { Kind::NotMine } else { Kind::Corrupt };
                let is_length = error.to_string().contains("names a length");
                assert!(error.kind() == wanted || is_length, "byte {at}: {error}");
            }
        }
    }
}

#[test]
fn what_is_no_log_is_refused() {
    for (bytes, kind) in [
        (&b""[..], Kind::Corrupt),
        (b"\xfebi", Kind::Corrupt),
        (b"SQLite format 3", Kind::Corrupt),
        (b"\xfdbin\x02", Kind::Unsupported),
        (b"\xfdbin\x01\x01\x09MySQL", Kind::Unsupported),
    ] {
        assert_eq!(need(bytes).unwrap_err().kind(), kind, "{bytes:?}");
    }
    let mut other = pair(sealed(&body(16), PageMode::Ctr, true), small()).encrypted;
    let scheme = ends(&other)[1] + 19;
    other[scheme] = 2;
    assert_eq!(need(&other[..]).unwrap_err().kind(), Kind::Unsupported);
    other[scheme] = 1;
    other[scheme + 1..scheme + 5].fill(0);
    assert_eq!(need(&other[..]).unwrap_err().kind(), Kind::Unsupported, "version 0");
}

#[test]
fn a_reader_that_goes_away_ends_it() {
    struct Gone(usize);
    impl Write for Gone {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            if self.0 > 1 << 20 { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let right = body(16);
    let key = DataKey::copy_of(&right).unwrap();
    let log = pair(sealed(&right, PageMode::Ctr, true), (0..50).map(|_| body(100_000)));
    let mut gone = Gone(0);
    let error = decrypt(&log.encrypted[..], pages(&key), false, &mut gone).unwrap_err();
    assert_eq!(error.kind(), Kind::Unknown);
    assert!(gone.0 < 2 << 20, "it went on");
}

fn sealed(key: &[u8], mode: PageMode, summed: bool) -> Sealed<'_> {
    let mode = match mode {
        PageMode::Cbc => Mode::Cbc,
        PageMode::Ctr => Mode::Ctr,
    };
    Sealed { key, mode, version: 7, summed }
}

/// The key of version 7, for small logs.
fn pages(key: &DataKey) -> LogKey<'_> {
    let mode = if key.expose().len() == 32 && key.expose() == body(32) {
        PageMode::Cbc
    } else {
        PageMode::Ctr
    };
    LogKey::Pages(KeyVersion::try_from(7).unwrap(), key, mode)
}

fn run(log: &[u8], key: LogKey<'_>) -> (Vec<u8>, keyward::Result<Written>) {
    let mut out = Vec::new();
    let written = decrypt(log, key, false, &mut out);
    (out, written)
}

fn small() -> Vec<Vec<u8>> {
    [20, 0, 33, 150, 1].map(body).to_vec()
}

fn body(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 % 251) as u8).collect()
}

/// Where the events of a plain log end, the four bytes before the first counted as one.
fn ends(log: &[u8]) -> Vec<usize> {
    let mut ends = vec![4];
    while let Some(len) = log.get(ends[ends.len() - 1] + 9..).and_then(|rest| rest.first_chunk()) {
        ends.push(ends[ends.len() - 1] + u32::from_le_bytes(*len) as usize);
    }
    ends
}

fn key(hex: &str) -> DataKey {
    let digit = |n| u8::from_str_radix(&hex[n..n + 2], 16).unwrap();
    DataKey::copy_of(&(0..hex.len()).step_by(2).map(digit).collect::<Vec<_>>()).unwrap()
}
