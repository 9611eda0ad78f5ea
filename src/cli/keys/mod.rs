//! `keyward keys`: the life of keys.

#![forbid(unsafe_code)]

mod destroy;
mod erase;
mod show;
mod states;
mod undo;

use std::path::Path;
use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;

use self::show::Shown;
use crate::cli::helpers::arguments::{parse_id, parse_time};
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::follow::{self, Left};
use crate::cli::helpers::open::open;
use crate::cli::helpers::print::{Printer, age, plain, table};
use crate::cli::helpers::{privilege, server};
use crate::custodian::Custodian;
use crate::env::{Clock, System, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::key::{Cipher, KeyId, KeyInfo, KeyName, KeyRef, KeyState};
use crate::source::Reason;
use crate::store::KeyEntry;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Show every version of every key, never the key itself
    List,
    /// Show one key: its versions, and what happened to each, when, by whom and why
    Show {
        /// The key's number, or the name that MySQL has for it
        #[arg(value_name = "ID")]
        name: String,
    },
    /// Wait until the server has re-encrypted every page with the active version of a key, or of
    /// all; nothing is rotated
    Wait {
        /// The key's number [default: all keys]
        #[arg(value_name = "ID", value_parser = parse_id)]
        id: Option<KeyId>,
        /// Wait no longer than this; then the exit code is 3. 0s only shows what is left
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        timeout: Option<Duration>,
        #[command(flatten)]
        server: server::Options,
    },
    /// Make a key with a first version
    Create {
        /// The key's number, as ENCRYPTION_KEY_ID names it
        #[arg(value_name = "ID", value_parser = parse_id)]
        id: KeyId,
        /// The cipher it is for, such as aes-256-ctr [default: the configuration's]
        #[arg(long, value_name = "CIPHER")]
        cipher: Option<Cipher>,
        /// Why, for the history
        #[arg(long, default_value = "keyward keys create", value_name = "TEXT")]
        reason: String,
    },
    /// Take the last rotation of a key back, while the server uses it nowhere
    Undo(undo::Options),
    /// Let a version encrypt no more; the pending one takes its place
    Retire(states::Options),
    /// Note that somebody else may know a version; one that encrypts is rotated
    Compromise(states::Options),
    /// Destroy a key version that nothing needs, after a waiting time
    Destroy(destroy::Options),
    /// Destroy a key at once so that what it encrypts is unreadable for ever
    Erase(erase::Options),
}

impl Command {
    /// How to reach the server that it asks.
    pub(super) fn server(&self) -> Option<&server::Options> {
        match self {
            Self::Wait { server, .. } => Some(server),
            Self::Undo(options) => Some(&options.server),
            Self::Destroy(options) => Some(&options.server),
            _ => None,
        }
    }
}

pub(super) fn run(config: &Path, command: Command, printer: &Printer) -> Result<Exit> {
    match command {
        Command::List => list(config, printer),
        Command::Show { name } => show(config, &name, printer),
        Command::Wait { id, timeout, server } => {
            let (_, custodian) = open(config)?;
            wait(active(&custodian, id)?, &server, timeout, printer)
        }
        Command::Create { id, cipher, reason } => create(config, id, cipher, &reason, printer),
        Command::Undo(options) => undo::run(config, &options, printer),
        Command::Retire(options) => states::retire(config, &options, printer),
        Command::Compromise(options) => states::compromise(config, &options, printer),
        Command::Destroy(options) => destroy::run(config, &options, printer),
        Command::Erase(options) => erase::run(config, &options, printer),
    }
}

fn list(config: &Path, printer: &Printer) -> Result<Exit> {
    let (_, custodian) = open(config)?;
    let keys = custodian.keys();
    printer.show(&keys, &(listing(&keys) + &planned(&custodian)))?;
    Ok(Exit::Success)
}

fn show(config: &Path, name: &str, printer: &Printer) -> Result<Exit> {
    let (config, custodian) = open(config)?;
    let shown = Shown::of(&config, &custodian, &named(&custodian, name)?);
    printer.show(&shown, &shown.text())?;
    Ok(Exit::Success)
}

fn create(
    config: &Path,
    id: KeyId,
    cipher: Option<Cipher>,
    reason: &str,
    printer: &Printer,
) -> Result<Exit> {
    let (_, custodian) = open(config)?;
    refuse_in_mysqls(&custodian, id)?;
    let actor = privilege::actor();
    let made = custodian.create(id, cipher, Reason { actor: &actor, text: reason })?;
    printer.show(&made, &format!("{made} made\n"))?;
    Ok(Exit::Success)
}

/// MySQL asks for none of MariaDB's keys.
fn refuse_in_mysqls(custodian: &Custodian, id: KeyId) -> Result<()> {
    let keys = custodian.keys();
    let is_mysqls = |info: &KeyInfo| matches!(info.key.name, KeyName::Named { .. });
    if keys.is_empty() || !keys.iter().all(is_mysqls) {
        return Ok(());
    }
    let what = format!("key {id} would be MariaDB's, and the keystore is a MySQL server's");
    Err(Error::new(Kind::State, what)
        .advise("MySQL makes its own keys when it needs them; --config names another keystore"))
}

/// What `keys wait` shows machines.
#[derive(Serialize)]
struct Waited {
    keys: Vec<KeyRef>,
    #[serde(flatten)]
    left: Left,
}

/// The active version of MariaDB's key `id`, or of each.
fn active(custodian: &Custodian, id: Option<KeyId>) -> Result<Vec<KeyRef>> {
    let wanted = |info: &KeyInfo| match info.key.name {
        KeyName::Id(own) => info.state == KeyState::Active && id.is_none_or(|id| id == own),
        KeyName::Named { .. } => false,
    };
    let keys: Vec<_> = custodian.keys().into_iter().filter(wanted).map(|info| info.key).collect();
    if keys.is_empty() {
        let what = match id {
            Some(id) => format!("there is no key {id}"),
            None => "there is no key of MariaDB's to wait for".to_owned(),
        };
        return Err(Error::new(Kind::NotFound, what).advise("`keyward keys list` shows all"));
    }
    Ok(keys)
}

fn wait(
    keys: Vec<KeyRef>,
    options: &server::Options,
    limit: Option<Duration>,
    printer: &Printer,
) -> Result<Exit> {
    let left = follow::wait(&keys, options, limit)?;
    if left.is_nothing() {
        let text = follow::reached(&keys);
        printer.show(&Waited { keys, left }, text)?;
        return Ok(Exit::Success);
    }
    let advice = format!("the server goes on by itself; {}", follow::advice(&keys));
    let failure = Error::new(Kind::Timeout, left.to_string()).advise(advice);
    printer.show(&Waited { keys, left }, "")?;
    printer.error(&failure);
    Ok(Exit::Unfinished)
}

/// The key that is listed as `text`; a number is MariaDB's key of that number where there is one.
fn named(custodian: &Custodian, text: &str) -> Result<KeyEntry> {
    let listed = || custodian.keys().into_iter().map(|info| info.key.name);
    let by_number = parse_id(text).ok().and_then(|id| custodian.entry(&id.into()));
    let by_name = || custodian.entry(&listed().find(|name| name.to_string() == plain(text))?);
    by_number.or_else(by_name).ok_or_else(|| {
        Error::new(Kind::NotFound, format!("the keystore has no key {text}"))
            .advise("`keyward keys list` shows all")
    })
}

fn listing(keys: &[KeyInfo]) -> String {
    let now = System.now();
    let rows: Vec<Vec<String>> = keys
        .iter()
        .map(|info| {
            vec![
                info.key.name.to_string(),
                info.key.version.to_string(),
                info.state.to_string(),
                info.purpose.to_string(),
                info.created.map_or_else(|| "-".to_owned(), |at| age(now.since(at))),
                info.check.map_or_else(|| "-".to_owned(), |check| check.to_string()),
            ]
        })
        .collect();
    table(&["KEY", "VERSION", "STATE", "PURPOSE", "AGE", "CHECK VALUE"], &rows)
}

/// A line for each destruction that waits; none where a key store serves the keys.
fn planned(custodian: &Custodian) -> String {
    let planned =
        custodian.manager().map_or_else(|_| Vec::new(), |manager| manager.pending_destructions());
    let line = |(key, at): &(KeyRef, Timestamp)| {
        plain(&format!("{key} is to be destroyed after {at}")) + "\n"
    };
    planned.iter().map(line).collect()
}
