//! Encrypted binary and relay logs of both servers, written out as plain ones.
//!
//! MariaDB's begins like a plain one; its second event names scheme, key version and nonce, and each event
//! after it is encrypted by itself, but for its length. What comes out has the same length and the same
//! positions: in the place of the second event stands one that every reader skips. MySQL's has a header of
//! 512 bytes, and behind it a whole plain log as one encrypted stream.
//!
//! A log is read front to back and once, through buffers of a fixed size. Each event's checksum, where it
//! has one, is compared with the plain event.
//!
//! The formats were learnt from MariaDB's documentation and by experiment on files that MariaDB
//! 10.11 and MySQL 9.7 wrote.

#![forbid(unsafe_code)]

mod check;
mod copy;
mod event;
mod output;
mod page;
mod stream;

use std::io::Write;

use crate::error::{Error, Kind, Result, io_cause};
use crate::inspect::{BinlogHeader, Source};
use crate::key::{KeyName, KeyVersion, PageMode};
use crate::secret::{DataKey, scrubbed};
use copy::Copy;
use event::{HEADER, Header, START_ENCRYPTION};
use output::Output;
use page::Start;
use stream::Stream;

/// What every plain log begins with.
const MAGIC: &[u8; 4] = b"\xfebin";
/// What MySQL's encrypted ones begin with.
const MYSQL_MAGIC: &[u8] = b"\xfdbin";
/// How much of a file is looked at to find out what it needs, in bytes.
const HEAD: usize = 4096;

/// Which key a log needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// None: it is not encrypted.
    Nothing,
    /// MariaDB's key 1 in this version.
    Version(KeyVersion),
    /// A key of MySQL's keyring.
    Named(KeyName),
}

/// The key that a log is decrypted with.
#[derive(Clone, Copy)]
pub enum LogKey<'a> {
    /// None.
    Nothing,
    /// MariaDB's, and how it is used.
    Pages(KeyVersion, &'a DataKey, PageMode),
    /// MySQL's.
    Keyring(&'a DataKey),
}

/// What was written of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// How many events.
    pub events: u64,
    /// What was left off at its end, because it is not a whole event.
    pub torn: Option<Torn>,
}

/// The end of a log that a crash, or a copy that came too early, has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Where it begins, in the plain log.
    pub at: u64,
    /// How many bytes there are.
    pub len: u64,
}

/// Which key the log in `source` needs.
///
/// # Errors
/// `Corrupt` where it is no binary log, `Unsupported` where it is encrypted in a way that is not known here.
pub fn need(source: &(impl Source + ?Sized)) -> Result<Need> {
    let mut head = vec![0; HEAD];
    let len = source.read_at(0, &mut head).map_err(|cause| unreadable(&cause))?;
    head.truncate(len);
    if head.starts_with(MYSQL_MAGIC) {
        let header = BinlogHeader::of(&head).ok_or_else(unknown_header)?;
        return Ok(Need::Named(KeyName::named(header.key, "")));
    }
    if !head.starts_with(MAGIC) {
        return Err(no_log());
    }
    let second = Header::at(&head, MAGIC.len()).and_then(|first| {
        let at = MAGIC.len().checked_add(usize::try_from(first.len).ok()?)?;
        Some((Header::at(&head, at)?, at))
    });
    match second {
        Some((Header { kind: START_ENCRYPTION, .. }, at)) => {
            Start::of(head.get(at + HEADER..).unwrap_or_default())
                .map(|one| Need::Version(one.version))
        }
        _ => Ok(Need::Nothing),
    }
}

/// Writes the log in `source`, decrypted with `key`, to `out`; without the four bytes that a log begins
/// with if it is to `follow` another. What stands in `out` after an error are whole events, up to the one
/// that is named.
///
/// # Errors
/// `NotMine` where `key` is not the one that it was encrypted with, `Corrupt` where it is damaged,
/// `Conflict` where it is encrypted with another version than `key`, which a moment ago it was not;
/// `Unknown` where it cannot be written.
pub fn decrypt(
    source: &(impl Source + ?Sized),
    key: LogKey<'_>,
    follow: bool,
    out: &mut dyn Write,
) -> Result<Written> {
    let mut stream = Stream::open(source, key)?;
    let mut magic = [0; MAGIC.len()];
    let len = stream.read(0, &mut magic)?;
    if magic != *MAGIC {
        return Err(match key {
            LogKey::Keyring(_) if len == magic.len() => another_key(),
            _ => no_log(),
        });
    }
    let mut output = Output::new(out);
    if !follow {
        output.put(MAGIC)?;
    }
    let mut copy = Copy::new(stream, key, output);
    // Of a key that is used all the time, something stays on the stack.
    let copied = scrubbed(|| copy.all());
    copy.flush().and(copied)
}

fn no_log() -> Error {
    Error::new(Kind::Corrupt, "it is no binary or relay log")
        .advise("name the files that the server's .index file lists")
}

fn unknown_header() -> Error {
    Error::new(Kind::Unsupported, "it names its key in a way that is not known here")
}

/// The key has the right name, and is another.
fn another_key() -> Error {
    Error::new(Kind::NotMine, "the keystore's key of that name does not open it: it is another")
        .advise("name the configuration of the keystore that the server had then, with --config")
}

fn unreadable(cause: &std::io::Error) -> Error {
    Error::new(Kind::Io, format!("it cannot be read: {}", io_cause(cause)))
}
