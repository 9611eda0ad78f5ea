//! Which files of a data directory there are to read, and which of them never need a key.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::bytes::head;
use super::{Kind, Report, tablespace};
use crate::trust;

/// How deep folders may lie in each other.
const MAX_DEPTH: usize = 16;

/// How long an `.isl` file may be: a path, and what an editor left behind it.
const MAX_ISL: u64 = 8 << 10;

/// Endings of files that no server encrypts.
const PLAIN_ENDINGS: &[&str] = &[
    "frm", "opt", "par", "isl", "cfg", "TRG", "TRN", "MYI", "MYD", "CSM", "CSV", "ARM", "ARZ",
    "MRG", "pem", "err", "pid", "index", "info", "state", "flag", "sock", "cnf", "lock", "sdi",
    "cfp",
];

/// Endings of MySQL's doublewrite files.
const DOUBLE_WRITE_ENDINGS: &[&str] = &["dblwr", "bdblwr"];

/// Names of such files.
const PLAIN_NAMES: &[&str] = &[
    "aria_log_control",
    "ib_buffer_pool",
    "tc.log",
    "ddl_recovery.log",
    "ddl_recovery-backup.log",
    "mysql_upgrade_history",
    "mysql_upgrade_info",
    "mysqld.my",
    "mariadb_upgrade_info",
    "grastate.dat",
    "gvwstate.dat",
    "mariadb_backup_checkpoints",
    "mariadb_backup_info",
    "mariadb_backup_binlog_info",
    "mariadb_backup_binlog_pos_innodb",
    "mariadb_backup_galera_info",
    "mariadb_backup_slave_info",
    "xtrabackup_checkpoints",
    "xtrabackup_info",
    "xtrabackup_binlog_info",
    "xtrabackup_binlog_pos_innodb",
    "xtrabackup_galera_info",
    "xtrabackup_slave_info",
    "xtrabackup_tablespaces",
    "donor_galera_info",
    "keyward.mark",
    "keyward.mark.tmp",
];

/// What a file is whose name alone says that it needs no key.
pub(super) fn known_plain(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_str()?;
    let ending = path.extension().and_then(|ending| ending.to_str());
    if name.starts_with("ibtmp") || ending == Some("ibt") || is_spare_redo_log(name) {
        return Some(Kind::Temporary);
    }
    if name.starts_with("#ib_") && ending.is_some_and(|end| DOUBLE_WRITE_ENDINGS.contains(&end)) {
        return Some(Kind::DoubleWrite);
    }
    let plain = PLAIN_NAMES.contains(&name)
        || ending.is_some_and(|ending| PLAIN_ENDINGS.contains(&ending))
        // Aria's own log holds row images in the clear, whatever its tables are.
        || name.strip_prefix("aria_log.").is_some_and(is_number);
    plain.then_some(Kind::Plain)
}

/// Whether this is the second or a later file of the system tablespace.
pub(super) fn is_later_system_file(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.and_then(|name| name.strip_prefix("ibdata")).is_some_and(is_number)
}

/// Reads such a file by the flags of the first.
pub(super) fn later_system_file(file: &File, path: &Path) -> io::Result<Report> {
    match trust::open_untrusted(&path.with_file_name("ibdata1")) {
        Ok(first) => tablespace::parse_later(file, &head(&first, 64 << 10)?),
        Err(_) => {
            Ok(Report::unclear(Kind::Tablespace, "the first file, ibdata1, is not beside it"))
        }
    }
}

/// Whether this is a log for people: the error log, the slow query log.
pub(super) fn is_text_log(file: &File, path: &Path) -> bool {
    let text = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..);
    path.extension().is_some_and(|ending| ending == "log")
        && head(file, 64 << 10).is_ok_and(|head| head.iter().all(text))
}

/// Whether MySQL keeps this file for when it needs another redo log, and will write over all of it.
fn is_spare_redo_log(name: &str) -> bool {
    let number = name.strip_prefix("#ib_redo").and_then(|rest| rest.strip_suffix("_tmp"));
    number.is_some_and(is_number)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Every file at or below `paths`, sorted, each once; tablespaces elsewhere that an `.isl` file
/// names are among them. What cannot be listed comes as a report that says so.
#[must_use]
pub fn walk(paths: &[PathBuf]) -> (Vec<PathBuf>, Vec<Report>) {
    let mut walk = Walk::default();
    for path in paths {
        walk.visit(path, 0);
    }
    (walk.files.into_iter().collect(), walk.failed)
}

/// The text of an `.isl` file: the path of a tablespace.
fn read_isl(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    trust::open_untrusted(path)?.take(MAX_ISL + 1).read_to_string(&mut text)?;
    match text.len() as u64 > MAX_ISL {
        true => Err(io::Error::new(io::ErrorKind::InvalidData, "longer than a path can be")),
        false => Ok(text),
    }
}

#[derive(Default)]
struct Walk {
    files: BTreeSet<PathBuf>,
    folders: BTreeSet<(u64, u64)>,
    failed: Vec<Report>,
}

impl Walk {
    fn visit(&mut self, path: &Path, depth: usize) {
        let meta = match fs::metadata(path) {
            Ok(meta) => meta,
            Err(cause) => return self.fail(path, &cause),
        };
        if meta.is_dir() {
            // A link may lead back to where we came from.
            if depth <= MAX_DEPTH && self.folders.insert((meta.dev(), meta.ino())) {
                self.list(path, depth);
            }
        } else if meta.is_file() && self.files.insert(path.to_owned()) {
            self.follow(path, depth);
        }
    }

    fn list(&mut self, folder: &Path, depth: usize) {
        match fs::read_dir(folder) {
            Ok(entries) => {
                for entry in entries {
                    match entry {
                        Ok(entry) => self.visit(&entry.path(), depth + 1),
                        Err(cause) => self.fail(folder, &cause),
                    }
                }
            }
            Err(cause) => self.fail(folder, &cause),
        }
    }

    /// An `.isl` file holds the path of a tablespace that lies elsewhere.
    fn follow(&mut self, path: &Path, depth: usize) {
        if path.extension().is_none_or(|ending| ending != "isl") || depth > MAX_DEPTH {
            return;
        }
        match read_isl(path) {
            Ok(target) => self.visit(Path::new(target.trim()), depth + 1),
            Err(cause) => self.fail(path, &cause),
        }
    }

    fn fail(&mut self, path: &Path, cause: &io::Error) {
        self.failed.push(Report::unreadable(Kind::Unknown, cause).at(path));
    }
}
