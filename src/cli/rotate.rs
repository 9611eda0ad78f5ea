//! `keyward rotate`: a new version of a key, or of all; followed to its end, or undone.

use std::path::Path;
use std::time::Duration;

use super::follow::{self, Spaces};
use super::keys::parse_id;
use super::print::{Printer, plain_lines};
use super::states::outcome;
use super::{Exit, open, server, user};
use crate::config::Config;
use crate::custodian::{Custodian, Reason, Step, Which};
use crate::error::{Error, Kind, Result};
use crate::key::{KeyId, KeyInfo, KeyName, KeyRef, KeyState};
use crate::policy;

#[derive(clap::Args)]
pub(super) struct Options {
    /// The key to rotate
    #[arg(value_name = "ID", value_parser = parse_id, required_unless_present_any = ["all", "due"])]
    id: Option<KeyId>,
    /// Rotate every key, in one commit
    #[arg(long, conflicts_with = "id")]
    all: bool,
    /// Do what the policy wants done by now, for cron or a timer; the server does it by itself
    #[arg(long, conflicts_with_all = ["id", "all", "now"])]
    due: bool,
    /// Do not wait for activate_after; a pending version becomes active at once
    #[arg(long)]
    now: bool,
    /// Wait until the server has re-encrypted every page; show how far it is
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this
    #[arg(long, value_name = "TIME", requires = "wait", value_parser = parse_time)]
    timeout: Option<Duration>,
    /// Take the last rotation of the key back, while the server uses it nowhere
    #[arg(long, conflicts_with_all = ["all", "due", "now", "wait"])]
    undo: bool,
    /// The server is stopped and cannot be asked
    #[arg(long, requires = "undo")]
    offline: bool,
    /// Why, for the history
    #[arg(long, default_value = "keyward rotate", value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    server: server::Options,
}

fn parse_time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "write it as 30s, 5m or 2h".to_owned())
}

pub(super) fn run(config: &Path, options: Options, printer: &Printer) -> Result<Exit> {
    let actor = user::actor();
    let reason = Reason { actor: &actor, text: &options.reason };
    if options.undo {
        return undo(config, &options, reason, printer);
    }
    let (_, custodian) = open(config)?;
    let which = options.id.map_or(Which::All, Which::One);
    let changed = match (options.due, options.now) {
        (true, _) => custodian.keep_policy()?,
        (false, true) => custodian.step(&Step::RotateNow(which), reason)?,
        (false, false) => custodian.rotate(which, reason)?,
    };
    let active: Vec<KeyRef> =
        changed.iter().filter(|key| is_active(&custodian, key)).cloned().collect();
    let mut text = outcome(&custodian, &changed);
    if changed.is_empty() {
        text += nothing_changed(&custodian, options.due);
    } else if !active.is_empty() && !options.wait {
        text += "a running server uses it within a second; pages follow by \
                 innodb_encryption_threads\n";
    }
    printer.show(&changed, &plain_lines(&text))?;
    if options.wait && !active.is_empty() {
        user::become_ourselves()?;
        follow::wait(&active, &options.server, options.timeout)?;
        printer.note("every page of every tablespace has it\n")?;
    }
    Ok(Exit::Success)
}

fn nothing_changed(custodian: &Custodian, due: bool) -> &'static str {
    let is_mariadbs = |info: &KeyInfo| matches!(info.key.name, KeyName::Id(_));
    match due {
        true => "nothing is due\n",
        false if custodian.keys().iter().any(is_mariadbs) => "every key has a pending version\n",
        false => {
            "no key of MariaDB's is here; MySQL rotates its own: ALTER INSTANCE ROTATE INNODB \
             MASTER KEY\n"
        }
    }
}

fn is_active(custodian: &Custodian, key: &KeyRef) -> bool {
    let entry = custodian.entry(&key.name);
    let state = entry.and_then(|entry| entry.version(key.version).map(|one| one.state));
    state == Some(KeyState::Active)
}

fn undo(config: &Path, options: &Options, reason: Reason<'_>, printer: &Printer) -> Result<Exit> {
    let Some(id) = options.id else {
        return Err(Error::new(Kind::Config, "name the key whose rotation is to be undone"));
    };
    // The server knows us by our own account, so it is asked before we become the keystore's owner.
    Config::load(config)?;
    let spaces = Spaces::ask(&options.server);
    let (_, custodian) = open(config)?;
    if let Some(used) = in_use(&custodian, id) {
        refuse_use(&used, spaces, options.offline)?;
    }
    let changed = custodian.step(&Step::Undo(id), reason)?;
    let mut text = outcome(&custodian, &changed);
    if let Some(entry) = custodian.entry(&id.into())
        && let Some(active) = entry.active()
    {
        text += &format!("key {id} version {} is active\n", active.version);
    }
    printer.show(&changed, &plain_lines(&text))?;
    Ok(Exit::Success)
}

/// The version that would have to be out of use; none where it is only pending yet.
fn in_use(custodian: &Custodian, id: KeyId) -> Option<KeyRef> {
    let entry = custodian.entry(&KeyName::Id(id))?;
    match policy::planned(&entry) {
        Some(_) => None,
        None => Some(KeyRef::new(id, entry.active()?.version)),
    }
}

fn refuse_use(key: &KeyRef, spaces: Result<Spaces, String>, offline: bool) -> Result<()> {
    match (spaces, offline) {
        (Ok(spaces), false) => spaces.refuse_use_of(key),
        (Ok(_), true) => Err(Error::new(Kind::State, "the server runs")
            .advise("leave --offline away, and it is asked")),
        (Err(words), true) if is_stopped(&words) => Ok(()),
        (Err(words), _) => Err(follow::unanswered(&words)
            .advise("start it, name its socket with --socket, or stop it and give --offline")),
    }
}

/// Whether the client met nobody: errors 2002 (socket) and 2003 (host) of the client library.
fn is_stopped(words: &str) -> bool {
    words.starts_with("ERROR 2002 ") || words.starts_with("ERROR 2003 ")
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
