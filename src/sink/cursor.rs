//! The position of a sink in the trail: a small file, locked during a delivery, so that only one process
//! delivers a line.

#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::trust;

/// `line offset lost` with leading zeros: the same length for all numbers, so that one write replaces it.
const LEN: usize = 3 * 21;

/// How far it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The number of the last line that was delivered, passed over or given up.
    pub(super) line: u64,
    /// Where the line after it begins, in bytes, as long as the file is the same.
    pub(super) offset: u64,
    /// How many lines were given up in all.
    pub(super) lost: u64,
}

/// The file, locked.
pub(super) struct Cursor {
    file: File,
    path: PathBuf,
}

impl Cursor {
    /// Where a sink has come to; none where it has not begun.
    pub(super) fn look(path: &Path) -> Result<Option<Place>> {
        match open(path) {
            Ok(file) => read(&file).map_err(|e| Error::io("cannot read", path, &e))?.map_or_else(
                || Ok(None),
                |text| parse(&text).map(Some).ok_or_else(|| broken(path)),
            ),
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(Error::io("cannot open", path, &cause)),
        }
    }

    /// Locks it; none while another process delivers. It is made where there is none, and its place is then
    /// none, too.
    pub(super) fn lock(path: &Path) -> Result<Option<(Self, Option<Place>)>> {
        let failed = |cause: &io::Error| Error::io("cannot open", path, cause);
        let made = trust::create(path, 0o600);
        if made.as_ref().is_err_and(|cause| cause.kind() != ErrorKind::AlreadyExists) {
            made.map_err(|cause| failed(&cause))?;
        }
        let file = open(path).map_err(|cause| failed(&cause))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(cause)) => return Err(Error::io("cannot lock", path, &cause)),
        }
        let place = match read(&file).map_err(|e| Error::io("cannot read", path, &e))? {
            None => None,
            Some(text) => Some(parse(&text).ok_or_else(|| broken(path))?),
        };
        Ok(Some((Self { file, path: path.to_owned() }, place)))
    }

    /// Notes `place`.
    pub(super) fn note(&self, place: Place) -> Result<()> {
        let Place { line, offset, lost } = place;
        let text = format!("{line:020} {offset:020} {lost:020}\n");
        self.file
            .write_all_at(text.as_bytes(), 0)
            .and_then(|()| self.file.sync_data())
            .map_err(|e| Error::io("cannot write", &self.path, &e))
    }
}

fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

/// Its text; none where it is empty.
fn read(file: &File) -> io::Result<Option<[u8; LEN]>> {
    if file.metadata()?.len() == 0 {
        return Ok(None);
    }
    let mut text = [0; LEN];
    file.read_exact_at(&mut text, 0)?;
    Ok(Some(text))
}

fn parse(text: &[u8; LEN]) -> Option<Place> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('\n')?;
    let mut numbers = text.split(' ').map(|number| number.parse().ok());
    let mut next = || numbers.next().flatten();
    Some(Place { line: next()?, offset: next()?, lost: next()? })
}

fn broken(path: &Path) -> Error {
    Error::new(Kind::Corrupt, format!("{} is no cursor of ours", path.display()))
        .advise("remove it: the sink goes on with the next line of the trail")
}
