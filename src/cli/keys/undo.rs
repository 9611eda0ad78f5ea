//! `keyward keys undo`: the last rotation of a key taken back, while the server uses it nowhere.

#![forbid(unsafe_code)]

use std::path::Path;

use crate::cli::helpers::arguments::parse_id;
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::follow::{self, Spaces};
use crate::cli::helpers::open::open;
use crate::cli::helpers::outcome::outcome;
use crate::cli::helpers::print::{Printer, plain_lines};
use crate::cli::helpers::{privilege, server};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::key::{KeyId, KeyRef};
use crate::manager::StateChange;
use crate::policy::{self, Undo};
use crate::source::Reason;

#[derive(clap::Args)]
pub(in crate::cli) struct Options {
    /// The key's number
    #[arg(value_name = "ID", value_parser = parse_id)]
    id: KeyId,
    /// The server is stopped and cannot be asked
    #[arg(long)]
    offline: bool,
    /// Change nothing unless the keystore is of this generation
    #[arg(long, value_name = "N")]
    expect_generation: Option<u64>,
    /// Why, for the history
    #[arg(long, default_value = "keyward keys undo", value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    pub(super) server: server::Options,
}

pub(super) fn run(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    let actor = privilege::actor();
    let reason = Reason { actor: &actor, text: &options.reason };
    let id = options.id;
    Config::load(config)?;
    let spaces = Spaces::ask(&options.server);
    let (_, custodian) = open(config)?;
    if let Some(generation) = options.expect_generation {
        custodian.manager()?.expect_generation(generation);
    }
    if let Some(entry) = custodian.entry(&id.into())
        && let Undo::GoBack { from, .. } = policy::undo(&entry)?
    {
        refuse_use(&KeyRef::new(id, from), spaces, options.offline)?;
    }
    let changed = custodian.manager()?.change_state(&StateChange::Undo(id), reason)?;
    let mut text = outcome(&custodian, &changed);
    if let Some(entry) = custodian.entry(&id.into())
        && let Some(active) = entry.active()
    {
        text += &format!("key {id} version {} is active\n", active.version);
    }
    printer.show(&changed, &plain_lines(&text))?;
    Ok(Exit::Success)
}

fn refuse_use(key: &KeyRef, spaces: Result<Spaces, String>, offline: bool) -> Result<()> {
    match (spaces, offline) {
        (Ok(spaces), false) => spaces.refuse_use_of(key),
        (Ok(_), true) => Err(Error::new(Kind::State, "the server runs")
            .advise("leave --offline away, and it is asked")),
        (Err(words), true) if server::is_away(&words) => Ok(()),
        (Err(words), _) => Err(follow::unanswered(&words)
            .advise("start it, name its socket with --socket, or stop it and give --offline")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyVersion;

    #[test]
    fn an_undo_wants_to_know_that_nothing_uses_the_version() {
        let key = KeyRef::new(KeyId::SYSTEM, KeyVersion::FIRST);
        let words = |text: &str| Err::<Spaces, _>(text.to_owned());
        let away = "ERROR 2002 (HY000): Can't connect to local server through socket";
        let denied = "ERROR 1698 (28000): Access denied for user 'root'@'localhost'";
        let told = |spaces, offline| refuse_use(&key, spaces, offline).err().map(|e| e.to_string());
        assert_eq!(told(Ok(Spaces::default()), false), None);
        assert_eq!(told(words(away), true), None);
        assert!(told(words(away), false).unwrap().ends_with("or stop it and give --offline"));
        assert!(told(words(denied), true).unwrap().contains("Access denied"));
        assert!(told(Ok(Spaces::default()), true).unwrap().starts_with("the server runs;"));
    }
}
