//! `keyward provider list`: which key stores are configured, and which wrap the keystore.

#![forbid(unsafe_code)]

use std::path::Path;

use serde::Serialize;

use crate::assemble::{self, Standing};
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::env;
use crate::cli::helpers::print::{Printer, table};
use crate::config::Config;
use crate::error::{Error, Result};

pub(super) const EXAMPLES: &str = "\
Examples:
  keyward provider list          the providers in their order of preference
  keyward --json provider list   the same for machines";

/// One provider's line, for machines.
#[derive(Serialize)]
struct Line<'a> {
    provider: &'a str,
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    serves: Option<bool>,
    wraps_keystore: Option<bool>,
    error: Option<String>,
}

pub(super) fn run(config: &Path, printer: &Printer) -> Result<Exit> {
    let config = Config::load(config)?;
    let standings = assemble::standings(&config, &env())?;
    let lines: Vec<Line<'_>> = standings.iter().map(Line::of).collect();
    let rows: Vec<_> = standings.iter().map(row).collect();
    let text = table(&["PROVIDER", "TYPE", "DOES", "KEYSTORE"], &rows);
    printer.show(&lines, &text)?;
    let failures: Vec<&Error> = standings.iter().filter_map(|one| one.failure.as_ref()).collect();
    failures.iter().for_each(|error| printer.error(error));
    Ok(if failures.is_empty() { Exit::Success } else { Exit::Failure })
}

impl<'a> Line<'a> {
    fn of(one: &'a Standing) -> Self {
        Self {
            provider: &one.name,
            kind: one.kind.as_deref(),
            serves: one.serves,
            wraps_keystore: one.wraps,
            error: one.failure.as_ref().map(ToString::to_string),
        }
    }
}

fn row(one: &Standing) -> Vec<String> {
    let does = match (one.serves, &one.failure) {
        (Some(true), _) => "serves",
        (Some(false), _) => "wraps",
        (None, Some(_)) => "cannot be used",
        (None, None) => "not configured",
    };
    let keystore = match one.wraps {
        Some(true) => "wraps it",
        Some(false) => "does not wrap it",
        None => "-",
    };
    let kind = one.kind.as_deref().unwrap_or("-");
    [&one.name, kind, does, keystore].map(str::to_owned).to_vec()
}
