//! GCM as the server speaks it: nonce and authenticated data in one IV, the tag behind the data.

#![forbid(unsafe_code)]

use std::iter::zip;
use std::mem::MaybeUninit;

use subtle::ConstantTimeEq;

use super::engine::Engine;
use super::{Block, CipherError, Direction, Tail};

/// Bytes of nonce at the beginning of the IV.
pub(super) const NONCE_LEN: usize = 12;

/// Bytes of tag behind the ciphertext.
pub(super) const TAG_LEN: usize = 16;

/// The most bytes of text under one nonce (NIST SP 800-38D section 5.2.1.1).
const MAX_LEN: u64 = (1 << 36) - 32;

/// Where a message stands.
#[repr(C, align(16))]
pub(super) struct Gcm {
    /// The first counter block, encrypted: what the hash is masked with.
    mask: Block,
    counter: Block,
    hash: Block,
    /// The ciphertext of a block that is not whole yet, then zeros, and the key stream for it.
    partial: Block,
    stream: Block,
    /// The tag that came with the data; decryption only.
    tag: Block,
    aad_len: u64,
    len: u64,
    encrypt: bool,
    begun: bool,
    has_tag: bool,
    /// Zeros where a gap would be: it would take in what a message before has left on the stack.
    _room: [u8; 13],
}

const _: () = assert!(size_of::<Gcm>() == 8 * 16, "there is a gap");

impl Gcm {
    /// What lies in memory for a while before it is wanted is built here, byte by byte: right before, it
    /// would have to be waited for.
    #[inline(always)]
    pub(super) fn new(direction: Direction, nonce: &[u8; NONCE_LEN], aad: &[u8]) -> Self {
        let mut new = Self::blank(direction);
        new.counter[..NONCE_LEN].copy_from_slice(nonce);
        new.mask = new.counter;
        new.mask[15] = 1;
        new.counter[15] = 2;
        for (to, byte) in zip(&mut new.hash, aad) {
            *to = *byte;
        }
        new.aad_len = aad.len() as u64;
        new
    }

    fn blank(direction: Direction) -> Self {
        Self {
            encrypt: direction == Direction::Encrypt,
            mask: [0; 16],
            counter: [0; 16],
            hash: [0; 16],
            aad_len: 0,
            len: 0,
            partial: [0; 16],
            stream: [0; 16],
            begun: false,
            has_tag: false,
            tag: [0; 16],
            _room: [0; 13],
        }
    }

    /// Expands `key`, and takes what is left of `aad` behind its first block.
    pub(super) fn start(&mut self, engine: &mut Engine, key: &[u8], aad: &[u8]) {
        engine.start_gcm(key, &mut self.mask, &mut self.hash);
        for part in aad.chunks(16).skip(1) {
            let mut block = [0; 16];
            block[..part.len()].copy_from_slice(part);
            engine.ghash(&mut self.hash, &[block]);
        }
    }

    /// How many bytes come out for `len` more.
    pub(super) fn update_len(&self, len: usize) -> usize {
        if self.encrypt { len } else { len.saturating_sub(TAG_LEN) }
    }

    pub(super) fn update(
        &mut self,
        engine: &Engine,
        src: &[u8],
        dst: &mut [MaybeUninit<u8>],
    ) -> Result<(), CipherError> {
        let mut src = src;
        self.begun = true;
        if !self.encrypt {
            let (text, tag) = src.split_last_chunk().ok_or(CipherError::BadData)?;
            (src, self.tag, self.has_tag) = (text, *tag, true);
        }
        if self.len + src.len() as u64 > MAX_LEN {
            return Err(CipherError::Unsupported);
        }
        let filled = (self.len % 16) as usize;
        self.len += src.len() as u64;
        let now = if filled > 0 { src.len().min(16 - filled) } else { 0 };
        let (now_in, src) = src.split_at(now);
        let (now_out, dst) = dst.split_at_mut(now);
        self.continue_block(engine, filled, now_in, now_out);

        if self.encrypt {
            engine.gcm_encrypt(&mut self.hash, &mut self.counter, src, dst, &mut self.stream);
        } else {
            engine.gcm_decrypt(&mut self.hash, &mut self.counter, src, dst, &mut self.stream);
        }
        let later = src.as_chunks::<16>().1;
        for ((byte, key), cipher) in zip(zip(later, &self.stream), &mut self.partial) {
            *cipher = if self.encrypt { byte ^ key } else { *byte };
        }
        Ok(())
    }

    /// `src` goes into a block that has `filled` bytes, and ends at its end at the latest.
    fn continue_block(
        &mut self,
        engine: &Engine,
        filled: usize,
        src: &[u8],
        dst: &mut [MaybeUninit<u8>],
    ) {
        let to = zip(&mut self.partial[filled..], dst);
        for ((byte, key), (cipher, out)) in zip(zip(src, &self.stream[filled..]), to) {
            *cipher = if self.encrypt { byte ^ key } else { *byte };
            out.write(byte ^ key);
        }
        if filled + src.len() == 16 {
            engine.ghash(&mut self.hash, &[self.partial]);
            self.partial = [0; 16];
        }
    }

    pub(super) fn finish(&mut self, engine: &Engine) -> Result<Tail, CipherError> {
        if !self.begun {
            // The server's own code authenticates nothing before the first update.
            (self.hash, self.aad_len) = ([0; 16], 0);
        }
        let lengths = u128::from(self.aad_len * 8) << 64 | u128::from(self.len * 8);
        let lengths = lengths.to_be_bytes();
        let filled = (self.len % 16) as usize;
        if filled > 0 {
            engine.ghash(&mut self.hash, &[self.partial, lengths]);
        } else {
            engine.ghash(&mut self.hash, &[lengths]);
        }
        let hash = u128::from_ne_bytes(self.hash) ^ u128::from_ne_bytes(self.mask);
        if self.encrypt {
            return Ok(Tail::new(hash.to_ne_bytes(), TAG_LEN));
        }
        match self.has_tag && bool::from(u128::from_ne_bytes(self.tag).ct_eq(&hash)) {
            true => Ok(Tail::EMPTY),
            false => Err(CipherError::BadData),
        }
    }

    pub(super) fn wipe(&mut self) {
        *self = Self::blank(Direction::Encrypt);
    }
}
