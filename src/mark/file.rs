//! The mark on disk: read with care, replaced in one step.

#![forbid(unsafe_code)]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{MAX_LEN, Mark};
use crate::error::{Error, Kind, Result};
use crate::store::{Disk, Stamp};

/// What the file is called. A regular file without a dot before its name: who empties a data
/// directory with `rm -rf DIR/*` takes it away, too.
pub const MARK_NAME: &str = "keyward.mark";

/// What it is called until it is whole.
const TEMPORARY: &str = "keyward.mark.tmp";

/// Its permissions.
const MODE: u32 = 0o600;

/// The mark of one data directory, there or not yet.
pub struct MarkFile {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
}

/// What was found in its place.
pub enum Read {
    /// Nothing.
    None,
    /// A mark.
    Mark(Mark),
    /// Something that is not heeded, and why. `Unsupported` where a newer keyward wrote it.
    Unusable(Error),
}

impl MarkFile {
    /// The mark in `folder`.
    #[must_use]
    pub fn of(folder: &Path, disk: Arc<dyn Disk>) -> Self {
        Self { folder: folder.to_owned(), disk }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join(MARK_NAME)
    }

    /// Reads it. It is a file of the data directory's owner, and so is whoever could have changed it:
    /// what it says is weighed against the data, never believed alone.
    #[must_use]
    pub fn read(&self) -> Read {
        let path = self.path();
        let unusable = |error: Error| Read::Unusable(error);
        match self.disk.read(&path, MAX_LEN) {
            Err(none) if none.kind() == io::ErrorKind::NotFound => Read::None,
            Err(cause) => unusable(Error::io("cannot read", &path, &cause)),
            Ok((bytes, stamp)) => {
                let read = self.check(&path, &stamp).and_then(|()| {
                    Mark::parse(&bytes).map_err(|error| error.within(path.display()))
                });
                read.map_or_else(unusable, Read::Mark)
            }
        }
    }

    /// Puts `mark` in its place. When this returns, it is on disk.
    pub fn write(&self, mark: &Mark) -> Result<()> {
        let (path, temporary) = (self.path(), self.folder.join(TEMPORARY));
        let bytes = mark.to_bytes()?;
        let write = || {
            let folder = self.disk.stamp(&self.folder)?;
            match self.disk.remove(&temporary) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
                _ => {}
            }
            let mut file = self.disk.create(&temporary, MODE, (folder.owner, folder.group))?;
            file.write_all(&bytes)?;
            file.sync()?;
            drop(file);
            self.disk.rename(&temporary, &path)?;
            self.disk.sync_folder(&self.folder)
        };
        write().map_err(|cause| Error::io("cannot write", &path, &cause))
    }

    fn check(&self, path: &Path, stamp: &Stamp) -> Result<()> {
        let user = self.disk.user();
        let what = if stamp.mode & 0o022 != 0 {
            "can be written by others than its owner".to_owned()
        } else if stamp.owner != 0 && stamp.owner != user && user != 0 {
            format!("belongs to user {}", stamp.owner)
        } else {
            return Ok(());
        };
        Err(Error::new(Kind::Config, format!("{} {what}", path.display())))
    }
}
