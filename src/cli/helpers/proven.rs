//! What the keystore has of the keys that files need, and whether it is these very keys.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::cli::helpers::confine;
use crate::custodian::Custodian;
use crate::inspect::{self, Need, Proof, Report};
use crate::key::{KeyName, KeyState};

/// What stands for the state of a version that is not the key of the page.
pub(in crate::cli) const WRONG: &str = "wrong key";
/// What stands for the state of a version that the keystore does not have.
pub(in crate::cli) const MISSING: &str = "missing";

/// What the keystore has of versions, and its keys for MySQL.
pub(in crate::cli) struct Keys<'a> {
    states: BTreeMap<(u32, u32), KeyState>,
    custodian: &'a Custodian,
}

/// What comes of a key of MySQL's keyring and the file's own key that it is to unwrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) enum Unwraps {
    /// It unwraps, and the checksum is right.
    Opens,
    /// The keystore has a key of that name; the file has no checksum to prove it by.
    Held,
    /// What it unwraps has another checksum: the keystore has another key of that name.
    WrongKey,
    /// The keystore has no key of that name.
    Missing,
}

impl<'a> Keys<'a> {
    /// Those that `custodian` has opened.
    pub(in crate::cli) fn of(custodian: &'a Custodian) -> Self {
        let states = custodian.keys().into_iter().filter_map(|info| match info.key.name {
            KeyName::Id(id) => Some(((id.get(), info.key.version.get()), info.state)),
            KeyName::Named { .. } => None,
        });
        Self { states: states.collect(), custodian }
    }

    /// Whether a file shows that its key is another one than the keystore's: the version that `need` names, or
    /// the master key of MySQL's where it names none.
    pub(in crate::cli) fn is_another(&self, report: &Report, need: Option<&Need>) -> bool {
        match need {
            Some(need) => self.is_wrong(&report.file, need),
            None => matches!(self.opens(report), Some(Unwraps::WrongKey)),
        }
    }

    /// The state of the version that `need` names in `file`, or that it is not the key of that page.
    pub(in crate::cli) fn state(&self, file: &Path, need: &Need) -> String {
        match self.states.get(&(need.id.get(), need.version.get())) {
            None => MISSING.to_owned(),
            Some(_) if self.is_wrong(file, need) => WRONG.to_owned(),
            Some(state) => state.to_string(),
        }
    }

    /// Whether the first page that carries the version shows that another key encrypted it.
    fn is_wrong(&self, file: &Path, need: &Need) -> bool {
        let Some(key) = self.custodian.ring().get(need.id, need.version) else { return false };
        let prove = || inspect::proof(file, need.first, key.key(), key.cipher().mode);
        matches!(confine::reading(prove), Ok(Ok(Proof::Wrong)))
    }

    /// What comes of the key of MySQL's keyring that the file needs, if it needs one.
    pub(in crate::cli) fn opens(&self, report: &Report) -> Option<Unwraps> {
        let name = report.keyring_key()?;
        Some(match (self.custodian.named(&name), &report.master_key) {
            (Ok(Some(_)), None) => Unwraps::Held,
            (Ok(Some(key)), Some(master)) if master.opens_with(key.data()) => Unwraps::Opens,
            (Ok(Some(_)), Some(_)) => Unwraps::WrongKey,
            // The keystore opened a moment ago, and all its keys are in memory.
            (Ok(None) | Err(_), _) => Unwraps::Missing,
        })
    }
}
