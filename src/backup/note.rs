//! What became of the last scheduled backup: a small file next to the keystore, `backups.json`, locked by
//! whoever makes one. It holds nothing that could not be found out again: where it is lost, the next call
//! makes one backup more.

#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::env::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::store::Revision;
use crate::trust;

/// The longest file, in bytes.
const MAX_LEN: u64 = 1 << 16;

/// What is noted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The newest backup.
    pub last: Option<Made>,
    /// Why there is no newer one, or why it was not taken elsewhere.
    pub failure: Option<Failure>,
}

/// A backup that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The file.
    pub file: PathBuf,
    /// The keystore's id.
    pub keystore: String,
    /// What that was.
    pub revision: Revision,
    /// When.
    pub made: Timestamp,
    /// Whether the hook has taken it elsewhere, or there was none.
    pub handed_on: bool,
}

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Since when.
    pub since: Timestamp,
    /// What.
    pub what: String,
}

impl Note {
    /// What is noted next to `keystore`; nothing where there is no note, or none that can be read.
    #[must_use]
    pub fn beside(keystore: &Path) -> Self {
        open(&path(keystore)).and_then(|file| read(&file)).unwrap_or_default()
    }

    /// Notes that `what` goes wrong at `now`; says whether that is news.
    pub fn fail(&mut self, what: String, now: Timestamp) -> bool {
        let before = self.failure.take();
        let is_news = before.as_ref().is_none_or(|before| before.what != what);
        let since = before.map_or(now, |before| before.since);
        self.failure = Some(Failure { since, what });
        is_news
    }
}

/// The note, locked: nobody else makes a scheduled backup meanwhile.
pub struct NoteLock {
    file: File,
    path: PathBuf,
}

impl NoteLock {
    /// Locks the note next to `keystore`; none while another process has it.
    pub fn take(keystore: &Path) -> Result<Option<(Self, Note)>> {
        let path = path(keystore);
        match trust::create(&path, 0o600) {
            Err(cause) if cause.kind() != ErrorKind::AlreadyExists => {
                return Err(Error::io("cannot make", &path, &cause));
            }
            _ => {}
        }
        let file = open(&path).map_err(|cause| Error::io("cannot open", &path, &cause))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(cause)) => return Err(Error::io("cannot lock", &path, &cause)),
        }
        // One that was written in part is none.
        let note = read(&file).unwrap_or_default();
        Ok(Some((Self { file, path }, note)))
    }

    /// Writes `note`.
    pub fn write(&self, note: &Note) -> Result<()> {
        let mut text = serde_json::to_vec(note)
            .map_err(|_| Error::new(Kind::Internal, "the note of backups cannot be written"))?;
        text.push(b'\n');
        let written = self.file.write_all_at(&text, 0);
        let written = written.and_then(|()| self.file.set_len(text.len() as u64));
        written
            .and_then(|()| self.file.sync_data())
            .map_err(|cause| Error::io("cannot write", &self.path, &cause))
    }
}

fn path(keystore: &Path) -> PathBuf {
    keystore.with_file_name("backups.json")
}

fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

fn read(file: &File) -> io::Result<Note> {
    let mut text = Vec::new();
    file.take(MAX_LEN).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn one_at_a_time_writes_it_and_a_torn_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let keystore = folder.path().join("keystore.json");
        let (lock, mut note) = NoteLock::take(&keystore).unwrap().unwrap();
        assert_eq!(note, Note::default());
        assert!(NoteLock::take(&keystore).unwrap().is_none(), "two at once");
        let [first, second] = [5, 9].map(Timestamp::from_unix);
        assert!(note.fail("a long sentence that goes".to_owned(), first));
        lock.write(&note).unwrap();
        assert!(note.fail("full".to_owned(), second) && !note.fail("full".to_owned(), second));
        assert_eq!(note.failure.as_ref().unwrap().since, first);
        lock.write(&note).unwrap();
        drop(lock);
        assert_eq!(Note::beside(&keystore), note);
        let path = folder.path().join("backups.json");
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert_eq!(NoteLock::take(&keystore).unwrap().unwrap().1, Note::default());
    }
}
