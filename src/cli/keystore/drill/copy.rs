//! A copy of a data directory, or of a backup of one by mariadb-backup: what a server needs to read tables.

#![forbid(unsafe_code)]

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};

use crate::error::{Error, Kind, Result};

/// What the notes of a backup are called that nobody has prepared, as 10.11 and 11.8 call them.
const CHECKPOINTS: [&str; 2] = ["xtrabackup_checkpoints", "mariadb_backup_checkpoints"];
/// The options that a backup notes for its preparation.
pub(super) const BACKUPS_OPTIONS: &str = "backup-my.cnf";
/// InnoDB's own tablespace: no server starts without it.
const SYSTEM: &str = "ibdata1";
/// What begins the names of files that no server needs to read tables, and what ends them.
const BEGINS: [&str; 3] = ["keyward.mark", "ib_buffer_pool", "."];
const ENDS: [&str; 5] = [".err", ".pid", ".sock", ".index", ".log"];
/// What room a server needs besides the copy: its redo log, temporary files, what a preparation writes.
const MORE_ROOM: u64 = 512 << 20;
/// The longest notes of a backup, in bytes.
const MAX_NOTES: u64 = 1 << 16;

/// What is to be copied, and how long that is.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Paths below the folder.
    files: Vec<PathBuf>,
    pub(super) bytes: u64,
    /// Whether it is a backup that has to be prepared.
    pub(super) unprepared: bool,
}

/// A table as it is named in a call: `database.table`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct TableName {
    pub(super) database: String,
    pub(super) table: String,
}

impl Plan {
    /// What a server needs of `folder`; of the tables only `tables`, where some are named.
    pub(super) fn of(folder: &Path, tables: &[TableName]) -> Result<Self> {
        refuse_in_use(folder)?;
        let mut plan = Self { unprepared: is_unprepared(folder)?, ..Self::default() };
        let mut found = vec![false; tables.len()];
        for name in names(folder)? {
            let path = folder.join(&name);
            if kind(&path)?.is_dir() {
                plan.database(folder, &name, tables, &mut found)?;
            } else if !is_passed_over(&path, &name)? {
                plan.add(folder, name.into())?;
            }
        }
        match found.iter().position(|found| !found) {
            None => Ok(plan),
            Some(missing) => {
                let TableName { database, table } = &tables[missing];
                let what = format!("{} has no table {database}.{table}", folder.display());
                Err(Error::new(Kind::NotFound, what).advise(
                    "name tables as SHOW TABLES does, database.table, or leave --tables off",
                ))
            }
        }
    }

    /// Adds the files of a database: all of them, or those of `tables`, of which each `found` is noted.
    fn database(
        &mut self,
        folder: &Path,
        name: &str,
        tables: &[TableName],
        found: &mut [bool],
    ) -> Result<()> {
        if name == "lost+found" || name.starts_with(['.', '#']) {
            return Ok(());
        }
        // The server's own tables are few, and it does not start without them.
        let all = tables.is_empty() || name == "mysql";
        for file in names(&folder.join(name))? {
            let of = |table: &TableName| table.has_file(name, &file);
            for (table, found) in tables.iter().zip(&mut *found) {
                *found |= of(table);
            }
            let shared = file == "db.opt" || file.starts_with("FTS_");
            let wanted = all || tables.iter().any(of);
            let used = tables.iter().any(|table| encoded(&table.database) == name);
            if wanted || (shared && used) {
                self.add(folder, Path::new(name).join(file))?;
            }
        }
        Ok(())
    }

    fn add(&mut self, folder: &Path, file: PathBuf) -> Result<()> {
        let path = folder.join(&file);
        if file.extension().is_some_and(|ending| ending == "isl") {
            let what = format!("{} says that its table is in another folder", path.display());
            return Err(Error::new(Kind::Unsupported, what).advise(
                "a drill with a server copies no table with a DATA DIRECTORY: name others with --tables",
            ));
        }
        self.bytes +=
            path.metadata().map_err(|cause| Error::io("cannot look at", &path, &cause))?.len();
        self.files.push(file);
        Ok(())
    }

    /// Refuses what is more than `most` bytes, or more than there is room for at `place`.
    pub(super) fn judge(&self, place: &Path, most: u64) -> Result<()> {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        if self.bytes > most {
            let what = format!(
                "{} MiB were to be copied, and at most {} may be",
                mib(self.bytes),
                mib(most)
            );
            return Err(Error::new(Kind::State, what)
                .advise("name some tables with --tables, or a higher --max-copy"));
        }
        let found = rustix::fs::statvfs(place)
            .map_err(|cause| Error::io("cannot look at", place, &cause.into()))?;
        let (free, needed) =
            (found.f_bavail * found.f_frsize, self.bytes + self.bytes / 10 + MORE_ROOM);
        if free < needed {
            let what = format!(
                "{} has {} MiB left, and the copy needs {}",
                place.display(),
                mib(free),
                mib(needed)
            );
            return Err(Error::new(Kind::Io, what).advise(
                "name a folder on a larger disk with --scratch, or some tables with --tables",
            ));
        }
        Ok(())
    }

    /// Copies it all to the new folder `to`; how many files.
    pub(super) fn carry_out(&self, folder: &Path, to: &Path) -> Result<usize> {
        make(to)?;
        for file in &self.files {
            let (from, to) = (folder.join(file), to.join(file));
            if let Some(above) = to.parent().filter(|above| !above.is_dir()) {
                make(above)?;
            }
            let copied = fs::copy(&from, &to)
                .and_then(|_| fs::set_permissions(&to, Permissions::from_mode(0o600)));
            copied.map_err(|cause| Error::io("cannot copy", &from, &cause))?;
        }
        Ok(self.files.len())
    }
}

impl TableName {
    /// Whether `file` in the folder `database` is of it, or of a partition of it.
    fn has_file(&self, database: &str, file: &str) -> bool {
        let rest = file.strip_prefix(encoded(&self.table).as_str());
        encoded(&self.database) == database
            && rest.is_some_and(|rest| rest.starts_with('.') || rest.starts_with("#P#"))
    }
}

impl std::str::FromStr for TableName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (database, table) = text.split_once('.').ok_or("write it as database.table")?;
        let fits = |name: &str| !name.is_empty() && name.is_ascii();
        match fits(database) && fits(table) {
            true => Ok(Self { database: database.to_owned(), table: table.to_owned() }),
            false => Err("only tables whose names are ASCII can be named".to_owned()),
        }
    }
}

/// What the server calls the file of `name`: letters, digits and `_` as they are, the rest as `@` and the
/// character's number.
fn encoded(name: &str) -> String {
    let one = |c: char| match c.is_ascii_alphanumeric() || c == '_' {
        true => c.to_string(),
        false => format!("@{:04x}", u32::from(c)),
    };
    name.chars().map(one).collect()
}

/// Whether `folder` is a backup that has to be prepared first.
fn is_unprepared(folder: &Path) -> Result<bool> {
    let notes = CHECKPOINTS.iter().map(|name| folder.join(name)).find(|path| path.exists());
    let Some(path) = notes else { return Ok(false) };
    let mut text = String::new();
    File::open(&path)
        .and_then(|file| file.take(MAX_NOTES).read_to_string(&mut text))
        .map_err(|cause| Error::io("cannot read", &path, &cause))?;
    let kind = text.lines().find_map(|line| line.strip_prefix("backup_type = "));
    match kind.map(str::trim) {
        Some("full-backuped") => Ok(true),
        Some("incremental") => {
            let what = format!("{} is an incremental backup", folder.display());
            Err(Error::new(Kind::State, what)
                .advise("apply it to a copy of the full one first, by mariadb-backup --prepare"))
        }
        _ => Ok(false),
    }
}

/// Refuses what a server works on: files are not copied as of one moment.
fn refuse_in_use(folder: &Path) -> Result<()> {
    let path = folder.join(SYSTEM);
    let file = File::open(&path).map_err(|cause| {
        Error::io("cannot open", &path, &cause).advise(
            "name a data directory, or a backup by mariadb-backup, that the account can read",
        )
    })?;
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as _,
        l_whence: libc::SEEK_SET as _,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    let asked = fcntl(&file, FcntlArg::F_GETLK(&mut lock));
    if asked.is_ok() && lock.l_type != libc::F_UNLCK as libc::c_short {
        let what = format!("a server works on {} (process {})", folder.display(), lock.l_pid);
        return Err(Error::new(Kind::State, what)
            .advise("name a backup by mariadb-backup, or stop the server"));
    }
    Ok(())
}

/// Whether no server needs the file `name` at `path` to read tables: binary logs among them.
fn is_passed_over(path: &Path, name: &str) -> Result<bool> {
    let kind = kind(path)?;
    if !kind.is_file() {
        return match kind.is_symlink() {
            true => Err(Error::new(Kind::Unsupported, format!("{} is a link", path.display()))
                .advise("give a backup by mariadb-backup, which has none")),
            false => Ok(true),
        };
    }
    let number = name.rsplit_once('.').map_or("", |(_, number)| number);
    let is_numbered = number.len() >= 6 && number.bytes().all(|digit| digit.is_ascii_digit());
    // Aria's own logs are what its tables are repaired from.
    let is_binary_log = is_numbered && !name.starts_with("aria_log.");
    Ok(is_binary_log
        || BEGINS.iter().any(|begin| name.starts_with(begin))
        || ENDS.iter().any(|end| name.ends_with(end)))
}

fn kind(path: &Path) -> Result<fs::FileType> {
    let found = path.symlink_metadata();
    found.map(|found| found.file_type()).map_err(|cause| Error::io("cannot look at", path, &cause))
}

/// The names in `folder`, in order. The server writes none but ASCII.
fn names(folder: &Path) -> Result<Vec<String>> {
    let failed = |cause: io::Error| Error::io("cannot list", folder, &cause);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        names.extend(entry.map_err(failed)?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

pub(super) fn make(folder: &Path) -> Result<()> {
    fs::create_dir(folder).map_err(|cause| Error::io("cannot make the folder", folder, &cause))
}
