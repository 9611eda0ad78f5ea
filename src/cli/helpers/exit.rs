//! How a call ends.

#![forbid(unsafe_code)]

use std::process::ExitCode;

/// How the command ended, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// It failed, and the same call will fail again until somebody corrects something.
    Failure = 1,
    /// The call itself was wrong.
    Usage = 2,
    /// It is done, but what it was to wait for is not (`keyward keys wait` goes on waiting), or what it has
    /// looked at is not all as it should be.
    Unfinished = 3,
    /// Whether the change was made, or lasts, is not known, or its output is lost (`EX_IOERR` of
    /// sysexits.h).
    Unknown = 74,
    /// It failed for now; try again later (`EX_TEMPFAIL` of sysexits.h).
    TryAgain = 75,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
