//! Messages of OASIS's KMIP 1.1 test cases, what keyward asks in KMIP 1.4 and 2.0 and what PyKMIP answered to
//! it, read here and by an implementation that is not ours.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::fmt::Write as _;
use std::path::PathBuf;

use keyward::backend::kmip::message::Response;
use keyward::backend::kmip::ttlv::{Item, Value, Writer, decode};
use kmip_ttlv::PrettyPrinter;

/// The files of a kind, which is the end of their names.
fn golden(kind: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<PathBuf> = std::fs::read_dir("tests/golden/kmip")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(kind))
        .collect();
    files.sort();
    assert!(files.len() >= 5, "the messages were not found");
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// An item and all in it, as `kmip-ttlv` shows them.
fn shown(item: &Item<'_>, depth: usize, to: &mut String) {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
    let (kind, data) = match &item.value {
        Value::Structure(_) => ("Structure (0x01)", String::new()),
        Value::Integer(number) => ("Integer (0x02)", format!(" {number:#08X} ({number})")),
        Value::Enumeration(value) => ("Enumeration (0x05)", format!(" {value:#08X} ({value})")),
        Value::Boolean(boolean) => ("Boolean (0x06)", format!(" {boolean}")),
        Value::Text(text) => ("TextString (0x07)", format!(" {text}")),
        Value::Bytes(bytes) => ("ByteString (0x08)", format!(" {}", hex(bytes))),
        Value::DateTime(seconds) => ("DateTime (0x09)", format!(" {seconds:#08X}")),
        _ => panic!("no message here has such an item"),
    };
    writeln!(to, "{depth}Tag: {:#06X}, Type: {kind}, Data:{data}", item.tag.0).unwrap();
    for item in item.items() {
        shown(item, depth + 2, to);
    }
}

#[test]
fn others_read_the_same_in_every_message() {
    for (path, bytes) in golden(".ttlv") {
        let item = decode(&bytes).unwrap();
        let mut ours = String::new();
        shown(&item, 0, &mut ours);
        let theirs = PrettyPrinter::new().to_string(&bytes);
        // It takes an empty structure for an unfinished one, and then loses count of the depth.
        let has_empty = theirs.contains("WARNING: TTLV structure length is zero");
        let lines = |text: &str| -> Vec<String> {
            let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("WARNING"));
            let depth = |c: char| has_empty && c.is_ascii_digit();
            lines.map(|line| line.trim_start_matches(depth).to_owned()).collect()
        };
        assert_eq!(lines(&ours), lines(&theirs), "{}", path.display());
        let mut writer = Writer::default();
        item.write(&mut writer);
        assert_eq!(writer.written(), bytes, "{}", path.display());
    }
}

#[test]
fn every_response_is_understood_and_no_request_is_taken_for_one() {
    for (path, bytes) in golden("-response.ttlv") {
        let response = Response::new(bytes.into());
        let asked = if path.to_string_lossy().contains("-two-") { 2 } else { 1 };
        let answers = response.answers(asked).unwrap_or_else(|_| panic!("{}", path.display()));
        for answer in answers {
            assert_eq!(answer.reason, None, "{}", path.display());
            assert!(!answer.payload.items().is_empty(), "{}", path.display());
        }
    }
    for (path, bytes) in golden("-request.ttlv") {
        assert!(Response::new(bytes.into()).answers(1).is_err(), "{}", path.display());
    }
}

#[test]
fn what_was_cut_or_flipped_is_read_or_refused_and_never_more() {
    for (_, bytes) in golden(".ttlv") {
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err());
        }
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            if let Ok(item) = decode(&changed) {
                let mut writer = Writer::default();
                item.write(&mut writer);
                assert_eq!(writer.written(), changed);
            }
        }
    }
}
