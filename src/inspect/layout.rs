//! The shape of a tablespace, as the flags in its page 0 tell.

#![forbid(unsafe_code)]

use super::bytes::be32;

/// Where page 0 keeps the tablespace's header.
pub(super) const HEADER: usize = 38;
/// Where in the header the flags stand.
const FLAGS: usize = 16;
/// Where an extent descriptor page keeps the first descriptor.
const DESCRIPTORS: usize = 150;
/// A descriptor without its bitmap, in bytes.
const DESCRIPTOR_HEAD: usize = 24;

/// How pages carry their key version and checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// `full_crc32`: version at 0, CRC-32C over the whole page at its end.
    FullCrc32,
    /// The older ones: version at 26.
    Older,
}

/// The shape of a tablespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) format: Format,
    /// What a page takes in the file, in bytes.
    pub(super) page: usize,
    /// What a page is in memory: more than `page` where `ROW_FORMAT=COMPRESSED`.
    pub(super) logical: usize,
    pub(super) page_compressed: bool,
}

impl Layout {
    /// The shape that page 0 tells, or why it is none of MariaDB's.
    pub(super) fn of(page_0: &[u8]) -> Result<Self, String> {
        let flags = Self::flags(page_0);
        if flags & 1 << 4 != 0 { Self::full_crc32(flags) } else { Self::older(flags) }
            .ok_or_else(|| format!("its flags {flags:#x} are not those of a MariaDB tablespace"))
    }

    /// The flags in page 0.
    pub(super) fn flags(page_0: &[u8]) -> u32 {
        be32(page_0, HEADER + FLAGS)
    }

    /// Bits 0-3: page size; 4: this format; 5-7: compression algorithm.
    fn full_crc32(flags: u32) -> Option<Self> {
        if flags >> 8 != 0 {
            return None;
        }
        let page = size(flags & 15)?;
        let page_compressed = flags >> 5 & 7 != 0;
        Some(Self { format: Format::FullCrc32, page, logical: page, page_compressed })
    }

    /// Bits 1-4: compressed page size; 5: long columns; 6-9: page size, 0 for 16 KiB;
    /// 10-15: none of MariaDB's; 16: page compression.
    pub(super) fn older(flags: u32) -> Option<Self> {
        if flags & 0b11_1111 << 10 != 0 || flags >> 17 != 0 {
            return None;
        }
        let logical = match flags >> 6 & 15 {
            0 => 16 << 10,
            5 => return None,
            code => size(code)?,
        };
        let page = match flags >> 1 & 15 {
            0 => logical,
            // 1 KiB to 16 KiB.
            code @ 1..=5 => 512 << code,
            _ => return None,
        };
        let page_compressed = flags >> 16 & 1 != 0;
        let possible = page <= logical && (page == logical || !page_compressed);
        possible.then_some(Self { format: Format::Older, page, logical, page_compressed })
    }

    /// Pages in an extent: 1 MiB of them, or 64 where that is more.
    pub(super) fn extent(&self) -> usize {
        ((1 << 20) / self.logical).max(64)
    }

    /// A descriptor with its bitmap of two bits a page, in bytes.
    fn descriptor(&self) -> usize {
        DESCRIPTOR_HEAD + self.extent() / 4
    }

    /// How many pages, itself included, a page of descriptors describes.
    pub(super) fn described(&self) -> u64 {
        self.page as u64
    }

    /// Whether the page of descriptors `page` says that the `n`-th page it describes is free.
    /// Only where it says so clearly: an extent that was never made says nothing.
    pub(super) fn is_free(&self, page: &[u8], n: usize) -> bool {
        let at = DESCRIPTORS + n / self.extent() * self.descriptor();
        let state = be32(page, at + 20);
        let bit = n % self.extent() * 2;
        let bitmap = page.get(at + DESCRIPTOR_HEAD + bit / 8).copied().unwrap_or(0);
        (1..=4).contains(&state) && bitmap >> (bit % 8) & 1 == 1
    }

    /// Where page 0 keeps what it says of encryption: 38 bytes after the last descriptor.
    pub(super) fn crypt_data(&self) -> usize {
        HEADER + self.after_descriptors()
    }

    /// Where the last descriptor of a page ends.
    pub(super) fn after_descriptors(&self) -> usize {
        DESCRIPTORS + self.page / self.extent() * self.descriptor()
    }

    /// For people.
    pub(super) fn describe(&self) -> String {
        let mut text = match self.format {
            Format::FullCrc32 => "full_crc32".to_owned(),
            Format::Older => "older than full_crc32".to_owned(),
        };
        text += &format!(", pages of {} KiB", self.page >> 10);
        if self.page != self.logical {
            text += ", row_format=compressed";
        }
        if self.page_compressed {
            text += ", page_compressed";
        }
        text
    }
}

/// 4 KiB to 64 KiB.
fn size(code: u32) -> Option<usize> {
    (3..=7).contains(&code).then_some(512 << code)
}
