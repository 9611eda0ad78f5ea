#![forbid(unsafe_code)]

use super::*;
use crate::env::fake::FakeRng;
use crate::key::KeyState;
use crate::store::tests::{at, change, empty, store_key, with};

/// Keystores one commit apart, their file, and where the document and each line ends in it.
struct Written {
    after: Vec<Keystore>,
    file: Vec<u8>,
    ends: Vec<usize>,
}

impl Written {
    fn document(keys: u32) -> Self {
        let keystore = (1..=keys).fold(empty(), |all, id| with(&all, id, 1, KeyState::Active));
        let (file, keystore) = keystore.next_generation().into_document().unwrap();
        Self { after: vec![keystore], ends: vec![file.len()], file }
    }

    fn now(&self) -> &Keystore {
        self.after.last().unwrap()
    }

    fn add(&mut self, changed: &Keystore) {
        let (line, next) = changed.next_generation().as_line(0).unwrap().expect("a line");
        self.file.extend_from_slice(&line);
        self.ends.push(self.file.len());
        assert!(next.is_in(self.file.len() as u64, &self.file));
        self.after.push(next);
    }

    /// A document and a line for each kind of change.
    fn with_lines() -> Self {
        let mut all = Self::document(60);
        all.add(&with(all.now(), 3, 3, KeyState::Active));
        all.add(&with(all.now(), 61, 1, KeyState::Active));
        let known = all.now().with_state(&at(3, 1), KeyState::Compromised, &change("known"));
        all.add(&known.unwrap());
        let without = |keystore: &Keystore| {
            let mut contents = keystore.contents.clone();
            Arc::make_mut(&mut contents.keys).remove(7);
            keystore.with(contents)
        };
        all.add(&without(all.now()));
        let with_recipient = all.now().with_registers(|registers| {
            registers.backup_recipients.push("age1pq1x".to_owned());
            Ok(())
        });
        all.add(&with_recipient.unwrap());
        all
    }
}

/// A line has what was changed of a key, however many versions that has.
#[test]
fn a_line_is_as_long_as_the_change() {
    let versions = |all, count: u32| {
        (2..=count).fold(all, |all, version| with(&all, 3, version, KeyState::Active))
    };
    let mut all = Written::document(60);
    let many = versions(all.now().clone(), 100).next_generation();
    let (file, many) = many.into_document().unwrap();
    all.file = file;
    all.after = vec![many];
    all.ends = vec![all.file.len()];
    let before = all.file.len();
    all.add(&with(all.now(), 3, 101, KeyState::Active));
    assert!(all.file.len() - before < 2_000, "{} bytes", all.file.len() - before);
    assert_eq!(open(&all.file).unwrap().contents(), all.now().contents());
}

fn open(bytes: &[u8]) -> Result<Keystore> {
    Sealed::parse(bytes)?.open(store_key(2))
}

#[test]
fn each_line_reads_as_the_change_that_it_was() {
    let Written { after, file, ends } = Written::with_lines();
    for (end, keystore) in ends.iter().zip(&after) {
        let part = &file[..*end];
        let read = open(part).unwrap();
        assert_eq!(read.contents(), keystore.contents());
        assert_eq!(read.base(), keystore.base());
        assert!(read.is_in(part.len() as u64, part));
        let told = peek_ends(part, part).unwrap().unwrap();
        assert_eq!(told, (keystore.contents().id().to_owned(), keystore.base()));
        assert_eq!(peek(part).unwrap(), told);
    }
    assert_eq!(after.len(), 6);
}

#[test]
fn a_line_that_is_cut_off_anywhere_was_never_committed() {
    let Written { after, file, ends } = Written::with_lines();
    // All about the ends, and some between.
    let near_an_end = |cut: usize| ends.iter().any(|end| end.abs_diff(cut) < 20);
    for cut in (ends[0]..file.len()).filter(|cut| cut % 7 == 0 || near_an_end(*cut)) {
        let whole = ends.iter().filter(|end| **end <= cut).count();
        // A line that lacks nothing but its end is there.
        let whole = whole + usize::from(ends.contains(&(cut + 1)));
        let read = open(&file[..cut]).unwrap_or_else(|bad| panic!("cut at {cut}: {bad}"));
        assert_eq!(read.contents(), after[whole - 1].contents(), "cut at {cut}");
        // Nothing is added behind what is cut off.
        assert_eq!(read.file.is_some(), ends.contains(&cut), "cut at {cut}");
    }
}

#[test]
fn a_line_that_was_changed_is_refused() {
    let Written { file, ends, .. } = Written::with_lines();
    let lines: Vec<&[u8]> = ends.windows(2).map(|pair| &file[pair[0]..pair[1]]).collect();
    let document = &file[..ends[0]];
    let refused = |lines: &[&[u8]], what: &str| {
        let bytes = [document, &lines.concat()].concat();
        match open(&bytes) {
            Err(error) => assert_eq!(error.kind(), Kind::Corrupt, "{what}: {error}"),
            Ok(_) => panic!("{what}: it opens"),
        }
    };
    for (nth, line) in lines.iter().enumerate() {
        // Each byte of some line.
        for byte in (nth..line.len() - 1).step_by(lines.len()) {
            let mut edited = line.to_vec();
            edited[byte] ^= 1;
            let mut all = lines.clone();
            all[nth] = &edited;
            refused(&all, &format!("line {nth}, byte {byte}"));
        }
    }
    for first in 0..lines.len() {
        let without: Vec<_> = [&lines[..first], &lines[first + 1..]].concat();
        if first + 1 < lines.len() {
            refused(&without, "a line is missing");
            let mut swapped = lines.clone();
            swapped.swap(first, first + 1);
            refused(&swapped, "lines are swapped");
        }
        let twice = [&lines[..=first], &lines[first..]].concat();
        refused(&twice, "a line is there twice");
    }
    refused(&[lines[0], b"{}\n"], "something else");
    refused(&[b"\n\n", lines[0], b"0\n"], "a number");
}

#[test]
fn a_line_of_another_file_is_refused() {
    let all = Written::with_lines();
    let mut other = Written::document(60);
    // The same generation of the same keystore, from another change.
    other.add(&with(other.now(), 4, 3, KeyState::Active));
    let bytes = [&other.file[..], &all.file[all.ends[1]..all.ends[2]]].concat();
    assert_eq!(open(&bytes).err().unwrap().kind(), Kind::Corrupt);
}

#[test]
fn what_a_line_cannot_say_makes_a_new_file() {
    let all = Written::document(60);
    let changed = |keystore: Keystore| keystore.next_generation().as_line(0).unwrap().is_none();
    let wrappings = all.now().contents().wrappings().to_vec();
    let rng = FakeRng::new(4);
    assert!(changed(
        all.now().with_store_key(store_key(5), wrappings, change("").at, &rng).unwrap()
    ));
    assert!(changed(all.now().with_next_epoch(change("").at, &rng).unwrap()));
    // The document would still have the key.
    let known = all.now().with_state(&at(3, 1), KeyState::Compromised, &change("known")).unwrap();
    assert!(changed(known.with_state(&at(3, 1), KeyState::Destroyed, &change("gone")).unwrap()));
    assert!(!changed(known));
    // Too many lines, and a file that is too short.
    let many =
        (1..=30).fold(all.now().clone(), |keystore, id| with(&keystore, id, 3, KeyState::Active));
    assert!(changed(many));
    let next = with(all.now(), 3, 3, KeyState::Active).next_generation();
    assert!(next.as_line(all.file.len() + 1).unwrap().is_none());
    assert!(next.as_line(all.file.len()).unwrap().is_some());
}

#[test]
fn a_file_laid_out_again_opens_and_gets_no_line() {
    let Written { after, file, .. } = Written::with_lines();
    let values = serde_json::Deserializer::from_slice(&file).into_iter::<serde_json::Value>();
    let lines: Vec<_> = values.map(|value| value.unwrap()).collect();
    assert_eq!(lines.len(), after.len());
    let spaced = String::from_utf8(file).unwrap().replace("}\n{", "}\n\n \t{");
    let read = open(spaced.as_bytes()).unwrap();
    assert_eq!(read.contents(), after.last().unwrap().contents());
    assert!(read.file.is_none());
}
