//! The one error of this library: what failed, on which key, whether trying again helps, what to do.

use std::fmt;

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whose fault an error is, so that a caller can decide without reading its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The configuration, an argument or a secret file is not as it must be.
    Config,
    /// The key store answered, with authority, that it has no such key.
    NotFound,
    /// A wrapped key was made by another wrapping key than the one asked: "not mine".
    NotMine,
    /// It is the right wrapping key, yet the wrapped key or the file does not check: "mine but broken".
    Corrupt,
    /// The key store understood and refused: credentials or permissions.
    Denied,
    /// Somebody else changed the same thing first.
    Conflict,
    /// This key store cannot do this at all.
    Unsupported,
    /// A state of a key forbids the step.
    State,
    /// A file could not be read or written.
    Io,
    /// The key store could not be reached, or asked us to come back later.
    Unavailable,
    /// The deadline passed.
    Timeout,
    /// Somebody answered who could not prove to be the key store.
    Untrusted,
    /// An invariant of ours does not hold. Always worth a bug report.
    Internal,
}

/// What failed, on which key or file, and what to do about it. One line, never a secret.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    what: String,
    advice: Option<String>,
}

impl Error {
    /// An error of `kind`; `what` names the operation and the key, or file and line.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: one_line(what.into()), advice: None }
    }

    /// The same error with a sentence on how to mend it.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(one_line(advice.into()));
        self
    }

    /// The same error seen from one step further out: "`context`: what failed".
    #[must_use]
    pub fn within(mut self, context: impl fmt::Display) -> Self {
        self.what = one_line(format!("{context}: {}", self.what));
        self
    }

    /// Whose fault it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What failed, without the advice.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// How to mend it, where we know.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.advice.as_deref()
    }

    /// Whether the same call may succeed later without anybody mending anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, Kind::Unavailable | Kind::Timeout | Kind::Conflict)
    }

    /// Whether nobody could be asked who has the say: neither granted nor refused, and nothing said
    /// of any key.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(self.kind, Kind::Unavailable | Kind::Timeout | Kind::Untrusted)
    }

    /// A failed file operation: `doing` is a verb phrase such as "cannot open".
    pub fn io(doing: &str, path: &std::path::Path, cause: &std::io::Error) -> Self {
        Self::new(Kind::Io, format!("{doing} {}: {}", path.display(), io_cause(cause)))
    }
}

/// The same text where it is one line. Names and words of others may have line ends in them, by which
/// they could write lines of their own into a log, and what a terminal takes for a command.
fn one_line(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

/// The system's words without Rust's "(os error 2)".
fn io_cause(cause: &std::io::Error) -> String {
    let text = cause.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.advice {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_whatever_others_put_into_it() {
        let error = Error::new(Kind::Config, "no key \"a\nb\"")
            .advise("look at \u{1b}[2J")
            .within("/tmp/x\r\ny");
        let text = error.to_string();
        assert_eq!(text, "/tmp/x\\r\\ny: no key \"a\\nb\"; look at \\u{1b}[2J");
    }
}
