//! What can go wrong with a key file, said in our words and in the original's.

#![forbid(unsafe_code)]

use std::io;
use std::path::Path;

use super::encrypted::Derivation;
use super::keyfile::{Dialect, Edition, ParseError, ParseErrorKind};
use super::resembling::Resembling;
use super::{MAX_FILE_LEN, MAX_PASSWORD_LEN};
use crate::error::{Code, Error, Kind};
use crate::trust;

/// Why the file as a whole cannot be used.
#[derive(Debug)]
pub(super) enum FileError {
    /// No file is named.
    Unset,
    /// The key file or the password's file could not be opened.
    Open(io::Error),
    /// The key file could not be read.
    Read(io::Error),
    /// The password's file could not be read.
    ReadPassword(io::Error),
    /// The key file is longer than we read.
    TooLong,
    /// A password was given for a file that is not encrypted.
    NotEncrypted,
    /// No password was given for a file that is encrypted.
    NoPassword,
    /// The password does not open the file.
    WrongPassword,
    /// The password opens it, derived in another way than the configuration says.
    OtherDerivation(Derivation),
    /// It is another kind of file.
    Resembles(Resembling),
    /// The file is encrypted, and a part of it is missing.
    CutShort,
    /// The password's file holds no password.
    EmptyPassword,
    /// The password's file holds more than one line.
    SeveralLines,
    /// The password's file is longer than a password may be.
    PasswordTooLong,
    /// Something wrote the file while it was read.
    Changed,
}

impl FileError {
    /// The error of the file `path`, in the words of `dialect`.
    pub(super) fn of(self, path: &Path, dialect: Dialect) -> Error {
        match dialect {
            Dialect::Keyward => self.in_our_words(path),
            Dialect::Original(edition) => self.in_the_originals(path, edition),
        }
    }

    fn in_our_words(self, path: &Path) -> Error {
        let about = |kind, what: &str| Error::new(kind, format!("{}{what}", path.display()));
        match self {
            Self::Unset => Error::new(Kind::Config, "no key file is named")
                .advise("set `path` to the key file"),
            Self::Open(cause) if cause.kind() == io::ErrorKind::PermissionDenied => {
                trust::unread("cannot open key file", path, &cause)
            }
            Self::Open(cause) => Error::io("cannot open key file", path, &cause)
                .advise("put it back, or correct `path`"),
            Self::Read(cause) | Self::ReadPassword(cause) => Error::io("cannot read", path, &cause),
            Self::TooLong => {
                about(Kind::Config, ": longer than 1 MiB").advise("check that this is the key file")
            }
            Self::NotEncrypted => {
                about(Kind::Config, ": a password is set, but the file is not encrypted").advise(
                    "encrypt it with openssl enc, or take the password out of the configuration",
                )
            }
            Self::NoPassword => {
                about(Kind::Config, ": the file is encrypted, but no password is set")
                    .advise("name the file with the password in `password_file`")
            }
            Self::WrongPassword => {
                about(Kind::Config, ": the password does not open it, or the file is damaged")
                    .advise(
                        "check the password, and that `digest` and `pbkdf2_iterations` are \
                     the -md and -iter that openssl enc was given",
                    )
            }
            Self::OtherDerivation(Derivation { digest, pbkdf2_iterations }) => about(
                Kind::Config,
                ": the password opens it with another digest than is configured",
            )
            .advise(format!(
                "set digest = \"{digest}\" and pbkdf2_iterations = {pbkdf2_iterations}"
            )),
            Self::Resembles(Resembling { what, advice }) => {
                let path = path.display().to_string();
                about(Kind::Config, &format!(" {what}")).advise(advice.replace("FILE", &path))
            }
            Self::CutShort => {
                about(Kind::Corrupt, ": encrypted, but not a whole number of blocks long")
                    .advise("a part of the file is missing: take it from a backup")
            }
            Self::EmptyPassword => {
                about(Kind::Config, ": the password is empty").advise("put the password into it")
            }
            Self::SeveralLines => about(Kind::Config, ": more than the password stands in it")
                .advise("leave only the password, on one line"),
            Self::PasswordTooLong => {
                about(Kind::Config, &format!(": a password has at most {MAX_PASSWORD_LEN} bytes"))
            }
            Self::Changed => about(Kind::Unavailable, ": changed while it was read"),
        }
    }

    /// MariaDB's words, letter by letter: its own test-suite and people's monitoring look for them.
    fn in_the_originals(self, path: &Path, edition: Edition) -> Error {
        let path = path.display();
        let (kind, text) = match self {
            Self::Unset => (Kind::Config, "file-key-management-filename is not set".to_owned()),
            Self::Open(cause) => {
                let what = format!("File '{path}' not found {}", errcode(&cause));
                return Error::new(Kind::Io, what).coded(Code::CannotOpen);
            }
            Self::Read(cause) if edition == Edition::V11_8 => {
                let number = cause.raw_os_error().unwrap_or_default();
                (Kind::Io, format!("Read from {path} failed, errno {number}"))
            }
            Self::Read(cause) | Self::ReadPassword(cause) => {
                (Kind::Io, format!("Error reading file '{path}' {}", errcode(&cause)))
            }
            Self::TooLong if edition == Edition::V11_8 => {
                let limit = format!("must be less than {MAX_FILE_LEN} bytes");
                (Kind::Config, format!("File {path} too large, {limit}"))
            }
            Self::TooLong => {
                let cause = io::Error::from_raw_os_error(libc::EFBIG);
                (Kind::Config, format!("Error reading file '{path}' {}", errcode(&cause)))
            }
            Self::EmptyPassword => {
                let cause = io::Error::from_raw_os_error(libc::ENOENT);
                (Kind::Config, format!("Error reading file '{path}' {}", errcode(&cause)))
            }
            Self::NotEncrypted => (Kind::Config, format!("Cannot decrypt {path}. Not encrypted")),
            Self::NoPassword
            | Self::WrongPassword
            | Self::OtherDerivation(_)
            | Self::Resembles(_)
            | Self::SeveralLines => (Kind::Config, format!("Cannot decrypt {path}. Wrong key?")),
            Self::CutShort => (Kind::Corrupt, format!("Cannot decrypt {path}. Wrong key?")),
            Self::PasswordTooLong => {
                // The blank at the end is the original's, too.
                let unit = if edition == Edition::V11_8 { " bytes" } else { "B " };
                let limit = format!("max secret size is {MAX_PASSWORD_LEN}{unit}");
                (Kind::Config, format!("Cannot read {path}, the filekey is too long, {limit}"))
            }
            Self::Changed => (Kind::Unavailable, format!("Error reading file '{path}'")),
        };
        Error::new(kind, text)
    }
}

impl ParseError {
    /// The error of the key file `path`, in the words of `dialect`.
    pub(super) fn of(self, path: &Path, dialect: Dialect) -> Error {
        if let ParseErrorKind::Memory(error) = self.fault {
            return error.within(path.display());
        }
        match dialect {
            Dialect::Keyward => self.in_our_words(path),
            Dialect::Original(_) => self.in_the_originals(path),
        }
    }

    fn in_our_words(self, path: &Path) -> Error {
        let (what, advice) = match self.fault {
            ParseErrorKind::Syntax => {
                ("not a key".into(), "write id;key or id;version;key, # before a remark")
            }
            ParseErrorKind::Id => ("not a key id".into(), "use an id from 1 to 4294967295"),
            ParseErrorKind::Version => {
                ("not a key version".into(), "use a version from 1 to 4294967294")
            }
            ParseErrorKind::Key(digits) if digits > 64 => (
                "the key has more than 64 hex digits".into(),
                "a key has 32, 48 or 64: openssl rand -hex 32 makes one",
            ),
            ParseErrorKind::Key(0 | 1) => (
                "no key stands here".into(),
                "a key has 32, 48 or 64 hex digits: openssl rand -hex 32 makes one",
            ),
            ParseErrorKind::Key(digits) => (
                format!("the key ends after {digits} hex digits"),
                "a key has 32, 48 or 64: openssl rand -hex 32 makes one",
            ),
            ParseErrorKind::Trailing => ("text after the key".into(), "put # before a remark"),
            ParseErrorKind::Duplicate(id, version, line) => (
                format!("key {id} version {version} stands in line {line} already"),
                "take one of the two out; which one is right, the data tells",
            ),
            ParseErrorKind::NoSystemKey => {
                let what = format!("{}: key 1 is missing", path.display());
                return Error::new(Kind::Config, what)
                    .advise("add a line 1;key: the server's own files need that key");
            }
            ParseErrorKind::Memory(error) => return error,
        };
        let (line, column) = (self.line, self.column);
        Error::new(Kind::Config, format!("{}:{line}:{column}: {what}", path.display()))
            .advise(advice)
    }

    /// MariaDB's words, letter by letter.
    fn in_the_originals(self, path: &Path) -> Error {
        let what = match self.fault {
            ParseErrorKind::Syntax | ParseErrorKind::Trailing => "Syntax error",
            ParseErrorKind::Id => "Invalid key id",
            ParseErrorKind::Version
            | ParseErrorKind::Key(_)
            | ParseErrorKind::Duplicate(..)
            | ParseErrorKind::Memory(_) => "Invalid key",
            ParseErrorKind::NoSystemKey => "System key id 1 is missing",
        };
        let (path, line, column) = (path.display(), self.line, self.column);
        Error::new(Kind::Config, format!("{what} at {path} line {line}, column {column}"))
    }
}

/// How the server's own messages end: `(Errcode: 2 "No such file or directory")`.
fn errcode(cause: &io::Error) -> String {
    let number = cause.raw_os_error().unwrap_or_default();
    let text = cause.to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    format!("(Errcode: {number} \"{text}\")")
}

/// Advice names the limit in words; this keeps the two together.
const _: () = assert!(MAX_FILE_LEN == 1 << 20);

#[cfg(test)]
mod tests {
    use super::*;

    const V10: Dialect = Dialect::Original(Edition::V10);
    const V11_8: Dialect = Dialect::Original(Edition::V11_8);

    fn all() -> [FileError; 15] {
        let cause = || io::Error::from_raw_os_error(libc::ENOENT);
        [
            FileError::Unset,
            FileError::Open(cause()),
            FileError::Read(cause()),
            FileError::ReadPassword(cause()),
            FileError::TooLong,
            FileError::NotEncrypted,
            FileError::NoPassword,
            FileError::WrongPassword,
            FileError::OtherDerivation(Derivation {
                digest: super::super::Digest::Sha256,
                pbkdf2_iterations: 0,
            }),
            FileError::Resembles(Resembling { what: "is JSON", advice: "" }),
            FileError::CutShort,
            FileError::EmptyPassword,
            FileError::SeveralLines,
            FileError::PasswordTooLong,
            FileError::Changed,
        ]
    }

    #[test]
    fn every_failure_is_one_line_that_names_the_file() {
        for dialect in [Dialect::Keyward, V10, V11_8] {
            for failure in all() {
                let unset = matches!(failure, FileError::Unset);
                let text = failure.of(Path::new("/keys.txt"), dialect).to_string();
                assert!(unset || text.contains("/keys.txt"), "{text}");
                assert!(!text.contains('\n') && !text.contains("os error"), "{text}");
            }
        }
    }

    /// As MariaDB 10.11 writes them.
    #[test]
    fn the_originals_words_are_the_originals() {
        let texts = all().map(|f| f.of(Path::new("k"), V10).to_string());
        assert_eq!(
            texts,
            [
                "file-key-management-filename is not set",
                "File 'k' not found (Errcode: 2 \"No such file or directory\")",
                "Error reading file 'k' (Errcode: 2 \"No such file or directory\")",
                "Error reading file 'k' (Errcode: 2 \"No such file or directory\")",
                "Error reading file 'k' (Errcode: 27 \"File too large\")",
                "Cannot decrypt k. Not encrypted",
                "Cannot decrypt k. Wrong key?",
                "Cannot decrypt k. Wrong key?",
                "Cannot decrypt k. Wrong key?",
                "Cannot decrypt k. Wrong key?",
                "Cannot decrypt k. Wrong key?",
                "Error reading file 'k' (Errcode: 2 \"No such file or directory\")",
                "Cannot decrypt k. Wrong key?",
                "Cannot read k, the filekey is too long, max secret size is 256B ",
                "Error reading file 'k'",
            ]
        );
    }

    /// What MariaDB 11.8 writes otherwise.
    #[test]
    fn the_originals_words_of_11_8() {
        let changed: Vec<_> = all()
            .into_iter()
            .zip(all())
            .map(|(now, before)| {
                [now.of(Path::new("k"), V11_8), before.of(Path::new("k"), V10)]
                    .map(|error| error.to_string())
            })
            .filter_map(|[now, before]| (now != before).then_some(now))
            .collect();
        assert_eq!(
            changed,
            [
                "Read from k failed, errno 2",
                "File k too large, must be less than 1048576 bytes",
                "Cannot read k, the filekey is too long, max secret size is 256 bytes",
            ]
        );
    }
}
