//! The folder `approvals` next to the keystore: requests that wait, and signatures under them.
//!
//! Nothing in it is believed: a request has the seal of its keystore, a signature is an approver's.

#![forbid(unsafe_code)]

use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::{PublicKey, Request, Sealed};
use crate::error::{Error, Kind, Result};
use crate::trust;

/// The longest signature, in bytes: one by RSA, which is refused in words, has some 6,000.
pub const MAX_SIGNATURE: u64 = 1 << 14;

/// How many files are looked at.
const MAX_FILES: usize = 10_000;
/// A request that waits.
const REQUEST: &str = "request";
/// One that was carried out, kept with its signatures for whoever asks later.
const DONE: &str = "done";
const SIGNATURE: &str = "sig";

/// The folder of one keystore.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder of the keystore at `keystore`; neither need exist.
    #[must_use]
    pub fn beside(keystore: &Path) -> Self {
        Self { path: keystore.with_file_name("approvals") }
    }

    /// Where the request called `id` is.
    #[must_use]
    pub fn request(&self, id: &str) -> PathBuf {
        self.path.join(format!("{id}.{REQUEST}"))
    }

    /// The ids of the requests that wait, sorted.
    pub fn ids(&self) -> Result<Vec<String>> {
        let name = |path: &PathBuf| Some(path.file_stem()?.to_str()?.to_owned());
        let of_requests = |path: &PathBuf| path.extension().is_some_and(|is| is == REQUEST);
        let mut ids: Vec<_> =
            self.files()?.iter().filter(|path| of_requests(path)).filter_map(name).collect();
        ids.sort();
        Ok(ids)
    }

    /// The request called `id`, whoever wrote it.
    pub fn read(&self, id: &str) -> Result<Sealed> {
        let path = self.request(id);
        let bytes = trust::read_untrusted(&path, Request::MAX_LEN);
        let bytes = bytes.map_err(|refused| refused.of("cannot read", &path))?;
        Sealed::parse(&bytes).map_err(|error| error.within(path.display()))
    }

    /// Writes a new request; where it is.
    pub fn write(&self, sealed: &Sealed) -> Result<PathBuf> {
        let path = self.request(&sealed.request.id.to_string());
        self.make(&path, sealed.text.as_bytes()).map(|()| path)
    }

    /// The texts of the signatures under the request called `id`.
    pub fn signatures(&self, id: &str) -> Result<Vec<Vec<u8>>> {
        let beginning = format!("{id}.");
        let is_one = |path: &&PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(&beginning) && path.extension().is_some_and(|is| is == SIGNATURE)
        };
        let files = self.files()?;
        // What cannot be read counts for nothing.
        let read = |path: &PathBuf| trust::read_untrusted(path, MAX_SIGNATURE).ok();
        Ok(files.iter().filter(is_one).filter_map(read).collect())
    }

    /// Puts the signature of `approver` under the request called `id`, in place of any other there.
    pub fn add(&self, id: &str, approver: &PublicKey, signature: &[u8]) -> Result<()> {
        let path = self.path.join(format!("{id}.{}.{SIGNATURE}", approver.short()));
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("cannot replace", &path, &cause))
            }
            _ => self.make(&path, signature),
        }
    }

    /// Notes that the request called `id` was carried out.
    pub fn done(&self, id: &str) -> Result<()> {
        let (from, to) = (self.request(id), self.path.join(format!("{id}.{DONE}")));
        fs::rename(&from, to).map_err(|cause| Error::io("cannot rename", &from, &cause))
    }

    /// Removes the request called `id`, which is void, and the signatures under it.
    pub fn remove(&self, id: &str) -> Result<()> {
        let beginning = format!("{id}.");
        for path in self.files()? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with(&beginning) {
                fs::remove_file(&path)
                    .map_err(|cause| Error::io("cannot remove", &path, &cause))?;
            }
        }
        Ok(())
    }

    fn files(&self) -> Result<Vec<PathBuf>> {
        let failed = |cause: &io::Error| Error::io("cannot list", &self.path, cause);
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(cause) => return Err(failed(&cause)),
        };
        let files = entries.take(MAX_FILES).map(|entry| entry.map(|entry| entry.path()));
        let files: Vec<_> = files.collect::<io::Result<_>>().map_err(|cause| failed(&cause))?;
        match files.len() < MAX_FILES {
            true => Ok(files),
            false => Err(Error::new(Kind::State, format!("{} is full", self.path.display()))
                .advise("move older requests and their signatures elsewhere")),
        }
    }

    fn make(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let written = || {
            match DirBuilder::new().mode(0o700).create(&self.path) {
                Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => return Err(cause),
                _ => {}
            }
            let mut file = trust::create(path, 0o600)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        written().map_err(|cause| Error::io("cannot write", path, &cause))
    }
}
