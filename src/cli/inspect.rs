//! `keyward inspect`: which key versions data files need, read from the files alone.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cli::helpers::confine;
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::open;
use crate::cli::helpers::print::{Printer, plain, table};
use crate::cli::helpers::proven::Keys;
use crate::drill::Unwraps;
use crate::error::Result;
use crate::inspect::{self, Kind, Need, Report, Use};
use crate::report::{MISSING, WRONG};

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
    /// In the order of `needs`: the state, `missing`, `wrong key` where it does not open the page, or
    /// nothing where there is no keystore.
    #[serde(skip_serializing_if = "Option::is_none")]
    states: Option<Vec<String>>,
    /// Whether the keystore's key opens a tablespace or log of MySQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    opens: Option<Unwraps>,
}

pub(super) fn run(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    let mut reports = confine::reading(|| {
        let (files, mut reports) = inspect::walk(&options.paths);
        reports.extend(files.iter().map(|file| inspect::file(file)));
        reports
    })?;
    reports.sort_by(|a, b| a.file.cmp(&b.file));
    // Without a keystore that opens, everything else is told all the same.
    let opened = open(config).ok();
    let keys = opened.as_ref().map(|(_, custodian)| Keys::of(custodian));
    let shown: Vec<_> = reports.iter().filter(|report| options.all || tells(report)).collect();
    let seen: Vec<_> = shown.iter().map(|report| Seen::of(report, keys.as_ref())).collect();
    printer.show(&seen, &text(&seen, reports.len()))?;
    let unclear = reports.iter().any(|report| !report.unknown.is_empty());
    let wrong = seen.iter().any(Seen::is_wrong);
    Ok(if unclear || wrong { Exit::Failure } else { Exit::Success })
}

impl<'a> Seen<'a> {
    fn of(report: &'a Report, keys: Option<&Keys<'_>>) -> Self {
        let states = keys
            .map(|keys| report.needs.iter().map(|need| keys.state(&report.file, need)).collect());
        let opens = keys.and_then(|keys| keys.opens(report));
        Self { report, states, opens }
    }

    /// Whether the keystore lacks a key that the file needs, or has another of that name or number.
    fn is_wrong(&self) -> bool {
        let of_mysql = matches!(self.opens, Some(Unwraps::WrongKey | Unwraps::Missing));
        of_mysql || self.numbered(WRONG).next().is_some() || self.lacks().next().is_some()
    }

    /// The needs that the keystore says `state` of.
    fn numbered(&self, state: &str) -> impl Iterator<Item = &Need> {
        let states = self.states.iter().flatten();
        let needs = self.report.needs.iter().zip(states);
        needs.filter(move |(_, is)| *is == state).map(|(need, _)| need)
    }

    /// The needs of data in use that the keystore does not have. Freed pages nobody will read again.
    fn lacks(&self) -> impl Iterator<Item = &Need> {
        self.numbered(MISSING).filter(|need| need.usage == Use::InUse)
    }

    /// The state of the `n`-th need; a dash where there is no keystore.
    fn state(&self, n: usize) -> String {
        let state = self.states.as_ref().and_then(|states| states.get(n));
        state.cloned().unwrap_or_else(|| "-".to_owned())
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let Report { file, format, needs, pages, .. } = self.report;
        let file = file.display().to_string();
        let row = |cells: [String; 5]| {
            let [key, version, state, usage, count] = cells;
            vec![file.clone(), key, version, state, usage, count, format.clone()]
        };
        let dash = || "-".to_owned();
        if let Some(name) = self.report.keyring_key() {
            let state = match self.opens {
                Some(Unwraps::Opens) => "opens",
                Some(Unwraps::Held) => "held",
                Some(Unwraps::WrongKey) => WRONG,
                Some(Unwraps::Missing) => MISSING,
                None => "-",
            };
            let count = if *pages == 0 { 1 } else { *pages };
            let name = name.to_string();
            return vec![row([name, dash(), state.into(), "in use".into(), count.to_string()])];
        }
        if needs.is_empty() {
            return vec![row([dash(), dash(), dash(), dash(), dash()])];
        }
        let cells = |(n, need): (usize, &Need)| {
            let usage = match need.usage {
                Use::InUse => "in use",
                Use::Freed => "freed",
            };
            let (key, version) = (need.id.to_string(), need.version.to_string());
            row([key, version, self.state(n), usage.to_owned(), need.count.to_string()])
        };
        needs.iter().enumerate().map(cells).collect()
    }
}

fn tells(report: &Report) -> bool {
    !report.needs.is_empty()
        || !report.unknown.is_empty()
        || report.keyring_key().is_some()
        || matches!(report.kind, Kind::Tablespace)
}

fn text(seen: &[Seen<'_>], files: usize) -> String {
    let rows: Vec<_> = seen.iter().flat_map(Seen::rows).collect();
    let mut text = table(&["FILE", "KEY", "VERSION", "STATE", "PAGES", "COUNT", "FORMAT"], &rows);
    for seen in seen {
        let file = plain(&seen.report.file.display().to_string());
        for why in &seen.report.unknown {
            text += &format!("unclear: {file}: {}\n", plain(why));
        }
        if let Some(name) = seen.report.keyring_key() {
            text += &match seen.opens {
                Some(Unwraps::WrongKey) => {
                    format!("wrong key: {file}: the keystore's {name} does not open it\n")
                }
                Some(Unwraps::Missing) => format!("missing: {file}: the keystore has no {name}\n"),
                Some(Unwraps::Opens | Unwraps::Held) | None => String::new(),
            };
        }
        for Need { id, version, first, .. } in seen.numbered(WRONG) {
            text += &format!(
                "wrong key: {file}: the keystore's key {id} version {version} does not open page {first}\n"
            );
        }
        for Need { id, version, .. } in seen.lacks() {
            text += &format!("missing: {file}: the keystore has no key {id} version {version}\n");
        }
    }
    let without = files - seen.len();
    if without > 0 {
        text += &format!("{without} files need no key\n");
    }
    text
}
