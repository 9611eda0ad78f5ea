//! MySQL's redo log and its binary and relay logs: an encrypted one names its key of the keyring.
//!
//! Learnt by experiment on files that MySQL 9.7 wrote.

#![forbid(unsafe_code)]

use std::io;

use super::bytes::{Source, be32, head};
use super::crc::crc32c;
use super::mysql::MasterKey;
use super::{Kind, Report};

/// A block of the redo log; its last 4 bytes are its CRC-32C.
const BLOCK: usize = 512;
/// The format since 8.0.30: files `#ib_redoN` in a folder of their own.
const REDO_FORMAT: u32 = 6;
/// Where the name of the maker begins.
const CREATOR: usize = 16;
/// Where the encryption data stand. Their block has no checksum.
const REDO_KEY: usize = 2 * BLOCK + 48;

/// What an encrypted binary log begins with; its header takes 512 bytes.
pub(super) const BINLOG_MAGIC: &[u8] = b"\xfdbin";
/// The version of that header.
const BINLOG_VERSION: u8 = 1;
/// How many bytes of the file that header takes.
const BINLOG_HEADER: usize = BLOCK;
/// The field with the key's name: tag, length, name.
const NAME: u8 = 1;
/// The field with the log's own secret as that key wraps it: tag, 32 bytes.
const SECRET: u8 = 2;
/// The field with the initialisation vector of that: tag, 16 bytes.
const IV: u8 = 3;
/// What the name of every such key begins with.
const REPLICATION_KEY: &str = "MySQLReplicationKey_";

/// Whether these are the first bytes of MySQL's redo log.
pub(super) fn is_redo(head: &[u8]) -> bool {
    be32(head, 0) == REDO_FORMAT
        && head.get(CREATOR..).is_some_and(|creator| creator.starts_with(b"MySQL"))
}

/// Reads the header of a redo log, which keeps the log's own key, wrapped by a master key that it names.
pub(super) fn redo(source: &(impl Source + ?Sized)) -> io::Result<Report> {
    let head = head(source, 4 * BLOCK)?;
    let unclear = |why: &str| Ok(Report::unclear(Kind::RedoLog, why));
    let (Some(first), Some(key)) = (head.get(..BLOCK - 4), head.get(REDO_KEY..3 * BLOCK)) else {
        return unclear("is cut off");
    };
    if crc32c(first) != be32(&head, BLOCK - 4) {
        return unclear("its header has a wrong checksum");
    }
    let mut report = Report::new(Kind::RedoLog);
    report.master_key = MasterKey::of(key);
    report.format = match &report.master_key {
        Some(_) => "MySQL, encrypted".to_owned(),
        None if key.iter().all(|byte| *byte == 0) => "MySQL, not encrypted".to_owned(),
        None => return unclear("it names its master key in a way that is not known here"),
    };
    Ok(report)
}

/// Reads the header of an encrypted binary log, which keeps the log's own key, wrapped by the key that it names.
pub(super) fn binlog(source: &(impl Source + ?Sized)) -> io::Result<Report> {
    let head = head(source, BINLOG_HEADER)?;
    let Some(name) = name_of_key(&head) else {
        let why = "it names its key in a way that is not known here";
        return Ok(Report::unclear(Kind::BinaryLog, why));
    };
    let mut report = Report::new(Kind::BinaryLog);
    report.format = "MySQL, encrypted".to_owned();
    report.replication_key = Some(name.to_owned());
    Ok(report)
}

/// The header of an encrypted binary log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinlogHeader {
    /// What the keyring calls the key.
    pub key: String,
    /// The log's own secret, wrapped by AES-256-CBC under that key.
    pub secret: [u8; 32],
    /// The initialisation vector of that.
    pub iv: [u8; 16],
}

impl BinlogHeader {
    /// How many bytes of the file it takes; the encrypted log follows.
    pub const LEN: u64 = BINLOG_HEADER as u64;

    /// The header that a file begins with; nothing where it is of no form known here.
    #[must_use]
    pub fn of(head: &[u8]) -> Option<Self> {
        let key = name_of_key(head)?;
        let rest = head.get(BINLOG_MAGIC.len() + 3 + key.len()..BINLOG_HEADER)?;
        let (secret, rest) = rest.strip_prefix(&[SECRET])?.split_first_chunk()?;
        let iv = rest.strip_prefix(&[IV])?.first_chunk()?;
        Some(Self { key: key.to_owned(), secret: *secret, iv: *iv })
    }
}

fn name_of_key(head: &[u8]) -> Option<&str> {
    let fields = head.strip_prefix(BINLOG_MAGIC)?.strip_prefix(&[BINLOG_VERSION, NAME])?;
    let (len, rest) = fields.split_first()?;
    let name = std::str::from_utf8(rest.get(..usize::from(*len))?).ok()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (name.starts_with(REPLICATION_KEY) && name.bytes().all(is_plain)).then_some(name)
}
