//! Whether a key is the one that encrypted a tablespace, as far as its first pages show.
//!
//! MariaDB derives a tablespace's own key from a key version and 16 bytes in page 0, and encrypts
//! each page with it from the page's end of header on. A `full_crc32` page repeats the tablespace's
//! number in what is encrypted; an index page of the older formats holds the word `infimum` there.

#![forbid(unsafe_code)]

use std::io;

use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Aes192, Aes256};
use zeroize::Zeroizing;

use super::bytes::{Source, be16, be32, head};
use super::layout::{Format, HEADER, Layout};
use super::tablespace::{Carries, carries};
use super::{CryptData, MasterKey, mysql, tablespace};
use crate::key::PageMode;
use crate::secret::{DataKey, scrubbed};

/// The first encrypted byte of a `full_crc32` page.
const FULL_CRC32_BODY: usize = 26;
/// Where a page says which tablespace it is of.
const SPACE: usize = 34;
/// Index pages.
const INDEX: u16 = 17855;
/// Set in the type of a `full_crc32` page that is compressed.
const COMPRESSED_FLAG: u16 = 1 << 15;
/// Where the first record of an index page has its name, in the two row formats.
const INFIMUM: [usize; 2] = [99, 101];

/// What a key comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It is the one.
    Opens,
    /// It is another.
    Wrong,
    /// The page does not show it.
    Unclear,
}

/// An encrypted tablespace.
pub enum Encrypted {
    /// Of MariaDB, whose pages carry their key version.
    Pages(Space),
    /// Of MySQL, by its master key.
    Master(Box<MasterKey>),
}

/// A tablespace of MariaDB's that is encrypted, or once was.
pub struct Space {
    layout: Layout,
    number: u32,
    crypt: CryptData,
    pages: u64,
}

impl Encrypted {
    /// Reads page 0 of `source`; `None` where it is no tablespace, needs no key or is not understood.
    pub fn open(source: &(impl Source + ?Sized)) -> io::Result<Option<Self>> {
        let first = head(source, HEADER + 20)?;
        if !tablespace::is_page_0(&first) {
            return Ok(None);
        }
        let page_0 = head(source, 64 << 10)?;
        if mysql::is_mysql(&page_0) {
            let report = mysql::parse(source, &page_0)?;
            return Ok(report.master_key.map(|key| Self::Master(Box::new(key))));
        }
        let Ok(layout) = Layout::of(&page_0) else { return Ok(None) };
        let crypt = CryptData::of(page_0.get(layout.crypt_data()..).unwrap_or_default());
        let Some(crypt) = crypt else { return Ok(None) };
        let pages = source.len()? / layout.page as u64;
        Ok(Some(Self::Pages(Space { layout, number: be32(&page_0, HEADER), crypt, pages })))
    }
}

impl Space {
    /// The key of its pages.
    #[must_use]
    pub fn key_id(&self) -> u32 {
        self.crypt.key_id
    }

    /// How many pages it has.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// The key version in the header of page `number`; `None` where it has none.
    pub fn version(&self, source: &(impl Source + ?Sized), number: u64) -> io::Result<Option<u32>> {
        let mut header = [0; HEADER];
        let read = source.read_at(number * self.layout.page as u64, &mut header)?;
        if read < HEADER || u64::from(be32(&header, 4)) != number {
            return Ok(None);
        }
        let version = match self.layout.format {
            Format::FullCrc32 => be32(&header, 0),
            Format::Older if tablespace::is_never_encrypted(be16(&header, 24)) => 0,
            Format::Older => be32(&header, 26),
        };
        Ok((version != 0).then_some(version))
    }

    /// Whether page `number` is whole, carries `version`, and is not known to be free.
    pub fn needs(
        &self,
        source: &(impl Source + ?Sized),
        number: u64,
        version: u32,
    ) -> io::Result<bool> {
        let page = self.page(source, number)?;
        let carried = matches!(carries(&self.layout, number, &page), Carries::Version(found) if found == version);
        let first = number - number % self.layout.described();
        let descriptors = self.page(source, first)?;
        let described = tablespace::is_descriptors(be16(&descriptors, 24))
            && !matches!(carries(&self.layout, first, &descriptors), Carries::Damaged(_));
        let n = usize::try_from(number - first).unwrap_or(usize::MAX);
        Ok(carried && !(described && self.layout.is_free(&descriptors, n)))
    }

    /// Whether `key`, used as `mode` says, is the one that encrypted page `number`.
    pub fn proof(
        &self,
        source: &(impl Source + ?Sized),
        number: u64,
        key: &DataKey,
        mode: PageMode,
    ) -> io::Result<Proof> {
        let page = self.page(source, number)?;
        if !matches!(carries(&self.layout, number, &page), Carries::Version(_)) {
            return Ok(Proof::Unclear);
        }
        let plain = |from: usize, at: usize, len: usize| {
            scrubbed(|| self.decrypted(&page, key, mode, from, at, len))
        };
        let proof = match self.layout.format {
            Format::FullCrc32 if be16(&page, 24) & COMPRESSED_FLAG == 0 => {
                let is = plain(FULL_CRC32_BODY, SPACE, 4);
                is.map(|found| *found == self.number.to_be_bytes())
            }
            Format::Older
                if be16(&page, 24) == INDEX && self.layout.page == self.layout.logical =>
            {
                let named = INFIMUM.map(|at| plain(HEADER, at, 7));
                let found = named.iter().flatten().any(|word| **word == *b"infimum");
                named.iter().all(Option::is_some).then_some(found)
            }
            _ => None,
        };
        Ok(match proof {
            Some(true) => Proof::Opens,
            Some(false) => Proof::Wrong,
            None => Proof::Unclear,
        })
    }

    fn page(&self, source: &(impl Source + ?Sized), number: u64) -> io::Result<Vec<u8>> {
        let mut page = vec![0; self.layout.page];
        source.read_at(number * self.layout.page as u64, &mut page)?;
        Ok(page)
    }

    /// `len` bytes from `at` on of `page`, which is encrypted from `from` on. Within `scrubbed` only.
    fn decrypted(
        &self,
        page: &[u8],
        key: &DataKey,
        mode: PageMode,
        from: usize,
        at: usize,
        len: usize,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let own = encrypt_block(key.expose(), self.crypt.iv)?;
        let cipher = Aes128::new_from_slice(&*own).ok()?;
        let iv = self.page_iv(page);
        let mut plain = Zeroizing::new(Vec::with_capacity(len));
        for place in at..at + len {
            let (block, within) = ((place - from) / 16, (place - from) % 16);
            let start = from + block * 16;
            let sealed: [u8; 16] = *page.get(start..)?.first_chunk()?;
            let before = match block {
                0 => iv,
                _ => *page.get(start - 16..)?.first_chunk()?,
            };
            plain.push(match mode {
                PageMode::Ctr => {
                    let count = u128::from_be_bytes(iv).wrapping_add(block as u128);
                    let mut stream = Zeroizing::new(count.to_be_bytes());
                    cipher.encrypt_block(Array::cast_from_core_mut(&mut stream));
                    stream[within] ^ sealed[within]
                }
                PageMode::Cbc => {
                    let mut opened = Zeroizing::new(sealed);
                    cipher.decrypt_block(Array::cast_from_core_mut(&mut opened));
                    opened[within] ^ before[within]
                }
            });
        }
        Some(plain)
    }

    /// Tablespace and page, four bytes each, and the page's LSN, eight: little end first.
    fn page_iv(&self, page: &[u8]) -> [u8; 16] {
        let mut iv = [0; 16];
        iv[..4].copy_from_slice(&self.number.to_le_bytes());
        iv[4..8].copy_from_slice(&be32(page, 4).to_le_bytes());
        iv[8..].copy_from_slice(&super::bytes::be64(page, 16).to_le_bytes());
        iv
    }
}

impl MasterKey {
    /// Whether `key` is the one that wrapped the tablespace's: AES-256 (FIPS 197), block by block.
    #[must_use]
    pub fn opens_with(&self, key: &DataKey) -> bool {
        let Ok(cipher) = Aes256::new_from_slice(key.expose()) else { return false };
        scrubbed(|| {
            let mut plain = Zeroizing::new(*self.wrapped());
            for block in plain.as_chunks_mut::<16>().0 {
                cipher.decrypt_block(Array::cast_from_core_mut(block));
            }
            self.is_right(&plain)
        })
    }
}

/// One block under a key of any of AES's lengths.
fn encrypt_block(key: &[u8], block: [u8; 16]) -> Option<Zeroizing<[u8; 16]>> {
    let mut block = Zeroizing::new(block);
    let out = Array::cast_from_core_mut(&mut block);
    match key.len() {
        16 => Aes128::new_from_slice(key).ok()?.encrypt_block(out),
        24 => Aes192::new_from_slice(key).ok()?.encrypt_block(out),
        32 => Aes256::new_from_slice(key).ok()?.encrypt_block(out),
        _ => return None,
    }
    Some(block)
}
