//! CTR as a stream: what is left of the last block's key stream is kept for the next call.

#![forbid(unsafe_code)]

use std::iter::zip;
use std::mem::MaybeUninit;

use super::Block;
use super::engine::Engine;

/// Where a message stands. Encryption and decryption are the same.
#[repr(C, align(16))]
pub(super) struct Ctr {
    /// The next block that was not begun.
    counter: Block,
    /// The key stream of the last one that was.
    stream: Block,
    /// How many bytes of `stream` are used; 0 when none are left.
    used: usize,
    /// Zeros where a gap would be: it would take in what a message before has left on the stack.
    _room: [u8; 8],
}

const _: () = assert!(size_of::<Ctr>() == 3 * 16, "there is a gap");

impl Ctr {
    #[inline(always)]
    pub(super) fn new(iv: &Block) -> Self {
        Self { counter: *iv, stream: [0; 16], used: 0, _room: [0; 8] }
    }

    pub(super) fn update(&mut self, engine: &Engine, src: &[u8], dst: &mut [MaybeUninit<u8>]) {
        let left = if self.used > 0 { src.len().min(16 - self.used) } else { 0 };
        let (now, src) = src.split_at(left);
        let (now_out, dst) = dst.split_at_mut(left);
        for ((byte, key), to) in zip(zip(now, &self.stream[self.used..]), now_out) {
            to.write(byte ^ key);
        }
        self.used = (self.used + left) % 16;
        if !src.is_empty() {
            engine.ctr(&mut self.counter, src, dst, &mut self.stream);
            self.used = src.len() % 16;
        }
    }

    pub(super) fn wipe(&mut self) {
        *self = Self::new(&[0; 16]);
    }
}
