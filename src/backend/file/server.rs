//! Serves the keys of a file.

#![forbid(unsafe_code)]

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::encrypted::{self, Derivation};
use super::failure::FileError;
use super::keyfile::{self, Dialect, Edition, Entry};
use super::resembling::resembling;
use super::settings::{Digest, Password, Settings};
use super::{MAX_FILE_LEN, MAX_PASSWORD_LEN};
use crate::env::Deadline;
use crate::error::{Error, Kind, Result};
use crate::key::{Cipher, KeyInfo, KeyName, KeyRef, KeyState, PageMode};
use crate::provider::{KeyServer, Probe};
use crate::secret::source::{SecretSource, without_line_end};
use crate::secret::{DataKey, SecretBytes, read_file};

/// How much of a password's file is read: a password and the line ends behind it.
const MAX_PASSWORD_FILE_LEN: usize = 4096;

/// The rounds of `openssl enc -pbkdf2` where it is given no `-iter`.
const OPENSSLS_ROUNDS: u32 = 10_000;

/// Who reads named pipes, each of them once.
const READS_PIPES: Dialect = Dialect::Original(Edition::V11_8);

/// How much is read of a pipe at first: what it holds at a time.
const PIPE_LEN: usize = 64 * 1024;

/// A key file. It is read again whenever it has changed, unless it or its password came out of a pipe.
pub struct FileServer {
    settings: Settings,
    /// The bytes of the key file that were read last.
    bytes_read: AtomicUsize,
    pub(super) snapshot: Mutex<Option<Snapshot>>,
}

/// The keys of the file as it was at one time.
pub(super) struct Snapshot {
    /// None of what came out of a pipe: it is there no more.
    stamp: Option<Stamp>,
    pub(super) entries: Vec<Entry>,
    /// What `list` answers, made once so that asking every second costs one `stat`.
    infos: Vec<KeyInfo>,
}

/// What changes when a file is written, replaced or given to somebody else.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileServer {
    /// The server of one key file. Nothing is read yet.
    pub fn new(settings: Settings) -> Result<Self> {
        if settings.path.as_os_str().is_empty() {
            return Err(FileError::Unset.of(&settings.path, settings.dialect));
        }
        Ok(Self { settings, bytes_read: AtomicUsize::new(0), snapshot: Mutex::new(None) })
    }

    /// Reads the key file, unless its keys are known.
    pub fn read(&self, by: Deadline) -> Result<()> {
        self.current(by).map(drop)
    }

    /// How many bytes of the key file were read last; 0 before.
    pub fn bytes_read(&self) -> usize {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// The keys as they are in the file now: read again only if its stamp has changed.
    fn current(&self, by: Deadline) -> Result<MutexGuard<'_, Option<Snapshot>>> {
        let path = &self.settings.path;
        by.left(format_args!("key file {}", path.display()))?;
        let mut snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        if snapshot.as_ref().is_some_and(|old| old.stamp.is_none()) {
            return Ok(snapshot);
        }
        let stamp = self.stamp()?;
        if snapshot.as_ref().is_none_or(|old| old.stamp != stamp) {
            let entries = self.load()?;
            if stamp.is_some() && self.stamp()? != stamp {
                return Err(self.failed(FileError::Changed));
            }
            let infos = infos_of(&entries, self.settings.mode);
            *snapshot = Some(Snapshot { stamp, entries, infos });
        }
        Ok(snapshot)
    }

    fn load(&self) -> Result<Vec<Entry>> {
        let file = self.read_key_file()?;
        let file = file.expose();
        self.bytes_read.store(file.len(), Ordering::Relaxed);
        let read;
        let password = match &self.settings.password {
            None => None,
            Some(Password::Given(password)) => Some(password.expose()),
            Some(Password::From(source)) => {
                read = self.read_password(source)?;
                Some(self.password_in(read.expose(), source)?)
            }
        };
        match (encrypted::is_encrypted(file), password) {
            (false, None) => self.parse(file),
            (false, Some(_)) => {
                let resembles = resembling(file).filter(|_| self.is_ours());
                Err(self.failed(resembles.map_or(FileError::NotEncrypted, FileError::Resembles)))
            }
            // The original tries an empty password, with which some have encrypted their file.
            (true, None) if self.settings.dialect == Dialect::Keyward => {
                Err(self.failed(FileError::NoPassword))
            }
            (true, _) if !encrypted::is_whole(file) => Err(self.failed(FileError::CutShort)),
            (true, password) => self.decrypt_and_parse(file, password.unwrap_or_default()),
        }
    }

    fn decrypt_and_parse(&self, file: &[u8], password: &[u8]) -> Result<Vec<Entry>> {
        let wrong = || match self.other_derivation(file, password) {
            Some(other) => self.failed(FileError::OtherDerivation(other)),
            None => self.failed(FileError::WrongPassword),
        };
        let text = encrypted::decrypt(file, password, self.derivation())?.ok_or_else(wrong)?;
        self.parse(text.expose()).map_err(|error| {
            // The padding alone is no proof. A key file with a flaw is still text; what a wrong
            // password makes of one is not.
            let is_text = std::str::from_utf8(text.expose()).is_ok();
            if is_text { error } else { wrong() }
        })
    }

    /// How the password opens `file`, where not as the configuration says: openssl's own digest is another
    /// than the original's.
    fn other_derivation(&self, file: &[u8], password: &[u8]) -> Option<Derivation> {
        let rounds = [0, OPENSSLS_ROUNDS, self.settings.pbkdf2_iterations];
        let all = rounds.into_iter().flat_map(|pbkdf2_iterations| {
            Digest::ALL.map(|digest| Derivation { digest, pbkdf2_iterations })
        });
        let opens = |how: &Derivation| {
            let text = encrypted::decrypt(file, password, *how).ok().flatten();
            text.is_some_and(|text| keyfile::parse(text.expose(), Dialect::Keyward).is_ok())
        };
        all.filter(|_| self.is_ours()).find(opens)
    }

    fn parse(&self, text: &[u8]) -> Result<Vec<Entry>> {
        let Settings { path, dialect, .. } = &self.settings;
        keyfile::parse(text, *dialect).map_err(|flaw| match resembling(text) {
            Some(resembling) if self.is_ours() => self.failed(FileError::Resembles(resembling)),
            _ => flaw.of(path, *dialect),
        })
    }

    /// Whether errors have our words: the original's are known by heart.
    fn is_ours(&self) -> bool {
        self.settings.dialect == Dialect::Keyward
    }

    fn read_key_file(&self) -> Result<SecretBytes> {
        if self.settings.strict_permissions {
            return read_file(&self.settings.path, MAX_FILE_LEN);
        }
        let read = read_any_file(&self.settings.path, MAX_FILE_LEN, self.settings.dialect);
        read.map_err(|failure| self.failed(failure))
    }

    fn read_password(&self, source: &SecretSource) -> Result<SecretBytes> {
        match source {
            SecretSource::File(path) if !self.settings.strict_permissions => {
                let dialect = self.settings.dialect;
                read_any_file(path, MAX_PASSWORD_FILE_LEN, dialect).map_err(|failure| {
                    let failure = match failure {
                        FileError::TooLong => FileError::PasswordTooLong,
                        FileError::Read(cause) => FileError::ReadPassword(cause),
                        other => other,
                    };
                    failure.of(path, dialect)
                })
            }
            _ => source.read(MAX_PASSWORD_FILE_LEN),
        }
    }

    /// The password within what was read. The original takes all of a file but its last line
    /// ends, up to a NUL; we refuse what `openssl enc -pass file:` would read otherwise.
    fn password_in<'a>(&self, read: &'a [u8], source: &SecretSource) -> Result<&'a [u8]> {
        let dialect = self.settings.dialect;
        let failed = |failure: FileError| failure.of(Path::new(&source.to_string()), dialect);
        if read.is_empty() {
            return Err(failed(FileError::EmptyPassword));
        }
        let password = match dialect {
            Dialect::Keyward => without_line_end(read),
            Dialect::Original(_) => without_line_end(&read[..read.len().min(MAX_PASSWORD_LEN + 1)]),
        };
        if password.len() > MAX_PASSWORD_LEN {
            return Err(failed(FileError::PasswordTooLong));
        }
        match dialect {
            Dialect::Original(_) => {
                Ok(password.split(|byte| *byte == 0).next().unwrap_or_default())
            }
            Dialect::Keyward if password.is_empty() => Err(failed(FileError::EmptyPassword)),
            Dialect::Keyward if password.iter().any(|byte| b"\0\r\n".contains(byte)) => {
                Err(failed(FileError::SeveralLines))
            }
            Dialect::Keyward => Ok(password),
        }
    }

    fn derivation(&self) -> Derivation {
        let Settings { digest, pbkdf2_iterations, .. } = self.settings;
        Derivation { digest, pbkdf2_iterations }
    }

    fn stamp(&self) -> Result<Option<Stamp>> {
        let Settings { path, password, dialect, .. } = &self.settings;
        let meta = std::fs::metadata(path).map_err(|cause| self.failed(FileError::Open(cause)))?;
        let from_pipe = match password {
            Some(Password::From(SecretSource::File(path))) => {
                std::fs::metadata(path).is_ok_and(|meta| !meta.is_file())
            }
            _ => false,
        };
        let once = *dialect == READS_PIPES && (from_pipe || !meta.is_file());
        Ok((!once).then(|| Stamp::of(&meta)))
    }

    fn failed(&self, failure: FileError) -> Error {
        failure.of(&self.settings.path, self.settings.dialect)
    }

    fn read_only(&self, doing: &str, key: &KeyRef) -> Error {
        let path = self.settings.path.display();
        Error::new(Kind::Unsupported, format!("cannot {doing} {key}: {path} is kept by hand"))
            .advise("edit it, a new version as a line id;version;key")
    }
}

impl KeyServer for FileServer {
    fn list(&self, by: Deadline) -> Result<Vec<KeyInfo>> {
        Ok(self.current(by)?.as_ref().map_or_else(Vec::new, |snapshot| snapshot.infos.clone()))
    }

    fn fetch(&self, key: &KeyRef, by: Deadline) -> Result<DataKey> {
        let snapshot = self.current(by)?;
        let entries = snapshot.as_ref().map_or(&[][..], |snapshot| &snapshot.entries);
        let found = match key.name {
            KeyName::Id(id) => {
                entries.binary_search_by_key(&(id, key.version), |entry| (entry.id, entry.version))
            }
            KeyName::Named { .. } => Err(0),
        };
        match found.ok().and_then(|at| entries.get(at)) {
            Some(entry) => DataKey::copy_of(entry.data.expose()),
            None => {
                let path = self.settings.path.display();
                Err(Error::new(Kind::NotFound, format!("{path} has no {key}"))
                    .advise("add it to the file, or restore the file from a backup"))
            }
        }
    }

    fn put(&self, key: &KeyRef, _: &DataKey, _: Deadline) -> Result<()> {
        Err(self.read_only("add", key))
    }

    fn remove(&self, key: &KeyRef, _: Deadline) -> Result<()> {
        Err(self.read_only("remove", key))
    }

    fn probe(&self, by: Deadline) -> Result<Probe> {
        let infos = self.list(by)?;
        let keys = infos.iter().filter(|info| info.state == KeyState::Active).count();
        let meta = std::fs::metadata(&self.settings.path)
            .map_err(|cause| self.failed(FileError::Open(cause)))?;
        let encryption = match (&self.settings.password, self.settings.pbkdf2_iterations) {
            (None, _) => "none".to_owned(),
            (Some(_), 0) => format!("aes-256-cbc, {}, one round", self.settings.digest),
            (Some(_), rounds) => {
                format!("aes-256-cbc, pbkdf2-{}, {rounds} rounds", self.settings.digest)
            }
        };
        let facts = [
            ("file", self.settings.path.display().to_string()),
            ("permissions", format!("{:04o}, uid {}", meta.mode() & 0o7777, meta.uid())),
            ("keys", keys.to_string()),
            ("versions", infos.len().to_string()),
            ("encryption", encryption),
        ];
        Ok(Probe { facts: facts.map(|(name, value)| (name.to_owned(), value)).into() })
    }

    fn place(&self) -> String {
        self.settings.path.display().to_string()
    }
}

/// What may be told of `entries`, which stand by id and version.
fn infos_of(entries: &[Entry], mode: PageMode) -> Vec<KeyInfo> {
    let info = |(at, entry): (usize, &Entry)| {
        let newest = entries.get(at + 1).is_none_or(|next| next.id != entry.id);
        KeyInfo {
            key: KeyRef::new(entry.id, entry.version),
            state: if newest { KeyState::Active } else { KeyState::Retired },
            purpose: Cipher { mode, key_len: entry.data.expose().len() }.into(),
            created: None,
            check: Some(entry.data.check_value()),
        }
    };
    entries.iter().enumerate().map(info).collect()
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            len: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// The whole of a file of at most `max_len` bytes, whoever may read it: the original looks at no
/// permissions, and what it loads must load under its name.
fn read_any_file(path: &Path, max_len: usize, dialect: Dialect) -> Result<SecretBytes, FileError> {
    let meta = std::fs::metadata(path).map_err(FileError::Open)?;
    if !meta.is_file() {
        if dialect == READS_PIPES {
            return read_to_end(path, max_len);
        }
        // Opening a pipe would wait for a writer.
        let errno = if meta.is_dir() { libc::EISDIR } else { libc::EINVAL };
        return Err(FileError::Read(io::Error::from_raw_os_error(errno)));
    }
    let mut file = File::open(path).map_err(FileError::Open)?;
    let len = file.metadata().map_err(FileError::Open)?.len();
    let len = usize::try_from(len).ok().filter(|len| *len <= max_len).ok_or(FileError::TooLong)?;
    SecretBytes::build(len, |to| file.read_exact(to)).map_err(|cause| match cause.kind() {
        io::ErrorKind::UnexpectedEof => FileError::Changed,
        _ => FileError::Read(cause),
    })
}

/// At most `max_len` bytes of a pipe, up to the end that its writer makes. Without a writer this waits,
/// as the original does.
fn read_to_end(path: &Path, max_len: usize) -> Result<SecretBytes, FileError> {
    let mut pipe = File::open(path).map_err(FileError::Open)?;
    let mut read = SecretBytes::copy_of(&[]);
    loop {
        let before = read.expose();
        let room = (before.len() * 2).clamp(PIPE_LEN.min(max_len + 1), max_len + 1);
        let mut len = before.len();
        let more = SecretBytes::build(room, |to| {
            to[..len].copy_from_slice(before);
            len = fill(&mut pipe, to, len)?;
            Ok(())
        });
        read = more.map_err(FileError::Read)?;
        if len > max_len {
            return Err(FileError::TooLong);
        }
        if len < room {
            return Ok(SecretBytes::copy_of(&read.expose()[..len]));
        }
    }
}

/// Reads into `to` from `len` on, until it is full or `file` ends; how far it came.
fn fill(file: &mut File, to: &mut [u8], mut len: usize) -> io::Result<usize> {
    while len < to.len() {
        match file.read(&mut to[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(len)
}
