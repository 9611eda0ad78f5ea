//! Lines in the server's error log and errors for its clients.

#![forbid(unsafe_code)]

use std::ffi::CString;

use super::ffi::message::{Target, print};
use super::role::role;
use crate::compat::Plugin;
use crate::env::{Level, Log};
use crate::error::Error;
use crate::source::Role;

/// The server formats a message in 512 bytes and cuts what is longer.
const MAX_LEN: usize = 480;
/// `ER_UNKNOWN_ERROR`: the server has no better number for what a plugin cannot do.
const NO_NUMBER: u32 = 1105;

/// Who learns of a failed start.
const BOTH: Target = Target::ClientAndLog(Level::Error);

/// Writes to the server's error log, or to the standard error where there is no server.
pub(super) struct ServerLog;

impl Log for ServerLog {
    fn log(&self, level: Level, text: &str) {
        // A tool beside the server has no error log, and leaves out what is for that alone.
        let target = match role() {
            Role::Reader => Target::ClientAndLog(level),
            _ => Target::Log(level),
        };
        for line in lines(&format!("keyward: {text}")) {
            print(target, NO_NUMBER, &line);
        }
    }
}

/// Tells the client that is being served, and the error log, why the plugin cannot start.
pub(super) fn refuse_start(plugin: &Plugin, error: &Error) {
    let number = (plugin.error_number)(error);
    if plugin.original_texts {
        // The texts are those of the plugin that we stand in for, to the letter; advice comes after.
        print(BOTH, number, &first_line(error.what()));
        if let Some(advice) = error.advice() {
            ServerLog.log(Level::Note, advice);
        }
    } else {
        print(BOTH, number, &first_line(&format!("keyward cannot start: {error}")));
    }
}

/// Notes `text` for the client that is being served, and in the error log.
pub(super) fn note(number: u32, text: &str) {
    print(Target::ClientAndLog(Level::Note), number, &first_line(text));
}

/// Tells the client, and only the client, why its statement failed.
pub(super) fn refuse_statement(error: &Error) {
    print(Target::Client, NO_NUMBER, &first_line(&format!("keyward: {error}")));
}

/// Tells the log that a call of the server's met a defect of ours.
pub(crate) fn defect(call: &str) {
    ServerLog.log(
        Level::Error,
        &format!("internal error in {call}, its details stand above; please report it"),
    );
}

/// `text` without control characters, which could forge lines or colour a terminal, cut to one
/// message.
fn first_line(text: &str) -> CString {
    let mut lines = lines(text).into_iter();
    let first = lines.next().unwrap_or_default();
    if lines.next().is_none() {
        return first;
    }
    let mut cut = first.into_bytes();
    cut.extend_from_slice(b"...");
    CString::new(cut).unwrap_or_default()
}

/// `text` without control characters, in as many messages as it needs.
fn lines(text: &str) -> Vec<CString> {
    let mut lines = vec![String::new()];
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        let full = lines.last().is_none_or(|line| line.len() + c.len_utf8() > MAX_LEN);
        if full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.push(c);
        }
    }
    // NUL is a control character: there is none left to fail on.
    lines.into_iter().map(|line| CString::new(line).unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_cannot_forge_a_line() {
        let line = first_line("a\nb\0c\u{1b}[31md");
        assert_eq!(line.to_str().unwrap(), "a b c [31md");
    }

    #[test]
    fn long_text_fits_the_servers_buffer() {
        let text = "ä".repeat(1000);
        assert!(first_line(&text).as_bytes().len() <= MAX_LEN + 3);
        let all: String =
            lines(&text).iter().map(|line| line.to_str().unwrap().to_owned()).collect();
        assert_eq!(all, text);
        assert_eq!(lines("").len(), 1);
    }
}
