//! Trails of several files: closed, damaged, left by a crash, shortened, and what is found of who changes them.

#![forbid(unsafe_code)]

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::dice::Dice;
use super::segments::{MAX_LEN, Name};
use super::*;
use crate::env::fake::FakeClock;
use crate::env::{Clock as _, Timestamp};

const START: Timestamp = Timestamp::from_unix(1_700_000_000);
const DAY: Duration = Duration::from_secs(86_400);

/// The trail of a folder, of which files are closed after a few lines, and the newest line.
struct Bench {
    folder: tempfile::TempDir,
    clock: FakeClock,
    limits: Limits,
    known: Option<Head>,
    lines: u64,
}

impl Bench {
    fn new(size: u64) -> Self {
        let limits = Limits { size, age: DAY.saturating_mul(365) };
        let folder = tempfile::tempdir().unwrap();
        Self { folder, clock: FakeClock::at(START), limits, known: None, lines: 0 }
    }

    /// One with `lines` lines, of which four are a file.
    fn of(lines: u64) -> Self {
        let mut bench = Self::new(700);
        (0..lines).for_each(|_| drop(bench.append()));
        bench
    }

    fn trail(&self) -> Trail {
        Trail::beside(&self.folder.path().join("keystore.json")).with_limits(self.limits)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn written(&self) -> PathBuf {
        self.path("audit.jsonl")
    }

    fn append(&mut self) -> Appended {
        let appended = self.append_after(self.known);
        self.known = Some(appended.head);
        appended
    }

    fn append_after(&mut self, known: Option<Head>) -> Appended {
        self.lines += 1;
        let reason = format!("reason {:04}", self.lines);
        let (event, keys, generation) = (Event::Rotated, &[], self.lines);
        let record = Record { event, keys, generation, actor: "me", reason: &reason };
        self.trail().append_after(known, &self.clock, &record).unwrap()
    }

    fn files(&self) -> Vec<String> {
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        self.trail().files().into_iter().map(name).collect()
    }

    fn verdict(&self) -> Verdict {
        self.verdict_above(None)
    }

    fn verdict_above(&self, floor: Option<Head>) -> Verdict {
        let known = Known { anchor: self.known, generation: u64::MAX, floor };
        self.trail().verify(known).unwrap()
    }

    fn assert_whole(&self) {
        let verdict = self.verdict();
        assert!(verdict.faults.is_empty() && !verdict.unfinished, "{verdict:?} {:?}", self.files());
        assert_eq!(verdict.last, self.known.unwrap().line);
        let lines = self.trail().read().unwrap();
        assert_eq!(lines.len() as u64, verdict.lines);
        assert_eq!(self.trail().salvage().unwrap(), (lines, false));
    }
}

#[test]
fn a_long_file_is_closed_and_the_chain_goes_on_in_another() {
    let mut bench = Bench::of(0);
    for _ in 0..10 {
        bench.append();
        bench.assert_whole();
    }
    assert_eq!(
        bench.files(),
        [
            "audit.000000000001-000000000004.jsonl",
            "audit.000000000005-000000000008.jsonl",
            "audit.jsonl"
        ]
    );
    assert_eq!(bench.trail().last_number().unwrap(), 10);
    let behind = bench.trail().salvage_after(6).unwrap();
    assert_eq!(behind.0.iter().map(|line| line.number).collect::<Vec<_>>(), [7, 8, 9, 10]);
    // The lines are those of one file.
    let mut one = Bench::new(u64::MAX);
    (0..10).for_each(|_| drop(one.append()));
    let text: Vec<u8> =
        bench.trail().files().iter().flat_map(|path| fs::read(path).unwrap()).collect();
    assert_eq!(text, fs::read(one.written()).unwrap());
}

#[test]
fn an_old_file_is_closed() {
    let mut bench = Bench::new(u64::MAX);
    bench.append();
    bench.clock.advance(DAY.saturating_mul(364));
    bench.append();
    assert_eq!(bench.files(), ["audit.jsonl"]);
    bench.clock.advance(DAY);
    bench.append();
    assert_eq!(bench.files(), ["audit.000000000001-000000000002.jsonl", "audit.jsonl"]);
    bench.assert_whole();
}

/// A kill may come before each step of an append that closes a file, and in the middle of its line.
#[test]
fn whatever_a_kill_leaves_is_gone_on_with() {
    let closed = "audit.000000000001-000000000004.jsonl";
    let rename = |bench: &Bench| fs::rename(bench.written(), bench.path(closed)).unwrap();
    let begin = |bench: &Bench, text: &str| {
        rename(bench);
        fs::write(bench.written(), text).unwrap();
    };
    let torn = |bench: &Bench| {
        let mut file = OpenOptions::new().append(true).open(bench.written()).unwrap();
        file.write_all(b"{\"number\":5,\"at\"").unwrap();
    };
    let states: [&dyn Fn(&Bench); 5] =
        [&|_| {}, &torn, &rename, &|bench| begin(bench, ""), &|bench| {
            begin(bench, "{\"number\":5,");
        }];
    for (nth, state) in states.into_iter().enumerate() {
        for known in [true, false] {
            let mut bench = Bench::of(4);
            state(&bench);
            assert_eq!(bench.verdict().faults, [], "state {nth}");
            assert_eq!(bench.trail().last_number().unwrap(), 4);
            let appended = bench.append_after(bench.known.filter(|_| known));
            assert_eq!((appended.head.line, appended.gone, appended.damaged), (5, None, None));
            bench.known = Some(appended.head);
            bench.assert_whole();
            assert_eq!(bench.files(), [closed, "audit.jsonl"], "state {nth}");
            bench.append();
            bench.assert_whole();
        }
    }
}

/// What cannot be read at the end of a file costs no change.
#[test]
fn a_file_that_cannot_be_gone_on_with_is_set_aside() {
    let endings: [&[u8]; 7] = [
        b"not one of ours\n",
        b"\xff\xfe\n",
        b"\n",
        b"{\"number\":18446744073709551615}\n",
        b"{\"number\":7}\n{}\n",
        b"{\"number\":-1}\n{\"number\":\"9\"}\n{\"num",
        b"[]\n\n\n\n",
    ];
    for ending in endings {
        // Six lines, of which two are in the file that is written.
        for (lines, known) in [(6, true), (6, false), (2, true), (2, false)] {
            let mut bench = Bench::of(lines);
            let mut file = OpenOptions::new().append(true).open(bench.written()).unwrap();
            file.write_all(ending).unwrap();
            let known = bench.known.filter(|_| known);
            let appended = bench.append_after(known);
            let name = Name::parse(appended.damaged.as_deref().unwrap()).unwrap();
            let count = ending.iter().filter(|byte| **byte == b'\n').count() as u64;
            assert_eq!(name.first, if lines == 6 { 5 } else { 1 });
            assert_eq!((name.last, name.damaged), (lines + count, Some(1)));
            assert_eq!((appended.head.line, appended.gone), (lines + count + 1, None));
            bench.known = Some(appended.head);
            // All that was there is there, and what is wrong is told.
            let (salvaged, wrong) = bench.trail().salvage().unwrap();
            assert_eq!((salvaged.len() as u64, wrong), (lines + 1, true));
            let before = bench.verdict().faults;
            assert!(!before.is_empty(), "{ending:?}");
            bench.append();
            assert_eq!(bench.verdict().faults, before, "nothing else is wrong");
            assert_eq!(bench.append().damaged, None);
        }
    }
}

#[test]
fn a_line_that_nobody_wrote_is_the_only_fault() {
    let mut bench = Bench::of(6);
    let text = fs::read_to_string(bench.written()).unwrap();
    fs::write(bench.written(), text + "spilt\n").unwrap();
    bench.append();
    let file = "audit.000000000005-000000000007.damaged-1.jsonl".to_owned();
    assert_eq!(bench.verdict().faults, [Fault::Unreadable { file, place: 3 }]);
}

#[test]
fn a_file_that_is_too_long_is_set_aside_and_read_no_further() {
    let mut bench = Bench::of(6);
    let file = OpenOptions::new().write(true).open(bench.written()).unwrap();
    file.set_len(MAX_LEN + 1).unwrap();
    let too_long = |file: &str| Fault::TooLong { file: file.to_owned() };
    assert_eq!(bench.verdict().faults, [too_long("audit.jsonl")]);
    let name = "audit.000000000005-000000000006.damaged-1.jsonl";
    let appended = bench.append();
    assert_eq!((appended.head.line, appended.damaged.as_deref()), (7, Some(name)));
    assert_eq!(bench.verdict().faults, [too_long(name)]);
}

/// A crash right after a file was set aside: the next change comes to the same.
#[test]
fn a_kill_after_a_file_was_set_aside_changes_nothing() {
    let mut bench = Bench::of(6);
    let text = fs::read_to_string(bench.written()).unwrap();
    for ending in ["spilt\n", "\n", "spilt\nspilt"] {
        fs::write(bench.written(), text.clone() + ending).unwrap();
        let set_aside = bench.append_after(bench.known);
        fs::remove_file(bench.written()).unwrap();
        let again = bench.append_after(bench.known);
        assert_eq!(again.head.line, set_aside.head.line);
        assert_eq!((again.gone, again.damaged), (None, None));
        let lines = bench.trail().salvage().unwrap().0;
        fs::remove_file(bench.path(&set_aside.damaged.unwrap())).unwrap();
        assert_eq!(lines.last().unwrap().number, again.head.line);
    }
}

#[test]
fn no_file_takes_another_ones_name() {
    let mut bench = Bench::of(4);
    let closed = bench.path("audit.000000000001-000000000004.jsonl");
    fs::copy(bench.written(), &closed).unwrap();
    bench.append();
    assert_eq!(
        bench.files(),
        [
            "audit.000000000001-000000000004.jsonl",
            "audit.000000000001-000000000004.damaged-1.jsonl",
            "audit.jsonl"
        ]
    );
    assert!(!bench.verdict().faults.is_empty());
}

/// A link, a folder or a file of others among the segments is refused by who would read it.
#[test]
fn a_segment_that_is_none_is_refused() {
    let mut bench = Bench::of(6);
    let closed = bench.path("audit.000000000001-000000000004.jsonl");
    let elsewhere = bench.path("elsewhere");
    fs::rename(&closed, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &closed).unwrap();
    let refused = bench.trail().verify(Known::default()).unwrap_err().to_string();
    assert!(refused.contains("000004.jsonl is a symbolic link"), "{refused}");
    // What is written needs none of the others.
    bench.append();
    fs::remove_file(&closed).unwrap();
    fs::create_dir(&closed).unwrap();
    assert!(bench.trail().salvage().is_err());
    fs::remove_dir(&closed).unwrap();
    fs::rename(&elsewhere, &closed).unwrap();
    bench.assert_whole();
}

type Files = Vec<(String, Vec<u8>)>;

fn files(folder: &Path) -> Files {
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(read).collect();
    files.sort();
    files
}

fn put(folder: &Path, files: &Files) {
    fs::read_dir(folder).unwrap().for_each(|entry| fs::remove_file(entry.unwrap().path()).unwrap());
    files.iter().for_each(|(name, bytes)| fs::write(folder.join(name), bytes).unwrap());
}

const DAMAGES: [&str; 12] = [
    "edit a byte",
    "delete a line",
    "insert a line",
    "swap lines",
    "cut a file",
    "delete a file",
    "swap names",
    "join files",
    "rename a file",
    "append to a file",
    "empty a file",
    "begin later",
];

fn lines_of(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// One damage to the files before the last.
fn damaged(whole: &Files, how: &str, dice: &mut Dice) -> Files {
    let mut files = whole.clone();
    let closed = files.len() - 1;
    let nth = dice.below(closed);
    let bytes = &mut files[nth].1;
    let mut lines = lines_of(bytes);
    let at = dice.below(lines.len());
    match how {
        "edit a byte" => {
            let byte = dice.below(bytes.len());
            bytes[byte] = if bytes[byte] == b'x' { b'y' } else { b'x' };
        }
        "delete a line" => drop(lines.remove(at)),
        "insert a line" => lines.insert(at, lines[dice.below(lines.len())].clone()),
        "swap lines" => {
            let other = dice.below(lines.len());
            lines.swap(at, other);
        }
        "cut a file" => bytes.truncate(dice.below(bytes.len())),
        "delete a file" => drop(files.remove(nth)),
        "swap names" => {
            let other = dice.below(closed);
            let bytes = files[nth].1.clone();
            files[nth].1 = std::mem::replace(&mut files[other].1, bytes);
        }
        "join files" => {
            let next = files[nth + 1].1.clone();
            files[nth].1.extend(next);
            files.remove(nth + 1);
        }
        "rename a file" => {
            let mut name = Name::parse(&files[nth].0).unwrap();
            name.last += 1 + dice.below(3) as u64;
            files[nth].0 = name.to_string();
        }
        "append to a file" => bytes.extend_from_slice(&b"{\"number\":1}\n"[..1 + dice.below(13)]),
        "empty a file" => bytes.clear(),
        _ => drop(files.drain(..=nth)),
    }
    if matches!(how, "delete a line" | "insert a line" | "swap lines") {
        files[nth].1 = lines.concat();
    }
    files
}

#[test]
fn every_damage_of_files_up_to_the_anchor_is_found() {
    let bench = Bench::of(30);
    let (whole, mut dice) = (files(bench.folder.path()), Dice(20_261_130));
    assert_eq!(whole.len(), 8, "{:?}", bench.files());
    let mut found = [0; DAMAGES.len()];
    for round in 0..1_200 {
        let how = DAMAGES[round % DAMAGES.len()];
        let damaged = damaged(&whole, how, &mut dice);
        if damaged == whole {
            continue;
        }
        put(bench.folder.path(), &damaged);
        let faults = bench.verdict().faults;
        assert!(!faults.is_empty(), "round {round}: {how} was not found");
        found[round % DAMAGES.len()] += 1;
        // A server that follows it from the beginning finds it, too.
        let mut follower = Follower::default();
        while !follower.has_reached(bench.known.unwrap()) {
            follower.go_on(&bench.trail(), bench.known.unwrap(), None, 300).unwrap();
        }
        assert!(!follower.faults().is_empty(), "round {round}: {how} was not found by a server");
    }
    assert!(found.iter().all(|count| *count > 50), "{found:?}");
}

#[test]
fn a_follower_goes_on_from_file_to_file() {
    let mut bench = Bench::of(0);
    let mut follower = Follower::default();
    for _ in 0..40 {
        let known = bench.append().head;
        while !follower.has_reached(known) {
            follower.go_on(&bench.trail(), known, None, 1).unwrap();
        }
        assert_eq!((follower.line(), follower.faults()), (known.line, &[][..]));
    }
    assert_eq!(bench.files().len(), 10);
    // It does not read again what it has read: that is for the next whole pass.
    let first = bench.path("audit.000000000001-000000000004.jsonl");
    let text = fs::read_to_string(&first).unwrap();
    fs::write(&first, text.replacen("reason 0002", "REASON 0002", 1)).unwrap();
    let known = bench.append().head;
    follower.go_on(&bench.trail(), known, None, 1_000).unwrap();
    assert!(follower.has_reached(known) && follower.faults().is_empty());
    let mut whole = Follower::default();
    whole.go_on(&bench.trail(), known, None, u64::MAX).unwrap();
    let file = "audit.000000000001-000000000004.jsonl".to_owned();
    assert_eq!(whole.faults(), [Fault::Broken { file, place: 3 }]);
}

/// Thirty lines, one a day, of which those of the first files are older than three weeks.
fn outlived() -> (Bench, Head) {
    let mut bench = Bench::of(0);
    for _ in 0..30 {
        bench.append();
        bench.clock.advance(DAY);
    }
    let now = bench.clock.now();
    let Outlived { first, last, stays } =
        bench.trail().outlived(DAY.saturating_mul(21), now).unwrap();
    assert_eq!((first, stays), (1, None));
    (bench, last.unwrap())
}

#[test]
fn what_is_old_goes_file_by_file_and_the_rest_stays_proven() {
    let (bench, floor) = outlived();
    // Line 9 was written 21 days before the newest.
    assert_eq!(floor.line, 8);
    let all = bench.files();
    assert_eq!(bench.verdict_above(Some(floor)).faults, [], "all are there still");
    // What a crash leaves of the removal, and the end of it.
    for gone in 1..=2 {
        fs::remove_file(bench.path(&all[gone - 1])).unwrap();
        let verdict = bench.verdict_above(Some(floor));
        assert_eq!((verdict.faults, verdict.removed), (vec![], Some(8)));
        assert_eq!(verdict.lines, 30 - 4 * gone as u64);
        let mut follower = Follower::default();
        follower.go_on(&bench.trail(), bench.known.unwrap(), Some(floor), u64::MAX).unwrap();
        assert_eq!(follower.faults(), []);
        // Who does not know of it misses them.
        assert!(!bench.verdict().faults.is_empty());
    }
    assert_eq!(bench.trail().remove_through(8).unwrap(), 0);
    // Somebody else removed more.
    fs::remove_file(bench.path(&all[2])).unwrap();
    let missing = Fault::Missing { from: 9, to: 12 };
    assert_eq!(bench.verdict_above(Some(floor)).faults, [missing]);
    put(bench.folder.path(), &Vec::new());
    let cut = Fault::Cut { from: 9, to: 30 };
    assert_eq!(bench.verdict_above(Some(floor)).faults, [cut]);
}

#[test]
fn a_beginning_that_is_another_one_is_found() {
    let (bench, floor) = outlived();
    assert_eq!(bench.trail().remove_through(floor.line).unwrap(), 2);
    let other = Head { hash: crate::hex::Hex([1; 32]), ..floor };
    let file = "audit.000000000009-000000000012.jsonl".to_owned();
    assert_eq!(bench.verdict_above(Some(other)).faults, [Fault::Broken { file, place: 1 }]);
    // Where the line itself is there, it is another one.
    let (bench, floor) = outlived();
    assert_eq!(floor.line, 8);
    assert_eq!(bench.verdict_above(Some(other)).faults, [Fault::Rebuilt { line: 8 }]);
}

#[test]
fn what_is_not_as_its_name_says_stays_with_all_behind_it() {
    let (bench, _) = outlived();
    let second = bench.path("audit.000000000005-000000000008.jsonl");
    let text = fs::read_to_string(&second).unwrap();
    let cut: String = text.lines().take(3).map(|line| format!("{line}\n")).collect();
    fs::write(&second, cut).unwrap();
    let outlived = bench.trail().outlived(DAY.saturating_mul(10), bench.clock.now()).unwrap();
    assert_eq!(outlived.last.unwrap().line, 4);
    assert_eq!(outlived.stays.as_deref(), Some("audit.000000000005-000000000008.jsonl"));
}

#[test]
fn a_clock_that_is_wrong_removes_nothing() {
    let (bench, floor) = outlived();
    let far = bench.clock.now().plus(DAY.saturating_mul(40_000));
    let outlived = bench.trail().outlived(DAY.saturating_mul(21), far).unwrap();
    assert!(outlived.last.is_some_and(|last| last.line == floor.line), "{outlived:?}");
    let before = Timestamp::from_unix(1);
    assert_eq!(bench.trail().outlived(DAY, before).unwrap().last, None);
}

#[test]
fn a_damaged_file_goes_with_its_time() {
    let mut bench = Bench::of(6);
    let mut file = OpenOptions::new().append(true).open(bench.written()).unwrap();
    file.write_all(b"spilt\n").unwrap();
    bench.append();
    bench.clock.advance(DAY.saturating_mul(30));
    (0..6).for_each(|_| drop(bench.append()));
    let outlived = bench.trail().outlived(DAY.saturating_mul(20), bench.clock.now()).unwrap();
    let floor = outlived.last.unwrap();
    assert_eq!((floor.line, outlived.stays), (7, None));
    assert_eq!(bench.trail().remove_through(floor.line).unwrap(), 2);
    assert_eq!(bench.verdict_above(Some(floor)).faults, []);
}
