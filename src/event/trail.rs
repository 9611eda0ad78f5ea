//! The audit trail: one JSON object a line, each chained to the one before by its hash. Each commit notes
//! the newest line in the keystore, so that an edit, a gap, a reordering or a cut shows up to there.
//!
//! Written only under the keystore's lock, by whoever changes it: the server or the command. A file that has become
//! long or old is closed, and another one goes on; a damaged one is set aside.

#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::line::{GENESIS, Head, Line, Record, digest};
use super::segments::{MAX_LEN, Segments, checked, first_line, last_line, number, survey, unread};
use super::verify::{Known, Verdict, Walk};
use crate::env::{Clock, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::trust;

/// When a file of the trail is closed and another one begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long it becomes, in bytes; the line that reaches it is its last.
    pub size: u64,
    /// How old its first line becomes.
    pub age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { size: 64 << 20, age: Duration::from_secs(365 * 86_400) }
    }
}

/// What appending came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The new line.
    pub head: Head,
    /// The lines that are known, and no longer in the trail.
    pub gone: Option<RangeInclusive<u64>>,
    /// The name of a damaged file that was set aside.
    pub damaged: Option<String>,
}

/// What a trail was at a moment: another value where something came to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    len: u64,
}

/// The trail beside a keystore.
pub struct Trail {
    pub(super) segments: Segments,
    limits: Limits,
}

/// What a new line comes behind.
struct Ground {
    /// The line before.
    head: Head,
    /// The file that goes on; none where another one begins.
    file: Option<File>,
    /// Whether it has one line at most: a crash may have kept its name from the disk.
    is_new: bool,
    /// The name of the file that was set aside.
    damaged: Option<String>,
}

/// The members of a line by which files are closed.
#[derive(Deserialize)]
struct Dated {
    number: u64,
    at: Timestamp,
}

impl Trail {
    /// The trail of the keystore at `keystore`: `audit.jsonl` in the same folder, and the segments before it.
    #[must_use]
    pub fn beside(keystore: &Path) -> Self {
        let segments = Segments { path: keystore.with_file_name("audit.jsonl") };
        Self { segments, limits: Limits::default() }
    }

    /// With other limits of its files.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Appends one line and waits until it is on disk.
    pub fn append(&self, clock: &dyn Clock, record: &Record<'_>) -> Result<()> {
        self.append_after(None, clock, record).map(drop)
    }

    /// The same where the line `known` was there before: if the trail does not reach it any more, the new
    /// line is chained to it, and its number follows.
    pub fn append_after(
        &self,
        known: Option<Head>,
        clock: &dyn Clock,
        record: &Record<'_>,
    ) -> Result<Appended> {
        let now = clock.now();
        let Ground { head: last, file, is_new, damaged } = self.ground(known, now)?;
        let lost = known.filter(|known| known.line > last.line);
        let before = lost.unwrap_or(last);
        let line = Line {
            number: before.line.checked_add(1).ok_or_else(|| self.broken())?,
            at: now,
            event: record.event,
            keys: record.keys.to_vec(),
            generation: record.generation,
            actor: record.actor.to_owned(),
            reason: record.reason.to_owned(),
            previous: before.hash.to_string(),
        };
        let mut text = serde_json::to_string(&line)
            .map_err(|e| Error::new(Kind::Internal, format!("cannot write an audit line: {e}")))?;
        let head = Head { line: line.number, hash: digest(&text) };
        text.push('\n');
        self.write(file, is_new, text.as_bytes())?;
        Ok(Appended { head, gone: lost.map(|lost| last.line + 1..=lost.line), damaged })
    }

    /// The number of the last whole line; 0 where there is none. The files stay as they are.
    pub fn last_number(&self) -> Result<u64> {
        let last = match self.reader()? {
            None => None,
            Some(mut file) => last_line(&mut file).map_err(|e| unread(&self.segments.path, &e))?,
        };
        match last {
            Some((text, _)) => number(&text).ok_or_else(|| self.broken()),
            None => Ok(self.segments.closed()?.last().map_or(0, |name| name.last)),
        }
    }

    /// What it is now.
    pub fn stamp(&self) -> Result<Stamp> {
        match self.segments.path.symlink_metadata() {
            Ok(found) => Ok(Stamp { inode: found.ino(), len: found.len() }),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(Stamp::default()),
            Err(cause) => Err(Error::io("cannot look at", &self.segments.path, &cause)),
        }
    }

    /// Its files, for whoever names what is left of a trail.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let closed = self.segments.closed().unwrap_or_default();
        let all = closed
            .into_iter()
            .map(|name| self.segments.path_of(name))
            .chain([self.segments.path.clone()]);
        all.filter(|path| path.exists()).collect()
    }

    /// Every line that can be read, and whether something is wrong with the others or with the chain:
    /// for who must know what happened though somebody changed the trail. Where it begins is not judged.
    pub fn salvage(&self) -> Result<(Vec<Line>, bool)> {
        self.salvage_after(0)
    }

    /// The same of the lines behind number `seen`, without the files that end before.
    pub fn salvage_after(&self, seen: u64) -> Result<(Vec<Line>, bool)> {
        let (mut lines, mut walk) = (Vec::new(), Walk::from_anywhere());
        let mut is_whole = true;
        let parts = self.segments.parts()?;
        let is_missing = parts.is_empty();
        for part in parts.into_iter().filter(|part| seen == 0 || !part.ends_by(seen)) {
            walk.part(&part, |text| match serde_json::from_slice::<Line>(text) {
                Ok(line) if line.number > seen => lines.push(line),
                Ok(_) => {}
                Err(_) => is_whole = false,
            })?;
        }
        let Verdict { unfinished, faults, .. } = &walk.verdict;
        let is_wrong = is_missing || !is_whole || *unfinished || !faults.is_empty();
        Ok((lines, is_wrong))
    }

    /// Reads the whole trail and checks its chain.
    pub fn read(&self) -> Result<Vec<Line>> {
        let (mut lines, mut walk, mut is_whole) = (Vec::new(), Walk::default(), true);
        for part in self.segments.parts()? {
            walk.part(&part, |text| match serde_json::from_slice(text) {
                Ok(line) => lines.push(line),
                Err(_) => is_whole = false,
            })?;
        }
        match walk.verdict.faults.first() {
            Some(fault) => Err(Error::new(Kind::Corrupt, fault.to_string())),
            None if !is_whole => Err(self.broken()),
            None => Ok(lines),
        }
    }

    /// Checks every line, and the trail against what the keystore, or a checkpoint, knows of it.
    pub fn verify(&self, known: Known) -> Result<Verdict> {
        let mut walk = Walk::new(known);
        for part in self.segments.parts()? {
            walk.part(&part, |_| {})?;
        }
        Ok(walk.end())
    }

    /// Where the next line goes: behind the last one, unless that ends a file or cannot be read.
    fn ground(&self, known: Option<Head>, now: Timestamp) -> Result<Ground> {
        let failed = |e: io::Error| unread(&self.segments.path, &e);
        let file = checked(&self.segments.path, OpenOptions::new().read(true).append(true))?;
        let Some(mut file) = file else { return self.behind_closed(known, None) };
        let len = file.metadata().map_err(failed)?.len();
        if len > MAX_LEN {
            return self.set_aside(&mut file, known);
        }
        let last = last_line(&mut file).map_err(failed)?;
        let end = last.as_ref().map_or(0, |(_, end)| *end);
        let Some(text) = last.map(|(text, _)| text) else {
            cut(&file, end, len).map_err(failed)?;
            return self.behind_closed(known, Some(file));
        };
        let Some(line) = number(&text) else { return self.set_aside(&mut file, known) };
        // What a crash left of an unfinished one.
        cut(&file, end, len).map_err(failed)?;
        let head = Head { line, hash: digest(&text) };
        let first = first_line(&mut file).map_err(failed)?.unwrap_or_default();
        let is_new = end == first.len() as u64 + 1;
        let first = serde_json::from_slice::<Dated>(&first).ok();
        let is_old = |first: &Dated| now >= first.at.plus(self.limits.age);
        if end < self.limits.size && !first.as_ref().is_some_and(is_old) {
            return Ok(Ground { head, file: Some(file), is_new, damaged: None });
        }
        let first = match first {
            Some(first) => first.number,
            None => {
                self.segments.end_of(&self.segments.closed()?, known)?.map_or(1, |end| end.line + 1)
            }
        };
        self.segments.close(&file, self.segments.free_name(first, line, false)?)?;
        Ok(Ground { head, file: None, is_new: true, damaged: None })
    }

    /// Behind the closed segments, in `file` if there is one without lines.
    fn behind_closed(&self, known: Option<Head>, file: Option<File>) -> Result<Ground> {
        let head = self
            .segments
            .end_of(&self.segments.closed()?, known)?
            .unwrap_or(Head { line: 0, hash: GENESIS });
        Ok(Ground { head, file, is_new: true, damaged: None })
    }

    /// Behind a damaged file, which is kept under another name.
    fn set_aside(&self, file: &mut File, known: Option<Head>) -> Result<Ground> {
        let before = self.segments.end_of(&self.segments.closed()?, known)?;
        let base = before.unwrap_or(Head { line: 0, hash: GENESIS });
        let found = survey(file, base.line, known).map_err(|e| unread(&self.segments.path, &e))?;
        let head = found.unwrap_or(base);
        let name = self.segments.free_name(base.line.saturating_add(1), head.line, true)?;
        self.segments.close(file, name)?;
        Ok(Ground { head, file: None, is_new: true, damaged: Some(name.to_string()) })
    }

    /// Writes a line to `file`, or to a new one, and waits until it is on disk.
    fn write(&self, file: Option<File>, is_new: bool, line: &[u8]) -> Result<()> {
        let failed =
            |e: io::Error| Error::io("cannot append to the audit trail", &self.segments.path, &e);
        let mut file = match file {
            Some(file) => file,
            None => trust::create(&self.segments.path, 0o600).map_err(failed)?,
        };
        file.write_all(line).and_then(|()| file.sync_data()).map_err(failed)?;
        if is_new { self.segments.sync_folder() } else { Ok(()) }
    }

    fn reader(&self) -> Result<Option<File>> {
        checked(&self.segments.path, OpenOptions::new().read(true))
    }

    fn broken(&self) -> Error {
        let what = format!("{}: a line is not one of ours", self.segments.path.display());
        Error::new(Kind::Corrupt, what)
            .advise("the next change sets the file aside and goes on in another one")
    }
}

/// Takes away what comes behind `end`.
fn cut(file: &File, end: u64, len: u64) -> io::Result<()> {
    if end < len { file.set_len(end) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::fake::FakeClock;
    use crate::event::Event;
    use crate::key::{KeyId, KeyRef, KeyVersion};

    fn trail_of(lines: u64) -> (tempfile::TempDir, Trail) {
        let folder = tempfile::tempdir().unwrap();
        let trail = Trail::beside(&folder.path().join("keystore.json"));
        let clock = FakeClock::at(Timestamp::from_unix(1_700_000_000));
        for generation in 1..=lines {
            let keys = [KeyRef::new(KeyId::SYSTEM, KeyVersion::FIRST)];
            let record =
                Record { event: Event::Rotated, keys: &keys, generation, actor: "me", reason: "" };
            trail.append(&clock, &record).unwrap();
        }
        (folder, trail)
    }

    #[test]
    fn chains_line_to_line() {
        let (_folder, trail) = trail_of(3);
        let lines = trail.read().unwrap();
        assert_eq!(lines.iter().map(|line| line.number).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(lines[0].previous, GENESIS.to_string());
    }

    #[test]
    fn notices_an_edit_and_a_gap() {
        for spoil in [
            (|text: &str| text.replacen("\"generation\":2", "\"generation\":9", 1))
                as fn(&str) -> _,
            |text: &str| text.lines().skip(1).map(|line| format!("{line}\n")).collect(),
            |text: &str| text.replace('\n', "\r\n"),
        ] {
            let (_folder, trail) = trail_of(3);
            let text = std::fs::read_to_string(&trail.segments.path).unwrap();
            std::fs::write(&trail.segments.path, spoil(&text)).unwrap();
            assert_eq!(trail.read().unwrap_err().kind(), Kind::Corrupt);
        }
    }

    #[test]
    fn a_changed_byte_hides_no_other_line() {
        let (_folder, trail) = trail_of(3);
        let text = std::fs::read(&trail.segments.path).unwrap();
        assert_eq!(trail.salvage().unwrap(), (trail.read().unwrap(), false));
        for at in 0..text.len() {
            let mut changed = text.clone();
            changed[at] ^= 1;
            std::fs::write(&trail.segments.path, changed).unwrap();
            let (lines, wrong) = trail.salvage().unwrap();
            // A changed line end spoils the lines on both sides of it; the last line proves nothing.
            assert!(lines.len() >= if text[at] == b'\n' { 1 } else { 2 }, "byte {at}");
            assert!(wrong || lines.len() == 3, "byte {at}");
        }
    }

    #[test]
    fn goes_on_after_a_line_of_a_newer_version() {
        let (_folder, trail) = trail_of(1);
        let mut file = OpenOptions::new().append(true).open(&trail.segments.path).unwrap();
        file.write_all(b"{\"number\":2,\"event\":\"of-tomorrow\",\"more\":true}\n").unwrap();
        let clock = FakeClock::at(Timestamp::from_unix(1_700_000_000));
        let record =
            Record { event: Event::Rotated, keys: &[], generation: 3, actor: "me", reason: "" };
        trail.append(&clock, &record).unwrap();
        let text = std::fs::read_to_string(&trail.segments.path).unwrap();
        assert!(text.lines().nth(2).unwrap().contains("\"number\":3"));
    }

    #[test]
    fn goes_on_after_a_line_of_any_length() {
        let (_folder, trail) = trail_of(1);
        let clock = FakeClock::at(Timestamp::from_unix(1_700_000_000));
        let keys: Vec<_> = (1..=60_000)
            .map(|id| KeyRef::new(KeyId::try_from(id).unwrap(), KeyVersion::FIRST))
            .collect();
        for keys in [&keys[..], &keys[..1]] {
            let event = Event::Imported;
            let record = Record { event, keys, generation: 2, actor: "me", reason: "" };
            trail.append(&clock, &record).unwrap();
        }
        assert_eq!(trail.read().unwrap().len(), 3);
        // A crash may leave as much of an unfinished one.
        let mut file = OpenOptions::new().append(true).open(&trail.segments.path).unwrap();
        file.write_all(&vec![b'x'; 3 << 20]).unwrap();
        let record =
            Record { event: Event::Rotated, keys: &[], generation: 3, actor: "me", reason: "" };
        trail.append(&clock, &record).unwrap();
        assert_eq!(trail.read().unwrap().len(), 4);
    }

    #[test]
    fn a_number_that_none_follows_is_no_line_of_ours() {
        let (_folder, trail) = trail_of(1);
        std::fs::write(&trail.segments.path, "{\"number\":18446744073709551615}\n").unwrap();
        let clock = FakeClock::at(Timestamp::from_unix(1_700_000_000));
        let record =
            Record { event: Event::Rotated, keys: &[], generation: 3, actor: "me", reason: "" };
        trail.append(&clock, &record).unwrap();
        let text = std::fs::read_to_string(&trail.segments.path).unwrap();
        assert!(text.starts_with("{\"number\":2,"), "{text}");
    }

    #[test]
    fn goes_on_after_a_torn_line() {
        let (_folder, trail) = trail_of(2);
        let mut file = OpenOptions::new().append(true).open(&trail.segments.path).unwrap();
        file.write_all(b"{\"number\":3,\"at\"").unwrap();
        let clock = FakeClock::at(Timestamp::from_unix(1_700_000_000));
        let record =
            Record { event: Event::Rotated, keys: &[], generation: 3, actor: "me", reason: "" };
        trail.append(&clock, &record).unwrap();
        assert_eq!(trail.read().unwrap().len(), 3);
    }
}
