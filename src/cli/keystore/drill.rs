//! `keyward keystore drill`: a backup tried, so that it is known to work before it is needed.

#![forbid(unsafe_code)]

mod copy;
mod rows;
mod throwaway;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::opener::Opener;
use crate::backup::Backup;
use crate::cli::helpers::arguments::parse_size;
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::open;
use crate::cli::helpers::print::{Printer, plain, plain_lines};
use crate::cli::helpers::{confine, privilege};
use crate::custodian::Custodian;
use crate::drill::{Fault, Trial};
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::key::KeyRef;
use crate::source::Reason;
use copy::TableName;
use throwaway::Throwaway;

/// Where Debian's packages have the server's plugins.
const PLUGINS: &str = "/usr/lib/mysql/plugin";
/// How many key versions are named one by one.
const MOST_NAMED: usize = 10;

#[derive(clap::Args)]
pub(in crate::cli) struct Options {
    /// The backup, or a folder of backups: then the newest file in it
    #[arg(value_name = "PATH")]
    pub(super) path: PathBuf,
    #[command(flatten)]
    pub(super) opener: Opener,
    /// A data directory, or a backup of one: every page is read, and its keys are tried
    #[arg(long, value_name = "DIR")]
    pub(super) datadir: Vec<PathBuf>,
    /// Start a server on a copy of the data, with the backup's keys alone, and count the rows of its tables
    #[arg(long, requires = "datadir")]
    with_server: bool,
    #[command(flatten)]
    server: ServerOptions,
    /// Why, for the audit trail
    #[arg(long, default_value = "keyward keystore drill", value_name = "TEXT")]
    pub(super) reason: String,
}

/// The server that is started.
#[derive(clap::Args)]
#[group(skip)]
struct ServerOptions {
    /// The server's program [default: mariadbd in PATH]
    #[arg(long, value_name = "PROGRAM", requires = "with_server")]
    server: Option<PathBuf>,
    /// The folder that has keyward's library
    #[arg(long, value_name = "DIR", requires = "with_server", default_value = PLUGINS)]
    plugin_dir: PathBuf,
    /// Copy and count these tables only
    #[arg(long, value_name = "DB.TABLE,...", requires = "with_server", value_delimiter = ',')]
    tables: Vec<TableName>,
    /// Where the copy is made [default: /var/tmp]
    #[arg(long, value_name = "DIR", requires = "with_server")]
    scratch: Option<PathBuf>,
    /// How much may be copied at most
    #[arg(long, value_name = "SIZE", requires = "with_server", default_value = "100GiB", value_parser = parse_size)]
    max_copy: u64,
    /// An option more for the server, such as innodb_page_size=4K
    #[arg(long, value_name = "NAME=VALUE", requires = "with_server")]
    option: Vec<String>,
}

/// What the server found.
#[derive(Debug, Default, Serialize)]
struct Counts {
    version: String,
    /// How many files were copied, and of how many MiB.
    files: usize,
    mib: u64,
    /// Whether the backup had to be prepared.
    prepared: bool,
    tables: Vec<Counted>,
    /// What it cannot read, or why it does not start.
    faults: Vec<String>,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Counted {
    table: String,
    rows: u64,
}

/// What came of it, for machines.
#[derive(Serialize)]
struct Done {
    backup: PathBuf,
    made: String,
    revision: String,
    versions: usize,
    /// Versions that the keystore has and the backup lacks.
    lacks: Vec<KeyRef>,
    /// Versions that are other keys in the backup.
    differs: Vec<KeyRef>,
    data: Trial,
    /// What a server found, where one was started.
    server: Option<Counts>,
    seconds: f64,
    passed: bool,
}

pub(super) fn run(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    let since = Instant::now();
    let folder_for_server = options.folder_for_server()?;
    let (_, custodian) = open(config)?;
    let file = newest(&options.path)?;
    let known = fingerprint(&custodian);
    let backup = options.opener.open(&file, known.as_deref())?;
    let actor = privilege::actor();
    let reason = Reason { actor: &actor, text: &options.reason };
    let drilled = custodian.manager()?.drill(&backup, reason);
    let drilled = drilled.map_err(|error| error.within(file.display()))?;
    let ring = backup.ring()?;
    let copy = match folder_for_server {
        Some(folder) => Some(options.server.copy(folder, &backup, &actor)?),
        None => None,
    };
    let data = confine::reading(|| {
        let read = |paths: &[PathBuf]| Trial::on(paths, &ring);
        let prepared = copy.as_ref().and_then(|copy| copy.trial(read));
        prepared.unwrap_or_else(|| read(&options.datadir))
    })?;
    let server = copy.map(Throwaway::count).transpose()?;
    let sound = server.as_ref().is_none_or(|server| server.faults.is_empty());
    let done = Done {
        made: backup.made.to_string(),
        revision: backup.revision.to_string(),
        versions: backup.keys.len(),
        passed: drilled.lacks.is_empty()
            && drilled.differs.is_empty()
            && data.faults.is_empty()
            && sound,
        backup: file,
        lacks: drilled.lacks,
        differs: drilled.differs,
        data,
        server,
        seconds: (since.elapsed().as_secs_f64() * 10.0).round() / 10.0,
    };
    let text = format!("{}: {}", options.reason, done.summary());
    let reason = Reason { actor: &actor, text: &text };
    custodian.manager()?.note(Event::Drilled, &names(&backup), reason)?;
    printer.show(&done, &plain_lines(&done.text()))?;
    Ok(if done.passed { Exit::Success } else { Exit::Failure })
}

impl Options {
    /// Refuses `--with-server` where there is no keystore that the server could have.
    pub(super) fn refuse_server(&self) -> Result<()> {
        if !self.with_server {
            return Ok(());
        }
        let what = "--with-server restores a keystore for its server, and here a key store serves the keys";
        Err(Error::new(Kind::Unsupported, what)
            .advise("leave it out: with --datadir the backup's keys are tried on every page"))
    }

    /// The data that a server is to be started on.
    fn folder_for_server(&self) -> Result<Option<&Path>> {
        match self.datadir.as_slice() {
            _ if !self.with_server => Ok(None),
            [folder] => Ok(Some(folder)),
            _ => Err(Error::new(Kind::Config, "a server has one data directory")
                .advise("give one --datadir with --with-server")),
        }
    }
}

/// The file at `path`; of a folder, the one that was written last.
pub(super) fn newest(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let entries = fs::read_dir(path).map_err(|cause| Error::io("cannot list", path, &cause))?;
    let written = |entry: fs::DirEntry| {
        // One that begins with a dot is being written.
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            return None;
        }
        let meta = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        Some((meta.modified().ok()?, entry.path()))
    };
    entries.flatten().filter_map(written).max().map(|(_, file)| file).ok_or_else(|| {
        Error::new(Kind::NotFound, format!("there is no backup in {}", path.display()))
            .advise("`keyward keystore backup --to FILE` makes one")
    })
}

/// The fingerprint of the keystore's first epoch that is on record: backups of later ones descend from it.
fn fingerprint(custodian: &Custodian) -> Option<String> {
    let manager = custodian.manager().ok()?;
    let first = manager.contents()?.registers().epochs().first()?;
    Some(first.fingerprint().to_string())
}

fn names(backup: &Backup) -> Vec<KeyRef> {
    backup.keys.iter().map(|key| key.info.key.clone()).collect()
}

impl Done {
    /// One line, for the trail.
    fn summary(&self) -> String {
        let Self { revision, made, data, .. } = self;
        let outcome = if self.passed { "passed" } else { "failed" };
        format!(
            "{outcome}: backup of {made}, {revision}; lacks {}, differs in {}, of {} files {} faults",
            self.lacks.len(),
            self.differs.len(),
            data.files,
            data.faults.len()
        ) + &self.server.as_ref().map_or(String::new(), Counts::summary)
    }

    fn text(&self) -> String {
        let file = self.backup.display();
        let mut text = format!(
            "{file} is of {}, {}: {} key versions\n",
            self.made, self.revision, self.versions
        );
        text += "made again in memory: wrapped by the key stores, every key read back\n";
        if self.lacks.is_empty() && self.differs.is_empty() {
            text += "the keystore has no key that the backup lacks, and none that differs\n";
        }
        if !self.lacks.is_empty() {
            text += &format!("it lacks {}: make a new backup\n", listed(&self.lacks));
        }
        if !self.differs.is_empty() {
            text += &format!("the keystore has other keys as {}\n", listed(&self.differs));
        }
        text += &of_trial(&self.data);
        if let Some(server) = &self.server {
            text += &server.text();
        }
        text + &format!("{} in {} s\n", if self.passed { "passed" } else { "failed" }, self.seconds)
    }
}

impl Counts {
    fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// For the trail.
    fn summary(&self) -> String {
        let (tables, rows, faults) = (self.tables.len(), self.rows(), self.faults.len());
        format!("; a server counted {rows} rows in {tables} tables, {faults} faults")
    }

    fn text(&self) -> String {
        let Self { version, files, mib, prepared, tables, faults, seconds } = self;
        let mut text = format!("{files} files, {mib} MiB, copied");
        if *prepared {
            text += " and prepared";
        }
        if !version.is_empty() {
            text += &format!("; a server of {} on them, in {seconds} s:", plain(version));
        }
        text += "\n";
        for Counted { table, rows } in tables {
            text += &format!("  {}: {rows} rows\n", plain(table));
        }
        for fault in faults {
            text += &format!("{}\n", plain(fault));
        }
        text
    }
}

/// What the pages of data files said of the keys.
pub(super) fn of_trial(trial: &Trial) -> String {
    let Trial { files, opened, unproven, faults } = trial;
    let mut text = String::new();
    if *files > 0 {
        text += &format!(
            "{files} files read: {opened} times a key opens a page, {unproven} times there is nothing to prove it by\n"
        );
    }
    for Fault { file, what } in faults {
        text += &format!("{}: {what}\n", plain(&file.display().to_string()));
    }
    text
}

/// The first of `keys`, and how many more there are.
pub(super) fn listed(keys: &[KeyRef]) -> String {
    let named: Vec<_> = keys.iter().take(MOST_NAMED).map(ToString::to_string).collect();
    let more = match keys.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    named.join(", ") + &more
}
