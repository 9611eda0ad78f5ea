//! What a power cut would leave of a folder: a model of a disk that keeps only what was synced.
//!
//! A killed process leaves everything it wrote in the system's cache, so killing alone never shows
//! a missing sync. The model takes the system calls that were carried out and drops what was not
//! synced: first the unsynced contents, then the names that came after the folder's last sync as well.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use test_kit::files::copy;
use test_kit::strace::Call;
use test_kit::{Result, files};

/// A file, whatever its name is by now.
#[derive(Clone, Copy, Debug)]
struct File {
    length: u64,
    /// How much of it was synced; none where all of it was.
    synced: Option<u64>,
}

/// A folder's files, by name.
type Names = BTreeMap<PathBuf, usize>;

/// A folder on a disk.
#[derive(Debug, Default)]
struct Disk {
    files: Vec<File>,
    /// The files as they were before, by name.
    first: Names,
    /// As the system shows them.
    now: Names,
    /// As they were when the folder was last synced.
    safe: Names,
}

/// The states in which a power cut after `calls` may leave `folder`, which was `before` and is
/// `now`; written below `to`.
pub fn cut(calls: &[Call], before: &Path, folder: &Path, to: &Path) -> Result<Vec<PathBuf>> {
    let disk = Disk::after(calls, folder, before);
    let contents_lost = to.join("contents-lost");
    copy(folder, &contents_lost)?;
    disk.truncate(&disk.now, &contents_lost)?;
    let mut states = vec![contents_lost];
    if disk.now != disk.safe && disk.has_what_is_safe() {
        let names_lost = to.join("names-lost");
        copy(before, &names_lost)?;
        disk.put_safe_names(before, folder, &names_lost)?;
        disk.truncate(&disk.safe, &names_lost)?;
        states.push(names_lost);
    }
    Ok(states)
}

impl Disk {
    fn after(calls: &[Call], folder: &Path, before: &Path) -> Self {
        let mut disk = Self::default();
        for path in files::list(before).into_iter().filter(|path| path.is_file()) {
            let length = fs::metadata(&path).map_or(0, |data| data.len());
            let name = folder.join(path.file_name().unwrap_or_default());
            disk.add(name, length);
        }
        disk.first = disk.now.clone();
        disk.safe = disk.now.clone();
        for call in calls.iter().filter(|call| call.done()) {
            disk.follow(call, folder);
        }
        disk
    }

    fn add(&mut self, name: PathBuf, length: u64) {
        self.now.insert(name, self.files.len());
        self.files.push(File { length, synced: None });
    }

    fn file(&mut self, name: &Path) -> Option<&mut File> {
        self.now.get(name).and_then(|&id| self.files.get_mut(id))
    }

    fn follow(&mut self, call: &Call, folder: &Path) {
        let inside = |path: &PathBuf| path.parent() == Some(folder);
        match call.name.as_str() {
            "openat" | "open" if call.text.contains("O_CREAT") => {
                if let Some(path) = call.quoted().into_iter().find(inside)
                    && !self.now.contains_key(&path)
                {
                    self.add(path, 0);
                }
            }
            "write" | "pwrite64" | "writev" => {
                if let Some(file) = call.descriptor().and_then(|path| self.file(&path)) {
                    file.synced = file.synced.or(Some(file.length));
                    file.length += call.returned();
                }
            }
            "fsync" | "fdatasync" => match call.descriptor() {
                Some(path) if path == folder => self.safe = self.now.clone(),
                Some(path) => {
                    if let Some(file) = self.file(&path) {
                        file.synced = None;
                    }
                }
                None => {}
            },
            "rename" | "renameat" | "renameat2" => {
                if let [from, to] = &call.quoted()[..] {
                    match (self.now.remove(from), inside(to)) {
                        (Some(id), true) => drop(self.now.insert(to.clone(), id)),
                        (None, true) => self.add(to.clone(), 0),
                        (_, false) => {}
                    }
                }
            }
            "link" | "linkat" => {
                if let [from, to] = &call.quoted()[..]
                    && inside(to)
                {
                    match self.now.get(from).copied() {
                        Some(id) => drop(self.now.insert(to.clone(), id)),
                        None => self.add(to.clone(), 0),
                    }
                }
            }
            "unlink" | "unlinkat" => {
                for path in call.quoted() {
                    self.now.remove(&path);
                }
            }
            _ => {}
        }
    }

    /// Whether each file with a safe name can still be read. One that was made and replaced since then cannot: that
    /// state was there before the call that replaced it, for a kill before that one.
    fn has_what_is_safe(&self) -> bool {
        self.safe.values().all(|&id| named(&self.now, id).or(named(&self.first, id)).is_some())
    }

    /// Makes `copy`, which is as `before` was, have the names that are safe, each for its file as that is now.
    fn put_safe_names(&self, before: &Path, folder: &Path, copy: &Path) -> Result<()> {
        for name in self.first.keys().filter(|name| !self.safe.contains_key(*name)) {
            fs::remove_file(within(name, folder, copy))?;
        }
        for (name, id) in &self.safe {
            // A file that has no name any more is as it was: nobody writes into it.
            let first = || named(&self.first, *id).map(|name| within(name, folder, before));
            let now = named(&self.now, *id).cloned();
            let source = now.or_else(first).ok_or("a file that came and went")?;
            let place = within(name, folder, copy);
            fs::copy(&source, &place)?;
            let owner = fs::metadata(&source)?;
            chown(&place, Some(owner.uid()), Some(owner.gid()))?;
        }
        Ok(())
    }

    /// Cuts the files of `copy`, which have these `names`, back to what was synced of them.
    fn truncate(&self, names: &Names, copy: &Path) -> Result<()> {
        for (name, &id) in names {
            let file = copy.join(name.file_name().unwrap_or_default());
            if let Some(synced) = self.files.get(id).and_then(|file| file.synced)
                && file.exists()
            {
                fs::OpenOptions::new().write(true).open(&file)?.set_len(synced)?;
            }
        }
        Ok(())
    }
}

/// A name of the file `id`.
fn named(names: &Names, id: usize) -> Option<&PathBuf> {
    names.iter().find(|(_, other)| **other == id).map(|(name, _)| name)
}

/// The place in `other` of a file of `folder`.
fn within(name: &Path, folder: &Path, other: &Path) -> PathBuf {
    other.join(name.strip_prefix(folder).unwrap_or(name))
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

    /// A file that was closed under another name, and a new one begun in its place.
    #[test]
    fn a_name_that_is_safe_keeps_its_file() -> Result<()> {
        let scratch = Scratch::new("power")?;
        let (before, folder) = (scratch.path().join("before"), scratch.path().join("now"));
        for (folder, name, text) in [
            (&before, "trail", "old"),
            (&folder, "trail.1", "old and appended"),
            (&folder, "trail", "new"),
        ] {
            fs::create_dir_all(folder)?;
            files::write(&folder.join(name), text)?;
        }
        let at = folder.display();
        let calls = [
            call("write", &format!("write(3<{at}/trail>, \" and appended\", 13) = 13")),
            call("fsync", &format!("fsync(3<{at}/trail>) = 0")),
            call("rename", &format!("rename(\"{at}/trail\", \"{at}/trail.1\") = 0")),
            call("fsync", &format!("fsync(4<{at}>) = 0")),
            call("openat", &format!("openat(AT_FDCWD</>, \"{at}/trail\", O_WRONLY|O_CREAT) = 5")),
            call("write", &format!("write(5<{at}/trail>, \"new\", 3) = 3")),
        ];
        let states = cut(&calls, &before, &folder, scratch.path())?;
        let texts = |name: &str| -> Vec<_> {
            states.iter().map(|state| files::text(&state.join(name)).ok()).collect()
        };
        let closed = Some("old and appended".to_owned());
        assert_eq!(texts("trail.1"), [closed.clone(), closed]);
        assert_eq!(texts("trail"), [Some(String::new()), None]);
        Ok(())
    }
}
