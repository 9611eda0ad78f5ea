//! `keyward keystore backups`: which backups of the data are to stay readable.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;

use crate::cli::helpers::arguments::parse_day;
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::open;
use crate::cli::helpers::print::{Printer, plain, table};
use crate::cli::helpers::proven::Keys;
use crate::cli::helpers::{privilege, scan};
use crate::custodian::Custodian;
use crate::env::{Clock as _, System, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::key::KeyRef;
use crate::manager::DataBackup;
use crate::mark;
use crate::source::Reason;
use crate::store::Backup;

#[derive(Subcommand)]
pub(in crate::cli) enum Command {
    /// Read a backup, and keep the key versions that it needs
    Add(Add),
    /// List them
    List,
    /// Forget one that is gone
    Remove(Remove),
}

#[derive(clap::Args)]
pub(in crate::cli) struct Add {
    /// The folder of a mariadb-backup or a copy of a data directory; with --unread any name for it
    #[arg(value_name = "DIR")]
    name: PathBuf,
    /// It must stay readable up to and on this day, as 2027-03-01 [default: until it is removed]
    #[arg(long, value_name = "DATE", value_parser = parse_day)]
    until: Option<Timestamp>,
    /// Do not read it, for it is packed, incremental, on tape or elsewhere: it keeps every version that there
    /// is now
    #[arg(long)]
    unread: bool,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(clap::Args)]
pub(in crate::cli) struct Remove {
    /// The folder or name, as `list` shows it
    #[arg(value_name = "DIR")]
    name: PathBuf,
    /// The host that it was registered on [default: this one]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// One of them, for machines.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    backup: &'a Backup,
    /// Whether its day has passed.
    over: bool,
}

pub(super) fn run(config: &Path, command: &Command, printer: &Printer) -> Result<Exit> {
    let (_, custodian) = open(config)?;
    match command {
        Command::Add(add) => add.run(&custodian)?,
        Command::List => {}
        Command::Remove(remove) => remove.run(&custodian)?,
    }
    list(&custodian, printer)
}

impl Add {
    fn run(&self, custodian: &Custodian) -> Result<()> {
        if let Some(until) = self.until.filter(|until| *until <= System.now()) {
            return Err(Error::new(Kind::Config, format!("{until} has passed")));
        }
        let (name, needs) = match self.unread {
            true => (self.name.display().to_string(), None),
            false => (full(&self.name)?, Some(needs(&self.name, custodian)?)),
        };
        let host = mark::host();
        let what = match &needs {
            Some(needs) => format!("{} versions", needs.len()),
            None => "every version".to_owned(),
        };
        let text = self.reason.clone().unwrap_or(format!("{name} on {host} keeps {what}"));
        let actor = privilege::actor();
        let reason = Reason { actor: &actor, text: &text };
        let new = DataBackup { name, host, until: self.until, needs };
        custodian.manager()?.register_backup(new, reason)
    }
}

impl Remove {
    fn run(&self, custodian: &Custodian) -> Result<()> {
        let here = mark::host();
        let host = self.host.as_deref().unwrap_or(&here);
        let mut manager = custodian.manager()?;
        let is_there = |name: &str| {
            let all = manager.contents().map(|found| &found.registers().backups);
            all.is_some_and(|all| all.iter().any(|one| one.name == name && one.host == host))
        };
        let given = self.name.display().to_string();
        let name = if is_there(&given) { given } else { full(&self.name)? };
        let text = self.reason.clone().unwrap_or(format!("{name} on {host} is gone"));
        let actor = privilege::actor();
        manager.unregister_backup(host, &name, Reason { actor: &actor, text: &text })
    }
}

/// The path from the root on.
fn full(path: &Path) -> Result<String> {
    let full = path.canonicalize().or_else(|_| std::path::absolute(path));
    let full = full.map_err(|cause| Error::io("cannot find", path, &cause))?;
    Ok(full.display().to_string())
}

/// The versions that the files in `folder` need; an error where that cannot be told, or they are of another
/// keystore.
fn needs(folder: &Path, custodian: &Custodian) -> Result<Vec<KeyRef>> {
    let reports = scan::of_backup(folder)?;
    let keys = Keys::of(custodian);
    let mut needs = BTreeSet::new();
    for report in &reports {
        let file = report.file.display();
        if let Some(why) = report.unknown.first() {
            return Err(Error::new(Kind::State, format!("{file}: {why}")).advise(
                "prepare the backup first, or register it with --unread: it keeps every version that there is now",
            ));
        }
        let of_others = report.needs.iter().any(|need| keys.is_another(report, Some(need)));
        if of_others || keys.is_another(report, None) {
            let what = format!("{file} is encrypted with another key than the keystore has");
            return Err(Error::new(Kind::State, what)
                .advise("register it in the keystore of the server that it is of"));
        }
        needs.extend(scan::needs(report));
    }
    Ok(needs.into_iter().collect())
}

fn list(custodian: &Custodian, printer: &Printer) -> Result<Exit> {
    let (manager, now) = (custodian.manager()?, System.now());
    let all = manager.contents().map(|found| found.registers().backups.clone());
    let all = all.unwrap_or_default();
    let rows: Vec<Row<'_>> =
        all.iter().map(|backup| Row { over: backup.is_over(now), backup }).collect();
    let cells = |Row { backup, over }: &Row<'_>| {
        let Backup { name, host, made, until, needs, .. } = backup;
        let until = match (until, over) {
            (None, _) => "removed".to_owned(),
            (Some(until), false) => until.to_string(),
            (Some(until), true) => format!("{until}, over"),
        };
        let keeps = match needs {
            Some(needs) => format!("{} versions", needs.len()),
            None => "all versions".to_owned(),
        };
        vec![plain(name), plain(host), made.to_string(), until, keeps]
    };
    let cells: Vec<_> = rows.iter().map(cells).collect();
    let text = match cells.is_empty() {
        true => "no backup is registered\n".to_owned(),
        false => table(&["BACKUP", "HOST", "REGISTERED", "UNTIL", "KEEPS"], &cells),
    };
    printer.show(&rows, &text)?;
    Ok(Exit::Success)
}
