//! MySQL's tablespaces. Pages carry no key version: page 0 holds the tablespace's own key, wrapped by
//! a master key that it names.
//!
//! Learnt by experiment on files that MySQL 9.7 wrote.

#![forbid(unsafe_code)]

use std::io;

use serde::{Serialize, Serializer};

use super::bytes::{Source, be32};
use super::crc::crc32c;
use super::layout::{HEADER, Layout};
use super::{Kind, Report};

/// Flags that MariaDB's tablespaces never have: encrypted, and with a dictionary of their own.
const ENCRYPTED: u32 = 1 << 13;
const DICTIONARY: u32 = 1 << 14;
/// The flags that both servers have: page sizes and the like.
const COMMON: u32 = (1 << 10) - 1;
/// MariaDB's `full_crc32`.
const FULL_CRC32: u32 = 1 << 4;

/// What begins the encryption data: since 5.7.12, and since 8.0.5. The first releases had `lCA`,
/// with a name of the master key that is not known here.
const MAGICS: [&[u8]; 2] = [b"lCB", b"lCC"];
/// The server's id in the text form of a UUID, in bytes.
const SERVER_LEN: usize = 36;
/// The tablespace's key and its initialisation vector, 32 bytes each.
const WRAPPED_LEN: usize = 64;
/// Where page 0 keeps how many pages the tablespace has.
const SIZE: usize = HEADER + 8;
/// How often page 0 is read again whose checksum is wrong: a running server may be writing it.
const TRIES: u32 = 3;

/// Whether page 0 has no more than the numbers and flags that MySQL gives a new tablespace; its type and
/// sequence number come when the server first writes it.
pub(super) fn is_begun(head: &[u8]) -> bool {
    let (at_first, again) = (be32(head, 34), be32(head, HEADER));
    let unwritten = head.get(16..34).is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0));
    unwritten && be32(head, 4) == 0 && at_first != 0 && at_first == again
}

/// A tablespace's own key, wrapped by AES-256-ECB under a master key of the keyring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterKey {
    server: String,
    number: u32,
    wrapped: [u8; WRAPPED_LEN],
    sum: u32,
}

impl MasterKey {
    /// What the keyring calls the master key.
    #[must_use]
    pub fn name(&self) -> String {
        format!("INNODBKey-{}-{}", self.server, self.number)
    }

    /// The tablespace's key and initialisation vector as they are wrapped.
    #[must_use]
    pub fn wrapped(&self) -> &[u8; WRAPPED_LEN] {
        &self.wrapped
    }

    /// Whether `plain` is what was wrapped, by the checksum of it beside.
    #[must_use]
    pub fn is_right(&self, plain: &[u8; WRAPPED_LEN]) -> bool {
        crc32c(plain) == self.sum
    }

    /// Magic, number (4 bytes), server, wrapped key, checksum (4 bytes).
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let rest = MAGICS.iter().find_map(|magic| bytes.strip_prefix(*magic))?;
        let number = be32(rest, 0);
        let (server, rest) = rest.get(4..)?.split_at_checked(SERVER_LEN)?;
        let of_uuid = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b'-';
        let server = std::str::from_utf8(server).ok().filter(|_| server.iter().all(of_uuid))?;
        let wrapped = *rest.first_chunk()?;
        let sum = be32(rest.get(WRAPPED_LEN..)?.first_chunk::<4>()?, 0);
        Some(Self { server: server.to_owned(), number, wrapped, sum })
    }
}

impl Serialize for MasterKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.name().serialize(serializer)
    }
}

/// Whether the flags of a page 0 are such as only MySQL sets.
pub(super) fn is_mysql(page_0: &[u8]) -> bool {
    let flags = Layout::flags(page_0);
    flags & (ENCRYPTED | DICTIONARY) != 0 && flags & FULL_CRC32 == 0 && flags >> 15 == 0
}

/// Reads a tablespace by its page 0, which is read again while its checksum is wrong: with wrong
/// flags, what MariaDB wrote would look as if it needed nothing.
pub(super) fn parse(source: &(impl Source + ?Sized), page_0: &[u8]) -> io::Result<Report> {
    let mut page_0 = page_0.to_vec();
    let mut found = read(&page_0);
    for _ in 0..TRIES {
        if found.is_ok() {
            break;
        }
        source.read_at(0, &mut page_0)?;
        found = read(&page_0);
    }
    Ok(match found {
        Ok((layout, master_key)) => {
            let mut report = Report::new(Kind::Tablespace);
            report.format = describe(&layout, master_key.is_some());
            report.pages = source.len()? / layout.page as u64;
            report.unencrypted = if master_key.is_some() { 0 } else { report.pages };
            let size = u64::from(be32(&page_0, SIZE));
            if report.pages < size {
                report
                    .unknown
                    .push(format!("is cut off: {} of {size} pages are there", report.pages));
            }
            report.master_key = master_key;
            report
        }
        Err(why) => Report::unclear(Kind::Tablespace, why),
    })
}

fn read(page_0: &[u8]) -> Result<(Layout, Option<MasterKey>), String> {
    let flags = Layout::flags(page_0);
    let unclear = |what: &str| Err(format!("its flags {flags:#x} are MySQL's, {what}"));
    let Some(layout) = Layout::older(flags & COMMON) else {
        return unclear("with a page size that is not known here");
    };
    let Some(page) = page_0.get(..layout.page) else { return unclear("and it is cut off") };
    if checksum(page, &layout) != be32(page, 0) {
        return unclear("and its page 0 has a wrong checksum");
    }
    let master_key = master_key(page, &layout);
    if master_key.is_none() && flags & ENCRYPTED != 0 {
        return unclear("and it names its master key in a way that is not known here");
    }
    Ok((layout, master_key))
}

fn master_key(page_0: &[u8], layout: &Layout) -> Option<MasterKey> {
    MasterKey::of(page_0.get(layout.after_descriptors()..)?)
}

/// Reads the header without looking at the checksum; for tests that look for crashes.
pub(super) fn unchecked(page_0: &[u8]) -> Option<MasterKey> {
    master_key(page_0, &Layout::older(Layout::flags(page_0) & COMMON)?)
}

/// Of the parts of a page that do not change when it is written: without the checksum itself, the
/// LSN of a flush and, where the page is compressed, other places that recovery does without.
fn checksum(page: &[u8], layout: &Layout) -> u32 {
    let of = |from: usize, to: usize| crc32c(page.get(from..to).unwrap_or_default());
    if layout.page == layout.logical {
        of(4, 26) ^ of(38, page.len() - 8)
    } else {
        of(4, 16) ^ of(24, 26) ^ of(34, page.len())
    }
}

fn describe(layout: &Layout, encrypted: bool) -> String {
    let mut text = format!("MySQL, pages of {} KiB", layout.page >> 10);
    if layout.page != layout.logical {
        text += ", row_format=compressed";
    }
    text + if encrypted { "" } else { ", not encrypted" }
}
