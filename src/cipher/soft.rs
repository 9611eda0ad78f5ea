//! The RustCrypto crates: for CPUs without AES instructions, where they are constant-time (bit-sliced),
//! and for Arm, whose instructions they use.

#![forbid(unsafe_code)]

use std::iter::zip;
use std::mem::MaybeUninit;

use aes::cipher::{
    BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit,
    IvState, KeyInit, StreamCipherCore,
};
use aes::{Aes128, Aes192, Aes256};
use ctr::CtrCore;
use ctr::flavors::Ctr128BE;
use ghash::GHash;
use ghash::universal_hash::UniversalHash;

use super::{Block, Hole, write};

/// Blocks that are worked on between two copies: few for a record, many for a page, since the crates
/// make ready again for each run of blocks.
const SHORT: usize = 32;
const LONG: usize = 256;

/// An expanded key.
pub(super) enum Keys {
    Aes128(Aes128),
    Aes192(Aes192),
    Aes256(Aes256),
}

/// What GHASH needs of its key.
pub(super) struct Table(GHash);

/// Runs `$body` with `$aes` as the cipher that is in `$keys`.
macro_rules! with {
    ($keys:expr, $aes:ident => $body:expr) => {
        match $keys {
            Keys::Aes128($aes) => $body,
            Keys::Aes192($aes) => $body,
            Keys::Aes256($aes) => $body,
        }
    };
}

impl Keys {
    /// Expands `key`, if it has one of AES's lengths.
    pub(super) fn expand(key: &[u8]) -> Option<Self> {
        match key.len() {
            16 => Aes128::new_from_slice(key).ok().map(Self::Aes128),
            24 => Aes192::new_from_slice(key).ok().map(Self::Aes192),
            32 => Aes256::new_from_slice(key).ok().map(Self::Aes256),
            _ => None,
        }
    }

    pub(super) fn encrypt_block(&self, block: &mut Block) {
        with!(self, aes => aes.encrypt_block(block.into()));
    }

    pub(super) fn decrypt_block(&self, block: &mut Block) {
        with!(self, aes => aes.decrypt_block(block.into()));
    }

    pub(super) fn cbc_encrypt(&self, chain: &mut Block, src: &[Block], dst: &mut [Hole]) {
        with!(self, aes => {
            let mut mode = cbc::Encryptor::inner_iv_init(aes, (&*chain).into());
            in_chunks(src, dst, |buffer| mode.encrypt_blocks(arrays(buffer)));
            *chain = mode.iv_state().into();
        });
    }

    pub(super) fn cbc_decrypt(&self, chain: &mut Block, src: &[Block], dst: &mut [Hole]) {
        with!(self, aes => {
            let mut mode = cbc::Decryptor::inner_iv_init(aes, (&*chain).into());
            in_chunks(src, dst, |buffer| mode.decrypt_blocks(arrays(buffer)));
            *chain = mode.iv_state().into();
        });
    }

    /// Adds the key stream from block `counter` on; `left` is that of the last block begun.
    pub(super) fn ctr(
        &self,
        counter: &mut Block,
        src: &[u8],
        dst: &mut [MaybeUninit<u8>],
        left: &mut Block,
    ) {
        let (blocks, tail) = src.as_chunks::<16>();
        let (outs, tail_out) = dst.as_chunks_mut::<16>();
        with!(self, aes => {
            let mut mode = CtrCore::<_, Ctr128BE>::inner_iv_init(aes, (&*counter).into());
            in_chunks(blocks, outs, |buffer| mode.apply_keystream_blocks(arrays(buffer)));
            finish_block(&mut mode, tail, tail_out, left);
            *counter = mode.iv_state().into();
        });
    }

    pub(super) fn gcm_encrypt(
        &self,
        table: &Table,
        hash: &mut Block,
        counter: &mut Block,
        src: &[u8],
        dst: &mut [MaybeUninit<u8>],
        left: &mut Block,
    ) {
        let (blocks, tail) = src.as_chunks::<16>();
        let (outs, tail_out) = dst.as_chunks_mut::<16>();
        with!(self, aes => {
            let mut mode = CtrCore::<_, Ctr128BE>::inner_iv_init(aes, (&*counter).into());
            in_chunks(blocks, outs, |buffer| {
                mode.apply_keystream_blocks(arrays(buffer));
                table.ghash(hash, buffer);
            });
            finish_block(&mut mode, tail, tail_out, left);
            *counter = mode.iv_state().into();
        });
    }

    pub(super) fn gcm_decrypt(
        &self,
        table: &Table,
        hash: &mut Block,
        counter: &mut Block,
        src: &[u8],
        dst: &mut [MaybeUninit<u8>],
        left: &mut Block,
    ) {
        let (blocks, tail) = src.as_chunks::<16>();
        let (outs, tail_out) = dst.as_chunks_mut::<16>();
        with!(self, aes => {
            let mut mode = CtrCore::<_, Ctr128BE>::inner_iv_init(aes, (&*counter).into());
            in_chunks(blocks, outs, |buffer| {
                table.ghash(hash, buffer);
                mode.apply_keystream_blocks(arrays(buffer));
            });
            finish_block(&mut mode, tail, tail_out, left);
            *counter = mode.iv_state().into();
        });
    }
}

impl Table {
    /// For the hash key `key`.
    pub(super) fn new(key: &Block) -> Self {
        Self(GHash::new(key.into()))
    }

    /// Adds whole blocks to `hash`.
    pub(super) fn ghash(&self, hash: &mut Block, src: &[Block]) {
        let Some((first, rest)) = src.split_first() else { return };
        let first = u128::from_ne_bytes(*first) ^ u128::from_ne_bytes(*hash);
        let mut state = self.0.clone();
        state.update(&[first.to_ne_bytes().into()]);
        state.update(aes::cipher::Array::cast_slice_from_core(rest));
        *hash = state.finalize().into();
    }
}

/// What is over at a message's end, less than a block; the key stream for it is in `left` then.
fn finish_block(
    mode: &mut impl StreamCipherCore<BlockSize = aes::cipher::consts::U16>,
    tail: &[u8],
    to: &mut [MaybeUninit<u8>],
    left: &mut Block,
) {
    if tail.is_empty() {
        return;
    }
    mode.write_keystream_block(left.into());
    for ((byte, key), to) in zip(zip(tail, left), to) {
        to.write(byte ^ *key);
    }
}

/// The crates' name for the same blocks.
fn arrays(blocks: &mut [Block]) -> &mut [aes::Block] {
    aes::cipher::Array::cast_slice_from_core_mut(blocks)
}

/// Copies `src` to `dst` by way of a buffer that `work` changes.
fn in_chunks(src: &[Block], dst: &mut [Hole], mut work: impl FnMut(&mut [Block])) {
    if src.len() <= SHORT {
        return through(&mut [[0; 16]; SHORT], src, dst, &mut work);
    }
    through(&mut [[0; 16]; LONG], src, dst, &mut work);
}

fn through(
    buffer: &mut [Block],
    src: &[Block],
    dst: &mut [Hole],
    work: &mut impl FnMut(&mut [Block]),
) {
    let len = buffer.len();
    for (from, to) in zip(src.chunks(len), dst.chunks_mut(len)) {
        let buffer = &mut buffer[..from.len()];
        buffer.copy_from_slice(from);
        work(buffer);
        write(to.as_flattened_mut(), buffer.as_flattened());
    }
}
