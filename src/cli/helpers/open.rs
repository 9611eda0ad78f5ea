//! What a call works with: the configuration, the keys, the terminal as its log.

#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::Arc;

use super::print;
use crate::assemble;
use crate::config::Config;
use crate::custodian::Custodian;
use crate::env::{Env, Level, Log};
use crate::error::{Error, Kind, Result};
use crate::source::Role;

/// Reads the configuration and opens the keys.
pub(in crate::cli) fn open(config: &Path) -> Result<(Config, Custodian)> {
    let config = Config::load(config)?;
    let custodian = assemble::start(&config, Role::Command, env())?;
    Ok((config, custodian))
}

pub(in crate::cli) fn env() -> Env {
    Env::system(Arc::new(Terminal))
}

/// Lines for the operator, on standard error.
struct Terminal;

impl Log for Terminal {
    fn log(&self, level: Level, text: &str) {
        let word = match level {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Note => "note",
        };
        anstream::eprintln!("keyward: {word}: {}", print::plain(text));
    }
}

/// What a path's error looks like when the path has no folder above it.
pub(in crate::cli) fn no_folder(path: &Path) -> Error {
    Error::new(Kind::Config, format!("{} has no folder above it", path.display()))
}
