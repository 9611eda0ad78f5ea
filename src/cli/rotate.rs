//! `keyward rotate`: a new version of a key, or of all; followed to its end.

#![forbid(unsafe_code)]

mod master_keys;

use std::path::Path;
use std::time::Duration;

use crate::cli::helpers::arguments::{parse_id, parse_time};
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::follow::{self, Left, Spaces};
use crate::cli::helpers::open::open;
use crate::cli::helpers::outcome::outcome;
use crate::cli::helpers::print::{Printer, plain_lines};
use crate::cli::helpers::{privilege, server};
use crate::config::Config;
use crate::custodian::Custodian;
use crate::env::{Clock as _, System};
use crate::error::{Error, Kind, Result};
use crate::key::{KeyId, KeyInfo, KeyName, KeyRef, KeyState};
use crate::manager::StateChange;
use crate::policy::{self, DueAction};
use crate::source::{Reason, Which};

#[derive(clap::Args)]
#[command(override_usage = "keyward rotate <ID|--all|--due> [OPTIONS]")]
pub(super) struct Options {
    /// The key to rotate
    #[arg(value_name = "ID", value_parser = parse_id, required_unless_present_any = ["all", "due"])]
    id: Option<KeyId>,
    /// Rotate every key, in one commit
    #[arg(long, conflicts_with = "id")]
    all: bool,
    /// Do what the policy wants done by now, for cron or a timer. MariaDB does it by itself; MySQL is
    /// asked to rotate the master keys that are due
    #[arg(long, conflicts_with_all = ["id", "all", "now"])]
    due: bool,
    /// Do not wait for activate_after; a pending version becomes active at once
    #[arg(long)]
    now: bool,
    /// Wait until the server has re-encrypted every page; show how far it is. Where it would not,
    /// nothing is rotated
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this; then the exit code is 3, and `keyward keys wait` goes on waiting
    #[arg(long, value_name = "TIME", requires = "wait", value_parser = parse_time)]
    timeout: Option<Duration>,
    /// Change nothing unless the keystore is of this generation, so that a rotation whose outcome is
    /// not known can be called for again
    #[arg(long, value_name = "N", conflicts_with = "due")]
    expect_generation: Option<u64>,
    /// Why, for the history
    #[arg(long, default_value = "keyward rotate", value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    server: server::Options,
}

impl Options {
    /// How to reach the server, and whether it is to rotate keys.
    pub(super) fn server(&self) -> server::Options {
        server::Options { rotates: self.due, ..self.server.clone() }
    }
}

pub(super) fn run(config: &Path, options: Options, printer: &Printer) -> Result<Exit> {
    let actor = privilege::actor();
    let reason = Reason { actor: &actor, text: &options.reason };
    let spaces = options.wait.then(|| Spaces::ask(&options.server));
    let (config, custodian) = open(config)?;
    expect(&custodian, &options)?;
    let next = next_versions(&custodian, &config, &options);
    if let Some(spaces) = spaces.filter(|_| !next.is_empty()) {
        follow::check(spaces, &next).map_err(|error| error.within("nothing was rotated"))?;
    }
    let which = options.id.map_or(Which::All, Which::One);
    let changed = match (options.due, options.now) {
        (true, _) => run_policy(&custodian, &config, &options)?,
        (false, true) => {
            custodian.manager()?.change_state(&StateChange::RotateNow(which), reason)?
        }
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
    if !options.wait || active.is_empty() {
        return Ok(Exit::Success);
    }
    let failure = match wait(&active, &options) {
        Ok(left) if left.is_nothing() => {
            printer.note(follow::reached(&active))?;
            return Ok(Exit::Success);
        }
        Ok(left) => Error::new(Kind::Timeout, left.to_string()),
        Err(error) => error,
    };
    // To rotate again would make another version.
    let advice = failure.advice().map(|advice| format!("{advice}; ")).unwrap_or_default();
    let failure = Error::new(failure.kind(), format!("rotated, but {}", failure.what()))
        .advise(advice + &follow::advice(&active));
    printer.error(&failure);
    Ok(Exit::Unfinished)
}

fn run_policy(custodian: &Custodian, config: &Config, options: &Options) -> Result<Vec<KeyRef>> {
    let mut changed = custodian.manager()?.run_policy()?;
    changed.extend(master_keys::rotate_due(custodian, config, &options.server())?);
    Ok(changed)
}

fn wait(keys: &[KeyRef], options: &Options) -> Result<Left> {
    follow::wait(keys, &options.server, options.timeout)
}

/// The versions that will be active when this has been done, as far as that can be known before;
/// none where new ones are only to be pending.
fn next_versions(custodian: &Custodian, config: &Config, options: &Options) -> Vec<KeyRef> {
    let keys = custodian.keys();
    let newest = |id: KeyId| keys.iter().rev().find(|info| info.key.name == id.into());
    let mut ids: Vec<KeyId> = match (options.id, options.due) {
        (Some(id), _) => vec![id],
        (None, false) => keys.iter().filter_map(|info| id_of(&info.key)).collect(),
        (None, true) => due_ids(custodian, config),
    };
    ids.dedup();
    let next = |id: KeyId| {
        let entry = custodian.entry(&id.into());
        let pending = entry.as_ref().and_then(policy::planned).map(|(version, _)| version.version);
        let waits = config.policy.activate_after.is_some() && !options.now;
        match (pending, waits && !options.due) {
            (_, true) => None,
            (Some(pending), false) => Some(KeyRef::new(id, pending)),
            (None, false) if waits => None,
            (None, false) => {
                let step = entry.as_ref().map_or(1, |_| config.policy.version_step);
                Some(KeyRef::new(id, newest(id)?.key.version.plus(step).ok()?))
            }
        }
    };
    ids.into_iter().filter_map(next).collect()
}

/// The keys that the policy wants rotated or activated now.
fn due_ids(custodian: &Custodian, config: &Config) -> Vec<KeyId> {
    let entries = custodian.entries();
    let due_actions = config.policy.due(System.now(), &custodian.keystore_id(), entries.iter());
    let id = |due: &DueAction| match due {
        DueAction::Rotate(id) => Some(*id),
        DueAction::Activate(key) => id_of(key),
        DueAction::Plan(..) | DueAction::Retain(..) => None,
    };
    due_actions.iter().filter_map(id).collect()
}

fn id_of(key: &KeyRef) -> Option<KeyId> {
    match key.name {
        KeyName::Id(id) => Some(id),
        KeyName::Named { .. } => None,
    }
}

fn expect(custodian: &Custodian, options: &Options) -> Result<()> {
    if let Some(generation) = options.expect_generation {
        custodian.manager()?.expect_generation(generation);
    }
    Ok(())
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

/// Whether pages are encrypted with it from now on.
fn is_active(custodian: &Custodian, key: &KeyRef) -> bool {
    if id_of(key).is_none() {
        return false;
    }
    let entry = custodian.entry(&key.name);
    let state = entry.and_then(|entry| entry.version(key.version).map(|one| one.state));
    state == Some(KeyState::Active)
}
