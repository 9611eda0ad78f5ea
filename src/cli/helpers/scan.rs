//! What the files of a server, and the server itself, say of the key versions they need.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};

use crate::cli::helpers::{confine, server};
use crate::error::{Error, Kind, Result};
use crate::inspect::{self, Report, Use};
use crate::key::{KeyId, KeyName, KeyRef, KeyVersion};
use crate::trust;

/// How many files an error names.
const MAX_NAMED: usize = 10;
/// Files that a running server keeps locked.
const LOCKED: [&str; 2] = ["ibdata1", ARIA];
/// A file that every server of MariaDB's has.
const ARIA: &str = "aria_log_control";
/// Files that MariaDB alone has, as far as its options do not keep them elsewhere.
const MARIADBS: [&str; 2] = [ARIA, "ib_logfile0"];
/// A file that every server of MySQL's has.
const DICTIONARY: &str = "mysql.ibd";

/// What the files of servers that are stopped need.
pub(in crate::cli) fn of_stopped(datadirs: &[PathBuf]) -> Result<Vec<Report>> {
    refuse_running(
        datadirs,
        "it may be the last to have the lost keys in memory: put the newest copy back if there \
         is one, or else stop the server first; if it is not the keystore's, name the right \
         --datadir",
    )?;
    let reports = read(datadirs, &[])?;
    refuse_incomplete(&of_mariadb(datadirs), &reports)?;
    Ok(reports)
}

/// Refuses a data directory on which a server runs.
pub(in crate::cli) fn refuse_running(datadirs: &[PathBuf], advice: &str) -> Result<()> {
    match datadirs.iter().find(|datadir| is_running(datadir)) {
        Some(datadir) => {
            let what = format!("a server runs on {}", datadir.display());
            Err(Error::new(Kind::State, what).advise(advice))
        }
        None => Ok(()),
    }
}

/// What the files in `datadirs` need, as far as they tell; a running server's redo log has records in it, which
/// that server will read.
pub(in crate::cli) fn of_any(datadirs: &[PathBuf]) -> Result<Vec<Report>> {
    let mut reports = read(datadirs, &[])?;
    if datadirs.iter().any(|datadir| is_running(datadir)) {
        reports.iter_mut().for_each(Report::forgive_unclean);
    }
    Ok(reports)
}

/// What the files of a backup in `folder` need. Its redo log has records in it: it need not be prepared.
pub(in crate::cli) fn of_backup(folder: &Path) -> Result<Vec<Report>> {
    let mut reports = read(&[folder.to_owned()], &[])?;
    if reports.is_empty() {
        let what = format!("there is nothing in the backup {}", folder.display());
        return Err(Error::new(Kind::Config, what));
    }
    reports.iter_mut().for_each(Report::forgive_unclean);
    Ok(reports)
}

/// The versions that a file needs; MySQL's keys have one each.
pub(in crate::cli) fn needs(report: &Report) -> impl Iterator<Item = KeyRef> {
    let of_mysql = report.keyring_key().map(|name| KeyRef::new(name, KeyVersion::FIRST));
    let in_use = report.needs.iter().filter(|need| need.usage == Use::InUse);
    in_use.map(|need| KeyRef::new(need.id, need.version)).chain(of_mysql)
}

/// All that could be found out.
pub(in crate::cli) struct Scan {
    reports: Vec<Report>,
    spaces: Vec<server::Space>,
}

impl Scan {
    /// Reads data directories and backups; where a server runs on them, asks it too. One of MySQL's
    /// needs no key that has a number.
    pub(in crate::cli) fn of(
        datadirs: &[PathBuf],
        backups: &[PathBuf],
        ignored: &[PathBuf],
        options: &server::Options,
    ) -> Result<Self> {
        let datadirs = of_mariadb(datadirs);
        let running = datadirs.iter().any(|datadir| is_running(datadir));
        let spaces = if running { ask(&datadirs, options)? } else { Vec::new() };
        let mut reports = read(&datadirs, ignored)?;
        refuse_incomplete(&datadirs, &reports)?;
        if running {
            // Its redo log has records in it, and it is the server that will read them.
            reports.iter_mut().for_each(Report::forgive_unclean);
        }
        for backup in backups {
            let of_backup = read(std::slice::from_ref(backup), ignored)?;
            if of_backup.is_empty() {
                let what = format!("there is nothing in the backup {}", backup.display());
                return Err(Error::new(Kind::Config, what));
            }
            reports.extend(of_backup);
        }
        Ok(Self { reports, spaces })
    }

    /// Refuses unless nothing in use needs this version, naming what does.
    pub(in crate::cli) fn check(&self, key: &KeyRef) -> Result<()> {
        let (id, version) = numbers(key)?;
        let named = |reports: Vec<&Report>| {
            let names: Vec<_> =
                reports.iter().take(MAX_NAMED).map(|r| r.file.display().to_string()).collect();
            match reports.len().saturating_sub(MAX_NAMED) {
                0 => names.join(", "),
                more => format!("{} and {more} more", names.join(", ")),
            }
        };
        let needing: Vec<_> = self.reports.iter().filter(|r| r.needs(id, version)).collect();
        if !needing.is_empty() {
            let files = needing.len();
            let plural = if files == 1 { "file needs" } else { "files need" };
            let what = format!("{files} {plural} {key}: {}", named(needing));
            return Err(Error::new(Kind::State, what).advise(
                "`keyward inspect` shows how much; see `keyward help inspect-and-destroy`",
            ));
        }
        let unclear: Vec<_> = self.reports.iter().filter(|r| !r.unknown.is_empty()).collect();
        if let Some(first) = unclear.first() {
            let why = first.unknown.join(", ");
            let what = format!("{key} may be needed by {} ({why})", named(unclear));
            let advice = match why.contains("Permission denied") {
                true => {
                    "it is read as the server's account: let its group read it (chgrp, chmod g+rX)"
                }
                false => "see `keyward inspect`; --ignore FILE vouches for a file",
            };
            return Err(Error::new(Kind::State, what).advise(advice));
        }
        let spaces = self.spaces.iter().filter(|space| space.may_need(id, version));
        let names: Vec<_> = spaces.take(MAX_NAMED).map(|space| space.name.as_str()).collect();
        if !names.is_empty() {
            let what = format!("by the server's word {} may need {key}", names.join(", "));
            return Err(Error::new(Kind::State, what)
                .advise("wait until it has re-encrypted them (innodb_encryption_threads)"));
        }
        Ok(())
    }

    /// How many freed pages carry it.
    pub(in crate::cli) fn freed(&self, key: &KeyRef) -> u64 {
        let Ok((id, version)) = numbers(key) else { return 0 };
        self.reports.iter().map(|report| report.freed(id, version)).sum()
    }
}

fn numbers(key: &KeyRef) -> Result<(KeyId, KeyVersion)> {
    match key.name {
        KeyName::Id(id) => Ok((id, key.version)),
        KeyName::Named { .. } => {
            Err(Error::new(Kind::Unsupported, format!("{key} is none of MariaDB's")))
        }
    }
}

fn read(paths: &[PathBuf], ignored: &[PathBuf]) -> Result<Vec<Report>> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let ignored: Vec<_> = ignored.iter().map(|path| real(path)).collect();
    confine::reading(|| {
        let (files, mut reports) = inspect::walk(paths);
        let files = files.iter().filter(|file| !ignored.contains(&real(file)));
        reports.extend(files.map(|file| inspect::file(file)));
        reports
    })
}

/// Those of `datadirs` that are not MySQL's. Where both may be, it is read as MariaDB's.
fn of_mariadb(datadirs: &[PathBuf]) -> Vec<PathBuf> {
    let is_mysqls = |folder: &Path| {
        folder.join(DICTIONARY).is_file() && !MARIADBS.iter().any(|name| folder.join(name).exists())
    };
    datadirs.iter().filter(|folder| !is_mysqls(folder)).cloned().collect()
}

/// Folders in which the files of a server are missing prove nothing.
fn refuse_incomplete(datadirs: &[PathBuf], reports: &[Report]) -> Result<()> {
    if datadirs.is_empty() {
        return Ok(());
    }
    for (name, variable) in
        [("ibdata1", "innodb_data_home_dir"), ("ib_logfile0", "innodb_log_group_home_dir")]
    {
        let there = reports.iter().any(|report| report.file.ends_with(name));
        if !there {
            let datadirs: Vec<_> = datadirs.iter().map(|dir| dir.display().to_string()).collect();
            let what = format!("there is no {name} in {}", datadirs.join(", "));
            return Err(Error::new(Kind::Config, what).advise(format!(
                "name the data directory, and with a second --datadir the server's {variable}"
            )));
        }
    }
    Ok(())
}

/// Whether a server has its files in `datadir` locked; it need not run in our container.
pub(in crate::cli) fn is_running(datadir: &Path) -> bool {
    LOCKED.iter().any(|name| {
        let Ok(file) = trust::open_untrusted(&datadir.join(name)) else { return false };
        let mut lock = nix::libc::flock {
            l_type: nix::libc::F_WRLCK as i16,
            l_whence: nix::libc::SEEK_SET as i16,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        let asked = fcntl(&file, FcntlArg::F_GETLK(&mut lock));
        asked.is_ok() && lock.l_type != nix::libc::F_UNLCK as i16
    })
}

/// Asks the server on `datadirs` what its tablespaces need, and where else it keeps files.
fn ask(datadirs: &[PathBuf], options: &server::Options) -> Result<Vec<server::Space>> {
    let refused = |why: &str| {
        let what = format!("a server runs on the data directory, and {why}");
        Error::new(Kind::State, what).advise("name its socket with --socket, or stop it")
    };
    let needs = server::ask_needs(options).map_err(|words| refused(&format!("says: {words}")))?;
    let real = |path: &Path| path.canonicalize().ok();
    let known: Vec<_> = datadirs.iter().filter_map(|dir| real(dir)).collect();
    let its = real(&needs.datadir).filter(|its| known.contains(its));
    if its.is_none() {
        let other = needs.datadir.display();
        return Err(refused(&format!("another one answers, whose data directory is {other}")));
    }
    for folder in needs.folders {
        let inside =
            real(&folder).is_some_and(|real| known.iter().any(|dir| real.starts_with(dir)));
        if !inside {
            let what = format!("the server keeps files in {}, too", folder.display());
            return Err(Error::new(Kind::Config, what).advise("name it with a second --datadir"));
        }
    }
    Ok(needs.spaces)
}
