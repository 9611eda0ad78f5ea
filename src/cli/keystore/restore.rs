//! `keyward keystore restore`: the keystore made again from a backup.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::backup::MAX_PASSPHRASE;
use crate::age::{self, Identity, With};
use crate::assemble;
use crate::backup::Backup;
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::env;
use crate::cli::helpers::print::{Printer, plain_lines};
use crate::cli::helpers::{confine, privilege};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::mark::{self, Place};
use crate::secret::{SecretBytes, read_file, source::without_line_end};
use crate::source::Reason;
use crate::trust;

/// The longest identity's file, in bytes.
const MAX_IDENTITY: usize = 1 << 16;

#[derive(clap::Args)]
pub(in crate::cli) struct Options {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The file with the identity that opens it
    #[arg(long, value_name = "FILE", required_unless_present = "passphrase_file")]
    identity: Option<PathBuf>,
    /// The file with the passphrase that opens it
    #[arg(long, value_name = "FILE", conflicts_with = "identity")]
    passphrase_file: Option<PathBuf>,
    /// The keystore's fingerprint, as it was noted when the identity was made [default: that of the
    /// configuration]
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
    /// A data directory: its tables are opened with the backup's keys first
    #[arg(long, value_name = "DIR")]
    datadir: Vec<PathBuf>,
    /// Rename another keystore that is in its place
    #[arg(long)]
    replace: bool,
    /// Check everything, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Why, for the audit trail
    #[arg(long, default_value = "keyward keystore restore", value_name = "TEXT")]
    reason: String,
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
    let backup = options.open(&config).map_err(|error| error.within(options.file.display()))?;
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

impl Options {
    /// The backup, proven to be of the keystore with the fingerprint.
    fn open(&self, config: &Config) -> Result<Backup> {
        let named = self.fingerprint.as_ref().or(config.keystore.fingerprint.as_ref());
        let fingerprint = named.ok_or_else(|| {
            Error::new(Kind::Config, "nothing shows whose backup it is")
                .advise("give the keystore's --fingerprint, which was noted with the identity")
        })?;
        let file = trust::read_untrusted(&self.file, age::MAX_LEN);
        let file = file.map_err(|refusal| refusal.of("cannot read", &self.file))?;
        let text = self.decrypted(&file)?;
        Backup::parse(text.expose(), fingerprint.trim())
    }

    fn decrypted(&self, file: &[u8]) -> Result<SecretBytes> {
        if let Some(path) = &self.passphrase_file {
            let passphrase = read_file(path, MAX_PASSPHRASE)?;
            return age::decrypt(file, With::Passphrase(without_line_end(passphrase.expose())));
        }
        let none = || Error::new(Kind::Config, "neither an identity nor a passphrase");
        let path = self.identity.as_ref().ok_or_else(none)?;
        let identity = read_file(path, MAX_IDENTITY)?;
        let identity =
            Identity::parse(identity.expose()).map_err(|error| error.within(path.display()))?;
        age::decrypt(file, With::Identity(&identity))
    }
}

/// How many tables and logs in `folder` the backup's keys open; an error where one is of another key.
fn opened(folder: &Path, backup: &Backup) -> Result<usize> {
    let ring = backup.ring()?;
    let found = confine::reading(|| mark::examine(folder, &ring, &|_| false, Duration::ZERO))?;
    match found.against {
        None => Ok(found.opens),
        Some(Place { file, key, .. }) => {
            let what = format!(
                "nothing was restored: {} is encrypted with another {key} than the backup has, or one that \
                 it lacks",
                file.display()
            );
            Err(Error::new(Kind::State, what).advise("take a newer backup, or that of this server"))
        }
    }
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
