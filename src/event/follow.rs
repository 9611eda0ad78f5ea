//! Verification of a trail bit by bit, as it grows: for a server, which remembers up to where it was whole.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};

use serde::Deserialize;

use super::trail::{Head, Trail, digest};
use super::verify::{Fault, Known, Walk};
use crate::error::Result;
use crate::hex::Hex;

/// The longest line that is read, in bytes: one of a commit of 100,000 keys is shorter.
const MAX_LINE: u64 = 1 << 26;

/// A pass over the lines up to the one that the keystore knows. What comes after proves nothing yet.
pub struct Follower {
    walk: Walk,
    /// Where the last line that was looked at begins and ends, in bytes, and its hash.
    last: Option<(u64, u64, Hex<32>)>,
    /// The newest line that was known when all of it was found to be there.
    reached: Option<u64>,
}

#[derive(Deserialize)]
struct Numbered {
    number: u64,
}

impl Default for Follower {
    fn default() -> Self {
        Self { walk: Walk::new(Known::default()), last: None, reached: None }
    }
}

impl Follower {
    /// Whether it has come to the line `known`, or to where that should be.
    #[must_use]
    pub fn has_reached(&self, known: Head) -> bool {
        self.reached == Some(known.line)
    }

    /// The number of the last line that was looked at.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.walk.verdict.last
    }

    /// What is wrong with the lines so far.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.walk.verdict.faults
    }

    /// Goes on for `bytes` at least, or up to the line `known`. Begins again where what was looked at last is no
    /// longer what it was.
    pub fn go_on(&mut self, trail: &Trail, known: Head, bytes: u64) -> Result<()> {
        let failed = |cause: io::Error| trail.failed("cannot read the audit trail", &cause);
        let Some(mut file) = trail.reader()? else {
            *self = Self::default();
            self.ends_at(known);
            return Ok(());
        };
        if !self.is_as_it_was(&mut file).map_err(failed)? {
            *self = Self::default();
        }
        // If lines came behind the end that was too early, that is a gap now.
        self.walk.verdict.faults.retain(|fault| !matches!(fault, Fault::Cut { .. }));
        self.walk.known = Known { anchor: Some(known), generation: u64::MAX };
        self.read(&mut file, known, bytes).map_err(failed)
    }

    fn is_as_it_was(&self, file: &mut File) -> io::Result<bool> {
        let Some((start, end, hash)) = self.last else { return Ok(true) };
        let mut line = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        file.take(end - start).read_to_end(&mut line)?;
        Ok(line.strip_suffix(b"\n").is_some_and(|line| digest(line) == hash))
    }

    fn read(&mut self, file: &mut File, known: Head, bytes: u64) -> io::Result<()> {
        let begin = self.last.map_or(0, |(_, end, _)| end);
        file.seek(SeekFrom::Start(begin))?;
        let (mut file, mut at, mut line) = (BufReader::new(file), begin, Vec::new());
        while at - begin < bytes && self.walk.verdict.last < known.line {
            line.clear();
            let len = (&mut file).take(MAX_LINE).read_until(b'\n', &mut line)? as u64;
            let Some(text) = line.strip_suffix(b"\n") else {
                self.ends_at(known);
                return Ok(());
            };
            if number(text).is_some_and(|number| number > known.line) {
                self.ends_at(known);
                return Ok(());
            }
            self.walk.line(text);
            self.last = Some((at, at + len, digest(text)));
            at += len;
        }
        if self.walk.verdict.last >= known.line {
            self.reached = Some(known.line);
        }
        Ok(())
    }

    /// The trail has no line `known`.
    fn ends_at(&mut self, known: Head) {
        self.reached = Some(known.line);
        let from = self.walk.verdict.last + 1;
        self.walk.verdict.faults.push(Fault::Cut { from, to: known.line });
    }
}

fn number(text: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Numbered>(text).ok().map(|line| line.number)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::env::Timestamp;
    use crate::env::fake::FakeClock;
    use crate::event::{Event, Record};

    fn grow(trail: &Trail, lines: u64) -> Head {
        let clock = FakeClock::at(Timestamp::from_unix(1_700_000_000));
        let (event, keys) = (Event::Rotated, &[]);
        let record = Record { event, keys, generation: 3, actor: "me", reason: "first" };
        let grown = (0..lines).map(|_| trail.append_after(None, &clock, &record).unwrap().head);
        grown.last().unwrap()
    }

    fn trail() -> (tempfile::TempDir, Trail) {
        let folder = tempfile::tempdir().unwrap();
        let trail = Trail::beside(&folder.path().join("keystore.json"));
        (folder, trail)
    }

    fn follow(follower: &mut Follower, trail: &Trail, known: Head) {
        for _ in 0..1_000 {
            if follower.has_reached(known) {
                return;
            }
            follower.go_on(trail, known, 300).unwrap();
        }
        panic!("it does not come to line {}", known.line);
    }

    #[test]
    fn goes_on_where_it_was() {
        let (_folder, trail) = trail();
        let known = grow(&trail, 20);
        grow(&trail, 1);
        let mut follower = Follower::default();
        follow(&mut follower, &trail, known);
        assert_eq!((follower.line(), follower.faults()), (20, &[][..]));
        let known = grow(&trail, 5);
        follow(&mut follower, &trail, known);
        assert_eq!((follower.line(), follower.faults()), (26, &[][..]));
        // What was looked at before is not read again, until a new pass.
        let text = fs::read_to_string(&trail.path).unwrap();
        fs::write(&trail.path, text.replacen("first", "other", 1)).unwrap();
        let known = grow(&trail, 5);
        follow(&mut follower, &trail, known);
        assert_eq!(follower.faults(), []);
        let mut whole = Follower::default();
        follow(&mut whole, &trail, known);
        assert_eq!(whole.faults(), [Fault::Broken { place: 2 }]);
    }

    #[test]
    fn finds_what_is_new_and_wrong() {
        for (spoil, fault) in [
            // A line in the middle of what is new.
            (
                (|text: &str| text.replacen("\"number\":23", "\"number\":24", 1))
                    as fn(&str) -> String,
                Fault::Missing { from: 23, to: 23 },
            ),
            // The end is cut off, behind the lines that were looked at and within them.
            (|text| lines(text, 23), Fault::Cut { from: 24, to: 25 }),
            (|text| lines(text, 10), Fault::Cut { from: 11, to: 25 }),
            (|_| String::new(), Fault::Cut { from: 1, to: 25 }),
        ] {
            let (_folder, trail) = trail();
            let mut follower = Follower::default();
            follow(&mut follower, &trail, grow(&trail, 20));
            let known = grow(&trail, 5);
            let text = fs::read_to_string(&trail.path).unwrap();
            fs::write(&trail.path, spoil(&text)).unwrap();
            follow(&mut follower, &trail, known);
            assert_eq!(follower.faults()[0], fault);
        }
        let (_folder, trail) = trail();
        let mut follower = Follower::default();
        let known = grow(&trail, 5);
        fs::remove_file(&trail.path).unwrap();
        follow(&mut follower, &trail, known);
        assert_eq!(follower.faults(), [Fault::Cut { from: 1, to: 5 }]);
    }

    /// A file without line ends is no reason to take all memory.
    #[test]
    fn an_endless_line_is_no_line() {
        let (_folder, trail) = trail();
        let known = grow(&trail, 5);
        let file = fs::OpenOptions::new().write(true).open(&trail.path).unwrap();
        file.set_len(0).unwrap();
        file.set_len(MAX_LINE + 9).unwrap();
        let mut follower = Follower::default();
        follow(&mut follower, &trail, known);
        assert_eq!(follower.faults(), [Fault::Cut { from: 1, to: 5 }]);
    }

    fn lines(text: &str, count: usize) -> String {
        text.lines().take(count).map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn compares_with_the_line_that_the_keystore_knows() {
        let (_folder, trail) = trail();
        let known = grow(&trail, 5);
        fs::remove_file(&trail.path).unwrap();
        grow(&trail, 4);
        let clock = FakeClock::at(Timestamp::from_unix(1_700_000_000));
        let (event, keys) = (Event::Retired, &[]);
        let record = Record { event, keys, generation: 3, actor: "me", reason: "" };
        trail.append(&clock, &record).unwrap();
        let mut follower = Follower::default();
        follow(&mut follower, &trail, known);
        assert_eq!(follower.faults(), [Fault::Rebuilt { line: 5 }]);
    }
}
