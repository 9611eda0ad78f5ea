//! Which lines of the trail somebody wants.

#![forbid(unsafe_code)]

use std::path::Path;

use crate::cli::helpers::print::Printer;
use crate::cli::helpers::trail;
use crate::config::Config;
use crate::env::{Clock as _, System, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Line, Trail};

#[derive(clap::Args)]
pub(super) struct Filter {
    /// Only lines about this key, by its number or name
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// Only lines of this event, such as rotated
    #[arg(long, value_name = "EVENT", value_parser = parse_event)]
    event: Option<Event>,
    /// Only lines of an actor with this text in it
    #[arg(long, value_name = "TEXT")]
    actor: Option<String>,
    /// Only lines from this time on: 2026-11-30T00:00:00Z, or 30d for the last thirty days
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Timestamp>,
    /// Only lines before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<Timestamp>,
}

fn parse_event(text: &str) -> Result<Event, String> {
    serde_json::from_value(text.into()).map_err(|_| format!("{text:?} is no event of the trail"))
}

/// A time, or one so long ago.
fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(Timestamp::from_unix(System.now().as_unix().saturating_sub(ago.as_secs())));
    }
    text.parse()
        .map_err(|_| "write it as 2026-11-30T00:00:00Z, or as 30d, 12h or 5m ago".to_owned())
}

impl Filter {
    /// The lines that pass, of the trail of this configuration; a warning where it is damaged.
    pub(super) fn lines(&self, config: &Path, printer: &Printer) -> Result<Vec<Line>> {
        let (lines, damaged) = self.read(config)?;
        if damaged {
            let what = "the audit trail is not whole: `keyward audit verify` tells more";
            printer.error(&Error::new(Kind::Corrupt, what));
        }
        Ok(lines)
    }

    /// The lines that pass with a number above `seen`.
    pub(super) fn lines_after(&self, seen: u64, config: &Path) -> Result<Vec<Line>> {
        let config = Config::load(config)?;
        let (mut lines, _) = Trail::beside(&config.keystore.path).salvage_after(seen)?;
        lines.retain(|line| self.passes(line));
        Ok(lines)
    }

    fn read(&self, config: &Path) -> Result<(Vec<Line>, bool)> {
        let config = Config::load(config)?;
        let (mut lines, damaged) = trail::salvage(&config)?;
        lines.retain(|line| self.passes(line));
        Ok((lines, damaged))
    }

    fn passes(&self, line: &Line) -> bool {
        let Self { key, event, actor, since, until } = self;
        let about = |name: &String| line.keys.iter().any(|key| key.name.to_string() == *name);
        key.as_ref().is_none_or(about)
            && event.is_none_or(|event| event == line.event)
            && actor.as_ref().is_none_or(|text| line.actor.contains(text))
            && since.is_none_or(|since| since <= line.at)
            && until.is_none_or(|until| line.at < until)
    }
}
