//! Reading data files offline: which key versions a file needs, without a key and without a server.
//!
//! What a parser does not understand it says so in [`Report::unknown`]; it never guesses. A file
//! needs nothing only where every byte that could need a key was understood.
//!
//! The formats were learnt from MariaDB's documentation and by experiment on files that MariaDB
//! 10.11 and MySQL 9.7 wrote; `tests/golden/inspect` keeps samples.

#![forbid(unsafe_code)]

mod aria;
mod binlog;
mod bytes;
mod crc;
mod layout;
mod mysql;
mod mysql_log;
mod proof;
mod redo;
mod tablespace;
mod walk;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use bytes::Source;
pub use mysql::MasterKey;
pub use mysql_log::BinlogHeader;
pub use proof::{Encrypted, Proof, Space};
pub use walk::walk;

use crate::key::{KeyId, KeyName, KeyVersion, PageMode};
use crate::secret::DataKey;
use crate::trust;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An InnoDB tablespace: a table, the system tablespace, undo logs.
    Tablespace,
    /// InnoDB's redo log.
    RedoLog,
    /// An Aria table's index file.
    AriaIndex,
    /// An Aria table's data file.
    AriaData,
    /// A binary or relay log.
    BinaryLog,
    /// A file of the server that is never encrypted.
    Plain,
    /// InnoDB's temporary tablespaces and spare logs: the server makes them again at each start.
    Temporary,
    /// MySQL's doublewrite file: copies of pages, under the keys of their tablespaces.
    DoubleWrite,
    /// Something else.
    Unknown,
}

/// Whether anybody will read again what is encrypted with a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Use {
    /// In use: without the key, data is lost.
    InUse,
    /// Freed pages: they keep the version they last had, and nobody will read them again.
    Freed,
}

/// A key version that a file needs, or that lies about in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Need {
    /// Which key.
    pub id: KeyId,
    /// Which version.
    pub version: KeyVersion,
    /// Whether it is needed.
    pub usage: Use,
    /// How many pages, or logs, carry it.
    pub count: u64,
    /// The first page that does.
    pub first: u64,
}

/// What page 0 of a tablespace says of its encryption.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CryptData {
    /// 0 = not encrypted, 1 = encrypted.
    pub scheme: u8,
    /// The key.
    pub key_id: u32,
    /// The oldest version that the server knew to be in use when it wrote this.
    pub min_key_version: u32,
    /// `default`, `on` or `off`: the table's own `ENCRYPTED`.
    pub mode: &'static str,
    /// What the tablespace's own key is derived by.
    #[serde(skip)]
    iv: [u8; 16],
}

/// What one file needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Which file.
    pub file: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Its format, for people: `full_crc32, pages of 16 KiB, page_compressed`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub format: String,
    /// What its page 0 says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<CryptData>,
    /// In MySQL's tablespaces and redo logs: the master key that wraps their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_key: Option<MasterKey>,
    /// In MySQL's binary logs: the name of the key that wraps their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication_key: Option<String>,
    /// How many pages it has, where it has pages.
    pub pages: u64,
    /// How many of them hold data that is not encrypted.
    pub unencrypted: u64,
    /// How many of those no server encrypts: lists of pages and of transactions, which hold no data.
    #[serde(skip)]
    pub never_encrypted: u64,
    /// The key versions in it, sorted.
    pub needs: Vec<Need>,
    /// Why it may need more than that; empty where all of it was understood.
    pub unknown: Vec<String>,
    /// Which of these reasons is that the redo log was not ended.
    #[serde(skip)]
    unclean: Option<usize>,
}

impl Report {
    fn new(kind: Kind) -> Self {
        Self {
            file: PathBuf::new(),
            kind,
            format: String::new(),
            header: None,
            master_key: None,
            replication_key: None,
            pages: 0,
            unencrypted: 0,
            never_encrypted: 0,
            needs: Vec::new(),
            unknown: Vec::new(),
            unclean: None,
        }
    }

    fn unclear(kind: Kind, why: impl Into<String>) -> Self {
        let mut report = Self::new(kind);
        report.unknown.push(why.into());
        report
    }

    /// What an error in reading a file comes to: it may need anything.
    fn unreadable(kind: Kind, cause: &io::Error) -> Self {
        Self::unclear(kind, format!("cannot be read: {cause}"))
    }

    fn at(mut self, file: &Path) -> Self {
        self.file = file.to_owned();
        self
    }

    /// Whether data in use needs this version, as far as the file was understood.
    #[must_use]
    pub fn needs(&self, id: KeyId, version: KeyVersion) -> bool {
        self.in_use(id, version) > 0
    }

    /// The key of MySQL's keyring that this file needs.
    #[must_use]
    pub fn keyring_key(&self) -> Option<KeyName> {
        let data_id = self.master_key.as_ref().map(MasterKey::name);
        let data_id = data_id.or_else(|| self.replication_key.clone())?;
        Some(KeyName::named(data_id, ""))
    }

    /// How many pages, or logs, in use need this version.
    #[must_use]
    pub fn in_use(&self, id: KeyId, version: KeyVersion) -> u64 {
        self.count(id, version, Use::InUse)
    }

    /// How many freed pages carry this version.
    #[must_use]
    pub fn freed(&self, id: KeyId, version: KeyVersion) -> u64 {
        self.count(id, version, Use::Freed)
    }

    /// Whether data that a server would encrypt stand in it in the clear: a table that was told not to be
    /// encrypted is not among them. Of an Aria table its index file tells.
    #[must_use]
    pub fn is_in_the_clear(&self) -> bool {
        match self.kind {
            Kind::Tablespace => {
                let by_wish = self.header.as_ref().is_some_and(|header| header.mode == "off");
                self.unencrypted > self.never_encrypted && !by_wish
            }
            Kind::RedoLog | Kind::AriaIndex | Kind::BinaryLog => {
                self.format.starts_with("not encrypted")
            }
            _ => false,
        }
    }

    /// Takes out that the redo log was not ended: where the server runs, it is not.
    pub fn forgive_unclean(&mut self) {
        if let Some(at) = self.unclean.take().filter(|at| *at < self.unknown.len()) {
            self.unknown.remove(at);
        }
    }

    fn count(&self, id: KeyId, version: KeyVersion, usage: Use) -> u64 {
        let same = |need: &&Need| (need.id, need.version, need.usage) == (id, version, usage);
        self.needs.iter().filter(same).map(|need| need.count).sum()
    }
}

/// Counts needs while a file is read.
#[derive(Default)]
struct Tally(BTreeMap<(KeyId, KeyVersion, Use), (u64, u64)>);

impl Tally {
    /// A damaged file can carry any number of versions; no server ever had more than this.
    const MAX: usize = 100_000;

    /// Counts one page; `None` where the numbers cannot be a key id and version.
    fn add(&mut self, id: u32, version: u32, usage: Use, page: u64) -> Option<()> {
        let key = (KeyId::try_from(id).ok()?, KeyVersion::try_from(version).ok()?, usage);
        if self.0.len() >= Self::MAX && !self.0.contains_key(&key) {
            return None;
        }
        self.0.entry(key).or_insert((0, page)).0 += 1;
        Some(())
    }

    fn into_needs(self) -> Vec<Need> {
        let need =
            |((id, version, usage), (count, first))| Need { id, version, usage, count, first };
        self.0.into_iter().map(need).collect()
    }
}

/// Whether the name of the file at `path` alone says that it needs no key of its own.
#[must_use]
pub fn is_plain_by_name(path: &Path) -> bool {
    walk::known_plain(path).is_some()
}

/// Whether `key`, used as `mode` says, is the one that encrypted page `number` of the file at `path`.
pub fn proof(path: &Path, number: u64, key: &DataKey, mode: PageMode) -> io::Result<Proof> {
    let source = trust::open_untrusted(path)?;
    match Encrypted::open(&source)? {
        Some(Encrypted::Pages(space)) => space.proof(&source, number, key, mode),
        _ => Ok(Proof::Unclear),
    }
}

/// Reads the file at `path`. Never fails: what cannot be read or understood is in the report.
#[must_use]
pub fn file(path: &Path) -> Report {
    let report = match walk::known_plain(path) {
        Some(kind) => Report::new(kind),
        None => match trust::open_untrusted(path) {
            Ok(file) => by_content(&file, path),
            Err(cause) => Report::unreadable(Kind::Unknown, &cause),
        },
    };
    report.at(path)
}

/// What the first bytes say goes before what the name says.
fn by_content(file: &File, path: &Path) -> Report {
    let head = match bytes::head(file, 64) {
        Ok(head) => head,
        Err(cause) => return Report::unreadable(Kind::Unknown, &cause),
    };
    let (kind, parsed) = if head.starts_with(binlog::MAGIC) {
        (Kind::BinaryLog, binlog::parse(file))
    } else if head.starts_with(mysql_log::BINLOG_MAGIC) {
        (Kind::BinaryLog, mysql_log::binlog(file))
    } else if redo::is_log(&head) {
        (Kind::RedoLog, redo::parse(file))
    } else if mysql_log::is_redo(&head) {
        (Kind::RedoLog, mysql_log::redo(file))
    } else if aria::is_index(&head) {
        (Kind::AriaIndex, aria::index(file))
    } else if path.extension().is_some_and(|end| end == "MAD") {
        (Kind::AriaData, aria::data_beside_index(file, path))
    } else if path.extension().is_some_and(|end| end == "ibd") || tablespace::is_page_0(&head) {
        (Kind::Tablespace, tablespace::parse(file))
    } else if walk::is_later_system_file(path) {
        (Kind::Tablespace, walk::later_system_file(file, path))
    } else if head.is_empty() || walk::is_text_log(file, path) {
        (Kind::Plain, Ok(Report::new(Kind::Plain)))
    } else {
        (Kind::Unknown, Ok(Report::unclear(Kind::Unknown, "is of no format known here")))
    };
    parsed.unwrap_or_else(|cause| Report::unreadable(kind, &cause))
}

/// Reads a tablespace from memory or a file: what [`file()`] does once it knows it is one.
pub fn tablespace(source: &(impl Source + ?Sized)) -> io::Result<Report> {
    tablespace::parse(source)
}

/// Reads bytes as every format in turn; for tests that look for crashes.
pub fn every_format(bytes: &[u8]) {
    let _ = (tablespace::parse(bytes), redo::parse(bytes), binlog::parse(bytes));
    let _ = (aria::index(bytes), aria::data(bytes, bytes));
    let _ = (mysql_log::redo(bytes), mysql_log::binlog(bytes));
    let _ = mysql::unchecked(bytes).map(|key| key.is_right(key.wrapped()));
}
