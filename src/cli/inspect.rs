//! `keyward inspect`: which key versions data files need, read from the files alone.

#![forbid(unsafe_code)]

mod text;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cli::helpers::confine;
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::open;
use crate::cli::helpers::print::Printer;
use crate::cli::helpers::proven::Keys;
use crate::cli::helpers::scan;
use crate::drill::Unwraps;
use crate::error::Result;
use crate::inspect::{self, Kind, Need, Report, Use};
use crate::report::{self, MISSING, WRONG};

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
    let running = options.paths.iter().filter(|path| scan::is_running(path)).collect::<Vec<_>>();
    for report in &mut reports {
        if running.iter().any(|datadir| report.file.starts_with(datadir)) {
            report.forgive_unclean();
        }
    }
    // Without a keystore that opens, everything else is told all the same.
    let opened = open(config).ok();
    let keys = opened.as_ref().map(|(_, custodian)| Keys::of(custodian));
    let mut seen: Vec<_> = reports.iter().map(|report| Seen::of(report, keys.as_ref())).collect();
    let infos = opened.as_ref().map(|(_, custodian)| custodian.keys()).unwrap_or_default();
    // A key is proven on a page once.
    let is_another = |report: &Report, need: Option<&Need>| {
        let place = seen.binary_search_by(|one| one.report.file.cmp(&report.file));
        place.is_ok_and(|place| seen[place].is_another(need))
    };
    let data = report::data(&options.paths, &reports, &infos, is_another);
    seen.retain(|one| options.all || tells(one.report));
    let text = text::of(&options.paths, &seen, &data, opened.is_some());
    printer.show(&seen, &text)?;
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

    /// Whether the keystore's key is another one than that of `need`, or than the master key of MySQL's.
    fn is_another(&self, need: Option<&Need>) -> bool {
        match need {
            Some(need) => self.numbered(WRONG).any(|wrong| wrong == need),
            None => self.opens == Some(Unwraps::WrongKey),
        }
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
}

fn tells(report: &Report) -> bool {
    !report.needs.is_empty()
        || !report.unknown.is_empty()
        || report.keyring_key().is_some()
        || matches!(report.kind, Kind::Tablespace)
        || report::in_the_clear(report).is_some()
}
