//! `keyward inspect`: which key versions data files need, read from the files alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::print::{Printer, plain, table};
use super::{Exit, open};
use crate::error::Result;
use crate::inspect::{self, Kind, Need, Report, Use};
use crate::key::{KeyName, KeyState};

#[derive(clap::Args)]
pub(super) struct Options {
    /// Data files, or folders of them
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Show files that need no key, too
    #[arg(long)]
    all: bool,
}

/// A report, with what the keystore says of each version.
#[derive(Serialize)]
struct Seen<'a> {
    #[serde(flatten)]
    report: &'a Report,
    /// In the order of `needs`: the state, `missing`, or nothing where there is no keystore.
    #[serde(skip_serializing_if = "Option::is_none")]
    states: Option<Vec<String>>,
}

type States = BTreeMap<(u32, u32), KeyState>;

pub(super) fn run(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    // The files are read as who we are; the keystore's owner may not be able to.
    let (files, mut reports) = inspect::walk(&options.paths);
    reports.extend(files.iter().map(|file| inspect::file(file)));
    reports.sort_by(|a, b| a.file.cmp(&b.file));
    let states = states(config);
    let shown: Vec<_> = reports.iter().filter(|report| options.all || tells(report)).collect();
    let seen: Vec<_> = shown
        .iter()
        .map(|report| Seen {
            report,
            states: states
                .as_ref()
                .map(|states| report.needs.iter().map(|need| state(need, Some(states))).collect()),
        })
        .collect();
    printer.show(&seen, &text(&shown, reports.len(), states.as_ref()))?;
    let unclear = reports.iter().any(|report| !report.unknown.is_empty());
    Ok(if unclear { Exit::Failure } else { Exit::Success })
}

/// The versions in the keystore, where there is one that opens. Without, everything else is told
/// all the same.
fn states(config: &Path) -> Option<States> {
    let (_, custodian) = open(config).ok()?;
    let keys = custodian.keys().into_iter().filter_map(|info| match info.key.name {
        KeyName::Id(id) => Some(((id.get(), info.key.version.get()), info.state)),
        KeyName::Named { .. } => None,
    });
    Some(keys.collect())
}

fn state(need: &Need, states: Option<&States>) -> String {
    match states {
        None => "-".to_owned(),
        Some(states) => states
            .get(&(need.id.get(), need.version.get()))
            .map_or_else(|| "missing".to_owned(), ToString::to_string),
    }
}

fn tells(report: &Report) -> bool {
    !report.needs.is_empty()
        || !report.unknown.is_empty()
        || matches!(report.kind, Kind::Tablespace)
}

fn text(reports: &[&Report], files: usize, states: Option<&States>) -> String {
    let mut rows = Vec::new();
    for report in reports {
        let file = report.file.display().to_string();
        if report.needs.is_empty() {
            let row = [&file, "-", "-", "-", "-", "-", &report.format];
            rows.push(row.map(str::to_owned).to_vec());
        }
        for need in &report.needs {
            let usage = match need.usage {
                Use::InUse => "in use",
                Use::Freed => "freed",
            };
            rows.push(vec![
                file.clone(),
                need.id.to_string(),
                need.version.to_string(),
                state(need, states),
                usage.to_owned(),
                need.count.to_string(),
                report.format.clone(),
            ]);
        }
    }
    let mut text = table(&["FILE", "KEY", "VERSION", "STATE", "PAGES", "COUNT", "FORMAT"], &rows);
    for report in reports {
        for why in &report.unknown {
            text += &format!(
                "unclear: {}: {}\n",
                plain(&report.file.display().to_string()),
                plain(why)
            );
        }
    }
    let without = files - reports.len();
    if without > 0 {
        text += &format!("{without} files need no key\n");
    }
    text
}
