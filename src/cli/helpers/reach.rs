//! How the command reaches a running server.

#![forbid(unsafe_code)]

use std::path::PathBuf;

/// How to reach the server.
#[derive(clap::Args, Clone, Default)]
#[group(skip)]
pub(in crate::cli) struct Options {
    /// The server's socket [default: the client's own configuration]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) socket: Option<PathBuf>,
    /// An option file that the client reads besides its own, with `user` and `password` in its
    /// section `[client]`
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) defaults_extra_file: Option<PathBuf>,
    /// Whether this call may have it rotate its master keys.
    #[arg(skip)]
    pub(in crate::cli) rotates: bool,
}
