//! InnoDB's redo log as MariaDB writes it since 10.8: the key version in its header, and whether a
//! clean shutdown ended it.

#![forbid(unsafe_code)]

use std::io;

use super::bytes::{Source, be32, be64, head};
use super::crc::crc32c;
use super::{Kind, Report, Tally, Use};

/// The format since 10.8, "Phys".
const PLAIN: u32 = 0x5068_7973;
/// The same, encrypted.
const ENCRYPTED: u32 = 0xF09F_979D;
/// Formats before it ("PHYS" of 10.5, or small numbers), without the encrypted ones' highest bit.
const EARLIER: [u32; 5] = [0x5048_5953, 1, 103, 104, 0];
/// Where the log's own records begin.
const START: u64 = 12288;
/// Two blocks take turns.
const CHECKPOINTS: [usize; 2] = [4096, 8192];
/// How much is read at first to find a group of records.
const WINDOW: usize = 64 << 10;
/// No record is longer.
const MAX_RECORD: usize = 1 << 20;
/// A longer group of records is taken for one, whatever its checksum.
const MAX_GROUP: usize = 4 << 20;
/// The record that a checkpoint ends with.
const FILE_CHECKPOINT: u8 = 0xFA;

/// Whether these are the first bytes of a redo log.
pub(super) fn is_log(head: &[u8]) -> bool {
    let format = be32(head, 0);
    let earlier =
        EARLIER.contains(&(format & 0x7FFF_FFFF)) && head.get(16..).is_some_and(names_maker);
    format == PLAIN || format == ENCRYPTED || earlier
}

/// Before the name of the maker, a log looks like nothing in particular.
fn names_maker(creator: &[u8]) -> bool {
    [b"MariaDB".as_slice(), b"MySQL", b"Backup"].iter().any(|name| creator.starts_with(name))
}

/// Reads header, checkpoint and the first record after it.
pub(super) fn parse(source: &(impl Source + ?Sized)) -> io::Result<Report> {
    let head = head(source, START as usize)?;
    let mut report = Report::new(Kind::RedoLog);
    let format = be32(&head, 0);
    if format != PLAIN && format != ENCRYPTED {
        return Ok(Report::unclear(Kind::RedoLog, "is of a format before MariaDB 10.8"));
    }
    if head.get(..508).map(crc32c) != Some(be32(&head, 508)) {
        return Ok(Report::unclear(Kind::RedoLog, "its header has a wrong checksum"));
    }
    let encrypted = format == ENCRYPTED;
    report.format = if encrypted { "encrypted" } else { "not encrypted" }.to_owned();
    if encrypted {
        let mut tally = Tally::default();
        match tally.add(be32(&head, 48), be32(&head, 52), Use::InUse, 0) {
            Some(()) => report.needs = tally.into_needs(),
            None => report.unknown.push("names an impossible key".to_owned()),
        }
    }
    if !ended_cleanly(source, &head, encrypted)? {
        report.unclean = Some(report.unknown.len());
        report.unknown.push(UNCLEAN.to_owned());
    }
    Ok(report)
}

/// What a log says that recovery has yet to read.
const UNCLEAN: &str = "the server that wrote it was not shut down cleanly";

/// Whether nothing follows the last checkpoint but the record of it.
fn ended_cleanly(
    source: &(impl Source + ?Sized),
    head: &[u8],
    encrypted: bool,
) -> io::Result<bool> {
    let last = CHECKPOINTS.iter().filter_map(|at| head.get(*at..at + 64));
    let last = last.filter(|block| crc32c(&block[..60]) == be32(block, 60));
    let Some(last) = last.max_by_key(|block| be64(block, 0)) else { return Ok(false) };
    let (checkpoint, end) = (be64(last, 0), be64(last, 8));
    let log = Log { source, first: be64(head, 8), len: source.len()?.saturating_sub(START) };
    if checkpoint != end || end < log.first || log.len == 0 {
        return Ok(false);
    }
    match log.group(end, encrypted)? {
        // No record at all: the log was made and never written.
        Group::None => Ok(true),
        Group::Whole { len, first: FILE_CHECKPOINT } => {
            Ok(log.group(end + len, encrypted)? == Group::None)
        }
        Group::Whole { .. } | Group::TooLong => Ok(false),
    }
}

/// What stands at a place in the log.
#[derive(Debug, PartialEq, Eq)]
enum Group {
    /// Nothing that was written in this round of the ring.
    None,
    /// A group of records: its length with end mark, nonce and checksum, and its first byte.
    Whole { len: u64, first: u8 },
    /// Records without an end in sight.
    TooLong,
}

/// The ring of records.
struct Log<'a, S: ?Sized> {
    source: &'a S,
    /// The number (LSN) that the first byte of the ring had in the first round.
    first: u64,
    len: u64,
}

impl<S: Source + ?Sized> Log<'_, S> {
    fn group(&self, lsn: u64, encrypted: bool) -> io::Result<Group> {
        let nonce = if encrypted { 8 } else { 0 };
        let mut bytes = self.read(lsn, WINDOW)?;
        let mut end = end_mark(&bytes);
        if end == Some(bytes.len()) {
            bytes = self.read(lsn, MAX_GROUP)?;
            end = end_mark(&bytes);
        }
        let Some(mark) = end else { return Ok(Group::None) };
        let Some(sum) = bytes.get(mark + 1 + nonce..mark + 5 + nonce) else {
            return Ok(Group::TooLong);
        };
        // The end mark is not summed, or a round's records could not be told from the last's.
        let mut summed = bytes[..mark].to_vec();
        summed.extend_from_slice(&bytes[mark + 1..mark + 1 + nonce]);
        let len = (mark + 5 + nonce) as u64;
        let round = (lsn - self.first + len) / self.len;
        let ours =
            bytes[mark] == u8::from(round.is_multiple_of(2)) && crc32c(&summed) == be32(sum, 0);
        Ok(if mark > 0 && ours { Group::Whole { len, first: bytes[0] } } else { Group::None })
    }

    /// What stands from `lsn` on, across the end of the ring.
    fn read(&self, lsn: u64, want: usize) -> io::Result<Vec<u8>> {
        let offset = (lsn - self.first) % self.len;
        let want = usize::try_from(self.len).map_or(want, |len| len.min(want));
        let to_end = usize::try_from(self.len - offset).map_or(want, |left| left.min(want));
        let mut bytes = vec![0; want];
        self.source.read_at(START + offset, &mut bytes[..to_end])?;
        self.source.read_at(START, &mut bytes[to_end..])?;
        Ok(bytes)
    }
}

/// Where the records at the start of `bytes` end: at a byte 0 or 1 in the place of a record, or
/// where `bytes` do. `None` where a record is longer than any.
fn end_mark(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(first) = bytes.get(at).filter(|first| **first > 1) {
        let len = match usize::from(first & 15) {
            0 => 15 + long_len(bytes.get(at + 1..)?),
            short => short,
        };
        if len > MAX_RECORD {
            return None;
        }
        at += 1 + len;
    }
    Some(at.min(bytes.len()))
}

/// The length of a long record, less 15, as the bytes after its first tell: the number of bytes
/// that hold it stands in the highest bits, and each form begins where the shorter one ends.
fn long_len(bytes: &[u8]) -> usize {
    let byte = |at: usize| bytes.get(at).map_or(0, |byte| usize::from(*byte));
    match byte(0) {
        first @ 0..0x80 => first,
        first @ 0x80..0xC0 => ((first & 0x3F) << 8 | byte(1)) + 0x80,
        first @ 0xC0..0xE0 => ((first & 0x1F) << 16 | byte(1) << 8 | byte(2)) + 0x4080,
        _ => usize::MAX >> 1,
    }
}
