//! `keyward rotate`: a new version of a key, or of all.

use std::path::Path;

use super::keys::parse_id;
use super::print::{Printer, plain};
use super::states::outcome;
use super::{Exit, open, user};
use crate::custodian::{Reason, Step, Which};
use crate::error::Result;
use crate::key::{KeyId, KeyRef, KeyState};

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
    /// Why, for the history
    #[arg(long, default_value = "keyward rotate", value_name = "TEXT")]
    reason: String,
}

pub(super) fn run(config: &Path, options: Options, printer: &Printer) -> Result<Exit> {
    let (_, custodian) = open(config)?;
    let which = options.id.map_or(Which::All, Which::One);
    let actor = user::actor();
    let reason = Reason { actor: &actor, text: &options.reason };
    let changed = match (options.due, options.now) {
        (true, _) => custodian.keep_policy()?,
        (false, true) => custodian.step(&Step::RotateNow(which), reason)?,
        (false, false) => custodian.rotate(which, reason)?,
    };
    let mut text = outcome(&custodian, &changed);
    let active = |key: &KeyRef| {
        let entry = custodian.entry(&key.name);
        entry.and_then(|entry| entry.version(key.version).map(|one| one.state))
            == Some(KeyState::Active)
    };
    if changed.is_empty() {
        text += if options.due { "nothing is due\n" } else { "every key has a pending version\n" };
    } else if changed.iter().any(active) {
        text += "a running server uses it within a second; pages follow by \
                 innodb_encryption_threads\n";
    }
    printer.show(&changed, &plain(&text))?;
    Ok(Exit::Success)
}
