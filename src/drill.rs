//! Keys tried on data files: the checksum of every page, and in each file a page of every key version.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use serde::Serialize;

use crate::inspect::{self, Need, Proof, Report, Use};
use crate::key::{KeyName, KeyRef};
use crate::ring::Ring;

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
        if let Some(name) = report.keyring_key() {
            self.keyring_key(&report, name, ring);
        }
    }

    fn need(&mut self, report: &Report, need: &Need, ring: &Ring) {
        let key = KeyRef::new(need.id, need.version);
        let Some(held) = ring.get(need.id, need.version) else {
            return self.fault(report, format!("it needs {key}, which the backup lacks"));
        };
        match inspect::proof(&report.file, need.first, held.key(), held.cipher().mode) {
            Ok(Proof::Opens) => self.opened += 1,
            Ok(Proof::Unclear) => self.unproven += 1,
            Ok(Proof::Wrong) => {
                let page = need.first;
                self.fault(report, format!("the backup's {key} does not open page {page}"));
            }
            Err(cause) => self.fault(report, cause.to_string()),
        }
    }

    fn keyring_key(&mut self, report: &Report, name: KeyName, ring: &Ring) {
        match (ring.named().get(&name), &report.master_key) {
            (None, _) => self.fault(report, format!("it needs {name}, which the backup lacks")),
            (Some(_), None) => self.unproven += 1,
            (Some(key), Some(master)) if master.opens_with(key.data()) => self.opened += 1,
            (Some(_), Some(_)) => {
                self.fault(report, format!("the backup's {name} does not open it"));
            }
        }
    }

    fn fault(&mut self, report: &Report, what: String) {
        self.faults.push(Fault { file: report.file.clone(), what });
    }
}
