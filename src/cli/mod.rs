//! The command: one file a subcommand, or a folder for a group of them; what several need is in
//! `helpers`.

mod approve;
mod audit;
mod binlog;
mod doctor;
mod help;
mod helpers;
mod init;
mod inspect;
mod keys;
mod keystore;
mod metrics;
mod migrate;
mod provider;
mod report;
mod rotate;
mod status;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::assemble;
use crate::config;
use crate::error::{Code, Error, Kind, Result};
pub use helpers::exit::Exit;
use helpers::outlet::Outlet;
use helpers::print::{Printer, arrived};
use helpers::{keeper, privilege, server};

/// How long a call goes on copying its lines of the audit trail, beyond the one that is under way.
const DELIVERY: Duration = Duration::from_secs(2);

#[derive(Parser)]
#[command(
    name = "keyward",
    version,
    about = "The life of MariaDB's and MySQL's encryption keys",
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong call, 3 done, but pages are left to re-encrypt \
                  (`keyward keys wait` follows) or `doctor` has warnings, 74 not known whether the change was made or will last, or \
                  the output is lost: look before you repeat it, 75 failed for now, or waits for approvals: try again later."
)]
struct Arguments {
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// The account that the server runs as, whose the keystore is; root works as it [default: `user` of
    /// the server's option file, else mysql]
    #[arg(long, global = true, value_name = "NAME")]
    user: Option<String>,
    /// Print JSON, for machines
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a keystore, its wrapping key and a configuration; print the lines for my.cnf
    Init(init::Options),
    /// Check configuration, permissions, key stores, keys and the running server
    Doctor(doctor::Options),
    /// Show how things stand
    Status,
    /// Give a key, or all keys, a new version
    Rotate(rotate::Options),
    /// Show which key versions data files need, read from the files alone
    Inspect(inspect::Options),
    /// Write a report for an auditor: keys, data, key stores and what standards ask for
    Report(report::Options),
    /// Write encrypted binary or relay logs as plain ones, for mariadb-binlog and mysqlbinlog
    Binlog(binlog::Options),
    /// The life of keys: list, show, create, wait, undo, retire, compromise, destroy, erase
    #[command(subcommand)]
    Keys(keys::Command),
    /// The keystore as a whole: rewrap, backup, backups, restore, drill, fork, accept-rollback, approvers
    #[command(subcommand)]
    Keystore(keystore::Command),
    /// The key stores of the configuration: list, test
    #[command(subcommand)]
    Provider(provider::Command),
    /// What was done to keys, by whom and why: show, verify, checkpoint, export
    #[command(subcommand)]
    Audit(audit::Command),
    /// Show what waits for approvals, or take in the signatures of approvers
    Approve(approve::Options),
    /// Write the metrics for Prometheus
    Metrics(metrics::Options),
    /// Move from one key store to another; no page is touched
    Migrate(migrate::Migrate),
    /// Take over the keys of file_key_management, hashicorp_key_management, aws_key_management or
    /// component_keyring_file
    Import(migrate::Import),
    /// Show how a command is called, or a page of the documents
    Help(help::Options),
}

/// What the command takes, for its man pages and completions.
#[must_use]
pub fn definition() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

/// Runs the command with `arguments`, the program's name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let mut call: Vec<OsString> = arguments.into_iter().collect();
    if let Some(exit) = keeper::enter(&call) {
        return exit;
    }
    let second = match privilege::enter(&mut call) {
        Ok(second) => second,
        Err(error) => {
            Printer::new(false).error(&error);
            return Exit::Failure;
        }
    };
    let arguments = match Arguments::try_parse_from(&call) {
        Ok(arguments) => arguments,
        Err(help) => {
            let printed = arrived(help.print().and_then(|()| std::io::stdout().flush()));
            return match help.use_stderr() {
                true => Exit::Usage,
                false => ended(printed.map(|()| Exit::Success), &Printer::new(false)),
            };
        }
    };
    let printer = Printer::new(arguments.json);
    ended(arguments.run(&call, second, &printer), &printer)
}

/// The exit code of a call, after its error was printed.
fn ended(outcome: Result<Exit>, printer: &Printer) -> Exit {
    outcome.unwrap_or_else(|error| {
        printer.error(&error);
        let waits = error.code() == Some(Code::Approvals);
        match error.kind() {
            Kind::Unknown => Exit::Unknown,
            _ if error.is_transient() || waits => Exit::TryAgain,
            _ => Exit::Failure,
        }
    })
}

impl Arguments {
    /// Does what is asked for, as the server's account where root asks.
    fn run(self, call: &[OsString], second: bool, printer: &Printer) -> Result<Exit> {
        let Self { config, user, command, .. } = self;
        if let Command::Init(options) = &command {
            let caller = init::Caller { user: user.as_deref(), call: &call[1..], second };
            return init::run(&config, options, caller, printer);
        }
        if let Command::Doctor(options) = &command
            && let Some(explained) = options.explained(printer)
        {
            return explained;
        }
        if let Command::Help(options) = &command {
            return help::run(options, definition(), printer);
        }
        let account = if second { None } else { privilege::account_for(&config, user.as_deref())? };
        match (account, command) {
            // Its file may be where the account writes nothing.
            (Some(account), Command::Metrics(options)) => {
                options.run_as(&account, &config, &call[1..])
            }
            (None, Command::Metrics(options)) if second => {
                let ended = metrics::run(&config, &options.without_file(), printer);
                deliver(&config);
                ended
            }
            (Some(account), command) => {
                if let Command::Keystore(own) = &command
                    && let Some(ended) = own.run_as(&account, &config)
                {
                    return ended;
                }
                let (call, server) = (&call[1..], command.server());
                match command.outlet()? {
                    None => privilege::run_as(&account, &config, call, server),
                    Some(outlet) => privilege::write_as(&account, &config, call, server, outlet),
                }
            }
            (None, command) => {
                let ended = command.run(&config, printer);
                deliver(&config);
                ended
            }
        }
    }
}

/// Copies what the call wrote into the audit trail to its sinks, as far as that is quickly done: a server that
/// runs does it as well. A configuration that cannot be read was told of.
fn deliver(config: &std::path::Path) {
    let Ok(config) = config::Config::load(config) else { return };
    if let Err(error) = assemble::deliver(&config, DELIVERY, &helpers::open::env()) {
        Printer::new(false).error(&error);
    }
}

impl Command {
    fn run(self, config: &std::path::Path, printer: &Printer) -> Result<Exit> {
        match self {
            // The one runs in two parts, the other reads nothing.
            Self::Init(_) | Self::Help(_) => {
                Err(Error::new(crate::Kind::Internal, "this command has another way in"))
            }
            Self::Doctor(options) => doctor::run(config, &options, printer),
            Self::Status => status::run(config, printer),
            Self::Rotate(options) => rotate::run(config, options, printer),
            Self::Inspect(options) => inspect::run(config, &options, printer),
            Self::Report(options) => report::run(config, &options, printer),
            Self::Binlog(options) => binlog::run(config, &options),
            Self::Keys(command) => keys::run(config, command, printer),
            Self::Keystore(command) => keystore::run(config, &command, printer),
            Self::Provider(command) => provider::run(config, &command, printer),
            Self::Audit(command) => audit::run(config, &command, printer),
            Self::Approve(options) => approve::run(config, &options, printer),
            Self::Metrics(options) => metrics::run(config, &options, printer),
            Self::Migrate(options) => migrate::migrate(config, &options, printer),
            Self::Import(options) => migrate::import(config, &options, printer),
        }
    }

    /// Where its output goes if that is no text.
    fn outlet(&self) -> Result<Option<Outlet>> {
        match self {
            Self::Binlog(options) => options.outlet().map(Some),
            Self::Keystore(command) => command.outlet(),
            _ => Ok(None),
        }
    }

    /// How to reach the server that it may ask.
    fn server(&self) -> server::Options {
        let options = match self {
            Self::Doctor(options) => Some(&options.server),
            Self::Metrics(options) => Some(&options.server),
            Self::Report(options) => Some(&options.server),
            Self::Keys(command) => command.server(),
            Self::Rotate(options) => return options.server(),
            _ => None,
        };
        options.cloned().unwrap_or_default()
    }
}
