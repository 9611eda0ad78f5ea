//! What a power cut would leave of a folder: a model of a disk that keeps only what was synced.
//!
//! A killed process leaves everything it wrote in the system's cache, so killing alone never shows
//! a missing sync. The model takes the system calls that were carried out and drops what was not
//! synced: first the unsynced contents, then the unsynced names as well.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use test_kit::files::copy;
use test_kit::strace::Call;
use test_kit::{Result, files};

/// What is not safe yet when the power fails.
#[derive(Debug, Default)]
struct Unsynced {
    /// Files with unsynced content, and how much of it was synced.
    contents: BTreeMap<PathBuf, u64>,
    /// Whether a file was made, renamed or removed in the folder since it was last synced.
    names: bool,
}

/// The states in which a power cut after `calls` may leave `folder`, which was `before` and is
/// `now`; written below `to`.
pub fn cut(calls: &[Call], before: &Path, folder: &Path, to: &Path) -> Result<Vec<PathBuf>> {
    let unsynced = Unsynced::after(calls, folder, before);
    let contents_lost = to.join("contents-lost");
    copy(folder, &contents_lost)?;
    unsynced.truncate(folder, &contents_lost)?;
    let mut states = vec![contents_lost];
    if unsynced.names {
        let names_lost = to.join("names-lost");
        copy(before, &names_lost)?;
        // What stood under a name that is safe keeps what was synced since.
        for path in files::list(&names_lost) {
            let name = path.file_name().unwrap_or_default();
            let is = folder.join(name);
            if same_file(&before.join(name), &is)? {
                fs::copy(&is, &path)?;
            }
        }
        unsynced.truncate(folder, &names_lost)?;
        states.push(names_lost);
    }
    Ok(states)
}

/// Whether `now` was only appended to since it was `before`, not replaced by another file.
fn same_file(before: &Path, now: &Path) -> Result<bool> {
    Ok(now.exists() && files::read(now)?.starts_with(&files::read(before)?))
}

impl Unsynced {
    fn after(calls: &[Call], folder: &Path, before: &Path) -> Self {
        let mut state = Self::default();
        let mut lengths: BTreeMap<PathBuf, u64> = BTreeMap::new();
        for path in files::list(before) {
            let length = fs::metadata(&path).map_or(0, |data| data.len());
            lengths.insert(folder.join(path.file_name().unwrap_or_default()), length);
        }
        for call in calls.iter().filter(|call| call.done()) {
            state.follow(call, folder, &mut lengths);
        }
        state
    }

    fn follow(&mut self, call: &Call, folder: &Path, lengths: &mut BTreeMap<PathBuf, u64>) {
        let inside = |path: &PathBuf| path.parent() == Some(folder);
        match call.name.as_str() {
            "openat" | "open" if call.text.contains("O_CREAT") => {
                if let Some(path) = call.quoted().into_iter().find(inside)
                    && !lengths.contains_key(&path)
                {
                    lengths.insert(path, 0);
                    self.names = true;
                }
            }
            "write" | "pwrite64" | "writev" => {
                if let Some(path) = call.descriptor().filter(inside) {
                    let length = lengths.entry(path.clone()).or_default();
                    self.contents.entry(path).or_insert(*length);
                    *length += call.returned();
                }
            }
            "fsync" | "fdatasync" => match call.descriptor() {
                Some(path) if path == folder => self.names = false,
                Some(path) => drop(self.contents.remove(&path)),
                None => {}
            },
            "rename" | "renameat" | "renameat2" => {
                if let [from, to] = &call.quoted()[..]
                    && inside(to)
                {
                    self.names = true;
                    let length = lengths.remove(from).unwrap_or(0);
                    lengths.insert(to.clone(), length);
                    self.contents.remove(to);
                    if let Some(synced) = self.contents.remove(from) {
                        self.contents.insert(to.clone(), synced);
                    }
                }
            }
            "link" | "linkat" => {
                if let [from, to] = &call.quoted()[..]
                    && inside(to)
                {
                    self.names = true;
                    let length = lengths.get(from).copied().unwrap_or(0);
                    lengths.insert(to.clone(), length);
                }
            }
            "unlink" | "unlinkat" => {
                for path in call.quoted().iter().filter(|path| inside(path)) {
                    self.names = true;
                    self.contents.remove(path);
                    lengths.remove(path);
                }
            }
            _ => {}
        }
    }

    /// Cuts the files of `copy` back to what was synced of those in `folder`.
    fn truncate(&self, folder: &Path, copy: &Path) -> Result<()> {
        for (path, synced) in &self.contents {
            let file = copy.join(path.strip_prefix(folder).unwrap_or(path));
            if file.exists() {
                fs::OpenOptions::new().write(true).open(&file)?.set_len(*synced)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_kit::Scratch;

    fn call(name: &str, text: &str) -> Call {
        Call { name: name.into(), nth: 1, text: text.into() }
    }

    /// A folder in which `store` was replaced by way of `tmp`, and the calls that did it.
    fn replaced(scratch: &Scratch) -> Result<(PathBuf, PathBuf, Vec<Call>)> {
        let (before, folder) = (scratch.path().join("before"), scratch.path().join("now"));
        for (folder, text) in [(&before, "old"), (&folder, "newer")] {
            fs::create_dir(folder)?;
            files::write(&folder.join("store"), text)?;
        }
        let at = folder.display();
        let calls = vec![
            call(
                "openat",
                &format!("openat(AT_FDCWD</>, \"{at}/tmp\", O_WRONLY|O_CREAT, 0600) = 3"),
            ),
            call("write", &format!("write(3<{at}/tmp>, \"newer\", 5) = 5")),
            call("fsync", &format!("fsync(3<{at}/tmp>) = 0")),
            call("rename", &format!("rename(\"{at}/tmp\", \"{at}/store\") = 0")),
            call("fsync", &format!("fsync(4<{at}>) = 0")),
        ];
        Ok((before, folder, calls))
    }

    fn outcomes(skip: &[usize]) -> Result<Vec<String>> {
        let scratch = Scratch::new("power")?;
        let (before, folder, mut calls) = replaced(&scratch)?;
        for at in skip {
            calls.remove(*at);
        }
        let states = cut(&calls, &before, &folder, scratch.path())?;
        states.iter().map(|state| files::text(&state.join("store"))).collect()
    }

    #[test]
    fn all_synced_is_all_kept() -> Result<()> {
        assert_eq!(outcomes(&[])?, ["newer"]);
        Ok(())
    }

    #[test]
    fn a_folder_that_was_not_synced_may_show_the_old_file() -> Result<()> {
        assert_eq!(outcomes(&[4])?, ["newer", "old"]);
        Ok(())
    }

    #[test]
    fn a_file_that_was_not_synced_before_its_rename_may_be_empty() -> Result<()> {
        assert_eq!(outcomes(&[2])?, [""]);
        Ok(())
    }
}
