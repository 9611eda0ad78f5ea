//! The modes on x86-64's AES instructions.
//!
//! The algorithms ([`cbc`], [`ctr`], [`gcm`]) are written once, in safe code, over [`Lanes`]: a register
//! of `W` AES blocks and what the CPU can do with it. [`aesni`], [`vaes256`] and [`vaes512`] say
//! what that is for one instruction set each, and hold its entry points.
//!
//! There are no closures here. An entry point's instruction set reaches what is inlined into it, and
//! whether a closure is, is the compiler's choice: where it was not, registers went through memory to
//! a function for any CPU, once a group.

#![allow(clippy::needless_range_loop, reason = "registers go by their numbers")]
#![allow(clippy::too_many_arguments, reason = "a message's state is many small things")]

pub(super) mod aesni;
mod cbc;
mod ctr;
mod expand;
mod gcm;
mod ghash;
#[cfg(test)]
mod twice;
pub(super) mod vaes256;
mod vaes256_gcm;
pub(super) mod vaes512;

use super::{Block, Hole, KeySize};
pub(super) use ghash::Table;
use std::arch::x86_64::__m128i;

/// Round keys in the order of their use; AES-128 has 11 of them, AES-192 13, AES-256 15.
type RoundKeys = [Block; 15];

/// An expanded key. Where it may lie anywhere, some of the keys cross a line of the cache, and are
/// slower to load; and they are loaded for every group.
#[repr(C, align(64))]
pub(super) struct Keys {
    round: RoundKeys,
    size: KeySize,
}

impl Keys {
    /// No key yet, for one of `size`.
    pub(super) fn empty(size: KeySize) -> Self {
        Self { round: [[0; 16]; 15], size }
    }

    pub(super) fn wipe(&mut self) {
        self.round = [[0; 16]; 15];
    }
}

/// Registers that are worked on at the same time. The AES units need eight rounds under way to be
/// busy in every cycle (latency 4, two a cycle on AMD Zen; 3 to 5 and one or two on Intel).
const DEPTH: usize = 8;

/// How many bytes ahead the cache is asked for what comes.
const AHEAD: usize = 2048;

/// The instructions that the modes are made of, on registers of `W` blocks. A value of such a type
/// is the proof that this CPU has them: it is made only where that was checked.
trait Lanes<const W: usize>: Copy {
    /// The register.
    type V: Copy;

    fn load(self, from: &[Block; W]) -> Self::V;
    fn store(self, value: Self::V, to: &mut [Hole; W]);
    fn blocks(self, value: Self::V) -> [Block; W];
    /// The same block in every lane.
    fn splat(self, block: &Block) -> Self::V;
    fn xor(self, a: Self::V, b: Self::V) -> Self::V;

    /// One middle round of encryption (`AESENC`).
    fn enc(self, state: Self::V, key: Self::V) -> Self::V;
    /// The last round of encryption (`AESENCLAST`).
    fn enc_last(self, state: Self::V, key: Self::V) -> Self::V;
    /// One middle round of decryption (`AESDEC`).
    fn dec(self, state: Self::V, key: Self::V) -> Self::V;
    /// The last round of decryption (`AESDECLAST`).
    fn dec_last(self, state: Self::V, key: Self::V) -> Self::V;

    /// The bytes of each block in reverse order.
    fn reverse(self, value: Self::V) -> Self::V;
    /// Of each block the low half: `a`'s as the low one, `b`'s as the high one.
    fn low_halves(self, a: Self::V, b: Self::V) -> Self::V;
    /// Of each block the high half, likewise.
    fn high_halves(self, a: Self::V, b: Self::V) -> Self::V;
    /// The two halves of each block, exchanged.
    fn swap(self, value: Self::V) -> Self::V;
    /// Carry-less product of the low halves.
    fn mul_low(self, a: Self::V, b: Self::V) -> Self::V;
    /// Carry-less product of the high halves.
    fn mul_high(self, a: Self::V, b: Self::V) -> Self::V;
    /// Carry-less product of each block's two halves.
    fn mul_cross(self, value: Self::V) -> Self::V;
    /// The sum of all lanes.
    fn sum(self, value: Self::V) -> __m128i;
    /// The register with these lanes.
    fn join(self, lanes: [__m128i; W]) -> Self::V;
    /// `value` in the first lane, zero in the others.
    fn widen(self, value: __m128i) -> Self::V;

    /// The value itself. The compiler cannot see that, and so keeps the instructions before it in
    /// their order: left alone it puts chains that were interleaved back one after the other.
    fn pin(self, value: Self::V) -> Self::V;

    /// The counter with which GCM's groups begin, modulo their size.
    const GCM_START: usize = 0;

    /// Where there is a better loop for GCM than the compiler's: takes the groups, the first with the
    /// counter block `at`, and adds their ciphertext to `hash`. Says whether it did.
    #[inline(always)]
    #[expect(unused_variables, reason = "without such a loop it takes none")]
    fn gcm_groups<const R: usize, const ENCRYPT: bool>(
        self,
        keys: &RoundKeys,
        table: &Table,
        hash: &mut Block,
        at: u128,
        from: &[[[Block; W]; DEPTH]],
        to: &mut [[[Hole; W]; DEPTH]],
    ) -> bool {
        false
    }
}

/// The middle rounds of encryption for `N` registers side by side. The first key is already in.
#[inline(always)]
fn encrypt_rounds<L: Lanes<W>, const W: usize, const R: usize, const N: usize>(
    lanes: L,
    keys: &RoundKeys,
    mut state: [L::V; N],
) -> [L::V; N] {
    for key in &keys[1..R - 1] {
        let key = lanes.splat(key);
        for value in &mut state {
            *value = lanes.pin(lanes.enc(*value, key));
        }
    }
    state
}

/// The middle rounds of decryption, likewise.
#[inline(always)]
fn decrypt_rounds<L: Lanes<W>, const W: usize, const R: usize, const N: usize>(
    lanes: L,
    keys: &RoundKeys,
    mut state: [L::V; N],
) -> [L::V; N] {
    for key in &keys[1..R - 1] {
        let key = lanes.splat(key);
        for value in &mut state {
            *value = lanes.pin(lanes.dec(*value, key));
        }
    }
    state
}

/// Gives an instruction set its entry points: every mode, compiled for its features and for each
/// number of rounds.
macro_rules! entry_points {
    ($lanes:ident, $width:literal, $features:literal) => {
        $crate::cipher::x86::entry_points! { @each $lanes, $width, $features,
            cbc_encrypt = cbc::encrypt(chain: &mut Block, src: &[Block], dst: &mut [Hole]);
            cbc_decrypt = cbc::decrypt(chain: &mut Block, src: &[Block], dst: &mut [Hole]);
            ctr = ctr::apply(
                counter: &mut Block, src: &[u8], dst: &mut [MaybeUninit<u8>], left: &mut Block
            );
            encrypt_block = cbc::encrypt_block(block: &mut Block);
            decrypt_block = cbc::decrypt_block(block: &mut Block);
            gcm_start = gcm::start(mask: &mut Block, hash: &mut Block, table: &mut Table);
            gcm_encrypt = gcm::encrypt(
                table: &Table, hash: &mut Block, counter: &mut Block,
                src: &[u8], dst: &mut [MaybeUninit<u8>], left: &mut Block
            );
            gcm_decrypt = gcm::decrypt(
                table: &Table, hash: &mut Block, counter: &mut Block,
                src: &[u8], dst: &mut [MaybeUninit<u8>], left: &mut Block
            );
        }

        impl $lanes {
            /// Expands `key`, whose length is that of `keys`, for encryption.
            pub(in crate::cipher) fn expand(self, key: &[u8], keys: &mut Keys) {
                #[target_feature(enable = $features)]
                fn run(key: &[u8], keys: &mut Keys) {
                    expand::expand(AesNi::implied(), key, keys);
                }
                // SAFETY: a value of this type exists only where the CPU has these features.
                unsafe { run(key, keys) }
            }

            /// Expands `key` likewise for decryption, and encrypts `block`.
            pub(in crate::cipher) fn expand_inverse(
                self, key: &[u8], keys: &mut Keys, block: &mut Block,
            ) {
                #[target_feature(enable = $features)]
                fn run(key: &[u8], keys: &mut Keys, block: &mut Block) {
                    expand::expand_inverse(AesNi::implied(), key, keys, block);
                }
                // SAFETY: a value of this type exists only where the CPU has these features.
                unsafe { run(key, keys, block) }
            }

            /// Adds whole blocks to a GHASH.
            pub(in crate::cipher) fn ghash(self, table: &Table, hash: &mut Block, src: &[Block]) {
                #[target_feature(enable = $features)]
                fn run(lanes: $lanes, table: &Table, hash: &mut Block, src: &[Block]) {
                    ghash::add::<_, $width>(lanes, table, hash, src);
                }
                // SAFETY: a value of this type exists only where the CPU has these features.
                unsafe { run(self, table, hash, src) }
            }
        }
    };

    (@each $lanes:ident, $width:literal, $features:literal,
     $($name:ident = $room:ident::$f:ident($($arg:ident: $type:ty),*);)*) => {
        impl $lanes {
            $(
                #[doc = concat!("[`", stringify!($room), "::", stringify!($f), "`]")]
                pub(in crate::cipher) fn $name(self, keys: &Keys, $($arg: $type),*) {
                    #[target_feature(enable = $features)]
                    fn run(lanes: $lanes, keys: &Keys, $($arg: $type),*) {
                        match keys.size {
                            KeySize::Aes128 => $room::$f::<_, $width, 11>(lanes, &keys.round, $($arg),*),
                            KeySize::Aes192 => $room::$f::<_, $width, 13>(lanes, &keys.round, $($arg),*),
                            KeySize::Aes256 => $room::$f::<_, $width, 15>(lanes, &keys.round, $($arg),*),
                        }
                    }
                    // SAFETY: a value of this type exists only where the CPU has these features.
                    unsafe { run(self, keys, $($arg),*) }
                }
            )*
        }
    };
}
use entry_points;
