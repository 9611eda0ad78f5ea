//! `keyward audit`: the trail of what was done to keys, by whom and why.

#![forbid(unsafe_code)]

mod checkpoint;
mod export;
mod filter;
mod show;
mod verify;

use std::path::Path;

use clap::Subcommand;

use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::print::Printer;
use crate::error::Result;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Show lines of the audit trail
    Show(show::Options),
    /// Check the audit trail: its chain, and the line that the keystore knows
    Verify(verify::Options),
    /// Sign how far the audit trail has come, for a copy elsewhere
    Checkpoint(checkpoint::Options),
    /// Write lines of the audit trail for another program
    Export(export::Options),
}

pub(super) fn run(config: &Path, command: &Command, printer: &Printer) -> Result<Exit> {
    match command {
        Command::Show(options) => show::run(config, options, printer),
        Command::Verify(options) => verify::run(config, options, printer),
        Command::Checkpoint(options) => checkpoint::run(config, options, printer),
        Command::Export(options) => export::run(config, options, printer),
    }
}
