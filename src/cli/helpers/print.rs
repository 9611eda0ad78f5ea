//! Printing: tables and marks for people, JSON for machines; colour only on a terminal.

#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write as _};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::error::{Error, Kind, Result, escaped, io_cause, plays_tricks};

/// The widest column, in characters: a longer cell stands out and does not widen every row.
const MAX_WIDTH: usize = 200;

/// Prints for people or for machines.
pub(in crate::cli) struct Printer {
    json: bool,
}

/// How a checked thing turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum Mark {
    /// As it should be.
    Ok,
    /// Works, but should be corrected.
    Warning,
    /// Does not work.
    Failed,
    /// Could not be looked at.
    Skipped,
}

impl Printer {
    pub(in crate::cli) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether machines read what is printed.
    pub(in crate::cli) fn is_json(&self) -> bool {
        self.json
    }

    /// For machines `value`, for people `text`.
    pub(in crate::cli) fn show(&self, value: &impl Serialize, text: &str) -> Result<()> {
        if !self.json {
            return write_out(text);
        }
        let mut json = serde_json::to_string_pretty(value)
            .map_err(|e| Error::new(Kind::Internal, format!("cannot write JSON: {e}")))?;
        json.push('\n');
        write_out(&tame(&json))
    }

    /// Lines for another program, whatever was asked for.
    pub(in crate::cli) fn export(&self, text: &str) -> Result<()> {
        write_out(&tame(text))
    }

    /// A line for people; machines have what they need.
    pub(in crate::cli) fn note(&self, text: &str) -> Result<()> {
        if self.json { Ok(()) } else { write_out(text) }
    }

    /// The one line of a failure, on standard error.
    pub(in crate::cli) fn error(&self, error: &Error) {
        if self.json {
            let value = serde_json::json!({ "error": error.what(), "advice": error.advice() });
            eprintln!("{}", tame(&value.to_string()));
        } else {
            let red = style(AnsiColor::Red);
            anstream::eprintln!("{red}keyward:{red:#} {}", plain(&error.to_string()));
        }
    }
}

impl Mark {
    /// The mark as a word of fixed width.
    pub(in crate::cli) fn painted(self) -> String {
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

/// Rows under a head, columns two blanks apart: numbers at the right, states in colour.
pub(in crate::cli) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let columns: Vec<Column> =
        head.iter().enumerate().map(|(n, name)| Column::of(n, name, &rows)).collect();
    let mut text = String::new();
    let bold = Style::new().bold();
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let _ = writeln!(text, "{bold}{}{bold:#}", line(&head, &columns, |_| Style::new()));
    for row in &rows {
        let _ = writeln!(text, "{}", line(row, &columns, of_state));
    }
    text
}

/// How a column is set.
struct Column {
    width: usize,
    /// Whether it has numbers, and dashes for those that there are none of.
    is_number: bool,
    has_states: bool,
}

impl Column {
    fn of(n: usize, name: &str, rows: &[Vec<String>]) -> Self {
        let cells = || rows.iter().filter_map(|row| row.get(n));
        let width = cells().map(|cell| cell.chars().count().min(MAX_WIDTH)).max();
        let digits = |cell: &str| cell.bytes().all(|byte| byte.is_ascii_digit());
        Self {
            width: width.unwrap_or_default().max(name.chars().count()),
            is_number: cells().any(|cell| cell != "-")
                && cells().all(|cell| cell == "-" || digits(cell)),
            has_states: name == "STATE",
        }
    }
}

fn line(cells: &[String], columns: &[Column], style: impl Fn(&str) -> Style) -> String {
    let mut line = String::new();
    let last = cells.len().saturating_sub(1);
    for (n, (cell, column)) in cells.iter().zip(columns).enumerate() {
        let blanks = " ".repeat(column.width.saturating_sub(cell.chars().count()));
        if column.is_number {
            line += &blanks;
        }
        let style = if column.has_states { style(cell) } else { Style::new() };
        let _ = write!(line, "{style}{cell}{style:#}");
        if n < last {
            line += if column.is_number { "" } else { &blanks };
            line += "  ";
        }
    }
    line.trim_end().to_owned()
}

/// The colour of a key version's state: red where data may be unreadable or read by others.
fn of_state(state: &str) -> Style {
    let color = match state {
        "active" | "opens" => AnsiColor::Green,
        "pending" => AnsiColor::Cyan,
        "missing" | "wrong key" | "compromised" => AnsiColor::Red,
        "plain" | "unclear" => AnsiColor::Yellow,
        "destroyed" => AnsiColor::BrightBlack,
        _ => return Style::new(),
    };
    Style::new().fg_color(Some(color.into()))
}

/// One name or sentence as people may see it. Names come from files: with control characters shown as
/// escapes they cannot play with the terminal, nor write a line of their own.
pub(in crate::cli) fn plain(text: &str) -> String {
    escaped(text)
}

/// The same for a text of many lines, whose names went through [`plain`] where they were put in.
pub(in crate::cli) fn plain_lines(text: &str) -> String {
    text.split_inclusive('\n')
        .map(|line| match line.strip_suffix('\n') {
            Some(line) => plain(line) + "\n",
            None => plain(line),
        })
        .collect()
}

/// The same JSON with whatever commands a terminal as JSON's own escapes, of which `serde_json` writes
/// those below a blank only.
fn tame(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c != '\n' && plays_tricks(c) {
            true => text += &format!("\\u{:04x}", u32::from(c)),
            false => text.push(c),
        }
    }
    text
}

fn style(color: AnsiColor) -> Style {
    Style::new().fg_color(Some(color.into())).bold()
}

fn write_out(text: &str) -> Result<()> {
    let mut out = anstream::stdout();
    arrived(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Checks that what was `written` to standard output is not lost. A reader who has gone away is no failure.
pub(in crate::cli) fn arrived(written: io::Result<()>) -> Result<()> {
    match written {
        Err(cause) if cause.kind() != ErrorKind::BrokenPipe => {
            let what = format!("cannot write to standard output: {}", io_cause(&cause));
            // Whatever the call was to do is done by then.
            Err(Error::new(Kind::Unknown, what)
                .advise("a change that was asked for is made: look before you repeat the call"))
        }
        _ => Ok(()),
    }
}

/// An age in its largest unit.
pub(in crate::cli) fn age(time: std::time::Duration) -> String {
    match time.as_secs() {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m", s / 60),
        s @ 3600..86_400 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        anstream::adapter::strip_str(text).to_string().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_name_of_any_length_is_shown() {
        let long = "n".repeat(1 << 20);
        let rows = [vec![long.clone(), "1".to_owned()], vec!["b".to_owned(), "2".to_owned()]];
        let shown = lines(&table(&["KEY", "VERSION"], &rows));
        assert_eq!(shown[0], format!("{:<200}  VERSION", "KEY"));
        assert_eq!(shown[1], format!("{long}        1"));
        assert_eq!(shown[2], format!("{:<200}        2", "b"));
    }

    #[test]
    fn a_name_cannot_write_a_line_of_its_own_or_command_the_terminal() {
        let name = "t1.ibd\nkeyward: all is well\u{1b}[2J\u{9b}0m\u{202e}";
        let shown = lines(&table(&["FILE", "KEY"], &[vec![name.to_owned(), "1".to_owned()]]));
        let escaped = r"t1.ibd\nkeyward: all is well\u{1b}[2J\u{9b}0m\u{202e}";
        assert_eq!(shown[1], format!("{escaped}    1"));
        assert_eq!(plain(name), escaped);
        assert_eq!(plain_lines("a\u{7}b\nc"), "a\\u{7}b\nc");
    }

    #[test]
    fn json_commands_no_terminal_and_says_the_same() {
        let name = "a\u{1b}[2J\u{9b}0m\u{7f}\u{202e}\n\u{e4}\u{1f511}";
        let value = serde_json::json!({ "name": name, "list": [1] });
        let text = tame(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!text.contains(|c| c != '\n' && plays_tricks(c)), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
