//! The bytes of a log as they are once MySQL's encryption of the whole file is taken away. Positions are
//! those of the plain log.

#![forbid(unsafe_code)]

use std::mem::MaybeUninit;

use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

use super::{LogKey, unknown_header, unreadable};
use crate::cipher::{self, CipherError, Context, Direction, Mode, Padding};
use crate::error::{Error, Kind, Result};
use crate::inspect::{BinlogHeader, Source};
use crate::secret::{DataKey, SecretBytes, scrubbed};

/// The most that is decrypted at once, in bytes.
pub(super) const WINDOW: usize = 128 << 10;
/// AES-256's key, and what the counter begins with.
const KEY: usize = 32;
const COUNTER: usize = 16;

pub(super) struct Stream<'a, S: ?Sized> {
    source: &'a S,
    mysql: Option<Mysql>,
}

/// The key of one file.
struct Mysql {
    /// The key, and the first block of the counter.
    secret: SecretBytes,
    room: Vec<u8>,
}

impl<'a, S: Source + ?Sized> Stream<'a, S> {
    /// The log in `source`; one of MySQL's needs its key of the keyring.
    pub(super) fn open(source: &'a S, key: LogKey<'_>) -> Result<Self> {
        let LogKey::Keyring(key) = key else { return Ok(Self { source, mysql: None }) };
        let mut head = [0; BinlogHeader::LEN as usize];
        source.read_at(0, &mut head).map_err(|cause| unreadable(&cause))?;
        let header = BinlogHeader::of(&head).ok_or_else(unknown_header)?;
        let mysql = Mysql { secret: secret_of(&header, key)?, room: vec![0; WINDOW] };
        Ok(Self { source, mysql: Some(mysql) })
    }

    /// How long the plain log is now.
    pub(super) fn len(&self) -> Result<u64> {
        let len = self.source.len().map_err(|cause| unreadable(&cause))?;
        Ok(len.saturating_sub(self.before()))
    }

    /// Fills `out`, at most [`WINDOW`], with what stands from `at` on; how many bytes there were.
    pub(super) fn read(&mut self, at: u64, out: &mut [u8]) -> Result<usize> {
        let Some(from) = at.checked_add(self.before()) else { return Ok(0) };
        let Some(mysql) = &mut self.mysql else {
            return self.source.read_at(from, out).map_err(|cause| unreadable(&cause));
        };
        let len = out.len().min(mysql.room.len());
        let read = self.source.read_at(from, &mut mysql.room[..len]);
        let read = read.map_err(|cause| unreadable(&cause))?;
        mysql.decrypt(at, read, &mut out[..read]).map_err(|cause| failed(&cause))?;
        Ok(read)
    }

    /// Whether the file has nothing but zeros from `at` to its end, as a power cut leaves some.
    pub(super) fn is_zero_from(&self, at: u64) -> Result<bool> {
        let mut room = vec![0; WINDOW];
        let mut at = at.saturating_add(self.before());
        loop {
            match self.source.read_at(at, &mut room).map_err(|cause| unreadable(&cause))? {
                0 => return Ok(true),
                read if room[..read].iter().all(|byte| *byte == 0) => at += read as u64,
                _ => return Ok(false),
            }
        }
    }

    /// How many bytes of the file come before the log.
    fn before(&self) -> u64 {
        if self.mysql.is_some() { BinlogHeader::LEN } else { 0 }
    }
}

impl Mysql {
    /// Decrypts the first `len` bytes of the room, which stand from `at` on. AES-256 in CTR mode: the file
    /// has one key stream, whose counter is 0 at its beginning.
    fn decrypt(&self, at: u64, len: usize, out: &mut [u8]) -> Result<(), CipherError> {
        let (key, counter) = self.secret.expose().split_at(KEY);
        let counter = counter.first_chunk().map_or(0, |first| u128::from_be_bytes(*first));
        let iv = counter.wrapping_add(u128::from(at / 16)).to_be_bytes();
        let mut slot = MaybeUninit::uninit();
        let (mode, direction) = (Mode::Ctr, Direction::Decrypt);
        let context = Context::init(&mut slot, mode, direction, Padding::None, key, &iv)?;
        let within = (at % 16) as usize;
        context.update_over(&[0; 16][..within], &mut [0; 16])?;
        context.update_over(&self.room[..len], out)?;
        context.finish().map(drop)
    }
}

/// The key and the counter's first block. The secret is unwrapped by AES-256-CBC; SHA-512 of it has the
/// key, then 8 bytes of the counter.
fn secret_of(header: &BinlogHeader, key: &DataKey) -> Result<SecretBytes> {
    let (mode, direction) = (Mode::Cbc, Direction::Decrypt);
    scrubbed(|| {
        let mut plain = Zeroizing::new([0; 32]);
        let mut slot = MaybeUninit::uninit();
        let iv = &header.iv;
        Context::init(&mut slot, mode, direction, Padding::None, key.expose(), iv)
            .and_then(|context| {
                context.update_over(&header.secret, &mut *plain)?;
                context.finish()
            })
            .map_err(|cause| failed(&cause))?;
        let digest = Zeroizing::new(<[u8; 64]>::from(Sha512::digest(plain.as_slice())));
        SecretBytes::build(KEY + COUNTER, |out| {
            out[..KEY + 8].copy_from_slice(&digest[..KEY + 8]);
            Ok(())
        })
    })
}

/// Only a key of a length that is none of AES's makes the cipher refuse here.
pub(super) fn failed(cause: &cipher::CipherError) -> Error {
    Error::new(Kind::Corrupt, format!("the keystore's key cannot decrypt it: {cause}"))
}
