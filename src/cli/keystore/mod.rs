//! `keyward keystore`: the keystore as a whole.

#![forbid(unsafe_code)]

mod accept_rollback;
mod rewrap;

use std::path::Path;

use clap::Subcommand;

use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::print::Printer;
use crate::error::Result;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Change how the keystore itself is wrapped; no page is touched
    Rewrap(rewrap::Options),
    /// Go on with an older copy of the keystore, though the newer one is lost
    AcceptRollback(accept_rollback::Options),
}

pub(super) fn run(config: &Path, command: &Command, printer: &Printer) -> Result<Exit> {
    match command {
        Command::Rewrap(options) => rewrap::run(config, options, printer),
        Command::AcceptRollback(options) => accept_rollback::run(config, options, printer),
    }
}
