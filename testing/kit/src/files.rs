//! Looking into files: what is in a folder, whether a text is in a file, whether anything changed.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::command::answer;

/// The entries of `folder`, sorted; none where it cannot be read.
#[must_use]
pub fn list(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries
}

/// Every file under `folder`, at any depth, sorted.
#[must_use]
pub fn all(folder: &Path) -> Vec<PathBuf> {
    let (folders, mut files): (Vec<_>, Vec<_>) =
        list(folder).into_iter().partition(|path| path.is_dir() && !path.is_symlink());
    files.extend(folders.iter().flat_map(|folder| all(folder)));
    files.sort();
    files
}

/// Reads a file whole; the error names it.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Reads a text; bytes that are none are replaced.
pub fn text(path: &Path) -> Result<String> {
    read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes a file; the error names it.
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, content).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Sets the permission bits of `path`.
pub fn chmod(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Copies a folder with owners and modes.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    answer(Command::new("cp").arg("--archive").arg(from).arg(to))?.ok().map(drop)
}

/// How often `needle` stands in `haystack`.
#[must_use]
pub fn count(haystack: &[u8], needle: &[u8]) -> usize {
    let Some(&first) = needle.first() else { return 0 };
    let mut found = 0;
    let mut at = 0;
    while let Some(step) = haystack[at..].iter().position(|&byte| byte == first) {
        at += step;
        found += usize::from(haystack[at..].starts_with(needle));
        at += 1;
    }
    found
}

/// The files among `files` that hold `needle` in the clear.
pub fn holding(files: &[PathBuf], needle: &str) -> Result<Vec<PathBuf>> {
    let mut holding = Vec::new();
    for file in files {
        if count(&read(file)?, needle.as_bytes()) > 0 {
            holding.push(file.clone());
        }
    }
    Ok(holding)
}

/// What a folder held at one time, to be compared: content, owner, mode and i-number of each file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<PathBuf, (u64, u64, u32, u32)>);

impl Snapshot {
    /// Of everything under `folder`.
    pub fn of(folder: &Path) -> Result<Self> {
        let mut seen = BTreeMap::new();
        for path in all(folder) {
            let data = fs::symlink_metadata(&path)?;
            let mut hash = DefaultHasher::new();
            if data.is_file() {
                hash.write(&read(&path)?);
            }
            seen.insert(path, (hash.finish(), data.ino(), data.uid(), data.mode()));
        }
        Ok(Self(seen))
    }
}
