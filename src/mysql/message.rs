//! Lines in the server's error log.

#![forbid(unsafe_code)]

use std::ffi::CString;

use super::ffi::log::{Priority, is_server, print};
use crate::env::{Level, Log};
use crate::error::{Error, Kind};
use crate::event::Status;

/// The server cuts what is longer than its buffer of 8 KiB; what we have to say is shorter.
const MAX_LEN: usize = 2000;

/// The server's error log.
pub(super) struct ServerLog;

impl Log for ServerLog {
    fn log(&self, level: Level, text: &str) {
        print(Priority::Of(level), &one_line(&format!("keyward: {text}")));
    }
}

/// A good start is a line, too: whoever reads the log of a server that is down sees that what failed was
/// something else.
pub(super) fn started(keys: &Status) {
    if is_server() {
        of_its_life(&keys.started_line());
    }
}

/// Tells what is no trouble, and worth a line whatever the verbosity.
pub(super) fn of_its_life(text: &str) {
    print(Priority::System, &one_line(&format!("keyward: {text}")));
}

/// Tells why the keyring cannot be opened.
pub(super) fn not_loaded(error: &Error) {
    ServerLog.log(Level::Error, &format!("cannot load: {error}"));
}

/// Tells why `call` failed; the server tells its client only that it did. What a client asked for
/// in vain is a note: any user of a SQL function could fill the log with errors otherwise.
pub(super) fn failed(call: &str, error: &Error) {
    let level = if asked_in_vain(error) { Level::Note } else { Level::Error };
    ServerLog.log(level, &format!("cannot {call}: {error}"));
}

/// Whether an error is an answer to whoever asked for what cannot be, and the keyring is well.
pub(super) fn asked_in_vain(error: &Error) -> bool {
    matches!(error.kind(), Kind::Config | Kind::Conflict | Kind::NotFound)
}

/// Tells that a call of the server's met a defect of ours.
pub(crate) fn defect(call: &str) {
    ServerLog.log(
        Level::Error,
        &format!("internal error in {call}, its details stand above; please report it"),
    );
}

/// `text` without control characters, which could forge lines or colour a terminal.
fn one_line(text: &str) -> CString {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    // NUL is a control character: there is none left to fail on.
    CString::new(clean.take(MAX_LEN).collect::<String>()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_cannot_forge_a_line() {
        assert_eq!(one_line("a\nb\0c\u{1b}[31md").to_str().unwrap(), "a b c [31md");
        assert_eq!(one_line(&"x".repeat(5000)).as_bytes().len(), MAX_LEN);
    }
}
