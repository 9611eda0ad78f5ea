//! The one error of this library: what failed, on which key, whether trying again helps, what to do.

#![forbid(unsafe_code)]

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
    /// The change was made, or may have been, and may not last: neither success nor failure. The same
    /// call again may make it twice.
    Unknown,
    /// Somebody answered who could not prove to be the key store.
    Untrusted,
    /// An invariant of ours does not hold. Always worth a bug report.
    Internal,
}

/// Which error it is, for whoever treats it apart from others of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Code {
    /// The setting of this name has no value.
    NotSet(&'static str),
    /// There is no such file, or it cannot be opened.
    CannotOpen,
    /// It waits for the approvals of other people.
    Approvals,
}

/// What failed, on which key or file, and what to do about it. One line, never a secret.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    code: Option<Code>,
    what: String,
    /// How many bytes of `what` the outermost context has.
    context: usize,
    advice: Option<String>,
}

impl Error {
    /// An error of `kind`; `what` names the operation and the key, or file and line.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, code: None, what: escaped(what.into()), context: 0, advice: None }
    }

    /// The same error with a sentence on how to correct it.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(escaped(advice.into()));
        self
    }

    /// The same error, with the code that callers know it by.
    #[must_use]
    pub fn coded(mut self, code: Code) -> Self {
        self.code = Some(code);
        self
    }

    /// The same error seen from one step further out: "`context`: what failed".
    #[must_use]
    pub fn within(mut self, context: impl fmt::Display) -> Self {
        let context = escaped(format!("{context}: "));
        self.context = context.len();
        self.what.insert_str(0, &context);
        self
    }

    /// The same error without the outermost context that [`within`](Self::within) gave it.
    #[must_use]
    pub fn without_context(mut self) -> Self {
        self.what.drain(..self.context);
        self.context = 0;
        self
    }

    /// Whose fault it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Which error it is, where it has a code.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        self.code
    }

    /// What failed, without the advice.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// How to correct it, where we know.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.advice.as_deref()
    }

    /// Whether the same call may succeed later without anybody mending anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, Kind::Unavailable | Kind::Timeout | Kind::Conflict)
    }

    /// Whether the key store was unreachable or untrusted; says nothing about the key.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(self.kind, Kind::Unavailable | Kind::Timeout | Kind::Untrusted)
    }

    /// A failed file operation: `doing` is a verb phrase such as "cannot open".
    pub fn io(doing: &str, path: &std::path::Path, cause: &std::io::Error) -> Self {
        Self::new(Kind::Io, format!("{doing} {}: {}", path.display(), io_cause(cause)))
    }
}

/// The text as one line that shows what it is: line ends, control characters and those that turn the
/// direction of writing come out as escapes. Names and words of others may have them, by which they
/// could write lines of their own into a log or command a terminal.
#[must_use]
pub fn escaped(text: impl Into<String>) -> String {
    let text = text.into();
    if !text.contains(plays_tricks) {
        return text;
    }
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match plays_tricks(c) {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

/// Whether `c` is a control character, a line or paragraph separator, or one of Unicode's bidirectional
/// controls (UAX 9).
pub(crate) fn plays_tricks(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2066}'..='\u{2069}')
}

/// Where a text stopped being the JSON that was wanted, without a value of it: it may be another file,
/// with secrets in it. The name of a field that is too many or missing is given.
#[must_use]
pub fn json_place(cause: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let what = match cause.classify() {
        Category::Data => field(&cause.to_string()).unwrap_or("a value of another kind").to_owned(),
        Category::Eof => "it ends too early".to_owned(),
        Category::Syntax | Category::Io => "no JSON".to_owned(),
    };
    format!("line {} column {}: {what}", cause.line(), cause.column())
}

/// The beginning of serde's sentence about a field, where that has a name as we give them.
fn field(said: &str) -> Option<&str> {
    let (what, rest) = said.split_once(" field `")?;
    let (name, _) = rest.split_once('`')?;
    let is_word = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let is_name = matches!(what, "unknown" | "missing" | "duplicate")
        && name.len() <= 32
        && name.chars().all(is_word);
    is_name.then(|| &said[..what.len() + name.len() + " field ``".len()])
}

/// The system's words without Rust's "(os error 2)".
pub(crate) fn io_cause(cause: &std::io::Error) -> String {
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
    fn a_file_that_is_not_the_right_one_is_not_quoted() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code, reason = "only its reading is of interest")]
        struct Wanted {
            path: u8,
        }
        let long = format!("{{\"{}\": 1}}", "secret".repeat(10));
        for (text, place) in [
            (r#"{"path": "hvs.secret"}"#, "line 1 column 21: a value of another kind"),
            (r#""hvs.secret""#, "line 1 column 12: a value of another kind"),
            (r#"{"path": hvs.secret}"#, "line 1 column 10: no JSON"),
            (r#"{"path": 1"#, "line 1 column 10: it ends too early"),
            (r#"{"pth": 1}"#, "line 1 column 6: unknown field `pth`"),
            ("{}", "line 1 column 2: missing field `path`"),
            (&long, "line 1 column 63: a value of another kind"),
        ] {
            let cause = serde_json::from_str::<Wanted>(text).unwrap_err();
            assert_eq!(json_place(&cause), place, "{text}");
        }
    }

    #[test]
    fn an_error_without_its_context_is_the_same_error() {
        let error = Error::new(Kind::Io, "no").coded(Code::CannotOpen).advise("look").within("a\n");
        assert_eq!(error.to_string(), "a\\n: no; look");
        assert_eq!(error.code(), Some(Code::CannotOpen));
        let bare = error.without_context();
        assert_eq!((bare.to_string().as_str(), bare.code()), ("no; look", Some(Code::CannotOpen)));
        assert_eq!(bare.without_context().what(), "no");
    }

    #[test]
    fn an_error_is_one_line_whatever_others_put_into_it() {
        let error = Error::new(Kind::Config, "no key \"a\nb\"")
            .advise("look at \u{1b}[2J")
            .within("/tmp/x\r\ny");
        let text = error.to_string();
        assert_eq!(text, "/tmp/x\\r\\ny: no key \"a\\nb\"; look at \\u{1b}[2J");
    }
}
