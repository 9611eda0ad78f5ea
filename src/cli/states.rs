//! `keyward retire` and `keyward compromised`: a version's state, changed by hand.

use std::path::Path;

use super::keys::{parse_id, parse_version};
use super::print::{Printer, plain_lines};
use super::{Exit, open, privilege};
use crate::custodian::Custodian;
use crate::error::Result;
use crate::key::{KeyId, KeyRef, KeyVersion};
use crate::manager::StateChange;
use crate::source::Reason;

/// Which version, and why.
#[derive(clap::Args)]
pub(super) struct Options {
    /// The key's number
    #[arg(value_name = "ID", value_parser = parse_id)]
    id: KeyId,
    /// Its version
    #[arg(value_name = "VERSION", value_parser = parse_version)]
    version: KeyVersion,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

pub(super) fn retire(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    run(config, options, StateChange::Retire(options.key()), printer)
}

pub(super) fn compromised(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    run(config, options, StateChange::Compromised(options.key()), printer)
}

impl Options {
    fn key(&self) -> KeyRef {
        KeyRef::new(self.id, self.version)
    }
}

fn run(config: &Path, options: &Options, change: StateChange, printer: &Printer) -> Result<Exit> {
    let (_, custodian) = open(config)?;
    let actor = privilege::actor();
    let changed = custodian
        .manager()?
        .change_state(&change, Reason { actor: &actor, text: &options.reason })?;
    let mut text = outcome(&custodian, &changed);
    if let StateChange::Compromised(_) = change {
        text += "data that it encrypted stays readable; re-encrypt it, then destroy the version\n";
    }
    printer.show(&changed, &plain_lines(&text))?;
    Ok(Exit::Success)
}

/// A line for each changed version: what it is now.
pub(super) fn outcome(custodian: &Custodian, changed: &[KeyRef]) -> String {
    let line = |key: &KeyRef| {
        let entry = custodian.entry(&key.name)?;
        let version = entry.version(key.version)?;
        Some(match &version.planned {
            Some(plan) => format!("{key} is {}, {} from {}\n", version.state, plan.state, plan.at),
            None => format!("{key} is {}\n", version.state),
        })
    };
    changed.iter().filter_map(line).collect()
}
