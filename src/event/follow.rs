//! Verification of a trail bit by bit, as it grows: for a server, which remembers up to where it was whole.

#![forbid(unsafe_code)]

use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};

use serde::Deserialize;

use super::line::{Head, digest};
use super::segments::{MAX_LEN, MAX_LINE, Name, Part};
use super::trail::Trail;
use super::verify::{Fault, Known, Walk};
use crate::error::Result;
use crate::hex::Hex;

/// A pass over the lines up to the one that the keystore knows. What comes after proves nothing yet.
#[derive(Default)]
pub struct Follower {
    walk: Walk,
    last: Option<Looked>,
    /// The newest line that was known when all of it was found to be there.
    reached: Option<u64>,
}

/// The last line that was looked at.
struct Looked {
    /// What the file's name says; none for the one that is written.
    file: Option<Name>,
    /// Where it begins and ends, in bytes.
    start: u64,
    end: u64,
    hash: Hex<32>,
}

/// How reading a file ended.
enum Ended {
    /// As much as was wanted has been looked at.
    Enough,
    /// The next line is one that is not known yet.
    Ahead,
    /// There is no other line, but the beginning of one if it is unfinished.
    File { unfinished: bool },
}

#[derive(Deserialize)]
struct Numbered {
    number: u64,
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

    /// Goes on for `bytes` at least, or up to the line `known`; `floor` is the last that the policy had removed. Begins
    /// again where what was looked at last is no longer what it was.
    pub fn go_on(
        &mut self,
        trail: &Trail,
        known: Head,
        floor: Option<Head>,
        bytes: u64,
    ) -> Result<()> {
        let parts = trail.segments.parts()?;
        let mut at = self.find(&parts)?;
        if at.is_none() {
            *self = Self::default();
        }
        // If lines came behind the end that was too early, that is a gap now.
        self.walk.verdict.faults.retain(|fault| !matches!(fault, Fault::Cut { .. }));
        self.walk.known = Known { anchor: Some(known), generation: u64::MAX, floor };
        self.walk.verdict.removed = floor.map(|floor| floor.line);
        let mut left = bytes;
        let skipped = at.map_or(0, |(nth, _)| nth);
        for part in &parts[skipped..] {
            let begin = at.take().map(|(_, end)| end);
            if begin.is_none() {
                self.walk.enter(part);
            }
            match self.read(part, begin.unwrap_or(0), known, &mut left)? {
                Ended::Enough => return Ok(()),
                Ended::Ahead => break,
                Ended::File { .. } if part.name.is_none() => break,
                Ended::File { unfinished } => {
                    let Some(file) = part.open()? else { continue };
                    let len = file.metadata().map_err(|e| part.unread(&e))?.len();
                    self.walk.leave(part, len, unfinished);
                }
            }
        }
        // The trail has no line `known`.
        self.reached = Some(known.line);
        self.walk.cut_before(known.line);
        Ok(())
    }

    /// The file with the line that was looked at last, and where that ends. It may have been closed since.
    fn find(&mut self, parts: &[Part]) -> Result<Option<(usize, u64)>> {
        let Some(last) = &self.last else { return Ok(None) };
        let line = self.walk.verdict.last;
        for (nth, part) in parts.iter().enumerate() {
            let was_closed =
                |name: Name| last.file.is_none() && name.first <= line && line <= name.last;
            if (part.name == last.file || part.name.is_some_and(was_closed)) && last.is_in(part)? {
                if part.name != last.file {
                    self.walk.renamed(part);
                }
                return Ok(Some((nth, last.end)));
            }
        }
        Ok(None)
    }

    fn read(&mut self, part: &Part, begin: u64, known: Head, left: &mut u64) -> Result<Ended> {
        let end = Ok(Ended::File { unfinished: false });
        let failed = |e: io::Error| part.unread(&e);
        let Some(mut file) = part.open()? else { return end };
        file.seek(SeekFrom::Start(begin)).map_err(failed)?;
        let mut file = BufReader::new(file.take(MAX_LEN.saturating_sub(begin)));
        let (mut at, mut line) = (begin, Vec::new());
        loop {
            if self.walk.verdict.last >= known.line {
                self.reached = Some(known.line);
                return Ok(Ended::Enough);
            }
            if *left == 0 {
                return Ok(Ended::Enough);
            }
            line.clear();
            let read = (&mut file).take(MAX_LINE).read_until(b'\n', &mut line);
            let len = read.map_err(failed)? as u64;
            let Some(text) = line.strip_suffix(b"\n") else {
                return Ok(Ended::File { unfinished: len > 0 });
            };
            if number(text).is_some_and(|number| number > known.line) {
                return Ok(Ended::Ahead);
            }
            self.walk.line(text);
            let hash = digest(text);
            self.last = Some(Looked { file: part.name, start: at, end: at + len, hash });
            at += len;
            *left = left.saturating_sub(len);
        }
    }
}

impl Looked {
    /// Whether the line is still where it was, in `part`.
    fn is_in(&self, part: &Part) -> Result<bool> {
        let Some(mut file) = part.open()? else { return Ok(false) };
        let mut line = Vec::new();
        let read = file
            .seek(SeekFrom::Start(self.start))
            .and_then(|_| file.take(self.end - self.start).read_to_end(&mut line));
        read.map_err(|e| part.unread(&e))?;
        Ok(line.strip_suffix(b"\n").is_some_and(|line| digest(line) == self.hash))
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
            follower.go_on(trail, known, None, 300).unwrap();
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
        let text = fs::read_to_string(&trail.segments.path).unwrap();
        fs::write(&trail.segments.path, text.replacen("first", "other", 1)).unwrap();
        let known = grow(&trail, 5);
        follow(&mut follower, &trail, known);
        assert_eq!(follower.faults(), []);
        let mut whole = Follower::default();
        follow(&mut whole, &trail, known);
        assert_eq!(whole.faults(), [Fault::Broken { file: "audit.jsonl".to_owned(), place: 2 }]);
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
            let text = fs::read_to_string(&trail.segments.path).unwrap();
            fs::write(&trail.segments.path, spoil(&text)).unwrap();
            follow(&mut follower, &trail, known);
            assert_eq!(follower.faults()[0], fault);
        }
        let (_folder, trail) = trail();
        let mut follower = Follower::default();
        let known = grow(&trail, 5);
        fs::remove_file(&trail.segments.path).unwrap();
        follow(&mut follower, &trail, known);
        assert_eq!(follower.faults(), [Fault::Cut { from: 1, to: 5 }]);
    }

    /// A file without line ends is no reason to take all memory.
    #[test]
    fn an_endless_line_is_no_line() {
        let (_folder, trail) = trail();
        let known = grow(&trail, 5);
        let file = fs::OpenOptions::new().write(true).open(&trail.segments.path).unwrap();
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
        fs::remove_file(&trail.segments.path).unwrap();
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
