//! The command: one file a subcommand, one place for arguments, exit codes and printing.

mod belongs;
mod component;
mod confine;
mod destroy;
mod doctor;
mod follow;
mod init;
mod inspect;
mod keys;
mod migrate;
mod print;
mod privilege;
mod rewrap;
mod rollback;
mod rotate;
mod scan;
mod server;
mod show;
mod states;
mod status;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};

use crate::assemble;
use crate::config::{self, Config};
use crate::custodian::Custodian;
use crate::env::{Env, Level, Log};
use crate::error::{Error, Kind, Result};
use crate::source::Role;
use print::Printer;

/// How the command ended, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// It failed, and the same call will fail again until somebody mends something.
    Failure = 1,
    /// The call itself was wrong.
    Usage = 2,
    /// It is done, but what it was to wait for is not: `keyward keys wait` goes on waiting.
    Unfinished = 3,
    /// Whether the change was made, or lasts, is not known (`EX_IOERR` of sysexits.h).
    Unknown = 74,
    /// It failed for now; try again later (`EX_TEMPFAIL` of sysexits.h).
    TryAgain = 75,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[derive(Parser)]
#[command(
    name = "keyward",
    version,
    about = "The life of MariaDB's and MySQL's encryption keys",
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong call, 3 done, but pages are left to re-encrypt: \
                  `keyward keys wait` follows, 74 not known whether the change was made or will last: \
                  look before you repeat it, 75 failed for now: try again later."
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
    Doctor(server::Options),
    /// Show how things stand
    Status,
    /// List or create keys
    #[command(subcommand)]
    Keys(keys::Command),
    /// Give a key, or all keys, a new version
    Rotate(rotate::Options),
    /// Let a version encrypt no more; the pending one takes its place
    Retire(states::Options),
    /// Note that somebody else may know a version; one that encrypts is rotated
    Compromised(states::Options),
    /// Go on with an older copy of the keystore, though the newer one is lost
    AcceptRollback(rollback::Options),
    /// Move from one key store to another; no page is touched
    Migrate(migrate::Migrate),
    /// Take over the keys of file_key_management, hashicorp_key_management or component_keyring_file
    Import(migrate::Import),
    /// Change how the keystore itself is wrapped; no page is touched
    Rewrap(rewrap::Options),
    /// Show which key versions data files need, read from the files alone
    Inspect(inspect::Options),
    /// Destroy a key version that nothing needs, after a waiting time
    Destroy(destroy::Options),
}

/// Runs the command with `arguments`, the program's name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let mut call: Vec<OsString> = arguments.into_iter().collect();
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
            // A closed terminal is the reader's wish.
            let _ = help.print();
            return if help.use_stderr() { Exit::Usage } else { Exit::Success };
        }
    };
    let printer = Printer::new(arguments.json);
    match arguments.run(&call, second, &printer) {
        Ok(exit) => exit,
        Err(error) => {
            printer.error(&error);
            match error.kind() {
                Kind::Unknown => Exit::Unknown,
                _ if error.is_transient() => Exit::TryAgain,
                _ => Exit::Failure,
            }
        }
    }
}

impl Arguments {
    /// Does what is asked for, as the server's account where root asks.
    fn run(self, call: &[OsString], second: bool, printer: &Printer) -> Result<Exit> {
        let Self { config, user, command, .. } = self;
        if let Command::Init(options) = &command {
            let caller = init::Caller { user: user.as_deref(), call: &call[1..], second };
            return init::run(&config, options, caller, printer);
        }
        let account = if second { None } else { privilege::account_for(&config, user.as_deref())? };
        match account {
            Some(account) => privilege::run_as(&account, &config, &call[1..], command.socket()),
            None => command.run(&config, printer),
        }
    }
}

impl Command {
    fn run(self, config: &std::path::Path, printer: &Printer) -> Result<Exit> {
        match self {
            // It runs in two parts.
            Self::Init(_) => Err(Error::new(crate::Kind::Internal, "init has another way in")),
            Self::Doctor(options) => doctor::run(config, &options, printer),
            Self::Status => status::run(config, printer),
            Self::Keys(command) => keys::run(config, command, printer),
            Self::Rotate(options) => rotate::run(config, options, printer),
            Self::Retire(options) => states::retire(config, &options, printer),
            Self::Compromised(options) => states::compromised(config, &options, printer),
            Self::AcceptRollback(options) => rollback::run(config, &options, printer),
            Self::Migrate(options) => migrate::migrate(config, &options, printer),
            Self::Import(options) => migrate::import(config, &options, printer),
            Self::Rewrap(options) => rewrap::run(config, &options, printer),
            Self::Destroy(options) => destroy::run(config, &options, printer),
            Self::Inspect(options) => inspect::run(config, &options, printer),
        }
    }

    /// Where the server is that it may ask.
    fn socket(&self) -> Option<PathBuf> {
        let options = match self {
            Self::Doctor(options) => Some(options),
            Self::Keys(command) => command.server(),
            Self::Rotate(options) => Some(&options.server),
            Self::Destroy(options) => Some(&options.server),
            _ => None,
        };
        options?.socket.clone()
    }
}

/// Reads the configuration and opens the keys.
fn open(config: &std::path::Path) -> Result<(Config, Custodian)> {
    let config = Config::load(config)?;
    let custodian = assemble::start(&config, Role::Command, env())?;
    Ok((config, custodian))
}

fn env() -> Env {
    Env::system(Arc::new(Terminal))
}

/// Lines for the operator, on standard error.
struct Terminal;

impl Log for Terminal {
    fn log(&self, level: Level, text: &str) {
        let word = match level {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Note => "note",
        };
        anstream::eprintln!("keyward: {word}: {}", print::plain(text));
    }
}

/// What a path's error looks like when the path has no folder above it.
fn no_folder(path: &std::path::Path) -> Error {
    Error::new(Kind::Config, format!("{} has no folder above it", path.display()))
}
