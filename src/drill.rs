//! Keys tried on data files: the checksum of every page, and in each file a page of every key version.

#![forbid(unsafe_code)]

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::inspect::{self, Need, Proof, Report, Use};
use crate::key::KeyRef;
use crate::ring::Ring;

/// The state of a key of MySQL's keyring for the file whose own key it wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unwraps {
    /// It unwraps, and the checksum is right.
    Opens,
    /// There is a key of that name; the file has no checksum to prove it by.
    Held,
    /// The checksum is wrong: there is another key of that name.
    WrongKey,
    /// There is no key of that name.
    Missing,
}

/// How the key of MySQL's keyring that a file needs does, of those in `ring`; none where the file needs none.
#[must_use]
pub fn unwraps(report: &Report, ring: &Ring) -> Option<Unwraps> {
    let name = report.keyring_key()?;
    Some(match (ring.named().get(&name), &report.master_key) {
        (None, _) => Unwraps::Missing,
        (Some(_), None) => Unwraps::Held,
        (Some(key), Some(master)) if master.opens_with(key.data()) => Unwraps::Opens,
        (Some(_), Some(_)) => Unwraps::WrongKey,
    })
}

/// Whether the version that `need` names in `file`, as it is in `ring`, is the key of the first page that
/// carries it; none where there is no such version.
pub fn proof(file: &Path, need: &Need, ring: &Ring) -> io::Result<Option<Proof>> {
    let Some(held) = ring.get(need.id, need.version) else { return Ok(None) };
    inspect::proof(file, need.first, held.key(), held.cipher().mode).map(Some)
}

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Trial {
    /// How many files were read.
    pub files: usize,
    /// How often a key was proven to be that of a file.
    pub opened: usize,
    /// How often the key is there, and the file has nothing to prove it by.
    pub unproven: usize,
    /// What cannot be read.
    pub faults: Vec<Fault>,
}

/// Something that cannot be read.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

impl Trial {
    /// Tries the keys of `ring` on every file at or below `paths`.
    #[must_use]
    pub fn on(paths: &[PathBuf], ring: &Ring) -> Self {
        let (files, failed) = inspect::walk(paths);
        let mut trial = Self::default();
        for report in failed.into_iter().chain(files.iter().map(|file| inspect::file(file))) {
            trial.take(report, ring);
        }
        trial
    }

    fn take(&mut self, mut report: Report, ring: &Ring) {
        self.files += 1;
        // A running server's log, and that of a copy of its files, has no end.
        report.forgive_unclean();
        for why in &report.unknown {
            self.fault(&report, why.clone());
        }
        for need in report.needs.iter().filter(|need| need.usage == Use::InUse) {
            self.need(&report, need, ring);
        }
        self.keyring_key(&report, ring);
    }

    fn need(&mut self, report: &Report, need: &Need, ring: &Ring) {
        let key = KeyRef::new(need.id, need.version);
        match proof(&report.file, need, ring) {
            Ok(None) => self.fault(report, format!("it needs {key}, which the backup lacks")),
            Ok(Some(Proof::Opens)) => self.opened += 1,
            Ok(Some(Proof::Unclear)) => self.unproven += 1,
            Ok(Some(Proof::Wrong)) => {
                let page = need.first;
                self.fault(report, format!("the backup's {key} does not open page {page}"));
            }
            Err(cause) => self.fault(report, cause.to_string()),
        }
    }

    fn keyring_key(&mut self, report: &Report, ring: &Ring) {
        let Some(name) = report.keyring_key() else { return };
        match unwraps(report, ring) {
            Some(Unwraps::Opens) => self.opened += 1,
            Some(Unwraps::WrongKey) => {
                self.fault(report, format!("the backup's {name} does not open it"));
            }
            Some(Unwraps::Missing) => {
                self.fault(report, format!("it needs {name}, which the backup lacks"));
            }
            Some(Unwraps::Held) | None => self.unproven += 1,
        }
    }

    fn fault(&mut self, report: &Report, what: String) {
        self.faults.push(Fault { file: report.file.clone(), what });
    }
}
