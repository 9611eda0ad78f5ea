//! CBC as a stream: blocks gathered over calls, the last one held back, the server's odd tail.

#![forbid(unsafe_code)]

use std::iter::zip;
use std::mem::MaybeUninit;

use super::engine::Engine;
use super::{Block, CipherError, Direction, Padding, Tail};

/// Where a message stands.
#[repr(C, align(16))]
pub(super) struct Cbc {
    /// The IV, then the last block of ciphertext.
    chain: Block,
    /// The encrypted IV, where there may be a tail to xor it with.
    mask: Block,
    /// A partial block, or one held back as possible padding.
    held: Block,
    filled: usize,
    encrypt: bool,
    pad: bool,
    /// Zeros where a gap would be: it would take in what a message before has left on the stack.
    _room: [u8; 6],
}

const _: () = assert!(size_of::<Cbc>() == 4 * 16, "there is a gap");

impl Cbc {
    #[inline(always)]
    pub(super) fn new(direction: Direction, padding: Padding, iv: &Block) -> Self {
        Self {
            encrypt: direction == Direction::Encrypt,
            pad: padding == Padding::Pkcs7,
            chain: *iv,
            mask: *iv,
            held: [0; 16],
            filled: 0,
            _room: [0; 6],
        }
    }

    /// Expands `key`.
    pub(super) fn start(&mut self, engine: &mut Engine, key: &[u8]) {
        if !self.encrypt {
            return engine.expand_inverse(key, &mut self.mask);
        }
        engine.expand(key);
        if !self.pad {
            self.encrypt_mask(engine);
        }
    }

    /// What [`start`](Self::start) does where there may be a tail, with a key that is expanded for
    /// encryption.
    pub(super) fn encrypt_mask(&mut self, engine: &Engine) {
        engine.encrypt_block(&mut self.mask);
    }

    /// How many bytes come out for `len` more.
    pub(super) fn update_len(&self, len: usize) -> usize {
        let held_back = usize::from(self.pad && !self.encrypt);
        (self.filled + len).saturating_sub(held_back) / 16 * 16
    }

    pub(super) fn update(&mut self, engine: &Engine, src: &[u8], dst: &mut [MaybeUninit<u8>]) {
        let (mut blocks, mut src, mut dst) = (dst.len() / 16, src, dst);
        if self.filled > 0 {
            let (now, later) = src.split_at(src.len().min(16 - self.filled));
            self.hold(now);
            if blocks == 0 {
                return self.hold(later);
            }
            let (first, rest) = dst.split_at_mut(16);
            let block = self.held;
            self.crypt(engine, &[block], first);
            (blocks, src, dst, self.filled) = (blocks - 1, later, rest, 0);
        }
        let (whole, later) = src.split_at(blocks * 16);
        if !whole.is_empty() {
            self.crypt(engine, whole.as_chunks().0, dst);
        }
        self.hold(later);
    }

    pub(super) fn finish(&mut self, engine: &Engine) -> Result<Tail, CipherError> {
        let filled = self.filled;
        if !self.pad {
            self.add_to_held(self.mask);
            return Ok(Tail::new(self.held, filled));
        }
        if self.encrypt {
            self.held[filled..].fill((16 - filled) as u8);
            self.add_to_held(self.chain);
            engine.encrypt_block(&mut self.held);
            return Ok(Tail::new(self.held, 16));
        }
        if filled < 16 {
            return Err(CipherError::BadData);
        }
        engine.decrypt_block(&mut self.held);
        self.add_to_held(self.chain);
        let padded = usize::from(self.held[15]);
        let padding = self.held.iter().rev().take(padded);
        if !(1..=16).contains(&padded) || padding.into_iter().any(|byte| *byte != self.held[15]) {
            return Err(CipherError::BadData);
        }
        Ok(Tail::new(self.held, 16 - padded))
    }

    fn crypt(&mut self, engine: &Engine, src: &[Block], dst: &mut [MaybeUninit<u8>]) {
        let dst = dst.as_chunks_mut().0;
        if self.encrypt {
            engine.cbc_encrypt(&mut self.chain, src, dst);
        } else {
            engine.cbc_decrypt(&mut self.chain, src, dst);
        }
    }

    /// Keeps `bytes` for later; there is room for them.
    fn hold(&mut self, bytes: &[u8]) {
        for (to, byte) in zip(&mut self.held[self.filled..], bytes) {
            *to = *byte;
        }
        self.filled += bytes.len();
    }

    fn add_to_held(&mut self, block: Block) {
        for (byte, other) in zip(&mut self.held, block) {
            *byte ^= other;
        }
    }

    pub(super) fn wipe(&mut self) {
        (self.chain, self.mask, self.held, self.filled) = ([0; 16], [0; 16], [0; 16], 0);
    }
}
