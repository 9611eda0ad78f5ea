//! What the data files say of the keys that were opened: read from headers, within a time.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::format::Difference;
use crate::inspect::{self, Encrypted, Proof, Space, Use};
use crate::key::{KeyId, KeyName, KeyRef, KeyVersion};
use crate::ring::Ring;
use crate::trust;

/// How long the first pages of all tablespaces may take.
const HEADS: Duration = Duration::from_secs(10);

/// How many pages after its first each tablespace is asked to show an encrypted one in.
const FIRST_PAGES: u64 = 3;

/// How many of their first pages the tablespaces show that a server cannot start without.
const FIRST_PAGES_AT_EACH_START: u64 = 64;

/// How often the clock is looked at, in pages.
const LOOK: u64 = 256;

/// No longer Aria file is read, in bytes: those of the server itself are much shorter.
const MAX_ARIA: u64 = 64 << 20;

/// What a file has that speaks against the keys that were opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as seen from the data directory.
    pub file: PathBuf,
    /// The version that it was encrypted with.
    pub key: KeyRef,
    /// What is wrong with ours.
    pub why: Difference,
}

/// What was found in a data directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// A file that the keys that were opened do not read.
    pub against: Option<Place>,
    /// A file that they do not read, though they read others of the same version: a stranger.
    pub stray: Option<Place>,
    /// How many tablespaces were proven to open.
    pub opens: usize,
    /// Whether all that there is was looked at.
    pub complete: bool,
}

/// Looks at the files in `folder`: first at the first pages of every tablespace, then, for `depth`,
/// at every page's header. `gone` are the versions that we have destroyed ourselves.
#[must_use]
pub fn examine(
    folder: &Path,
    ring: &Ring,
    gone: &dyn Fn(&KeyRef) -> bool,
    depth: Duration,
) -> Findings {
    let (files, failed) = data_files(folder);
    let mut look = Look::new(folder, ring, gone);
    let mut findings = Findings { complete: !failed, ..Findings::default() };
    let mut spaces = Vec::new();
    let since = Instant::now();
    for file in &files {
        if since.elapsed() > HEADS {
            findings.complete = false;
            break;
        }
        match look.head(file) {
            Ok(Some(space)) => spaces.push((file, space)),
            Ok(None) => {}
            Err(_) => findings.complete = false,
        }
    }
    if look.verdict().is_none() {
        findings.complete &= look.all_pages(&spaces, &files, Instant::now() + depth);
    }
    findings.opens = look.right.len();
    findings.against = look.verdict();
    findings.stray = look.wrong.into_values().next().filter(|_| findings.against.is_none());
    findings
}

/// Looks at the first pages of the tablespaces that the server cannot start without, whatever its mark
/// says: a few pages, so that every start can afford it.
#[must_use]
pub(super) fn examine_system(
    folder: &Path,
    ring: &Ring,
    gone: &dyn Fn(&KeyRef) -> bool,
) -> Option<Place> {
    let mut look = Look::new(folder, ring, gone);
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    for file in files.filter(|file| is_system(file)) {
        // The server itself reports a file that it cannot read.
        if let Ok(Some(space)) = look.head(&file) {
            let _ = look.pages_of(&file, &space, FIRST_PAGES_AT_EACH_START, None);
        }
    }
    look.verdict()
}

/// Whether `file` is one of InnoDB's system tablespaces: of tables, of rows before a change, or MySQL's
/// dictionary.
fn is_system(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name == "mysql.ibd" || ["ibdata", "undo"].iter().any(|begins| name.starts_with(begins))
}

/// The first tablespace in `folder` that needs a key, whichever.
#[must_use]
pub fn is_encrypted(folder: &Path) -> Option<PathBuf> {
    let (files, _) = data_files(folder);
    let since = Instant::now();
    let encrypted = |file: &&PathBuf| {
        let needs = |file: &Path| -> io::Result<bool> {
            let source = trust::open_untrusted(file)?;
            match Encrypted::open(&source)? {
                None => Ok(false),
                Some(Encrypted::Master(_)) => Ok(true),
                Some(Encrypted::Pages(space)) => Ok(first_version(&space, &source)?.is_some()),
            }
        };
        since.elapsed() < HEADS && needs(file).unwrap_or(false)
    };
    let found = files.iter().find(encrypted)?;
    Some(found.strip_prefix(folder).unwrap_or(found).to_owned())
}

/// The files where a server of this folder has its tables, and whether some could not be listed. What
/// lies deeper is none of its own: a backup, say. What it makes again at each start needs no key, and
/// doublewrite files have pages of others, perhaps under a key of before.
fn data_files(folder: &Path) -> (Vec<PathBuf>, bool) {
    let (mut files, failed) = inspect::walk(&[folder.to_owned()]);
    let is_deep =
        |file: &Path| file.strip_prefix(folder).is_ok_and(|within| within.components().count() > 2);
    files.retain(|file| !is_deep(file) && !inspect::is_plain_by_name(file));
    (files, !failed.is_empty())
}

/// What is known so far.
struct Look<'a> {
    folder: &'a Path,
    ring: &'a Ring,
    gone: &'a dyn Fn(&KeyRef) -> bool,
    /// Versions that opened a page.
    right: BTreeSet<KeyRef>,
    /// Versions that did not open a page of theirs.
    wrong: BTreeMap<KeyRef, Place>,
    /// A file that needs a version that is not there.
    missing: Option<Place>,
}

impl<'a> Look<'a> {
    fn new(folder: &'a Path, ring: &'a Ring, gone: &'a dyn Fn(&KeyRef) -> bool) -> Self {
        Self { folder, ring, gone, right: BTreeSet::new(), wrong: BTreeMap::new(), missing: None }
    }

    /// What speaks against the keys: a version that is not there, or one that opens nothing.
    fn verdict(&self) -> Option<Place> {
        let other = self.wrong.iter().find(|(key, _)| !self.right.contains(*key));
        self.missing.clone().or_else(|| other.map(|(_, place)| place.clone()))
    }

    /// Looks at the first pages of `file`; the tablespace whose other pages are still to be seen.
    fn head(&mut self, file: &Path) -> io::Result<Option<Space>> {
        if file.file_name().is_some_and(|name| name == "ib_logfile0") {
            self.needs(file);
            return Ok(None);
        }
        let source = trust::open_untrusted(file)?;
        match Encrypted::open(&source)? {
            None => Ok(None),
            Some(Encrypted::Master(master)) => {
                let name = KeyName::named(master.name(), "");
                let held = self.ring.named().get(&name).cloned();
                let version = held.as_ref().map_or(KeyVersion::FIRST, |held| held.version());
                let proof = held.map(|held| match master.opens_with(held.data()) {
                    true => Proof::Opens,
                    false => Proof::Wrong,
                });
                self.note(file, KeyRef::new(name, version), proof);
                Ok(None)
            }
            Some(Encrypted::Pages(space)) => {
                if let Some((page, version)) = first_version(&space, &source)? {
                    self.page(file, &space, &source, page, version)?;
                }
                Ok(Some(space))
            }
        }
    }

    /// Notes what the page `number`, which carries `version`, says.
    fn page(
        &mut self,
        file: &Path,
        space: &Space,
        source: &File,
        number: u64,
        version: u32,
    ) -> io::Result<()> {
        let (Some(id), Some(version)) = (KeyId::new(space.key_id()), KeyVersion::new(version))
        else {
            return Ok(());
        };
        let key = KeyRef::new(id, version);
        match self.ring.get(id, version) {
            Some(held) => {
                let proof = space.proof(source, number, held.key(), held.cipher().mode)?;
                self.note(file, key, Some(proof));
            }
            None if space.needs(source, number, version.get())? => self.note(file, key, None),
            None => {}
        }
        Ok(())
    }

    /// Notes what became of `key` in `file`; `None` where it is not there.
    fn note(&mut self, file: &Path, key: KeyRef, proof: Option<Proof>) {
        let place = |why| Place {
            file: file.strip_prefix(self.folder).unwrap_or(file).to_owned(),
            key: key.clone(),
            why,
        };
        match proof {
            Some(Proof::Opens) => {
                self.right.insert(key);
            }
            Some(Proof::Wrong) => {
                let place = place(Difference::Other);
                self.wrong.entry(key).or_insert(place);
            }
            Some(Proof::Unclear) => {}
            None if (self.gone)(&key) || self.missing.is_some() => {}
            None => self.missing = Some(place(Difference::Missing)),
        }
    }

    /// Notes the versions that a redo log or an Aria table needs and that are not there.
    fn needs(&mut self, file: &Path) {
        for need in inspect::file(file).needs {
            if need.usage == Use::InUse && self.ring.get(need.id, need.version).is_none() {
                self.note(file, KeyRef::new(need.id, need.version), None);
            }
        }
    }

    /// Looks for a version that is not there in all that `head` has not seen; whether the time was
    /// enough.
    fn all_pages(&mut self, spaces: &[(&PathBuf, Space)], files: &[PathBuf], by: Instant) -> bool {
        let is_aria = |file: &&PathBuf| {
            let aria = file.extension().is_some_and(|end| end == "MAI" || end == "MAD");
            aria && file.metadata().is_ok_and(|found| found.len() <= MAX_ARIA)
        };
        for file in files.iter().filter(is_aria) {
            if Instant::now() > by {
                return false;
            }
            self.needs(file);
        }
        let whole = |look: &mut Self| -> io::Result<bool> {
            for (file, space) in spaces {
                if !look.pages_of(file, space, space.pages(), Some(by))? {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        whole(self).unwrap_or(false)
    }

    /// Looks for a version that is not there in the first `pages` of a tablespace; whether the time was
    /// enough.
    fn pages_of(
        &mut self,
        file: &Path,
        space: &Space,
        pages: u64,
        by: Option<Instant>,
    ) -> io::Result<bool> {
        let is_over = || by.is_some_and(|by| Instant::now() > by);
        let source = trust::open_untrusted(file)?;
        for number in 1..pages.min(space.pages()) {
            if self.missing.is_some() {
                return Ok(true);
            }
            if number.is_multiple_of(LOOK) && is_over() {
                return Ok(false);
            }
            let Some(version) = space.version(&source, number)? else { continue };
            let id = KeyId::new(space.key_id()).zip(KeyVersion::new(version));
            if id.is_some_and(|(id, version)| self.ring.get(id, version).is_none()) {
                self.page(file, space, &source, number, version)?;
            }
        }
        Ok(!is_over())
    }
}

/// The first encrypted page near the beginning of a tablespace, and its version.
fn first_version(space: &Space, source: &File) -> io::Result<Option<(u64, u32)>> {
    for number in 1..=FIRST_PAGES.min(space.pages().saturating_sub(1)) {
        if let Some(version) = space.version(source, number)? {
            return Ok(Some((number, version)));
        }
    }
    Ok(None)
}
