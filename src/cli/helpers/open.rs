//! What a call works with: the configuration, the keys, the terminal as its log.

#![forbid(unsafe_code)]

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use nix::unistd::geteuid;

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
    refuse_strangers(&config.keystore.path)?;
    let custodian = assemble::start(&config, Role::Command, env())?;
    Ok((config, custodian))
}

/// Says who may open a `keystore` of another account's: to that account it could only say chown.
fn refuse_strangers(keystore: &Path) -> Result<()> {
    let (own, owner) = (geteuid().as_raw(), keystore.symlink_metadata().map(|found| found.uid()));
    match owner {
        Ok(owner) if owner != 0 && owner != own => {
            let what =
                format!("{} belongs to user {owner}, and you are user {own}", keystore.display());
            Err(Error::new(Kind::Denied, what).advise("run the command as root, or as that user"))
        }
        _ => Ok(()),
    }
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
