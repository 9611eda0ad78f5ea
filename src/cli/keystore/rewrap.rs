//! `keyward keystore rewrap`: how the keystore's own key is wrapped, and that key itself.

#![forbid(unsafe_code)]

use std::path::Path;

use serde::Serialize;

use crate::assemble;
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::{env, open};
use crate::cli::helpers::print::{Printer, plain_lines};
use crate::cli::helpers::privilege;
use crate::error::{Error, Result};
use crate::manager::{Rewrap, Rewrapped, WrapChange};
use crate::source::Reason;

#[derive(clap::Args)]
pub(in crate::cli) struct Options {
    /// Wrap again with the newest version of each provider's wrapping key
    #[arg(long, conflicts_with_all = ["new_store_key", "prune"])]
    to_latest: bool,
    /// Have the key store of this provider make a new wrapping key first, and follow it
    #[arg(long, value_name = "PROVIDER", conflicts_with_all = ["new_store_key", "prune"])]
    new_kek: Option<String>,
    /// Make a new store key, wrapped by the providers that wrap the present one, and wrap every data
    /// key with it
    #[arg(long)]
    new_store_key: bool,
    /// Let this configured provider wrap the keystore, too, and no other
    #[arg(long, value_name = "PROVIDER", conflicts_with_all = ["to_latest", "new_kek", "prune"])]
    add: Option<String>,
    /// Drop the wrappings of providers that are not configured
    #[arg(long)]
    prune: bool,
    /// Why, for the audit trail
    #[arg(long, default_value = "keyward keystore rewrap", value_name = "TEXT")]
    reason: String,
}

/// One provider's line, for machines.
#[derive(Serialize)]
struct Line<'a> {
    provider: &'a str,
    outcome: &'static str,
    error: Option<String>,
}

pub(super) fn run(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    let (config, custodian) = open(config)?;
    let mut text = String::new();
    if let Some(name) = &options.new_kek {
        let made = assemble::create_wrapping_key(&config, name, &env())?;
        text += &format!("provider {name:?}: new wrapping key {}\n", made.kek);
    }
    let actor = privilege::actor();
    let reason = Reason { actor: &actor, text: &options.reason };
    let mut report = match &options.add {
        Some(name) => custodian.manager()?.rewrap(Rewrap::Add(name), reason)?,
        None => Vec::new(),
    };
    if let Some(how) = options.how() {
        report = custodian.manager()?.rewrap(how, reason)?;
    }
    let lines: Vec<Line<'_>> = report.iter().map(Line::of).collect();
    text.extend(lines.iter().map(Line::text));
    if options.new_store_key {
        let versions = custodian.status().versions;
        text += &format!("a new store key wraps {versions} key versions now\n");
    }
    printer.show(&lines, &plain_lines(&text))?;
    Ok(exit(report.iter().filter_map(|one| one.failure.as_ref())))
}

impl Options {
    /// What is to be done for all providers; nothing where one is only to be added.
    fn how(&self) -> Option<Rewrap<'static>> {
        let prune = self.prune;
        match (self.to_latest || self.new_kek.is_some(), self.new_store_key) {
            (true, _) => Some(Rewrap::ToLatest),
            (false, true) => Some(Rewrap::NewStoreKey { prune }),
            (false, false) if self.add.is_some() => None,
            (false, false) => Some(Rewrap::Missing { prune }),
        }
    }
}

/// What failed for now may be tried again; anything else has to be corrected first.
fn exit<'a>(mut failures: impl Iterator<Item = &'a Error>) -> Exit {
    let Some(first) = failures.next() else { return Exit::Success };
    let all_transient = first.is_transient() && failures.all(Error::is_transient);
    if all_transient { Exit::TryAgain } else { Exit::Failure }
}

impl<'a> Line<'a> {
    fn of(one: &'a Rewrapped) -> Self {
        let outcome = match (&one.failure, one.change) {
            (Some(_), _) => "failed",
            (None, WrapChange::Kept) => "kept",
            (None, WrapChange::Added) => "added",
            (None, WrapChange::Renewed) => "renewed",
            (None, WrapChange::Removed) => "removed",
            (None, WrapChange::Unconfigured) => "not configured, kept (--prune drops it)",
            (None, WrapChange::NotAsked) => "configured, does not wrap (--add NAME lets it)",
        };
        let error = one.failure.as_ref().map(ToString::to_string);
        Self { provider: &one.provider, outcome, error }
    }

    fn text(&self) -> String {
        match &self.error {
            Some(error) => format!("{}: {error}\n", self.outcome),
            None => format!("provider {:?}: {}\n", self.provider, self.outcome),
        }
    }
}
