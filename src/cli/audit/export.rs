//! `keyward audit export`: lines of the trail, for programs.

#![forbid(unsafe_code)]

use std::path::Path;

use clap::ValueEnum;

use super::filter::Filter;
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::print::Printer;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::event::Line;
use crate::report::cell;

/// The columns of a CSV file.
const HEAD: &str = "number,at,event,generation,keys,actor,reason,previous\n";

#[derive(clap::Args)]
pub(in crate::cli) struct Options {
    #[command(flatten)]
    filter: Filter,
    /// jsonl: the lines as they are; csv: a table with a head (RFC 4180, lines end with LF); ocsf: events of the
    /// Open Cybersecurity Schema Framework, one JSON object a line
    #[arg(long, value_enum, default_value = "jsonl")]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Jsonl,
    Csv,
    Ocsf,
}

pub(super) fn run(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    let lines = options.filter.lines(config, printer)?;
    printer.export(&match options.format {
        Format::Jsonl => lines.iter().map(json).collect::<Result<_>>()?,
        Format::Csv => HEAD.to_owned() + &lines.iter().map(csv).collect::<String>(),
        Format::Ocsf => {
            let keystore = Config::load(config)?.keystore.path;
            lines
                .iter()
                .map(|line| Ok(line.ocsf(&keystore)?.to_string() + "\n"))
                .collect::<Result<_>>()?
        }
    })?;
    Ok(Exit::Success)
}

fn json(line: &Line) -> Result<String> {
    let text = serde_json::to_string(line);
    let text = text.map_err(|e| Error::new(Kind::Internal, format!("a line is no JSON: {e}")))?;
    Ok(text + "\n")
}

fn csv(line: &Line) -> String {
    let Line { number, at, event, keys, generation, actor, reason, previous } = line;
    let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
    let cells = [
        number.to_string(),
        at.to_string(),
        event.to_string(),
        generation.to_string(),
        cell(&keys.join("; ")),
        cell(actor),
        cell(reason),
        cell(previous),
    ];
    cells.join(",") + "\n"
}
