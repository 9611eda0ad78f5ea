//! `keyward keystore restore`: the keystore made again from a backup.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::opener::Opener;
use crate::assemble;
use crate::backup::Backup;
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::env;
use crate::cli::helpers::print::{Printer, plain_lines};
use crate::cli::helpers::{confine, privilege};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::key::KeyRef;
use crate::mark::{self, Place};
use crate::source::Reason;

#[derive(clap::Args)]
pub(in crate::cli) struct Options {
    /// The backup
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) opener: Opener,
    /// A data directory: its tables are opened with the backup's keys first
    #[arg(long, value_name = "DIR")]
    pub(super) datadir: Vec<PathBuf>,
    /// Rename another keystore that is in its place
    #[arg(long)]
    pub(super) replace: bool,
    /// Check everything, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Why, for the audit trail
    #[arg(long, default_value = "keyward keystore restore", value_name = "TEXT")]
    pub(super) reason: String,
}

/// What was done, for machines.
#[derive(Serialize)]
struct Done {
    path: PathBuf,
    revision: String,
    versions: usize,
    aside: Option<PathBuf>,
    restored: bool,
    tables_opened: usize,
}

pub(super) fn run(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    let config = Config::load(config)?;
    let backup = options.opener.open(&options.file, config.keystore.fingerprint.as_deref())?;
    let mut tables_opened = 0;
    for folder in &options.datadir {
        tables_opened += opened(folder, &backup)?;
    }
    let actor = privilege::actor();
    let reason = Reason { actor: &actor, text: &options.reason };
    let how = (!options.dry_run).then_some(reason);
    let done = assemble::restore(&config, &backup, options.replace, how, &env())?;
    let done = Done {
        path: done.path,
        revision: done.revision.to_string(),
        versions: done.versions,
        aside: done.aside,
        restored: !options.dry_run,
        tables_opened,
    };
    printer.show(&done, &plain_lines(&done.text(&backup)))?;
    Ok(Exit::Success)
}

/// How many tables and logs in `folder` the backup's keys open; an error where one is of another key.
fn opened(folder: &Path, backup: &Backup) -> Result<usize> {
    let ring = backup.ring()?;
    let found = confine::reading(|| mark::examine(folder, &ring, &|_| false, Duration::ZERO))?;
    match found.against {
        None => Ok(found.opens),
        Some(Place { file, key, .. }) => Err(is_of_another_key(&file, &key)),
    }
}

/// The error of a file that the backup's keys do not open.
pub(super) fn is_of_another_key(file: &Path, key: &KeyRef) -> Error {
    let what = format!(
        "nothing was restored: {} is encrypted with another {key} than the backup has, or one that it lacks",
        file.display()
    );
    Error::new(Kind::State, what).advise("take a newer backup, or that of this server")
}

impl Done {
    fn text(&self, backup: &Backup) -> String {
        let (path, revision, versions) = (self.path.display(), &self.revision, self.versions);
        let mut text = format!("the backup of {} has {versions} key versions\n", backup.made);
        if self.tables_opened > 0 {
            text += &format!("its keys open what was looked at: {} files\n", self.tables_opened);
        }
        text += &match self.restored {
            true => format!("{path} is {revision} now: start the server\n"),
            false => "nothing was changed\n".to_owned(),
        };
        if let Some(aside) = &self.aside {
            text += &format!("the file that was there is {} now\n", aside.display());
        }
        text
    }
}
