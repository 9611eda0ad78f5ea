//! Printing: tables and marks for people, JSON for machines; colour only on a terminal.

use std::fmt::Write as _;
use std::io::Write as _;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::error::{Error, Kind, Result};

/// Prints for people or for machines.
pub(super) struct Printer {
    json: bool,
}

/// How a checked thing turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mark {
    /// As it should be.
    Ok,
    /// Works, but should be mended.
    Warning,
    /// Does not work.
    Failed,
    /// Could not be looked at.
    Skipped,
}

impl Printer {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// For machines `value`, for people `text`.
    pub(super) fn show(&self, value: &impl Serialize, text: &str) -> Result<()> {
        if !self.json {
            return write_out(text);
        }
        let mut json = serde_json::to_string_pretty(value)
            .map_err(|e| Error::new(Kind::Internal, format!("cannot write JSON: {e}")))?;
        json.push('\n');
        write_out(&json)
    }

    /// A line for people; machines have what they need.
    pub(super) fn note(&self, text: &str) -> Result<()> {
        if self.json { Ok(()) } else { write_out(text) }
    }

    /// The one line of a failure, on standard error.
    pub(super) fn error(&self, error: &Error) {
        if self.json {
            let value = serde_json::json!({ "error": error.what(), "advice": error.advice() });
            eprintln!("{value}");
        } else {
            let red = style(AnsiColor::Red);
            anstream::eprintln!("{red}keyward:{red:#} {}", plain(&error.to_string()));
        }
    }
}

impl Mark {
    /// The mark as a word of fixed width.
    pub(super) fn painted(self) -> String {
        let (word, color) = match self {
            Self::Ok => ("ok", AnsiColor::Green),
            Self::Warning => ("warn", AnsiColor::Yellow),
            Self::Failed => ("FAIL", AnsiColor::Red),
            Self::Skipped => ("skip", AnsiColor::BrightBlack),
        };
        let style = style(color);
        format!("{style}{word:<4}{style:#}")
    }
}

/// Rows under a head, columns two blanks apart.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let bold = Style::new().bold();
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let _ = writeln!(text, "{bold}{}{bold:#}", line(&head, &widths));
    for row in rows {
        let _ = writeln!(text, "{}", plain(&line(row, &widths)));
    }
    text
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let padded: Vec<_> = cells.iter().zip(widths).map(|(cell, w)| format!("{cell:<w$}")).collect();
    padded.join("  ").trim_end().to_owned()
}

/// Names come from files: without control characters they cannot play with the terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}

fn style(color: AnsiColor) -> Style {
    Style::new().fg_color(Some(color.into())).bold()
}

/// Writes to standard output; a reader who has gone away is no failure.
fn write_out(text: &str) -> Result<()> {
    match anstream::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::new(Kind::Io, format!("cannot write to standard output: {e}")))
        }
        _ => Ok(()),
    }
}
