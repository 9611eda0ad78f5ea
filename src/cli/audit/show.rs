//! `keyward audit show`: lines of the trail, for people.

#![forbid(unsafe_code)]

use std::path::Path;
use std::time::Duration;

use super::filter::Filter;
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::print::{Printer, plain, table};
use crate::error::Result;
use crate::event::{Event, Line};

/// How many keys a row names.
const NAMED: usize = 3;

/// How often a followed trail is looked at.
const EVERY: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(in crate::cli) struct Options {
    #[command(flatten)]
    filter: Filter,
    /// Only the last so many lines
    #[arg(long, value_name = "N")]
    last: Option<usize>,
    /// Go on with new lines until Ctrl-C
    #[arg(long)]
    follow: bool,
}

pub(super) fn run(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    let mut lines = options.filter.lines(config, printer)?;
    let seen = lines.last().map_or(0, |line| line.number);
    if let Some(last) = options.last {
        lines.drain(..lines.len().saturating_sub(last));
    }
    printer.show(&lines, &text(&lines))?;
    match options.follow {
        true => follow(config, options, seen, printer),
        false => Ok(Exit::Success),
    }
}

/// Shows what comes after the line `seen`, until the call is ended.
fn follow(config: &Path, options: &Options, mut seen: u64, printer: &Printer) -> Result<Exit> {
    loop {
        std::thread::sleep(EVERY);
        let new = options.filter.lines_after(seen, config)?;
        if let Some(last) = new.last() {
            seen = last.number;
            printer.show(&new, &rows(&new))?;
        }
    }
}

fn text(lines: &[Line]) -> String {
    table(&["LINE", "TIME", "EVENT", "GENERATION", "KEYS", "ACTOR", "REASON"], &cells(lines))
}

/// The same without a head.
fn rows(lines: &[Line]) -> String {
    cells(lines).iter().map(|row| plain(&row.join("  ")) + "\n").collect()
}

fn cells(lines: &[Line]) -> Vec<Vec<String>> {
    let row = |line: &Line| {
        vec![
            line.number.to_string(),
            line.at.to_string(),
            line.event.to_string(),
            line.generation.to_string(),
            keys(line),
            line.actor.clone(),
            reason(line),
        ]
    };
    lines.iter().map(row).collect()
}

/// A checkpoint's text is for programs: people see which line it is of.
fn reason(line: &Line) -> String {
    match (line.event, line.reason.lines().nth(1)) {
        (Event::Checkpointed, Some(number)) => format!("line {number} is signed"),
        _ => line.reason.clone(),
    }
}

fn keys(line: &Line) -> String {
    let named: Vec<_> = line.keys.iter().take(NAMED).map(ToString::to_string).collect();
    match line.keys.len().saturating_sub(NAMED) {
        0 if named.is_empty() => "-".to_owned(),
        0 => named.join(", "),
        more => format!("{}, {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_somebody_prepared_is_one_line() {
        let line = serde_json::json!({
            "number": 1, "at": "2026-11-30T00:00:00Z", "event": "rotated", "keys": [], "generation": 1,
            "actor": "a\nb", "reason": "\u{1b}[2J", "previous": "",
        });
        let lines = [serde_json::from_value::<Line>(line).unwrap()];
        for shown in [text(&lines), rows(&lines)] {
            assert!(shown.contains("a\\nb") && !shown.contains("\u{1b}[2J"), "{shown:?}");
        }
    }
}
