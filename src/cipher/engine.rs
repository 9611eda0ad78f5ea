//! An expanded key in the hands of a kernel: the way from a mode's step to the code that does it.

#![forbid(unsafe_code)]

use std::mem::MaybeUninit;

use super::kernel::{Choice, Kernel};
#[cfg(target_arch = "x86_64")]
use super::x86;
use super::{Block, Hole, KeySize, soft};

/// An expanded key. It is built in its place and wiped there, never moved.
pub(super) struct Engine {
    kernel: Kernel,
    soft: Option<soft::Keys>,
    soft_table: Option<soft::Table>,
    #[cfg(target_arch = "x86_64")]
    keys: x86::Keys,
    #[cfg(target_arch = "x86_64")]
    table: Option<x86::Table>,
}

/// Runs `$hard` with the kernel's instructions as `$cpu`, or `$soft` with the portable `$keys`.
macro_rules! run {
    ($engine:expr, $cpu:ident => $hard:expr, $keys:ident => $soft:expr) => {
        match $engine.kernel.0 {
            Choice::Soft => {
                if let Some($keys) = &$engine.soft {
                    $soft
                }
            }
            #[cfg(target_arch = "x86_64")]
            Choice::AesNi($cpu) => $hard,
            #[cfg(target_arch = "x86_64")]
            Choice::Vaes256($cpu) => $hard,
            #[cfg(target_arch = "x86_64")]
            Choice::Vaes512($cpu) => $hard,
        }
    };
}

/// Likewise, with the GHASH tables, too.
macro_rules! run_gcm {
    ($engine:expr, $table:ident, $cpu:ident => $hard:expr, $keys:ident => $soft:expr) => {
        run!($engine,
            $cpu => if let Some($table) = &$engine.table { $hard },
            $keys => if let Some($table) = &$engine.soft_table { $soft })
    };
}

impl Engine {
    /// Without a key yet, for one of `size`.
    #[inline(always)]
    pub(super) fn idle(kernel: Kernel, size: KeySize) -> Self {
        Self {
            kernel,
            soft: None,
            soft_table: None,
            #[cfg(target_arch = "x86_64")]
            keys: x86::Keys::empty(size),
            #[cfg(target_arch = "x86_64")]
            table: None,
        }
    }

    /// Expands `key`, of the size given to [`idle`](Self::idle), for encryption.
    pub(super) fn expand(&mut self, key: &[u8]) {
        match self.kernel.0 {
            Choice::Soft => self.soft = soft::Keys::expand(key),
            #[cfg(target_arch = "x86_64")]
            Choice::AesNi(cpu) => cpu.expand(key, &mut self.keys),
            #[cfg(target_arch = "x86_64")]
            Choice::Vaes256(cpu) => cpu.expand(key, &mut self.keys),
            #[cfg(target_arch = "x86_64")]
            Choice::Vaes512(cpu) => cpu.expand(key, &mut self.keys),
        }
    }

    /// Expands `key` likewise, for [`cbc_decrypt`](Self::cbc_decrypt), and encrypts `block` with it.
    pub(super) fn expand_inverse(&mut self, key: &[u8], block: &mut Block) {
        match self.kernel.0 {
            Choice::Soft => {
                self.soft = soft::Keys::expand(key);
                self.encrypt_block(block);
            }
            #[cfg(target_arch = "x86_64")]
            Choice::AesNi(cpu) => cpu.expand_inverse(key, &mut self.keys, block),
            #[cfg(target_arch = "x86_64")]
            Choice::Vaes256(cpu) => cpu.expand_inverse(key, &mut self.keys, block),
            #[cfg(target_arch = "x86_64")]
            Choice::Vaes512(cpu) => cpu.expand_inverse(key, &mut self.keys, block),
        }
    }

    /// Expands `key` as [`expand`](Self::expand) does, for GCM; encrypts `mask`, and multiplies `hash` by the
    /// hash key.
    pub(super) fn start_gcm(&mut self, key: &[u8], mask: &mut Block, hash: &mut Block) {
        #[cfg(target_arch = "x86_64")]
        if !matches!(self.kernel.0, Choice::Soft) {
            // Before the key: these zeros would queue up behind it.
            self.table = Some(x86::Table::EMPTY);
        }
        self.expand(key);
        match self.kernel.0 {
            Choice::Soft => {
                let mut key = [0; 16];
                self.encrypt_block(&mut key);
                self.encrypt_block(mask);
                self.soft_table.insert(soft::Table::new(&key)).ghash(hash, &[[0; 16]]);
                wipe(&mut key);
            }
            #[cfg(target_arch = "x86_64")]
            _ => run!(self,
                cpu => if let Some(table) = &mut self.table {
                    cpu.gcm_start(&self.keys, mask, hash, table);
                },
                _keys => ()),
        }
    }

    pub(super) fn encrypt_block(&self, block: &mut Block) {
        run!(self, cpu => cpu.encrypt_block(&self.keys, block), keys => keys.encrypt_block(block));
    }

    /// For an engine whose key is expanded for decryption.
    pub(super) fn decrypt_block(&self, block: &mut Block) {
        run!(self, cpu => cpu.decrypt_block(&self.keys, block), keys => keys.decrypt_block(block));
    }

    /// `chain` is the IV, then the last block of ciphertext; `dst` is as long as `src`, here and below.
    pub(super) fn cbc_encrypt(&self, chain: &mut Block, src: &[Block], dst: &mut [Hole]) {
        run!(self,
            cpu => cpu.cbc_encrypt(&self.keys, chain, src, dst),
            keys => keys.cbc_encrypt(chain, src, dst));
    }

    pub(super) fn cbc_decrypt(&self, chain: &mut Block, src: &[Block], dst: &mut [Hole]) {
        run!(self,
            cpu => cpu.cbc_decrypt(&self.keys, chain, src, dst),
            keys => keys.cbc_decrypt(chain, src, dst));
    }

    /// After it `counter` is the next block not begun, `left` the key stream of the last one begun
    /// if that was not used up.
    pub(super) fn ctr(
        &self,
        counter: &mut Block,
        src: &[u8],
        dst: &mut [MaybeUninit<u8>],
        left: &mut Block,
    ) {
        run!(self,
            cpu => cpu.ctr(&self.keys, counter, src, dst, left),
            keys => keys.ctr(counter, src, dst, left));
    }

    /// Whole blocks go into `hash`; `left` as in [`ctr`](Self::ctr), here and below.
    pub(super) fn gcm_encrypt(
        &self,
        hash: &mut Block,
        counter: &mut Block,
        src: &[u8],
        dst: &mut [MaybeUninit<u8>],
        left: &mut Block,
    ) {
        run_gcm!(self, table,
            cpu => cpu.gcm_encrypt(&self.keys, table, hash, counter, src, dst, left),
            keys => keys.gcm_encrypt(table, hash, counter, src, dst, left));
    }

    pub(super) fn gcm_decrypt(
        &self,
        hash: &mut Block,
        counter: &mut Block,
        src: &[u8],
        dst: &mut [MaybeUninit<u8>],
        left: &mut Block,
    ) {
        run_gcm!(self, table,
            cpu => cpu.gcm_decrypt(&self.keys, table, hash, counter, src, dst, left),
            keys => keys.gcm_decrypt(table, hash, counter, src, dst, left));
    }

    pub(super) fn ghash(&self, hash: &mut Block, src: &[Block]) {
        run_gcm!(self, table, cpu => cpu.ghash(table, hash, src), _keys => table.ghash(hash, src));
    }

    /// Forgets the key.
    pub(super) fn wipe(&mut self) {
        // Only where there is one: unoptimised code writes `None` with stale bytes behind it.
        if self.soft.is_some() {
            self.soft = None;
        }
        if self.soft_table.is_some() {
            self.soft_table = None;
        }
        #[cfg(target_arch = "x86_64")]
        {
            self.keys.wipe();
            if let Some(table) = &mut self.table {
                *table = x86::Table::EMPTY;
            }
        }
        zeroize::optimization_barrier(self);
    }
}

/// Zeroes a block for good.
pub(super) fn wipe(block: &mut Block) {
    *block = [0; 16];
    zeroize::optimization_barrier(block);
}
