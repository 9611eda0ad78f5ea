//! `keyward keystore accept-rollback`: an older copy of the keystore is the one to go on with.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::assemble;
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::env;
use crate::cli::helpers::print::{Printer, plain, plain_lines};
use crate::cli::helpers::{privilege, scan, trail};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Line};
use crate::inspect::Report;
use crate::key::{KeyName, KeyRef};
use crate::manager::Rollback;
use crate::source::Reason;
use crate::store::{Contents, Revision};

/// Where a server keeps its data unless it is told otherwise.
const DEFAULT_DATADIR: &str = "/var/lib/mysql";
/// How many files are named for a lost version.
const MAX_NAMED: usize = 3;

#[derive(clap::Args)]
pub(in crate::cli) struct Options {
    /// Why the newer copy cannot be had, for the audit trail
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Show what is lost and what needs it, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// A data directory, to look for pages that need a lost version [default: /var/lib/mysql, where
    /// a server keeps data there]
    #[arg(long, value_name = "DIR")]
    datadir: Vec<PathBuf>,
    /// Go on though data files need a version that is lost: nobody will read that data again
    #[arg(long)]
    lose_data: bool,
}

/// A key version that the keystore does not have.
#[derive(Serialize)]
struct Lost {
    key: KeyRef,
    /// The generation that the audit trail tells of it; none where only data files do.
    generation: Option<u64>,
    /// The data files in use that need it.
    needed_by: Vec<PathBuf>,
}

/// What is, or would be, accepted; for machines as well.
#[derive(Serialize)]
struct Plan {
    refused: String,
    /// What is in force, or would be.
    in_force: Revision,
    lost: Vec<Lost>,
    /// Whether more may be lost than the audit trail tells.
    trail_damaged: bool,
    /// The data directories that were looked at.
    datadirs: Vec<PathBuf>,
    accepted: bool,
}

pub(super) fn run(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    let config = Config::load(config)?;
    let rollback = assemble::rollback(&config, &env())?;
    let trail = trail::salvage(&config);
    let datadirs = options.datadirs();
    let reports = match datadirs.is_empty() {
        true => Vec::new(),
        false => scan::of_stopped(&datadirs)?,
    };
    let (lines, trail_damaged) = trail.unwrap_or((Vec::new(), true));
    let Rollback { refused, contents } = rollback;
    let lost = lost(&contents, &lines, trail_damaged, &reports);
    let in_force = contents.revision();
    let mut plan = Plan { refused, in_force, lost, trail_damaged, datadirs, accepted: false };
    if let Some(text) = options.reason.as_deref().filter(|_| !options.dry_run) {
        plan.refuse_needed(options.lose_data)?;
        let actor = privilege::actor();
        let reason = Reason { actor: &actor, text };
        let lost = plan.lost_lines();
        plan.in_force = assemble::accept_rollback(&config, &lost, reason, &env())?;
        plan.accepted = true;
    }
    printer.show(&plan, &plain_lines(&plan.text()))?;
    Ok(Exit::Success)
}

impl Options {
    fn datadirs(&self) -> Vec<PathBuf> {
        let usual = Path::new(DEFAULT_DATADIR);
        match self.datadir.is_empty() && usual.join("ibdata1").exists() {
            true => vec![usual.to_owned()],
            false => self.datadir.clone(),
        }
    }
}

/// The versions that the keystore lacks: those that the trail tells of and nobody destroyed, and those
/// that data files need. Of a damaged trail, what was only intended counts as well.
fn lost(contents: &Contents, lines: &[Line], damaged: bool, reports: &[Report]) -> Vec<Lost> {
    let lacks = |key: &KeyRef| contents.info(key).is_none();
    let mut lost: BTreeMap<KeyRef, Lost> = BTreeMap::new();
    for line in lines.iter().filter(|line| damaged || line.event != Event::Intended) {
        for key in line.keys.iter().filter(|key| lacks(key)) {
            if line.event == Event::Destroyed {
                lost.remove(key);
                continue;
            }
            let new = || Lost { key: key.clone(), generation: None, needed_by: Vec::new() };
            let first = lost.entry(key.clone()).or_insert_with(new);
            first.generation.get_or_insert(line.generation);
        }
    }
    for report in reports {
        for key in scan::needs(report).filter(|key| lacks(key)) {
            let new = || Lost { key: key.clone(), generation: None, needed_by: Vec::new() };
            lost.entry(key.clone()).or_insert_with(new).needed_by.push(report.file.clone());
        }
    }
    lost.into_values().collect()
}

impl Lost {
    /// The files that need it, a few by name.
    fn files(&self) -> String {
        let named: Vec<_> = self
            .needed_by
            .iter()
            .take(MAX_NAMED)
            .map(|file| plain(&file.display().to_string()))
            .collect();
        match self.needed_by.len().saturating_sub(MAX_NAMED) {
            0 => named.join(", "),
            more => format!("{} and {more} more", named.join(", ")),
        }
    }
}

impl Plan {
    /// Refuses to give up what data files need, unless that was said.
    fn refuse_needed(&self, lose_data: bool) -> Result<()> {
        let needed: Vec<_> = self.lost.iter().filter(|lost| !lost.needed_by.is_empty()).collect();
        if lose_data || needed.is_empty() {
            return Ok(());
        }
        let all: Vec<_> =
            needed.iter().map(|lost| format!("{} by {}", lost.key, lost.files())).collect();
        let what = format!("data files need versions that are lost: {}", all.join("; "));
        Err(Error::new(Kind::State, what).advise(
            "put the newest copy of the keystore back; only if that data may be lost, give --lose-data",
        ))
    }

    /// What is given up, for those who approve of it.
    fn lost_lines(&self) -> Vec<String> {
        let line = |lost: &Lost| match lost.needed_by.is_empty() {
            true => format!("lost: {}", lost.key),
            false => format!("lost: {}, needed by {}", lost.key, lost.files()),
        };
        self.lost.iter().map(line).collect()
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n", plain(&self.refused));
        text += &match self.accepted {
            true => format!("{} is in force now\n", self.in_force),
            false => format!("{} is what is left\n", self.in_force),
        };
        for lost in &self.lost {
            text += &match lost.generation {
                Some(generation) => format!("lost: {}, of generation {generation}\n", lost.key),
                None => format!("lost: {}\n", lost.key),
            };
            if !lost.needed_by.is_empty() {
                text += &format!("  needed by {}\n", lost.files());
            }
        }
        if self.trail_damaged {
            text += "the audit trail is damaged or missing: more may be lost than it tells\n";
        }
        if self.datadirs.is_empty() {
            text += "no data directory was looked at: name it with --datadir\n";
        }
        if self.lost.iter().any(|lost| matches!(lost.key.name, KeyName::Named { .. })) {
            text += "binary and redo logs of MySQL's elsewhere were not searched\n";
        }
        text += match self.accepted {
            true => {
                "start the servers and read every table: what a lost version encrypted is gone\n"
            }
            false => "nothing was changed\n",
        };
        text
    }
}
