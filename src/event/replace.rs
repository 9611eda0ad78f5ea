//! A small file next to the trail, replaced in one step.

#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use crate::env::Timestamp;
use crate::error::{Error, Result};
use crate::trust;

/// Puts `bytes` at `path`. When this returns, they are on disk, and dated `at` where that is given.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32, at: Option<Timestamp>) -> Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    let replace = || {
        // What a crash left.
        match fs::remove_file(new) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
        let mut file = trust::create(new, mode)?;
        file.write_all(bytes)?;
        if let Some(at) = at {
            file.set_modified(UNIX_EPOCH + Duration::from_secs(at.as_unix()))?;
        }
        file.sync_all()?;
        fs::rename(new, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    };
    replace().map_err(|cause| Error::io("cannot write", path, &cause))
}
