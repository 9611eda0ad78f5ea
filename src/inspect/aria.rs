//! Aria tables. The index file (.MAI) says whether the table is encrypted, always under key 1; each
//! page of it and of the data file (.MAD) carries its own key version. Aria never re-encrypts a
//! page by itself and keeps no public map of free ones, so every page counts as in use.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;

use super::bytes::{Source, be16, head, le32};
use super::{Kind, Report, Tally, Use};
use crate::key::KeyId;
use crate::trust;

const MAGIC: &[u8] = b"\xfe\xfe\x09";
/// At the end of the header: scheme 1, 20 bytes, then those (a number and the IV).
const CRYPT_DATA: &[u8] = &[1, 20];
const CRYPT_DATA_LEN: usize = 22;
/// In the part of the header that describes the table: page size (2 bytes, 0 for 64 KiB), and
/// whether it is transactional.
const PAGE_SIZE: usize = 100;
const TRANSACTIONAL: usize = 106;
/// The longest header, in bytes: 4096 columns and 64 indexes have far less.
const MAX_HEADER: usize = 1 << 16;
/// How much of a file is in memory at once, in bytes.
const CHUNK: usize = 1 << 20;

/// Whether these are the first bytes of an Aria index file.
pub(super) fn is_index(head: &[u8]) -> bool {
    head.starts_with(MAGIC)
}

struct Layout {
    header: usize,
    page: usize,
    transactional: bool,
    encrypted: bool,
}

impl Layout {
    fn of(index: &(impl Source + ?Sized)) -> io::Result<Result<Self, &'static str>> {
        let head = head(index, MAX_HEADER)?;
        if !is_index(&head) {
            return Ok(Err("does not begin as an Aria index file does"));
        }
        let (header, base) = (usize::from(be16(&head, 6)), usize::from(be16(&head, 12)));
        let page = match be16(&head, base + PAGE_SIZE) {
            0 => 1 << 16,
            size => usize::from(size),
        };
        let whole = base + TRANSACTIONAL < header && header <= head.len();
        if !whole || !page.is_power_of_two() || page < 1024 {
            return Ok(Err("has a header that is not known here"));
        }
        let crypt = header.checked_sub(CRYPT_DATA_LEN).and_then(|at| head.get(at..header));
        Ok(Ok(Self {
            header,
            page,
            transactional: head[base + TRANSACTIONAL] != 0,
            encrypted: crypt.is_some_and(|crypt| crypt.starts_with(CRYPT_DATA)),
        }))
    }

    /// Index pages begin with an LSN (7 bytes), where transactional also a transaction (6), and
    /// the key version.
    fn index_version(&self, page: &[u8]) -> Option<u32> {
        Some(le32(page, if self.transactional { 13 } else { 7 }))
    }

    /// Data pages begin with an LSN (7 bytes) and their type: 0 for an empty page; 1 and 2 with
    /// rows or the ends of rows, and four more bytes; 3 wholly of one long value.
    fn data_version(&self, page: &[u8], number: u64) -> Option<u32> {
        if number.is_multiple_of(self.bitmap_covers()) {
            return None;
        }
        match page.get(7)? & 7 {
            0 => None,
            1 | 2 => Some(le32(page, 12)),
            3 => Some(le32(page, 8)),
            // No such type: no version either.
            _ => Some(0),
        }
    }

    /// Every so many pages comes a map of the next, three bits each, which is not encrypted: what
    /// is left of a page without its checksum (4 bytes), in words of six bytes; and itself.
    fn bitmap_covers(&self) -> u64 {
        ((self.page - 4) / 6 * 6 * 8 / 3 + 1) as u64
    }

    fn describe(&self) -> String {
        let encrypted = if self.encrypted { "encrypted" } else { "not encrypted" };
        format!("{encrypted}, pages of {} KiB", self.page >> 10)
    }
}

/// Reads an index file.
pub(super) fn index(source: &(impl Source + ?Sized)) -> io::Result<Report> {
    let layout = match Layout::of(source)? {
        Ok(layout) => layout,
        Err(why) => return Ok(Report::unclear(Kind::AriaIndex, why)),
    };
    // The header fills as many pages as it needs.
    let first = layout.header.div_ceil(layout.page) as u64;
    scan(source, Kind::AriaIndex, &layout, first, |page, _| layout.index_version(page))
}

/// Reads a data file, whose index file stands beside it.
pub(super) fn data_beside_index(source: &File, path: &Path) -> io::Result<Report> {
    match trust::open_untrusted(&path.with_extension("MAI")) {
        Ok(index) => data(source, &index),
        Err(_) => Ok(Report::unclear(Kind::AriaData, "its index file (.MAI) is not beside it")),
    }
}

/// Reads a data file by the header of its index file.
pub(super) fn data(
    source: &(impl Source + ?Sized),
    index: &(impl Source + ?Sized),
) -> io::Result<Report> {
    match Layout::of(index)? {
        Ok(layout) => scan(source, Kind::AriaData, &layout, 0, |page, number| {
            layout.data_version(page, number)
        }),
        Err(why) => Ok(Report::unclear(Kind::AriaData, format!("its index file {why}"))),
    }
}

fn scan(
    source: &(impl Source + ?Sized),
    kind: Kind,
    layout: &Layout,
    first: u64,
    version: impl Fn(&[u8], u64) -> Option<u32>,
) -> io::Result<Report> {
    let mut report = Report::new(kind);
    report.format = layout.describe();
    report.pages = source.len()? / layout.page as u64;
    if !layout.encrypted {
        report.unencrypted = report.pages;
        return Ok(report);
    }
    let mut tally = Tally::default();
    let mut bad = 0_u64;
    let mut chunk = vec![0; CHUNK];
    let mut number = first;
    loop {
        let read = source.read_at(number * layout.page as u64, &mut chunk)?;
        for page in chunk[..read].chunks_exact(layout.page) {
            let empty = page.iter().all(|byte| *byte == 0);
            if let Some(version) = version(page, number).filter(|_| !empty) {
                let id = KeyId::SYSTEM.get();
                bad += u64::from(tally.add(id, version, Use::InUse, number).is_none());
            }
            number += 1;
        }
        if read < CHUNK {
            break;
        }
    }
    if bad > 0 {
        report.unknown.push(format!("{bad} pages have an impossible key version"));
    }
    report.needs = tally.into_needs();
    Ok(report)
}
