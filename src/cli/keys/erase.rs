//! `keyward keys erase`: cryptographic erasure. What a key encrypts becomes unreadable, on purpose.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cli::helpers::arguments::parse_id;
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::open;
use crate::cli::helpers::print::{Printer, plain_lines};
use crate::cli::helpers::{belongs, privilege, scan};
use crate::config::Config;
use crate::custodian::Custodian;
use crate::env::{Clock as _, System};
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Line, Trail};
use crate::inspect::{Report, Use};
use crate::key::{KeyId, KeyRef};
use crate::manager::Erasure;
use crate::mark;
use crate::source::Reason;
use crate::store::{Backup, Contents, DataDirectory};

#[derive(clap::Args)]
pub(in crate::cli) struct Options {
    /// The key, as ENCRYPTION_KEY_ID names it: all its versions go
    #[arg(value_name = "ID", value_parser = parse_id)]
    id: KeyId,
    /// A data directory, or another folder where the server keeps files [default: those on this machine that
    /// are registered in the keystore]
    #[arg(long, value_name = "DIR")]
    datadir: Vec<PathBuf>,
    /// The mark of a registered data directory that no longer exists [`keyward status` lists them]
    #[arg(long, value_name = "MARK_ID")]
    gone: Vec<String>,
    /// The word that a call without it prints, with what becomes unreadable
    #[arg(long, value_name = "WORD")]
    confirm: Option<String>,
    /// Why, for the history
    #[arg(long, default_value = "keyward keys erase", value_name = "TEXT")]
    reason: String,
}

/// What goes, or has gone; for machines as well.
#[derive(Serialize)]
struct Shown {
    key: KeyId,
    versions: Vec<KeyRef>,
    /// Files that need the key.
    unreadable: Vec<PathBuf>,
    /// Registered backups of data that need it.
    backups: Vec<String>,
    /// Files that may need it, and why that is not known.
    unclear: Vec<String>,
    /// Copies of the key that stay.
    copies: Vec<String>,
    /// What is to be given as --confirm.
    confirm: String,
    erased: bool,
}

pub(super) fn run(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    let (config, custodian) = open(config)?;
    let id = options.id;
    let versions = custodian.manager()?.may_erase(id)?;
    let datadirs = options.datadirs(&custodian)?;
    let judged = belongs::judge(&datadirs, &options.gone, &custodian)?;
    let reports = scan::of_any(&datadirs)?;
    belongs::check(&datadirs, &custodian)?;
    let (unreadable, unclear) = losses(&reports, id);
    let (erasure, digest, backups) = {
        let manager = custodian.manager()?;
        let contents = manager.contents().ok_or_else(not_open)?;
        let backups = backups(contents, &versions);
        let files = unreadable.iter().map(|file| file.display().to_string()).chain(backups.clone());
        let losses = files.map(|file| format!("unreadable: {file}"));
        let losses = losses.chain(unclear.iter().map(|file| format!("may be unreadable: {file}")));
        let erasure = Erasure { id, losses: losses.collect(), judged };
        let digest = erasure.subject(contents)?.digest().to_string();
        (erasure, digest, backups)
    };
    let copies = copies(&config, &versions);
    let confirm = format!("erase-{id}-{}", &digest[..8]);
    let erased = false;
    let mut shown =
        Shown { key: id, versions, unreadable, backups, unclear, copies, confirm, erased };
    if options.confirm.as_ref() == Some(&shown.confirm) {
        let actor = privilege::actor();
        let reason = Reason { actor: &actor, text: &options.reason };
        custodian.manager()?.erase(&erasure, reason)?;
        shown.erased = true;
    }
    printer.show(&shown, &plain_lines(&shown.text()))?;
    if options.confirm.is_some() && !shown.erased {
        let what = "what becomes unreadable is not what was confirmed";
        printer.error(&Error::new(Kind::State, what).advise("read it again, and confirm that"));
        return Ok(Exit::Failure);
    }
    Ok(Exit::Success)
}

impl Options {
    fn datadirs(&self, custodian: &Custodian) -> Result<Vec<PathBuf>> {
        if !self.datadir.is_empty() {
            return Ok(self.datadir.clone());
        }
        let here = mark::host();
        let gone = |one: &DataDirectory| self.gone.contains(&one.mark);
        let all = custodian.data_directories().into_iter();
        let own = all.filter(|one| one.host == here && !gone(one));
        let own: Vec<_> = own.map(|one| PathBuf::from(one.path)).collect();
        match own.is_empty() {
            true => {
                Err(Error::new(Kind::Config, "no data directory on this machine is registered")
                    .advise(
                        "name the server's with --datadir: what becomes unreadable is read there",
                    ))
            }
            false => Ok(own),
        }
    }
}

/// The files that need key `id`, and those that say too little.
fn losses(reports: &[Report], id: KeyId) -> (Vec<PathBuf>, Vec<String>) {
    let needs = |report: &&Report| {
        report.needs.iter().any(|need| need.id == id && need.usage == Use::InUse)
    };
    let mut unreadable: Vec<_> = reports.iter().filter(needs).map(|one| one.file.clone()).collect();
    unreadable.sort();
    let unclear = reports.iter().filter(|one| !one.unknown.is_empty() && !needs(one));
    let mut unclear: Vec<_> =
        unclear.map(|one| format!("{} ({})", one.file.display(), one.unknown.join(", "))).collect();
    unclear.sort();
    (unreadable, unclear)
}

/// The registered backups of data that need one of `versions`.
fn backups(contents: &Contents, versions: &[KeyRef]) -> Vec<String> {
    let now = System.now();
    let needs = |one: &&Backup| {
        let entry = |key: &KeyRef| contents.key(&key.name)?.version(key.version);
        let needs = |key| entry(key).is_some_and(|entry| one.needs(key, entry.since()));
        !one.is_over(now) && versions.iter().any(needs)
    };
    let line = |one: &Backup| {
        let on = if one.host.is_empty() { String::new() } else { format!(" on {}", one.host) };
        let until = one.until.map_or(String::new(), |until| format!(" until {until}"));
        format!("backup {}{on}, registered{until}", one.name)
    };
    contents.registers().backups.iter().filter(needs).map(line).collect()
}

/// Copies of the keys that still have one of `versions`, as far as the trail knows.
fn copies(config: &Config, versions: &[KeyRef]) -> Vec<String> {
    let trail = Trail::beside(&config.keystore.path).salvage();
    let lines = trail.map(|(lines, _)| lines).unwrap_or_default();
    let is_copy = |line: &&Line| {
        matches!(line.event, Event::BackedUp | Event::Exported)
            && line.keys.iter().any(|key| versions.contains(key))
    };
    let noted = lines.iter().filter(is_copy).map(|line| {
        let what = if line.event == Event::Exported { "plain copy" } else { "backup" };
        format!("{what} made {} by {} ({})", line.at, line.actor, line.reason)
    });
    noted.collect()
}

fn not_open() -> Error {
    Error::new(Kind::Internal, "the keystore is not open")
}

impl Shown {
    fn text(&self) -> String {
        let (key, n) = (self.key, self.versions.len());
        let (is, becomes) = match self.erased {
            true => ("are destroyed", "is unreadable as soon as its server restarts, and for ever"),
            false => ("would be destroyed at once", "would be unreadable, for ever"),
        };
        let mut text = format!("all {n} versions of key {key} {is}\n");
        let section = |head: &str, lines: &[String]| match lines.is_empty() {
            true => String::new(),
            false => format!(
                "{head}:\n{}",
                lines.iter().map(|line| format!("  {line}\n")).collect::<String>()
            ),
        };
        let files: Vec<_> = self.unreadable.iter().map(|file| file.display().to_string()).collect();
        text += &match files.is_empty() {
            true => format!("no file that was looked at needs key {key}\n"),
            false => section(becomes, &files),
        };
        text += &section("and with it", &self.backups);
        text += &section("may need it as well", &self.unclear);
        text += &section("still has the key until it is deleted", &self.copies);
        text += "copies of the data itself, and of the keystore's folder, are elsewhere: delete those that are older\n";
        text += &match self.erased {
            true => "a server that runs has the key in memory: restart it\n".to_owned(),
            false => format!(
                "nothing was changed; to go on, give the same call with --confirm {}\n",
                self.confirm
            ),
        };
        text
    }
}
