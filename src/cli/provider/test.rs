//! `keyward provider test`: whether a key store does what it is configured for.

#![forbid(unsafe_code)]

use std::path::Path;

use serde::Serialize;

use crate::assemble::{self, Trial, Tried};
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::env;
use crate::cli::helpers::print::{Mark, Printer, plain};
use crate::config::Config;
use crate::error::Result;

pub(super) const EXAMPLES: &str = "\
Examples:
  keyward provider test               each provider in turn; exit code 1 if one fails
  keyward provider test kms-ireland   this one alone, whatever its log-in costs";

#[derive(clap::Args)]
pub(in crate::cli) struct Options {
    /// The provider, by its name in the configuration [default: all but those whose log-in may use up a
    /// credential]
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// One provider's line, for machines.
#[derive(Serialize)]
struct Line {
    provider: String,
    #[serde(rename = "type")]
    kind: String,
    outcome: Mark,
    milliseconds: u128,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

pub(super) fn run(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    let config = Config::load(config)?;
    let trials = assemble::try_out(&config, options.name.as_deref(), &env())?;
    show(trials, printer)
}

/// Prints what `trials` showed.
pub(super) fn show(trials: Vec<Trial>, printer: &Printer) -> Result<Exit> {
    let lines: Vec<Line> = trials.into_iter().map(Line::of).collect();
    let text: String = lines.iter().map(Line::text).collect();
    printer.show(&lines, &text)?;
    let is_bad = lines.iter().any(|line| line.outcome == Mark::Failed);
    Ok(if is_bad { Exit::Failure } else { Exit::Success })
}

impl Line {
    fn of(trial: Trial) -> Self {
        let Trial { name, kind, took, outcome } = trial;
        let (outcome, what, place, advice) = match outcome {
            Ok(Tried::Wraps { place }) => {
                (Mark::Ok, "wraps and unwraps a random key".to_owned(), Some(place), None)
            }
            Ok(Tried::Serves { versions, place }) => {
                let s = if versions == 1 { "" } else { "s" };
                (Mark::Ok, format!("lists {versions} key version{s}"), Some(place), None)
            }
            Ok(Tried::Spared(why)) => {
                let advice = format!("`keyward provider test {name}` tries it all the same");
                (Mark::Skipped, why.to_owned(), None, Some(advice))
            }
            Err(error) => {
                let advice = error.advice().map(str::to_owned);
                (Mark::Failed, error.what().to_owned(), None, advice)
            }
        };
        let milliseconds = took.as_millis();
        Self { provider: name, kind, outcome, milliseconds, what, place, advice }
    }

    fn text(&self) -> String {
        let Self { provider, kind, outcome, milliseconds, what, .. } = self;
        let place = self.place.as_ref().map_or_else(String::new, |place| format!(": {place}"));
        let how = match outcome {
            Mark::Skipped => format!(": {what}"),
            Mark::Failed => format!(" failed after {milliseconds} ms: {what}"),
            Mark::Ok | Mark::Warning => format!(" {what} in {milliseconds} ms{place}"),
        };
        let line = format!("provider {provider:?} ({kind}){how}");
        let advice = self.advice.as_ref();
        let advice = advice.map_or_else(String::new, |text| format!("      -> {}\n", plain(text)));
        format!("{}  {}\n{advice}", outcome.painted(), plain(&line))
    }
}
