//! `keyward keys retire` and `keyward keys compromise`: a version's state, changed by hand.

#![forbid(unsafe_code)]

use std::path::Path;

use crate::cli::helpers::arguments::{parse_id, parse_version};
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::open;
use crate::cli::helpers::outcome::outcome;
use crate::cli::helpers::print::{Printer, plain_lines};
use crate::cli::helpers::privilege;
use crate::error::Result;
use crate::key::{KeyId, KeyRef, KeyVersion};
use crate::manager::StateChange;
use crate::source::Reason;

/// Which version, and why.
#[derive(clap::Args)]
pub(in crate::cli) struct Options {
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

pub(super) fn compromise(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
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
