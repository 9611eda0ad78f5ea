//! `keyward provider`: the key stores that the configuration names.

#![forbid(unsafe_code)]

mod list;
mod test;

use std::path::Path;

use clap::Subcommand;

use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::print::Printer;
use crate::error::Result;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Show the configured providers, and which of them wrap the keystore; nobody is asked
    #[command(after_help = list::EXAMPLES)]
    List,
    /// Try a provider, or each: it wraps and unwraps a random key, or lists the keys that it serves
    #[command(after_help = test::EXAMPLES)]
    Test(test::Options),
}

pub(super) fn run(config: &Path, command: &Command, printer: &Printer) -> Result<Exit> {
    match command {
        Command::List => list::run(config, printer),
        Command::Test(options) => test::run(config, options, printer),
    }
}
