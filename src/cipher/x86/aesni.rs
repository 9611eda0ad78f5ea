//! AES-NI with PCLMULQDQ: one block a register. All x86-64 servers since 2010 have it.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::super::{Block, Hole, KeySize};
use super::ghash::Table;
use super::{Keys, Lanes, cbc, ctr, expand, gcm, ghash};

/// AES-NI, PCLMULQDQ, SSSE3 and SSE4.1 are there.
#[derive(Clone, Copy)]
pub(in crate::cipher) struct AesNi(());

impl AesNi {
    /// The proof, if this CPU gives it.
    pub(in crate::cipher) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("aes")
            && is_x86_feature_detected!("pclmulqdq")
            && is_x86_feature_detected!("ssse3")
            && is_x86_feature_detected!("sse4.1");
        found.then_some(Self(()))
    }

    /// What kernels with wider registers have as well.
    #[inline(always)]
    pub(super) fn implied() -> Self {
        Self(())
    }

    /// What the key expansion needs: each 32-bit word, shifted by one word and by two.
    #[inline(always)]
    pub(super) fn spread(self, key: __m128i) -> __m128i {
        // SAFETY: SSE2 is part of x86-64.
        unsafe {
            let key = _mm_xor_si128(key, _mm_slli_si128::<4>(key));
            _mm_xor_si128(key, _mm_slli_si128::<8>(key))
        }
    }

    /// SubWord of the last 32-bit word in every word, rotated by a byte if so wanted, plus `rcon`.
    #[inline(always)]
    pub(super) fn sub_word<const ROTATE: bool>(self, key: __m128i, rcon: u32) -> __m128i {
        let order = if ROTATE { 0x0c0f_0e0d } else { 0x0f0e_0d0c };
        // SAFETY: this value exists only where the CPU has SSSE3 and AES-NI. All columns are the
        // same, so ShiftRows changes nothing and what is left of the round is SubBytes.
        unsafe {
            let word = _mm_shuffle_epi8(key, _mm_set1_epi32(order));
            _mm_aesenclast_si128(word, _mm_set1_epi32(rcon.cast_signed()))
        }
    }

    /// RotWord and SubWord of one word, plus `rcon`.
    #[inline(always)]
    pub(super) fn sub_word_of(self, word: u32, rcon: u32) -> u32 {
        // SAFETY: SSE2 is part of x86-64.
        let words = unsafe { _mm_set1_epi32(word.cast_signed()) };
        let sum = self.sub_word::<true>(words, rcon);
        // SAFETY: as above.
        unsafe { _mm_cvtsi128_si32(sum) }.cast_unsigned()
    }

    /// InvMixColumns, which turns a round key for encryption into one for decryption.
    #[inline(always)]
    pub(super) fn inverse_mix(self, key: __m128i) -> __m128i {
        // SAFETY: this value exists only where the CPU has AES-NI.
        unsafe { _mm_aesimc_si128(key) }
    }

    /// The same reference. The compiler cannot see that, and so loads what it needs where it needs
    /// it, instead of keeping all round keys in registers that the blocks should have.
    #[inline(always)]
    #[expect(clippy::pointers_in_nomem_asm_block, reason = "nothing is read through it")]
    pub(super) fn afresh<T>(self, value: &T) -> &T {
        let mut at: *const T = value;
        // SAFETY: no instruction; `at` still points to `value`.
        unsafe {
            asm!("/* {0} */", inout(reg) at, options(nomem, nostack, preserves_flags));
            &*at
        }
    }

    /// Asks the cache for the lines that are `ahead` bytes after `from`, to be read, and after `to`, to
    /// be written.
    #[inline(always)]
    pub(super) fn prefetch<T, U>(self, from: &T, to: &U, ahead: usize) {
        let from: *const T = from;
        let to: *const U = to;
        let mut line = 0;
        while line < size_of::<T>() {
            // SAFETY: a prefetch reads nothing and cannot fault, whatever the address.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(from.cast::<i8>().wrapping_add(ahead + line));
                _mm_prefetch::<_MM_HINT_ET0>(to.cast::<i8>().wrapping_add(ahead + line));
            }
            line += 64;
        }
    }

    /// The block in a register.
    #[inline(always)]
    pub(super) fn block(self, value: __m128i) -> Block {
        let mut block = [0; 16];
        // SAFETY: `block` has the 16 bytes that are written.
        unsafe { _mm_storeu_si128(block.as_mut_ptr().cast(), value) };
        block
    }
}

impl Lanes<1> for AesNi {
    type V = __m128i;

    #[inline(always)]
    fn load(self, from: &[Block; 1]) -> __m128i {
        // SAFETY: `from` has the 16 bytes that are read.
        unsafe { _mm_loadu_si128(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store(self, value: __m128i, to: &mut [Hole; 1]) {
        // SAFETY: `to` has the 16 bytes that are written.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), value) }
    }

    #[inline(always)]
    fn blocks(self, value: __m128i) -> [Block; 1] {
        let mut blocks = [[0; 16]; 1];
        // SAFETY: `blocks` has the 16 bytes that are written.
        unsafe { _mm_storeu_si128(blocks.as_mut_ptr().cast(), value) };
        blocks
    }

    #[inline(always)]
    fn splat(self, block: &Block) -> __m128i {
        // SAFETY: `block` has the 16 bytes that are read.
        unsafe { _mm_loadu_si128(block.as_ptr().cast()) }
    }

    #[inline(always)]
    fn xor(self, a: __m128i, b: __m128i) -> __m128i {
        // SAFETY: SSE2 is part of x86-64.
        unsafe { _mm_xor_si128(a, b) }
    }

    #[inline(always)]
    fn enc(self, state: __m128i, key: __m128i) -> __m128i {
        // SAFETY: this value exists only where the CPU has AES-NI.
        unsafe { _mm_aesenc_si128(state, key) }
    }

    #[inline(always)]
    fn enc_last(self, state: __m128i, key: __m128i) -> __m128i {
        // SAFETY: this value exists only where the CPU has AES-NI.
        unsafe { _mm_aesenclast_si128(state, key) }
    }

    #[inline(always)]
    fn dec(self, state: __m128i, key: __m128i) -> __m128i {
        // SAFETY: this value exists only where the CPU has AES-NI.
        unsafe { _mm_aesdec_si128(state, key) }
    }

    #[inline(always)]
    fn dec_last(self, state: __m128i, key: __m128i) -> __m128i {
        // SAFETY: this value exists only where the CPU has AES-NI.
        unsafe { _mm_aesdeclast_si128(state, key) }
    }

    #[inline(always)]
    fn reverse(self, value: __m128i) -> __m128i {
        // SAFETY: this value exists only where the CPU has SSSE3.
        unsafe {
            let order = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            _mm_shuffle_epi8(value, order)
        }
    }

    #[inline(always)]
    fn low_halves(self, a: __m128i, b: __m128i) -> __m128i {
        // SAFETY: SSE2 is part of x86-64.
        unsafe { _mm_unpacklo_epi64(a, b) }
    }

    #[inline(always)]
    fn high_halves(self, a: __m128i, b: __m128i) -> __m128i {
        // SAFETY: SSE2 is part of x86-64.
        unsafe { _mm_unpackhi_epi64(a, b) }
    }

    #[inline(always)]
    fn swap(self, value: __m128i) -> __m128i {
        // SAFETY: SSE2 is part of x86-64.
        unsafe { _mm_shuffle_epi32::<0x4e>(value) }
    }

    #[inline(always)]
    fn mul_low(self, a: __m128i, b: __m128i) -> __m128i {
        // SAFETY: this value exists only where the CPU has PCLMULQDQ.
        unsafe { _mm_clmulepi64_si128::<0x00>(a, b) }
    }

    #[inline(always)]
    fn mul_high(self, a: __m128i, b: __m128i) -> __m128i {
        // SAFETY: this value exists only where the CPU has PCLMULQDQ.
        unsafe { _mm_clmulepi64_si128::<0x11>(a, b) }
    }

    #[inline(always)]
    fn mul_cross(self, value: __m128i) -> __m128i {
        // SAFETY: this value exists only where the CPU has PCLMULQDQ.
        unsafe { _mm_clmulepi64_si128::<0x01>(value, value) }
    }

    #[inline(always)]
    fn sum(self, value: __m128i) -> __m128i {
        value
    }

    #[inline(always)]
    fn join(self, [value]: [__m128i; 1]) -> __m128i {
        value
    }

    #[inline(always)]
    fn widen(self, value: __m128i) -> __m128i {
        value
    }

    #[inline(always)]
    fn pin(self, mut value: __m128i) -> __m128i {
        // SAFETY: no instruction.
        unsafe {
            asm!("/* {0} */", inout(xmm_reg) value, options(nomem, nostack, preserves_flags));
        }
        value
    }
}

super::entry_points!(AesNi, 1, "aes,pclmulqdq,ssse3,sse4.1");
