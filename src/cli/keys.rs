//! `keyward keys`: list, show and create.

use std::path::Path;
use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;

use super::follow::{self, Left};
use super::print::{Printer, plain, table};
use super::rotate::parse_time;
use super::show::Shown;
use super::{Exit, open, privilege, server};
use crate::custodian::Custodian;
use crate::env::{Clock, System};
use crate::error::{Error, Kind, Result};
use crate::key::{Cipher, KeyId, KeyInfo, KeyName, KeyRef, KeyState, KeyVersion};
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
}

impl Command {
    /// How to reach the server that it asks.
    pub(super) fn server(&self) -> Option<&server::Options> {
        match self {
            Self::Wait { server, .. } => Some(server),
            _ => None,
        }
    }
}

/// A key id from the command line.
pub(super) fn parse_id(text: &str) -> Result<KeyId, String> {
    let number: u32 = text.parse().map_err(|_| not_a_number(text))?;
    KeyId::try_from(number).map_err(|error| error.to_string())
}

/// Whoever names a key of MySQL's is told who sees to it.
fn not_a_number(text: &str) -> String {
    let by = |what: &str| format!("key {text} is MySQL's own: ALTER INSTANCE ROTATE {what} KEY");
    match text {
        _ if text.starts_with("INNODBKey-") => by("INNODB MASTER") + " makes the next",
        _ if text.starts_with("MySQLReplicationKey_") => by("BINLOG MASTER") + " makes the next",
        _ => format!("{text:?} is not a key number"),
    }
}

/// A key version from the command line.
pub(super) fn parse_version(text: &str) -> Result<KeyVersion, String> {
    let number: u32 = text.parse().map_err(|_| format!("{text:?} is not a key version"))?;
    KeyVersion::try_from(number).map_err(|error| error.to_string())
}

pub(super) fn run(config: &Path, command: Command, printer: &Printer) -> Result<Exit> {
    let (config, custodian) = open(config)?;
    match command {
        Command::List => {
            let keys = custodian.keys();
            printer.show(&keys, &listing(&keys))?;
        }
        Command::Show { name } => {
            let shown = Shown::of(&config, &custodian, &named(&custodian, &name)?);
            printer.show(&shown, &shown.text())?;
        }
        Command::Wait { id, timeout, server } => {
            let keys = active(&custodian, id)?;
            return wait(keys, &server, timeout, printer);
        }
        Command::Create { id, cipher, reason } => {
            let actor = privilege::actor();
            let made = custodian.create(id, cipher, Reason { actor: &actor, text: &reason })?;
            printer.show(&made, &format!("{made} made\n"))?;
        }
    }
    Ok(Exit::Success)
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
        printer.show(&Waited { keys, left }, "no page is left to re-encrypt\n")?;
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

/// An age in its largest unit.
pub(super) fn age(time: std::time::Duration) -> String {
    match time.as_secs() {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m", s / 60),
        s @ 3600..86_400 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}
