//! The files of a trail: `audit.jsonl`, which is written, and next to it the segments that were closed, each with the
//! numbers of its first and last line in its name. A file with a last line that could not be read says `damaged` in it.

#![forbid(unsafe_code)]

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::line::{Chained, Head, digest};
use crate::error::{Error, Kind, Result};
use crate::trust;

/// How many bytes of a file are read at most: no file of ours grows so long.
pub(super) const MAX_LEN: u64 = 1 << 30;

/// The longest line that is read, in bytes: one of a commit of 100,000 keys is shorter.
pub(super) const MAX_LINE: u64 = 1 << 26;

/// How much of a file's end is read first to find its last line, in bytes. A line that names many keys is longer.
const TAIL: u64 = 1 << 16;

/// How often the folder is looked at while files in it come and go.
const LOOKS: usize = 16;

/// The way out where a file of the trail is none that we would read.
const ASIDE: &str = "move the file aside; a new trail begins by itself";

/// The name of a closed segment, in the order in which they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    /// The number of its first line.
    pub(super) first: u64,
    /// The number of its last line, or of the last that it stands for.
    pub(super) last: u64,
    /// Which file of those numbers, from 1 on, if its last line could not be read.
    pub(super) damaged: Option<u32>,
}

impl Name {
    /// None unless it is exactly as it would be written.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let middle = text.strip_prefix("audit.")?.strip_suffix(".jsonl")?;
        let (numbers, damaged) = match middle.split_once('.') {
            None => (middle, None),
            Some((numbers, rest)) => (numbers, Some(rest.strip_prefix("damaged-")?.parse().ok()?)),
        };
        let (first, last) = numbers.split_once('-')?;
        let name = Self { first: first.parse().ok()?, last: last.parse().ok()?, damaged };
        let is_ours = name.first <= name.last && damaged != Some(0) && name.to_string() == text;
        is_ours.then_some(name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, damaged } = self;
        write!(f, "audit.{first:012}-{last:012}")?;
        if let Some(nth) = damaged {
            write!(f, ".damaged-{nth}")?;
        }
        f.write_str(".jsonl")
    }
}

/// One file of a trail.
pub(super) struct Part {
    /// None for the one that is written.
    pub(super) name: Option<Name>,
    path: PathBuf,
    /// The one that is written is open since the folder was looked at: it may be closed and another one begun.
    file: Option<File>,
}

impl Part {
    pub(super) fn file_name(&self) -> String {
        self.name.map_or_else(|| "audit.jsonl".to_owned(), |name| name.to_string())
    }

    /// Whether all its lines are at or below `line`, by its name.
    pub(super) fn ends_by(&self, line: u64) -> bool {
        self.name.is_some_and(|name| name.last <= line)
    }

    /// The file, from its beginning; none where it is gone.
    pub(super) fn open(&self) -> Result<Option<File>> {
        let file = match &self.file {
            None => checked(&self.path, OpenOptions::new().read(true))?,
            Some(file) => Some(file.try_clone().map_err(|e| unread(&self.path, &e))?),
        };
        let Some(mut file) = file else { return Ok(None) };
        file.rewind().map_err(|e| unread(&self.path, &e))?;
        Ok(Some(file))
    }

    pub(super) fn unread(&self, cause: &io::Error) -> Error {
        unread(&self.path, cause)
    }
}

/// The files of a trail.
pub(super) struct Segments {
    /// The one that is written.
    pub(super) path: PathBuf,
}

impl Segments {
    /// All files of the trail, in their order, at one moment.
    pub(super) fn parts(&self) -> Result<Vec<Part>> {
        let mut closed = self.closed()?;
        for _ in 0..LOOKS {
            let file = checked(&self.path, OpenOptions::new().read(true))?;
            let now = self.closed()?;
            if now == closed {
                let written =
                    file.map(|file| Part { name: None, path: self.path.clone(), file: Some(file) });
                return Ok(closed.into_iter().map(|name| self.part(name)).chain(written).collect());
            }
            closed = now;
        }
        let what = format!("the files of {} come and go too fast", self.path.display());
        Err(Error::new(Kind::Unavailable, what).advise("try again"))
    }

    pub(super) fn part(&self, name: Name) -> Part {
        Part { name: Some(name), path: self.path_of(name), file: None }
    }

    pub(super) fn path_of(&self, name: Name) -> PathBuf {
        self.path.with_file_name(name.to_string())
    }

    /// The names of the closed segments, in their order.
    pub(super) fn closed(&self) -> Result<Vec<Name>> {
        let folder = self.folder();
        let unread = |e: &io::Error| Error::io("cannot list", folder, e);
        let entries = match fs::read_dir(folder) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|e| unread(&e))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(|e| unread(&e))?.file_name();
            names.extend(name.to_str().and_then(Name::parse));
        }
        names.sort_unstable();
        Ok(names)
    }

    pub(super) fn folder(&self) -> &Path {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        folder.unwrap_or(Path::new("."))
    }

    pub(super) fn sync_folder(&self) -> Result<()> {
        let folder = self.folder();
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|e| Error::io("cannot sync", folder, &e))
    }

    /// The last line that the segments `closed` have or stand for; `known` is what the keystore knows.
    pub(super) fn end_of(&self, closed: &[Name], known: Option<Head>) -> Result<Option<Head>> {
        let Some((name, before)) = closed.split_last() else { return Ok(None) };
        let Some(mut file) = self.part(*name).open()? else { return self.end_of(before, known) };
        let failed = |e: io::Error| unread(&self.path_of(*name), &e);
        if name.damaged.is_none()
            && let Some((line, _)) = last_line(&mut file).map_err(failed)?
            && number(&line) == Some(name.last)
        {
            return Ok(Some(Head { line: name.last, hash: digest(line) }));
        }
        let base = name.first.saturating_sub(1);
        match survey(&mut file, base, known).map_err(failed)? {
            Some(found) if found.line == name.last => Ok(Some(found)),
            Some(found) => Ok(Some(Head { line: name.last, hash: found.hash })),
            None => Ok(self
                .end_of(before, known)?
                .map(|end| Head { line: name.last.max(end.line), ..end })),
        }
    }

    /// A name that no file has yet.
    pub(super) fn free_name(&self, first: u64, last: u64, is_damaged: bool) -> Result<Name> {
        let named = |damaged| Name { first: first.min(last), last, damaged };
        let plain = (!is_damaged).then(|| named(None));
        for name in plain.into_iter().chain((1..=u32::MAX).map(|nth| named(Some(nth)))) {
            let path = self.path_of(name);
            match path.symlink_metadata() {
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(name),
                Err(cause) => return Err(unread(&path, &cause)),
                Ok(_) => {}
            }
        }
        Err(Error::new(Kind::Internal, "no name is left for a segment of the audit trail"))
    }

    /// Closes the file that is written under the name `name`. It is on disk as it is.
    pub(super) fn close(&self, file: &File, name: Name) -> Result<()> {
        let closed = file.sync_all().and_then(|()| fs::rename(&self.path, self.path_of(name)));
        closed.map_err(|e| Error::io("cannot close the segment", &self.path, &e))?;
        self.sync_folder()
    }
}

/// The file at `path`, none where there is none: no link, which could lead anywhere, and a regular one. A device has
/// no end, and a pipe waits for one.
pub(super) fn checked(path: &Path, options: &mut OpenOptions) -> Result<Option<File>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = match options.custom_flags(flags).open(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) if cause.raw_os_error() == Some(libc::ELOOP) => {
            let what = format!("the audit trail {} is a symbolic link", path.display());
            return Err(Error::new(Kind::Config, what).advise(ASIDE));
        }
        file => file.map_err(|e| Error::io("cannot open the audit trail", path, &e))?,
    };
    let found = file.metadata().map_err(|e| Error::io("cannot look at", path, &e))?;
    let (owner, user) = (found.uid(), trust::account());
    let what = match () {
        () if !found.is_file() => "is not a regular file".to_owned(),
        () if owner != 0 && owner != user => format!("belongs to user {owner}"),
        () if trust::others_write(&file, found.mode(), found.gid()) => {
            "can be written by others".to_owned()
        }
        () => return Ok(Some(file)),
    };
    let what = format!("the audit trail {} {what}", path.display());
    Err(Error::new(Kind::Config, what).advise(ASIDE))
}

pub(super) fn unread(path: &Path, cause: &io::Error) -> Error {
    Error::io("cannot read the audit trail", path, cause)
}

/// The last whole line and where it ends; none where there is none, or the file is too long.
pub(super) fn last_line(file: &mut File) -> io::Result<Option<(Vec<u8>, u64)>> {
    let end = file.seek(SeekFrom::End(0))?;
    if end > MAX_LEN {
        return Ok(None);
    }
    let mut len = TAIL;
    loop {
        let start = end.saturating_sub(len);
        file.seek(SeekFrom::Start(start))?;
        let mut tail = Vec::new();
        file.by_ref().take(end - start).read_to_end(&mut tail)?;
        let whole = tail.iter().rposition(|byte| *byte == b'\n');
        let before = whole.and_then(|whole| tail[..whole].iter().rposition(|byte| *byte == b'\n'));
        match (whole, before) {
            (_, None) if start > 0 => len = len.saturating_mul(2),
            (None, _) => return Ok(None),
            (Some(whole), before) => {
                let line = tail[before.map_or(0, |n| n + 1)..whole].to_vec();
                return Ok(Some((line, start + whole as u64 + 1)));
            }
        }
    }
}

/// The first whole line; none where there is none.
pub(super) fn first_line(file: &mut File) -> io::Result<Option<Vec<u8>>> {
    file.rewind()?;
    let mut line = Vec::new();
    BufReader::new(file.take(MAX_LINE)).read_until(b'\n', &mut line)?;
    Ok((line.pop() == Some(b'\n')).then_some(line))
}

/// The number of a line, whatever else that holds: a server that was not restarted yet must still rotate after a
/// newer command wrote of an event that it does not know. None where no number follows.
pub(super) fn number(line: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Numbered {
        number: u64,
    }
    let line: Numbered = serde_json::from_slice(line).ok()?;
    Some(line.number).filter(|number| *number < u64::MAX)
}

/// The last line of a damaged file, as a verification counts them: what it cannot read counts
/// as one more. `base` is the number before. No number is taken that lines and keystore do not account for.
pub(super) fn survey(file: &mut File, base: u64, known: Option<Head>) -> io::Result<Option<Head>> {
    file.rewind()?;
    let mut lines = BufReader::new(file.take(MAX_LEN));
    let highest = known.map_or(0, |known| known.line).max(base);
    let (mut last, mut count, mut line) = (base, 0_u64, Vec::new());
    let mut hash = None;
    while lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? > 0 {
        if line.pop() != Some(b'\n') {
            break;
        }
        count += 1;
        let read = serde_json::from_slice::<Chained>(&line).map(|line| line.number);
        last = match read {
            Ok(number) if number <= highest.saturating_add(count) => number.max(last),
            _ => last.saturating_add(1),
        };
        hash = Some(digest(&line));
        line.clear();
    }
    Ok(hash.map(|hash| Head { line: last, hash }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_only_as_it_is_written() {
        let mut dice = 20_261_130_u64;
        let mut next = || {
            dice = dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            dice >> (dice >> 58)
        };
        let mut names = Vec::new();
        for round in 0..20_000 {
            let (a, b) = (next(), next());
            let nth = u32::try_from(next() >> 40).unwrap().max(1);
            let damaged = (round % 3 == 0).then_some(nth);
            let name = Name { first: a.min(b), last: a.max(b), damaged };
            assert_eq!(Name::parse(&name.to_string()), Some(name));
            names.push(name.to_string());
        }
        // Whatever is read is written as it was, whichever byte is another one.
        let mut read = 0;
        for name in names {
            let mut bytes = name.into_bytes();
            let at = usize::try_from(next()).unwrap_or(0) % bytes.len();
            bytes[at] = b"0123456789-.dj\0 +x"[usize::try_from(next() % 18).unwrap()];
            let text = String::from_utf8(bytes).unwrap();
            if let Some(parsed) = Name::parse(&text) {
                assert_eq!(parsed.to_string(), text);
                assert!(parsed.first <= parsed.last);
                read += 1;
            }
        }
        assert!(read > 1_000, "{read}");
    }

    #[test]
    fn other_files_of_the_folder_are_no_segments() {
        for text in [
            "audit.jsonl",
            "audit.checkpoint",
            "audit.sink-0-1",
            "audit.1-2.jsonl",
            "audit.000000000002-000000000001.jsonl",
            "audit.000000000001-000000000002.jsonl.gz",
            "audit.000000000001-000000000002.jsonl.new",
            "audit.000000000001-000000000002.damaged-0.jsonl",
            "audit.000000000001-000000000002.damaged-01.jsonl",
            "audit.000000000001-000000000002..jsonl",
            "audit.0000000000001-000000000002.jsonl",
            "audit.000000000001-99999999999999999999.jsonl",
            "audit.+00000000001-000000000002.jsonl",
        ] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }

    #[test]
    fn ls_sorts_them() {
        let name = |first, last, damaged| Name { first, last, damaged }.to_string();
        let mut names = vec![
            name(1, 9, None),
            name(10, 9_999, None),
            name(10_000, 10_000, None),
            name(10_000, 20_000, None),
            name(10_000, 20_000, Some(1)),
        ];
        let sorted = names.clone();
        names.sort();
        // The damaged one of the same numbers may come before.
        assert_eq!(names[..4].iter().filter(|name| !name.contains("damaged")).count(), 3);
        let mut parsed: Vec<_> = sorted.iter().map(|name| Name::parse(name).unwrap()).collect();
        parsed.sort();
        assert_eq!(parsed.iter().map(ToString::to_string).collect::<Vec<_>>(), sorted);
    }
}
