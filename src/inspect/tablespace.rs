//! InnoDB tablespaces: every page's key version, and whether the page is in use.

#![forbid(unsafe_code)]

use std::io;

use super::bytes::{Source, be16, be32};
use super::crc::crc32c;
use super::layout::{Format, HEADER, Layout};
use super::{CryptData, Kind, Report, Tally, Use, mysql};

/// What begins the encryption data in page 0.
const CRYPT_MAGIC: &[u8] = b"s\x0e\x0cREt";
/// How much of a file is in memory at once, in bytes; a whole number of pages of every size.
const CHUNK: usize = 1 << 20;
/// How often a page is read again whose checksum is wrong: a running server may be writing it.
const TRIES: u32 = 3;
/// How many damaged pages are named one by one.
const MAX_NAMED: u64 = 5;

/// Page types that matter here (`FIL_PAGE_TYPE`).
mod kind {
    pub(super) const TRX_SYS: u16 = 7;
    pub(super) const SPACE_HEADER: u16 = 8;
    pub(super) const DESCRIPTORS: u16 = 9;
    /// In the older formats never encrypted, with a counter where others keep their key version.
    pub(super) const SPATIAL: u16 = 17854;
    /// Compressed and not encrypted, older formats.
    pub(super) const COMPRESSED: u16 = 34354;
    /// Set in `full_crc32` where the page is compressed; the low byte is then its length / 256.
    pub(super) const COMPRESSED_FLAG: u16 = 1 << 15;
}

/// The page of the system tablespace that knows where the doublewrite buffer is.
const TRX_SYS_PAGE: u64 = 5;
const DOUBLEWRITE_MAGIC: u32 = 536_853_855;

/// Whether these can be the first bytes of page 0 of a tablespace: page number 0, its type.
pub(super) fn is_page_0(head: &[u8]) -> bool {
    head.len() >= HEADER + 20 && be32(head, 4) == 0 && be16(head, 24) == kind::SPACE_HEADER
}

/// Reads a tablespace from its page 0 on.
pub(super) fn parse(source: &(impl Source + ?Sized)) -> io::Result<Report> {
    let head = super::bytes::head(source, 64 << 10)?;
    if head.iter().all(|byte| *byte == 0) {
        return Ok(Report::unclear(
            Kind::Tablespace,
            "its page 0 is empty: a running server writes it later",
        ));
    }
    if mysql::is_begun(&head) {
        return Ok(Report::unclear(
            Kind::Tablespace,
            "its page 0 is begun: a running server writes it later",
        ));
    }
    if !is_page_0(&head) {
        return Ok(Report::unclear(Kind::Tablespace, "does not begin with page 0 of a tablespace"));
    }
    if mysql::is_mysql(&head) {
        return mysql::parse(source, &head);
    }
    match Layout::of(&head) {
        Ok(layout) => Scan::new(layout, &head).run(source, 0),
        Err(why) => Ok(Report::unclear(Kind::Tablespace, why)),
    }
}

/// Reads a later file of a tablespace of several files, whose page 0 is `page_0`. Without the
/// descriptors, which the first file keeps, every page counts as in use.
pub(super) fn parse_later(source: &(impl Source + ?Sized), page_0: &[u8]) -> io::Result<Report> {
    let mut first = [0; 8];
    source.read_at(0, &mut first)?;
    match Layout::of(page_0) {
        Ok(layout) => Scan::new(layout, page_0).run(source, u64::from(be32(&first, 4))),
        Err(why) => Ok(Report::unclear(Kind::Tablespace, why)),
    }
}

struct Scan {
    layout: Layout,
    space: u32,
    crypt: Option<CryptData>,
    /// The page of descriptors for the pages at hand.
    descriptors: Option<Vec<u8>>,
    /// The pages that are copies of others, for recovery.
    doublewrite: Vec<std::ops::Range<u64>>,
    tally: Tally,
    damaged: u64,
    report: Report,
}

/// What a page carries.
pub(super) enum Carries {
    Nothing,
    Plain,
    Version(u32),
    Damaged(&'static str),
}

impl Scan {
    fn new(layout: Layout, page_0: &[u8]) -> Self {
        let mut report = Report::new(Kind::Tablespace);
        report.format = layout.describe();
        let crypt = CryptData::of(page_0.get(layout.crypt_data()..).unwrap_or_default());
        report.header.clone_from(&crypt);
        Self {
            layout,
            space: be32(page_0, HEADER),
            crypt,
            descriptors: None,
            doublewrite: Vec::new(),
            tally: Tally::default(),
            damaged: 0,
            report,
        }
    }

    /// Reads page after page; the first has the number `base`.
    fn run(mut self, source: &(impl Source + ?Sized), base: u64) -> io::Result<Report> {
        let size = self.layout.page;
        let mut chunk = vec![0; CHUNK];
        let (mut at, mut number) = (0, base);
        loop {
            let read = source.read_at(at, &mut chunk)?;
            for n in 0..read / size {
                let place = at + (n * size) as u64;
                self.page(source, place, number, &mut chunk[n * size..(n + 1) * size])?;
                number += 1;
            }
            at += (read / size * size) as u64;
            if read < CHUNK {
                if read % size != 0 {
                    self.report.unknown.push("ends within a page".to_owned());
                }
                break;
            }
        }
        self.report.pages = number - base;
        Ok(self.done())
    }

    fn page(
        &mut self,
        source: &(impl Source + ?Sized),
        place: u64,
        number: u64,
        page: &mut [u8],
    ) -> io::Result<()> {
        if self.doublewrite.iter().any(|pages| pages.contains(&number)) {
            return Ok(());
        }
        let mut found = carries(&self.layout, number, page);
        for _ in 0..TRIES {
            if !matches!(found, Carries::Damaged(_)) {
                break;
            }
            source.read_at(place, page)?;
            found = carries(&self.layout, number, page);
        }
        if number.is_multiple_of(self.layout.described()) {
            let whole = !matches!(found, Carries::Damaged(_));
            let described = is_descriptors(be16(page, 24));
            self.descriptors = (whole && described).then(|| page.to_vec());
        }
        if number == TRX_SYS_PAGE && self.space == 0 {
            self.note_doublewrite(page);
        }
        self.count(number, &found);
        Ok(())
    }

    fn count(&mut self, number: u64, carries: &Carries) {
        let free = self.is_free(number);
        let bad = match carries {
            Carries::Nothing => return,
            Carries::Plain => {
                self.report.unencrypted += u64::from(!free);
                self.report.never_encrypted += u64::from(!free && self.is_bare(number));
                return;
            }
            Carries::Damaged(what) => Some(*what),
            Carries::Version(version) => match &self.crypt {
                None => Some("a key version, yet page 0 names no key"),
                Some(crypt) => {
                    let usage = if free { Use::Freed } else { Use::InUse };
                    let added = self.tally.add(crypt.key_id, *version, usage, number);
                    added.is_none().then_some("an impossible key version")
                }
            },
        };
        // Nobody reads what a freed page holds, so it need not make sense.
        if let Some(what) = bad.filter(|_| !free) {
            self.damaged += 1;
            if self.damaged <= MAX_NAMED {
                self.report.unknown.push(format!("page {number} has {what}"));
            }
        }
    }

    /// Whether it is a page that the server never encrypts, and that holds no row: extent descriptors, and in
    /// the system tablespace the list of rollback segments.
    fn is_bare(&self, number: u64) -> bool {
        let is_trx_sys = self.space == 0 && number == TRX_SYS_PAGE;
        is_trx_sys || number.is_multiple_of(self.layout.described())
    }

    fn is_free(&self, number: u64) -> bool {
        let n = number % self.layout.described();
        let (Some(page), Ok(n)) = (&self.descriptors, usize::try_from(n)) else { return false };
        self.layout.is_free(page, n)
    }

    /// Two runs of 64 pages; where they begin stands 200 bytes before the page's end.
    fn note_doublewrite(&mut self, page: &[u8]) {
        let at = page.len().saturating_sub(200);
        if be16(page, 24) == kind::TRX_SYS && be32(page, at + 10) == DOUBLEWRITE_MAGIC {
            for first in [be32(page, at + 14), be32(page, at + 18)].map(u64::from) {
                self.doublewrite.push(first..first + self.layout.extent() as u64);
            }
        }
    }

    fn done(mut self) -> Report {
        if self.damaged > MAX_NAMED {
            let more = self.damaged - MAX_NAMED;
            self.report.unknown.push(format!("{more} more pages are damaged"));
        }
        self.report.needs = self.tally.into_needs();
        self.report
    }
}

/// What the page with `number` carries, in a tablespace of this shape.
pub(super) fn carries(layout: &Layout, number: u64, page: &[u8]) -> Carries {
    if page.iter().all(|byte| *byte == 0) {
        return Carries::Nothing;
    }
    if u64::from(be32(page, 4)) != number {
        return Carries::Damaged("another page's number");
    }
    let kind = be16(page, 24);
    let version = match layout.format {
        Format::FullCrc32 => {
            let len = match kind & kind::COMPRESSED_FLAG {
                0 => page.len(),
                _ => usize::from(kind & 0xFF) << 8,
            };
            match page.get(..len.saturating_sub(4)) {
                Some(summed) if len >= 256 && crc32c(summed) == be32(page, len - 4) => {}
                _ => return Carries::Damaged("a wrong checksum"),
            }
            be32(page, 0)
        }
        Format::Older if is_never_encrypted(kind) => 0,
        Format::Older => be32(page, 26),
    };
    match version {
        0 => Carries::Plain,
        version => Carries::Version(version),
    }
}

/// Whether pages of this type are never encrypted in the older formats.
pub(super) fn is_never_encrypted(kind: u16) -> bool {
    matches!(kind, kind::SPACE_HEADER | kind::DESCRIPTORS | kind::SPATIAL | kind::COMPRESSED)
}

/// Whether pages of this type say which others are free.
pub(super) fn is_descriptors(kind: u16) -> bool {
    matches!(kind, kind::SPACE_HEADER | kind::DESCRIPTORS)
}

impl CryptData {
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(CRYPT_MAGIC)?;
        // Scheme, length of the IV, the IV itself (16 bytes), version, key id, mode.
        let mode = match rest.get(26)? {
            0 => "default",
            1 => "on",
            _ => "off",
        };
        let (scheme, len) = (rest[0], rest[1]);
        let iv = *rest.get(2..)?.first_chunk()?;
        (len == 16).then(|| Self {
            scheme,
            key_id: be32(rest, 22),
            min_key_version: be32(rest, 18),
            mode,
            iv,
        })
    }
}
