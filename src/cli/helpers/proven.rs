//! What the keystore has of the keys that files need, and whether it is these very keys.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;

use crate::cli::helpers::confine;
use crate::custodian::Custodian;
use crate::drill::{self, Unwraps};
use crate::inspect::{Need, Proof, Report};
use crate::key::{KeyName, KeyState};
use crate::report::{MISSING, WRONG};

/// The versions in the keystore, and its keys for MySQL.
pub(in crate::cli) struct Keys<'a> {
    states: BTreeMap<(u32, u32), KeyState>,
    custodian: &'a Custodian,
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
        let prove = || drill::proof(file, need, self.custodian.ring());
        matches!(confine::reading(prove), Ok(Ok(Some(Proof::Wrong))))
    }

    /// The state of the key of MySQL's keyring that the file needs, if it needs one.
    pub(in crate::cli) fn opens(&self, report: &Report) -> Option<Unwraps> {
        // A server that runs may have made it since the keystore was opened: then it is in memory after this.
        drop(self.custodian.named(&report.keyring_key()?));
        drill::unwraps(report, self.custodian.ring())
    }
}
