//! The audit trail: one JSON object a line, each chained to the one before by its hash. Each commit notes
//! the newest line in the keystore, so that an edit, a gap, a reordering or a cut shows up to there.
//!
//! Written only under the keystore's lock, by whoever changes it: the server or the command.

#![forbid(unsafe_code)]

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::RangeInclusive;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::env::{Clock, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::hex::Hex;
use crate::key::KeyRef;
use crate::trust;

/// How much of the trail's end is read first to find its last line, in bytes. A line that names many
/// keys is longer.
const TAIL: u64 = 1 << 16;
/// The longest trail, in bytes.
const MAX_LEN: u64 = 1 << 30;
/// The way out where the trail cannot be gone on with.
const ASIDE: &str = "move the file aside; a new trail begins by itself";
/// What the first line is chained to.
pub(super) const GENESIS: Hex<32> = Hex([0; 32]);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A keystore was made.
    KeystoreCreated,
    /// A change is about to be committed. Without its own line after this one it was not, unless that
    /// line could not be written: the keystore's generation tells.
    Intended,
    /// A key was made.
    KeyCreated,
    /// A key has a new version that encrypts.
    Rotated,
    /// The store key is wrapped by one provider more.
    WrappingAdded,
    /// A provider wrapped the store key again, with its wrapping key's newest version.
    Rewrapped,
    /// The store key is no longer wrapped by a provider.
    WrappingRemoved,
    /// A new store key wraps all data keys.
    StoreKeyRotated,
    /// A key has a new version that is pending.
    Prepared,
    /// A pending version encrypts from now on.
    Activated,
    /// A version encrypts no more.
    Retired,
    /// Somebody else may know a version.
    Compromised,
    /// A version is to be kept for a time.
    Retained,
    /// The last rotation was taken back.
    RotationUndone,
    /// Keys of another key store came in.
    Imported,
    /// Keys are about to be taken to another key store.
    Exported,
    /// All keys are about to be written to an encrypted backup.
    BackedUp,
    /// A scheduled backup was not made, or not taken elsewhere.
    BackupFailed,
    /// The recipients of backups were changed.
    BackupRecipientsChanged,
    /// The keystore was made again from a backup.
    Restored,
    /// A copy of a keystore became one of its own.
    Forked,
    /// A backup was tried: opened, compared with the keystore, made again in memory.
    Drilled,
    /// Binary or relay logs are about to be decrypted.
    BinaryLogRead,
    /// An older copy of the keystore is to be the one in force.
    RollbackAccepted,
    /// The keys in a server's memory were written into a new keystore.
    Rescued,
    /// A version is to be destroyed once its waiting time has passed.
    DestructionPlanned,
    /// A version is not to be destroyed after all.
    DestructionCancelled,
    /// The key of a version is gone; a tombstone stays.
    Destroyed,
    /// A server that uses the keystore was entered in its register, or seen again.
    DataDirectoryRegistered,
    /// A data directory was taken out of the register, because it no longer exists.
    DataDirectoryGone,
    /// A backup of the data was entered in the register: the versions that it needs stay.
    DataBackupRegistered,
    /// A backup of the data was taken out of the register.
    DataBackupGone,
    /// Other people, or another number of them, are to approve from now on.
    ApproversChanged,
    /// Somebody wants what needs approvals.
    ApprovalRequested,
    /// An approver's signature under a request was taken in.
    ApprovalGiven,
    /// A request was approved by as many as are needed, and is about to be carried out.
    Approved,
    /// A checkpoint of the trail, which is the reason's text, was signed by itself.
    Checkpointed,
    /// A server has been running for a minute.
    ServerStarted,
    /// A server runs with another version of the library than before.
    LibraryUpgraded,
    /// A server's configuration is another one than before.
    ConfigurationChanged,
    /// A server has used versions that it had not used before.
    FirstUsed,
    /// A key store cannot be reached.
    ProviderDown,
    /// A key store refuses what it is asked.
    ProviderDenied,
    /// A key store that was away or refused does again what it is asked.
    ProviderUp,
    /// A server found that the trail is not whole.
    TrailDamaged,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// One line of the trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// 1 for the first line, one more for each.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: Event,
    /// To which key versions.
    pub keys: Vec<KeyRef>,
    /// Which generation of the keystore this is about.
    pub generation: u64,
    /// Who: `root on db1`, `mariadbd`.
    pub actor: String,
    /// Why, in the actor's words.
    pub reason: String,
    /// SHA-256 of the line before, in hex.
    pub previous: String,
}

/// Event fields supplied by the caller; the trail adds number, time and chain.
pub struct Record<'a> {
    /// What happened.
    pub event: Event,
    /// To which key versions.
    pub keys: &'a [KeyRef],
    /// Which generation of the keystore this is about.
    pub generation: u64,
    /// Who did it.
    pub actor: &'a str,
    /// Why.
    pub reason: &'a str,
}

/// A line of the trail by its number, and its SHA-256, which fixes it and all lines before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Head {
    /// The line's number.
    pub line: u64,
    /// Its hash.
    pub hash: Hex<32>,
}

/// What appending came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The new line.
    pub head: Head,
    /// The lines that are known, and no longer in the file.
    pub gone: Option<RangeInclusive<u64>>,
}

/// The trail beside a keystore.
pub struct Trail {
    pub(super) path: PathBuf,
}

impl Trail {
    /// The trail of the keystore at `keystore`: `audit.jsonl` in the same folder.
    #[must_use]
    pub fn beside(keystore: &Path) -> Self {
        Self { path: keystore.with_file_name("audit.jsonl") }
    }

    /// Appends one line and waits until it is on disk.
    pub fn append(&self, clock: &dyn Clock, record: &Record<'_>) -> Result<()> {
        self.append_after(None, clock, record).map(drop)
    }

    /// The same where the line `known` was there before: if the file does not reach it any more, the new
    /// line is chained to it, and its number follows.
    pub fn append_after(
        &self,
        known: Option<Head>,
        clock: &dyn Clock,
        record: &Record<'_>,
    ) -> Result<Appended> {
        let mut file = self.open()?;
        let (next, previous) = match self.last_line(&mut file)? {
            Some(text) => (self.number_after(&text)?, digest(&text)),
            None => (1, GENESIS),
        };
        let lost = known.filter(|known| known.line >= next);
        let (number, previous) = match lost {
            Some(lost) => (lost.line.checked_add(1).ok_or_else(|| self.broken())?, lost.hash),
            None => (next, previous),
        };
        let line = Line {
            number,
            at: clock.now(),
            event: record.event,
            keys: record.keys.to_vec(),
            generation: record.generation,
            actor: record.actor.to_owned(),
            reason: record.reason.to_owned(),
            previous: previous.to_string(),
        };
        let mut text = serde_json::to_string(&line)
            .map_err(|e| Error::new(Kind::Internal, format!("cannot write an audit line: {e}")))?;
        let head = Head { line: number, hash: digest(&text) };
        text.push('\n');
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_data())
            .map_err(|e| Error::io("cannot append to the audit trail", &self.path, &e))?;
        Ok(Appended { head, gone: lost.map(|lost| next..=lost.line) })
    }

    /// The number of the last whole line; 0 where there is none. The file stays as it is.
    pub fn last_number(&self) -> Result<u64> {
        let Some(mut file) = self.reader()? else { return Ok(0) };
        match self.find_last_line(&mut file)?.0 {
            Some(text) => Ok(self.number_after(&text)?.saturating_sub(1)),
            None => Ok(0),
        }
    }

    /// Its length in bytes; 0 where there is no trail.
    pub fn size(&self) -> Result<u64> {
        match self.path.symlink_metadata() {
            Ok(found) => Ok(found.len()),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(cause) => Err(self.failed("cannot look at", &cause)),
        }
    }

    /// Its file, to be read; none where there is no trail.
    pub fn reader(&self) -> Result<Option<File>> {
        if self.is_missing() {
            return Ok(None);
        }
        self.checked(OpenOptions::new().read(true)).map(Some)
    }

    /// Every line that can be read, and whether something is wrong with the others or with the chain:
    /// for who must know what happened though somebody changed the trail.
    pub fn salvage(&self) -> Result<(Vec<Line>, bool)> {
        if self.is_missing() {
            return Ok((Vec::new(), true));
        }
        let mut bytes = Vec::new();
        self.checked(OpenOptions::new().read(true))?
            .take(MAX_LEN)
            .read_to_end(&mut bytes)
            .map_err(|e| self.failed("cannot read the audit trail", &e))?;
        let text = String::from_utf8_lossy(&bytes);
        let readable = |line| serde_json::from_str(line).ok();
        let lines = text.split_terminator('\n').filter_map(readable).collect();
        Ok((lines, self.read().is_err()))
    }

    /// Reads the whole trail and checks its chain.
    pub fn read(&self) -> Result<Vec<Line>> {
        if self.is_missing() {
            return Ok(Vec::new());
        }
        let mut text = String::new();
        let file = self.checked(OpenOptions::new().read(true))?;
        file.take(MAX_LEN + 1)
            .read_to_string(&mut text)
            .map_err(|e| self.failed("cannot read the audit trail", &e))?;
        let mut lines = Vec::new();
        let mut previous = GENESIS;
        // By the line end alone: a return before it was not there when the line was written.
        for (n, text) in text.split_terminator('\n').enumerate() {
            let line = self.parse(text)?;
            if line.previous != previous.to_string() || line.number != n as u64 + 1 {
                let place = format!("{}:{}", self.path.display(), n + 1);
                return Err(Error::new(
                    Kind::Corrupt,
                    format!(
                        "{place}: the chain breaks here: this line or the one before was changed"
                    ),
                ));
            }
            previous = digest(text);
            lines.push(line);
        }
        Ok(lines)
    }

    pub(super) fn is_missing(&self) -> bool {
        self.path.symlink_metadata().is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
    }

    /// The trail, made where there is none.
    fn open(&self) -> Result<File> {
        // Where there is one, its mode stays.
        let made = trust::create(&self.path, 0o600);
        if made.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::AlreadyExists) {
            made.map_err(|e| self.failed("cannot open the audit trail", &e))?;
        }
        self.checked(OpenOptions::new().read(true).append(true))
    }

    /// The file that is there: no link, which could lead anywhere, and a regular one. A device has
    /// no end, and a pipe waits for one.
    pub(super) fn checked(&self, options: &mut OpenOptions) -> Result<File> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = options.custom_flags(flags).open(&self.path);
        let file = file.map_err(|e| self.failed("cannot open the audit trail", &e))?;
        let found = file.metadata().map_err(|e| self.failed("cannot look at", &e))?;
        let (owner, user) = (found.uid(), trust::account());
        let what = match () {
            () if !found.is_file() => "is not a regular file".to_owned(),
            () if found.len() > MAX_LEN => format!("has more than {MAX_LEN} bytes"),
            () if owner != 0 && owner != user => format!("belongs to user {owner}"),
            () if trust::others_write(&file, found.mode(), found.gid()) => {
                "can be written by others".to_owned()
            }
            () => return Ok(file),
        };
        let what = format!("the audit trail {} {what}", self.path.display());
        Err(Error::new(Kind::Config, what).advise(ASIDE))
    }

    pub(super) fn failed(&self, doing: &str, cause: &io::Error) -> Error {
        if matches!(cause.raw_os_error(), Some(libc::ELOOP)) {
            let what = format!("the audit trail {} is a symbolic link", self.path.display());
            return Error::new(Kind::Config, what).advise(ASIDE);
        }
        Error::io(doing, &self.path, cause)
    }

    /// The last whole line; what a crash left of an unfinished one is cut off.
    fn last_line(&self, file: &mut File) -> Result<Option<String>> {
        let (text, end) = self.find_last_line(file)?;
        let len = file.metadata().map_err(|e| self.failed("cannot look at", &e))?.len();
        if end < len {
            file.set_len(end).map_err(|e| self.failed("cannot read the audit trail", &e))?;
        }
        Ok(text)
    }

    /// The last whole line, and where it ends.
    fn find_last_line(&self, file: &mut File) -> Result<(Option<String>, u64)> {
        let failed = |e: std::io::Error| Error::io("cannot read the audit trail", &self.path, &e);
        let end = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let mut len = TAIL;
        loop {
            let start = end.saturating_sub(len);
            file.seek(SeekFrom::Start(start)).map_err(failed)?;
            let mut tail = Vec::new();
            file.read_to_end(&mut tail).map_err(failed)?;
            let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |n| n + 1);
            let lines = &tail[..whole.saturating_sub(1)];
            let before = lines.iter().rposition(|byte| *byte == b'\n');
            if before.is_none() && start > 0 {
                len = len.saturating_mul(2);
                continue;
            }
            let end = start + whole as u64;
            return match std::str::from_utf8(&lines[before.map_or(0, |n| n + 1)..]) {
                Ok("") => Ok((None, end)),
                Ok(text) => Ok((Some(text.to_owned()), end)),
                Err(_) => Err(self.broken()),
            };
        }
    }

    /// The number that comes after a line, whatever else that holds: a server that was not restarted
    /// yet must still rotate after a newer command wrote of an event that it does not know.
    fn number_after(&self, text: &str) -> Result<u64> {
        #[derive(Deserialize)]
        struct Numbered {
            number: u64,
        }
        let line: Numbered = serde_json::from_str(text).map_err(|_| self.broken())?;
        line.number.checked_add(1).ok_or_else(|| self.broken())
    }

    fn parse(&self, text: &str) -> Result<Line> {
        serde_json::from_str(text).map_err(|_| self.broken())
    }

    fn broken(&self) -> Error {
        let what = format!("{}: a line is not one of ours", self.path.display());
        Error::new(Kind::Corrupt, what).advise(ASIDE)
    }
}

pub(super) fn digest(line: impl AsRef<[u8]>) -> Hex<32> {
    Hex(Sha256::digest(line.as_ref()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::fake::FakeClock;
    use crate::key::{KeyId, KeyVersion};

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
            let text = std::fs::read_to_string(&trail.path).unwrap();
            std::fs::write(&trail.path, spoil(&text)).unwrap();
            assert_eq!(trail.read().unwrap_err().kind(), Kind::Corrupt);
        }
    }

    #[test]
    fn a_changed_byte_hides_no_other_line() {
        let (_folder, trail) = trail_of(3);
        let text = std::fs::read(&trail.path).unwrap();
        assert_eq!(trail.salvage().unwrap(), (trail.read().unwrap(), false));
        for at in 0..text.len() {
            let mut changed = text.clone();
            changed[at] ^= 1;
            std::fs::write(&trail.path, changed).unwrap();
            let (lines, wrong) = trail.salvage().unwrap();
            // A changed line end spoils the lines on both sides of it; the last line proves nothing.
            assert!(lines.len() >= if text[at] == b'\n' { 1 } else { 2 }, "byte {at}");
            assert!(wrong || lines.len() == 3, "byte {at}");
        }
    }

    #[test]
    fn goes_on_after_a_line_of_a_newer_version() {
        let (_folder, trail) = trail_of(1);
        let mut file = OpenOptions::new().append(true).open(&trail.path).unwrap();
        file.write_all(b"{\"number\":2,\"event\":\"of-tomorrow\",\"more\":true}\n").unwrap();
        let clock = FakeClock::at(Timestamp::from_unix(1_700_000_000));
        let record =
            Record { event: Event::Rotated, keys: &[], generation: 3, actor: "me", reason: "" };
        trail.append(&clock, &record).unwrap();
        let text = std::fs::read_to_string(&trail.path).unwrap();
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
        let mut file = OpenOptions::new().append(true).open(&trail.path).unwrap();
        file.write_all(&vec![b'x'; 3 << 20]).unwrap();
        let record =
            Record { event: Event::Rotated, keys: &[], generation: 3, actor: "me", reason: "" };
        trail.append(&clock, &record).unwrap();
        assert_eq!(trail.read().unwrap().len(), 4);
    }

    #[test]
    fn a_number_that_none_follows_is_no_line_of_ours() {
        let (_folder, trail) = trail_of(1);
        std::fs::write(&trail.path, "{\"number\":18446744073709551615}\n").unwrap();
        let clock = FakeClock::at(Timestamp::from_unix(1_700_000_000));
        let record =
            Record { event: Event::Rotated, keys: &[], generation: 3, actor: "me", reason: "" };
        assert_eq!(trail.append(&clock, &record).unwrap_err().kind(), Kind::Corrupt);
    }

    #[test]
    fn goes_on_after_a_torn_line() {
        let (_folder, trail) = trail_of(2);
        let mut file = OpenOptions::new().append(true).open(&trail.path).unwrap();
        file.write_all(b"{\"number\":3,\"at\"").unwrap();
        let clock = FakeClock::at(Timestamp::from_unix(1_700_000_000));
        let record =
            Record { event: Event::Rotated, keys: &[], generation: 3, actor: "me", reason: "" };
        trail.append(&clock, &record).unwrap();
        assert_eq!(trail.read().unwrap().len(), 3);
    }
}
