//! VAES and VPCLMULQDQ on 256-bit registers: two blocks each. AMD since Zen 3, Intel since Ice Lake
//! and Alder Lake.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::super::{Block, Hole, KeySize};
use super::aesni::AesNi;
use super::ghash::{Sum, Table};
use super::vaes256_gcm::{self, Group, GroupHole, State};
use super::{DEPTH, Keys, Lanes, RoundKeys, cbc, ctr, encrypt_rounds, expand, gcm, ghash};

/// AVX2, VAES and VPCLMULQDQ are there, and what [`AesNi`] asks for.
#[derive(Clone, Copy)]
pub(in crate::cipher) struct Vaes256(());

impl Vaes256 {
    /// The proof, if this CPU gives it.
    pub(in crate::cipher) fn detect() -> Option<Self> {
        AesNi::detect()?;
        let found = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("vpclmulqdq");
        found.then_some(Self(()))
    }
}

impl Lanes<2> for Vaes256 {
    type V = __m256i;

    #[inline(always)]
    fn load(self, from: &[Block; 2]) -> __m256i {
        // SAFETY: `from` has the 32 bytes that are read.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store(self, value: __m256i, to: &mut [Hole; 2]) {
        // SAFETY: `to` has the 32 bytes that are written.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), value) }
    }

    #[inline(always)]
    fn blocks(self, value: __m256i) -> [Block; 2] {
        let mut blocks = [[0; 16]; 2];
        // SAFETY: `blocks` has the 32 bytes that are written.
        unsafe { _mm256_storeu_si256(blocks.as_mut_ptr().cast(), value) };
        blocks
    }

    #[inline(always)]
    fn splat(self, block: &Block) -> __m256i {
        // SAFETY: `block` has the 16 bytes that are read; this value exists only where there is AVX2.
        unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(block.as_ptr().cast())) }
    }

    #[inline(always)]
    fn xor(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: this value exists only where the CPU has AVX2.
        unsafe { _mm256_xor_si256(a, b) }
    }

    #[inline(always)]
    fn enc(self, state: __m256i, key: __m256i) -> __m256i {
        // SAFETY: this value exists only where the CPU has VAES.
        unsafe { _mm256_aesenc_epi128(state, key) }
    }

    #[inline(always)]
    fn enc_last(self, state: __m256i, key: __m256i) -> __m256i {
        // SAFETY: this value exists only where the CPU has VAES.
        unsafe { _mm256_aesenclast_epi128(state, key) }
    }

    #[inline(always)]
    fn dec(self, state: __m256i, key: __m256i) -> __m256i {
        // SAFETY: this value exists only where the CPU has VAES.
        unsafe { _mm256_aesdec_epi128(state, key) }
    }

    #[inline(always)]
    fn dec_last(self, state: __m256i, key: __m256i) -> __m256i {
        // SAFETY: this value exists only where the CPU has VAES.
        unsafe { _mm256_aesdeclast_epi128(state, key) }
    }

    #[inline(always)]
    fn reverse(self, value: __m256i) -> __m256i {
        // SAFETY: this value exists only where the CPU has AVX2.
        unsafe {
            let order = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            _mm256_shuffle_epi8(value, _mm256_broadcastsi128_si256(order))
        }
    }

    #[inline(always)]
    fn low_halves(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: this value exists only where the CPU has AVX2.
        unsafe { _mm256_unpacklo_epi64(a, b) }
    }

    #[inline(always)]
    fn high_halves(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: this value exists only where the CPU has AVX2.
        unsafe { _mm256_unpackhi_epi64(a, b) }
    }

    #[inline(always)]
    fn swap(self, value: __m256i) -> __m256i {
        // SAFETY: this value exists only where the CPU has AVX2.
        unsafe { _mm256_shuffle_epi32::<0x4e>(value) }
    }

    #[inline(always)]
    fn mul_low(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: this value exists only where the CPU has VPCLMULQDQ.
        unsafe { _mm256_clmulepi64_epi128::<0x00>(a, b) }
    }

    #[inline(always)]
    fn mul_high(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: this value exists only where the CPU has VPCLMULQDQ.
        unsafe { _mm256_clmulepi64_epi128::<0x11>(a, b) }
    }

    #[inline(always)]
    fn mul_cross(self, value: __m256i) -> __m256i {
        // SAFETY: this value exists only where the CPU has VPCLMULQDQ.
        unsafe { _mm256_clmulepi64_epi128::<0x01>(value, value) }
    }

    #[inline(always)]
    fn sum(self, value: __m256i) -> __m128i {
        // SAFETY: this value exists only where the CPU has AVX2.
        unsafe {
            let high = _mm256_extracti128_si256::<1>(value);
            _mm_xor_si128(_mm256_castsi256_si128(value), high)
        }
    }

    #[inline(always)]
    fn join(self, [low, high]: [__m128i; 2]) -> __m256i {
        // SAFETY: this value exists only where the CPU has AVX2.
        unsafe { _mm256_set_m128i(high, low) }
    }

    #[inline(always)]
    fn widen(self, value: __m128i) -> __m256i {
        // SAFETY: this value exists only where the CPU has AVX2.
        unsafe { _mm256_zextsi128_si256(value) }
    }

    #[inline(always)]
    fn pin(self, value: __m256i) -> __m256i {
        // SAFETY: this value exists only where the CPU has AVX2.
        unsafe { pin(value) }
    }

    const GCM_START: usize = vaes256_gcm::START;

    #[inline(always)]
    fn gcm_groups<const R: usize, const ENCRYPT: bool>(
        self,
        keys: &RoundKeys,
        table: &Table,
        hash: &mut Block,
        at: u128,
        from: &[Group],
        to: &mut [GroupHole],
    ) -> bool {
        let from = &from[..from.len().min(to.len())];
        // The ciphertext is hashed as it comes; encryption has it a group later.
        let behind = usize::from(ENCRYPT);
        let Some(left) = from.len().checked_sub(behind) else { return true };
        if ENCRYPT {
            let state = vaes256_gcm::counters(self, &keys[0], at);
            let state = encrypt_rounds::<_, 2, R, DEPTH>(self, keys, state);
            ctr::finish_group(self, &keys[R - 1], state, &from[0], &mut to[0]);
        }
        let first = to.as_mut_ptr();
        if left > 0 {
            let hashed = if ENCRYPT { first.cast_const().cast() } else { from.as_ptr() };
            let mut state = State::new(&keys[0], at + (behind * DEPTH * 2) as u128, hash);
            // SAFETY: this value exists only where the CPU has the features. `to` is as long as
            // `from`, and so are, from `hashed` on, either `from` or what is written to `to`, a group
            // behind. A message ends before the lowest 32 bits of its counter overflow.
            let [low, high] = unsafe {
                let to = first.add(behind);
                vaes256_gcm::groups::<R>(keys, table, &mut state, hashed, &from[behind..], to);
                state.sum()
            };
            let sum = Sum::folded(self, self.load(&low), self.load(&high)).reduce(self);
            let cpu = AesNi::implied();
            *hash = cpu.block(cpu.reverse(sum));
        }
        if ENCRYPT {
            // SAFETY: the last group's room was filled above.
            let last: &Group = unsafe { &*first.add(left).cast() };
            ghash::add(self, table, hash, last.as_flattened());
        }
        true
    }
}

/// [`Lanes::pin`]: naming the register takes the feature.
#[inline]
#[target_feature(enable = "avx")]
fn pin(mut value: __m256i) -> __m256i {
    // SAFETY: no instruction.
    unsafe {
        asm!("/* {0} */", inout(ymm_reg) value, options(nomem, nostack, preserves_flags));
    }
    value
}

super::entry_points!(Vaes256, 2, "aes,pclmulqdq,ssse3,sse4.1,avx2,vaes,vpclmulqdq");
