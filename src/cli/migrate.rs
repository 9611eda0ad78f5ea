//! `keyward migrate` and `keyward import`: from one key store to another, without touching a page.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::assemble::{self, MigrationReport, Target};
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::env;
use crate::cli::helpers::print::{Printer, plain, plain_lines, table};
use crate::cli::helpers::privilege;
use crate::compat::{self, Original, my_cnf};
use crate::config::Config;
use crate::config::component::Component;
use crate::error::Result;
use crate::key::KeyInfo;
use crate::manager::{Rewrapped, WrapChange};
use crate::source::Reason;

#[derive(clap::Args)]
pub(super) struct Migrate {
    /// The provider, by its name in the configuration, that keys leave
    #[arg(long, value_name = "NAME", required_unless_present = "from_keyring_file")]
    from: Option<String>,
    /// The file in which MySQL's component_keyring_file keeps its keys, or that component's .cnf;
    /// they go into the keystore of the configuration
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "to", "to_file"])]
    from_keyring_file: Option<PathBuf>,
    /// The provider that they go to
    #[arg(long, value_name = "NAME", required_unless_present_any = ["to_file", "from_keyring_file"])]
    to: Option<String>,
    /// Write the keys, readable for whoever reads it, into a new key file for the provider `file`
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    to_file: Option<PathBuf>,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Why, for the history
    #[arg(long, default_value = "keyward migrate", value_name = "TEXT")]
    reason: String,
}

#[derive(clap::Args)]
pub(super) struct Import {
    /// The server's option file that configures file_key_management, hashicorp_key_management or
    /// aws_key_management
    #[arg(long, value_name = "FILE", required_unless_present = "from_keyring_file")]
    from_mycnf: Option<PathBuf>,
    /// The same as `migrate --from-keyring-file`
    #[arg(long, value_name = "FILE", conflicts_with = "from_mycnf")]
    from_keyring_file: Option<PathBuf>,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Why, for the history
    #[arg(long, default_value = "keyward import", value_name = "TEXT")]
    reason: String,
}

/// What was done, for machines.
#[derive(Serialize)]
struct Report<'a> {
    dry_run: bool,
    wrappings: Vec<(&'a str, &'static str)>,
    keys: &'a [KeyInfo],
    new: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<&'a str>,
}

pub(super) fn migrate(path: &Path, options: &Migrate, printer: &Printer) -> Result<Exit> {
    if let Some(file) = &options.from_keyring_file {
        return from_keyring_file(path, file, options.dry_run, &options.reason, printer);
    }
    let config = Config::load(path)?;
    let target = match (&options.to, &options.to_file) {
        (_, Some(path)) => Target::KeyFile(path),
        (Some(name), None) => Target::Provider(name),
        (None, None) => Target::Provider(""),
    };
    let Migrate { dry_run, reason, .. } = options;
    let actor = privilege::actor();
    let reason = Reason { actor: &actor, text: reason };
    let from = options.from.as_deref().unwrap_or("");
    let moved = assemble::migrate(&config, from, target, *dry_run, reason, &env())?;
    let next = match target {
        Target::Provider(name) => format!(
            "next: leave provider {name:?} in the configuration, take {from:?} out, and restart \
             the server\n"
        ),
        Target::KeyFile(path) => format!(
            "next: configure a provider of type \"file\" for {}, and restart the server\n",
            plain(&path.display().to_string())
        ),
    };
    show(&moved, *dry_run, &next, printer)
}

pub(super) fn import(path: &Path, options: &Import, printer: &Printer) -> Result<Exit> {
    if let Some(file) = &options.from_keyring_file {
        return from_keyring_file(path, file, options.dry_run, &options.reason, printer);
    }
    let config = Config::load(path)?;
    let Import { dry_run, reason, .. } = options;
    let actor = privilege::actor();
    let reason = Reason { actor: &actor, text: reason };
    let my_cnf = options.from_mycnf.as_deref().unwrap_or(Path::new(""));
    let original = Original::configured(&my_cnf::Options::read(my_cnf)?, my_cnf)?;
    let plugin = original.plugin();
    let moved = compat::import_original(&config, original, *dry_run, reason, &env())?;
    let next = format!(
        "next: load plugin keyward in place of {plugin} in my.cnf, and restart the server\n"
    );
    show(&moved, *dry_run, &next, printer)
}

/// Takes over the keys of MySQL's stock component.
fn from_keyring_file(
    path: &Path,
    file: &Path,
    dry_run: bool,
    reason: &str,
    printer: &Printer,
) -> Result<Exit> {
    let config = Config::load(path)?;
    let actor = privilege::actor();
    let reason = Reason { actor: &actor, text: reason };
    // MySQL makes it at its first start, and this is before.
    let own_keystore = matches!(Component::load(path), Ok(Component::Keystore { .. }));
    let file = compat::keyring_file_at(file)?;
    let env = env();
    let moved = compat::import_keyring_file(&config, &file, own_keystore, dry_run, reason, &env)?;
    let next = format!(
        "next: name component_keyring_keyward in mysqld.my in place of component_keyring_file, \
         restart the server, then destroy {}: every key stands clear in it\n",
        plain(&file.display().to_string())
    );
    show(&moved, dry_run, &next, printer)
}

fn show(moved: &MigrationReport, dry_run: bool, next: &str, printer: &Printer) -> Result<Exit> {
    let word = |one: &Rewrapped| match one.change {
        WrapChange::Added => "added",
        WrapChange::Removed => "removed",
        WrapChange::Renewed => "renewed",
        WrapChange::Kept | WrapChange::Unconfigured | WrapChange::NotAsked => "kept",
    };
    let wrappings: Vec<_> =
        moved.wrappings.iter().map(|one| (one.provider.as_str(), word(one))).collect();
    let mut text = String::new();
    for (provider, word) in &wrappings {
        text += &format!("wrapping by provider {provider:?}: {word}\n");
    }
    if !moved.keys.is_empty() {
        text += &listing(moved);
        let (all, new) = (moved.keys.len(), moved.new.len());
        text += &match dry_run {
            true => format!("{all} key versions, {new} of them new there\n"),
            false => {
                format!("{all} key versions arrived, {new} of them new, all check values right\n")
            }
        };
    }
    let fingerprint = moved.fingerprint.as_deref();
    if let Some(fingerprint) = fingerprint {
        text += &format!(
            "next: write fingerprint = \"{fingerprint}\" into [keystore]: a public key wraps this keystore, \
             so that it opens only if the configuration names it\n"
        );
    }
    text += &plain_lines(if dry_run { "dry run: nothing was changed\n" } else { next });
    let new = moved.new.len();
    let report = Report { dry_run, wrappings, keys: &moved.keys, new, fingerprint };
    printer.show(&report, &text)?;
    Ok(Exit::Success)
}

fn listing(moved: &MigrationReport) -> String {
    let row = |info: &KeyInfo| {
        vec![
            info.key.name.to_string(),
            info.key.version.to_string(),
            info.state.to_string(),
            info.purpose.to_string(),
            info.check.map_or_else(|| "-".to_owned(), |check| check.to_string()),
            if moved.new.contains(&info.key) { "new" } else { "there" }.to_owned(),
        ]
    };
    let rows: Vec<_> = moved.keys.iter().map(row).collect();
    table(&["KEY", "VERSION", "STATE", "CIPHER", "CHECK VALUE", ""], &rows)
}
