//! `keyward metrics`: the metrics for Prometheus, on standard output or as a file for node_exporter's textfile
//! collector. What they are is in `event::metrics`.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::assemble::{self, Probed};
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::follow::{self, Spaces};
use crate::cli::helpers::open::{env, open};
use crate::cli::helpers::print::Printer;
use crate::cli::helpers::privilege::{self, Account, Said};
use crate::cli::helpers::server::{self, ask_status};
use crate::cli::helpers::{facts, trail};
use crate::config::Config;
use crate::custodian::Custodian;
use crate::error::{Error, Kind, Result, plays_tricks};
use crate::event::metrics::{AskedFacts, Facts, KeystoreFacts};
use crate::event::{Status, prometheus};
use crate::key::{KeyRef, KeyState};
use crate::provider::{End, Ending};
use crate::trust::{self, Folder};

#[derive(clap::Args)]
pub(super) struct Options {
    /// Write them to this file, which is replaced as a whole, such as
    /// /var/lib/prometheus/node-exporter/keyward.prom [default: standard output]
    #[arg(long, value_name = "FILE")]
    textfile: Option<PathBuf>,
    #[command(flatten)]
    pub(super) server: server::Options,
}

/// All that was found out.
#[derive(Default)]
struct Found {
    keys: Option<(Status, KeystoreFacts)>,
    asked: AskedFacts,
    /// What the server says of itself.
    rows: Vec<(String, String)>,
}

pub(super) fn run(path: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    let config = Config::load(path)?;
    let of_mysql = path.extension().is_some_and(|ending| ending == "cnf");
    let found = Found::of(&config, path, of_mysql, &options.server, printer)?;
    let text = found.text(&config.keystore.path);
    match &options.textfile {
        Some(file) => replace(file, &text)?,
        None => printer.export(&text)?,
    }
    Ok(Exit::Success)
}

impl Options {
    /// The account's part prints, and root, which calls it, writes the file: with the rights of whoever the
    /// file's folder belongs to.
    pub(super) fn run_as(
        &self,
        account: &Account,
        config: &Path,
        call: &[OsString],
    ) -> Result<Exit> {
        let Some(file) = &self.textfile else {
            return privilege::run_as(account, config, call, self.server.clone());
        };
        let text = match privilege::text_as(account, config, call, self.server.clone())? {
            Said::Failed(exit) => return Ok(exit),
            Said::Text(text) => String::from_utf8(text).ok().filter(|text| is_plain(text)),
        };
        let text = text.ok_or_else(|| {
            let what = format!("user {}'s part of the command did not print metrics", account.name);
            Error::new(Kind::Internal, what)
        })?;
        replace(file, &text)?;
        Ok(Exit::Success)
    }

    /// The same to standard output.
    pub(super) fn without_file(&self) -> Self {
        Self { textfile: None, server: self.server.clone() }
    }
}

fn is_plain(text: &str) -> bool {
    text.ends_with('\n') && !text.chars().any(|c| c != '\n' && plays_tricks(c))
}

impl Found {
    /// Looks everywhere. What cannot be had is told on standard error, and in the metrics themselves.
    fn of(
        config: &Config,
        path: &Path,
        of_mysql: bool,
        options: &server::Options,
        printer: &Printer,
    ) -> Result<Self> {
        let mut found = Self::default();
        let mut active = Vec::new();
        match assemble::spends_credentials(config, &env())? {
            Some((name, why)) => {
                let what =
                    format!("the keystore is not opened for metrics: provider {name:?}, {why}");
                printer.error(&Error::new(Kind::Unsupported, what));
            }
            None => {
                found.ask_providers(config);
                let opened = open(path);
                found.asked.opens = Some(opened.is_ok());
                match opened {
                    Ok((config, custodian)) => active = found.read(&config, &custodian, printer),
                    Err(error) => printer.error(&error),
                }
            }
        }
        match ask_status(options, of_mysql) {
            Ok(rows) => {
                found.asked.server = Some(!rows.is_empty());
                found.rows = rows;
            }
            Err(words) => {
                found.asked.server = Some(false);
                printer.error(&follow::unanswered(&words));
            }
        }
        if found.asked.server == Some(true) && !of_mysql && !active.is_empty() {
            found.asked.left =
                Spaces::ask(options).ok().map(|spaces| follow::left(&spaces, &active));
        }
        Ok(found)
    }

    fn ask_providers(&mut self, config: &Config) {
        for Probed { name, answer, ends, .. } in assemble::probe(config, &env()) {
            for End { what, at } in ends {
                match what {
                    Ending::Certificate(file) => {
                        let file = file.display().to_string();
                        self.asked.certificates.push((name.clone(), file, at));
                    }
                    Ending::Token { renewable } => {
                        self.asked.tokens.push((name.clone(), renewable, at));
                    }
                }
            }
            self.asked.providers.push((name, answer.is_ok()));
        }
    }

    /// Takes what the keystore holds; gives the versions that encrypt.
    fn read(&mut self, config: &Config, custodian: &Custodian, printer: &Printer) -> Vec<KeyRef> {
        let mut keystore = facts::of(config, custodian);
        match trail::verify(config, custodian) {
            Ok(verdict) => keystore.trail_faults = Some(verdict.faults.len()),
            // It cannot even be read.
            Err(error) => {
                keystore.trail_faults = Some(1);
                printer.error(&error);
            }
        }
        self.keys = Some((custodian.status(), keystore));
        let active = custodian.keys().into_iter().filter(|info| info.state == KeyState::Active);
        active.map(|info| info.key).collect()
    }

    fn text(&self, keystore: &Path) -> String {
        let (keys, store) = self.keys.as_ref().map(|(keys, store)| (keys, store)).unzip();
        let facts = Facts { keys, keystore: store, asked: Some(&self.asked), server: None };
        prometheus::text(&keystore.display().to_string(), facts, &self.rows)
    }
}

/// Puts `text` at `file` in one step, so that nobody reads half of it, for all to read.
fn replace(file: &Path, text: &str) -> Result<()> {
    let (Some(folder), Some(name)) = (folder_of(file), file.file_name()) else {
        return Err(Error::new(Kind::Config, format!("{} is no name of a file", file.display())));
    };
    privilege::become_owner_of(&folder)?;
    // What leads to a folder of root's must be root's as well.
    if geteuid().is_root() {
        Folder::open(&folder).map_err(|refusal| refusal.of("cannot open the folder", &folder))?;
    }
    // The collector reads what ends in .prom.
    let part = folder.join(format!(".{}.{}", name.display(), std::process::id()));
    let failed = |doing: &str, path: &Path, cause: &io::Error| Error::io(doing, path, cause);
    let written = write(&part, text).map_err(|e| failed("cannot write", &part, &e));
    let placed = written.and_then(|()| {
        fs::rename(&part, file).map_err(|e| failed("cannot put the metrics at", file, &e))
    });
    if placed.is_err() {
        // Half of it is of no use.
        let _ = fs::remove_file(&part);
    }
    placed
}

fn folder_of(file: &Path) -> Option<PathBuf> {
    let folder = file.parent()?;
    Some(if folder.as_os_str().is_empty() { ".".into() } else { folder.to_owned() })
}

fn write(part: &Path, text: &str) -> io::Result<()> {
    // Of an earlier process with our number, which was killed.
    match fs::remove_file(part) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
        _ => {}
    }
    let mut file = trust::create(part, 0o644)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_read_by_all() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let file = folder.path().join("keyward.prom");
        for text in ["a 1\n", "a 2\n"] {
            replace(&file, text).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o644);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        let nowhere = folder.path().join("none/keyward.prom");
        assert!(replace(&nowhere, "").unwrap_err().to_string().contains("none"));
        fs::create_dir(folder.path().join("taken")).unwrap();
        assert!(replace(&folder.path().join("taken"), "").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_the_account_prints_is_text() {
        assert!(is_plain("# HELP a b\na{c=\"d\"} 1\n"));
        for wrong in ["", "a 1", "a\u{1b}[2J 1\n", "a\u{202e} 1\n"] {
            assert!(!is_plain(wrong), "{wrong:?}");
        }
    }
}
