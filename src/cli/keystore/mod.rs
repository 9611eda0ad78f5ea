//! `keyward keystore`: the keystore as a whole.

#![forbid(unsafe_code)]

mod accept_rollback;
mod approvers;
mod backup;
mod backups;
mod digest;
mod drill;
mod due;
mod fork;
mod identity;
mod opener;
mod restore;
mod rewrap;
mod served;

use std::path::Path;

use clap::Subcommand;

use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::outlet::Outlet;
use crate::cli::helpers::print::Printer;
use crate::cli::helpers::privilege::Account;
use crate::error::Result;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Change how the keystore itself is wrapped; no page is touched
    Rewrap(rewrap::Options),
    /// Write all keys to one encrypted file, which opens without keyward
    Backup(backup::Options),
    /// Backups of the data whose key versions are to stay: add, list, remove
    #[command(subcommand)]
    Backups(backups::Command),
    /// Make the keystore again from such a file
    Restore(restore::Options),
    /// Try a backup: open it, compare it with the keystore, read data files with its keys; nothing is changed
    Drill(drill::Options),
    /// Make a keystore of its own of a copy, for a clone of a server that goes its own way
    Fork(fork::Options),
    /// Go on with an older copy of the keystore, though the newer one is lost
    AcceptRollback(accept_rollback::Options),
    /// Show who approves what shows or removes keys, or have others approve
    Approvers(approvers::Options),
}

impl Command {
    /// What root does itself; nothing where the server's `account` does all of it.
    pub(super) fn run_as(&self, account: &Account, config: &Path) -> Option<Result<Exit>> {
        match self {
            Self::Backup(options) => options.run_as(account, config),
            _ => None,
        }
    }

    /// Where its output goes if that is no text.
    pub(super) fn outlet(&self) -> Result<Option<Outlet>> {
        match self {
            Self::Backup(options) => options.outlet(),
            _ => Ok(None),
        }
    }
}

pub(super) fn run(config: &Path, command: &Command, printer: &Printer) -> Result<Exit> {
    match command {
        Command::Rewrap(options) => rewrap::run(config, options, printer),
        Command::Backup(options) if options.due => due::run(config, printer),
        Command::Backup(options) => backup::run(config, options, printer),
        Command::Backups(command) => backups::run(config, command, printer),
        Command::Restore(options) => match served::restore(config, options, printer)? {
            Some(ended) => Ok(ended),
            None => restore::run(config, options, printer),
        },
        Command::Drill(options) => match served::drill(config, options, printer)? {
            Some(ended) => Ok(ended),
            None => drill::run(config, options, printer),
        },
        Command::Fork(options) => fork::run(config, options, printer),
        Command::AcceptRollback(options) => accept_rollback::run(config, options, printer),
        Command::Approvers(options) => approvers::run(config, options, printer),
    }
}
