//! VAES and VPCLMULQDQ on 512-bit registers: four blocks each. Intel servers since Ice Lake, AMD since
//! Zen 4.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::super::{Block, Hole, KeySize};
use super::aesni::AesNi;
use super::ghash::Table;
use super::{Keys, Lanes, cbc, ctr, expand, gcm, ghash};

/// AVX-512, VAES and VPCLMULQDQ are there, and what [`Vaes256`](super::vaes256::Vaes256) asks for.
#[derive(Clone, Copy)]
pub(in crate::cipher) struct Vaes512(());

impl Vaes512 {
    /// The proof, if this CPU gives it.
    pub(in crate::cipher) fn detect() -> Option<Self> {
        AesNi::detect()?;
        let found = super::vaes256::Vaes256::detect().is_some()
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl");
        found.then_some(Self(()))
    }
}

impl Lanes<4> for Vaes512 {
    type V = __m512i;

    #[inline(always)]
    fn load(self, from: &[Block; 4]) -> __m512i {
        // SAFETY: `from` has the 64 bytes that are read.
        unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store(self, value: __m512i, to: &mut [Hole; 4]) {
        // SAFETY: `to` has the 64 bytes that are written.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), value) }
    }

    #[inline(always)]
    fn blocks(self, value: __m512i) -> [Block; 4] {
        let mut blocks = [[0; 16]; 4];
        // SAFETY: `blocks` has the 64 bytes that are written.
        unsafe { _mm512_storeu_si512(blocks.as_mut_ptr().cast(), value) };
        blocks
    }

    #[inline(always)]
    fn splat(self, block: &Block) -> __m512i {
        // SAFETY: `block` has the 16 bytes that are read; this value exists only where there is AVX-512.
        unsafe { _mm512_broadcast_i32x4(_mm_loadu_si128(block.as_ptr().cast())) }
    }

    #[inline(always)]
    fn xor(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: this value exists only where the CPU has AVX-512.
        unsafe { _mm512_xor_si512(a, b) }
    }

    #[inline(always)]
    fn enc(self, state: __m512i, key: __m512i) -> __m512i {
        // SAFETY: this value exists only where the CPU has VAES.
        unsafe { _mm512_aesenc_epi128(state, key) }
    }

    #[inline(always)]
    fn enc_last(self, state: __m512i, key: __m512i) -> __m512i {
        // SAFETY: this value exists only where the CPU has VAES.
        unsafe { _mm512_aesenclast_epi128(state, key) }
    }

    #[inline(always)]
    fn dec(self, state: __m512i, key: __m512i) -> __m512i {
        // SAFETY: this value exists only where the CPU has VAES.
        unsafe { _mm512_aesdec_epi128(state, key) }
    }

    #[inline(always)]
    fn dec_last(self, state: __m512i, key: __m512i) -> __m512i {
        // SAFETY: this value exists only where the CPU has VAES.
        unsafe { _mm512_aesdeclast_epi128(state, key) }
    }

    #[inline(always)]
    fn reverse(self, value: __m512i) -> __m512i {
        // SAFETY: this value exists only where the CPU has AVX-512.
        unsafe {
            let order = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            _mm512_shuffle_epi8(value, _mm512_broadcast_i32x4(order))
        }
    }

    #[inline(always)]
    fn low_halves(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: this value exists only where the CPU has AVX-512.
        unsafe { _mm512_unpacklo_epi64(a, b) }
    }

    #[inline(always)]
    fn high_halves(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: this value exists only where the CPU has AVX-512.
        unsafe { _mm512_unpackhi_epi64(a, b) }
    }

    #[inline(always)]
    fn swap(self, value: __m512i) -> __m512i {
        // SAFETY: this value exists only where the CPU has AVX-512.
        unsafe { _mm512_shuffle_epi32::<0x4e>(value) }
    }

    #[inline(always)]
    fn mul_low(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: this value exists only where the CPU has VPCLMULQDQ.
        unsafe { _mm512_clmulepi64_epi128::<0x00>(a, b) }
    }

    #[inline(always)]
    fn mul_high(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: this value exists only where the CPU has VPCLMULQDQ.
        unsafe { _mm512_clmulepi64_epi128::<0x11>(a, b) }
    }

    #[inline(always)]
    fn mul_cross(self, value: __m512i) -> __m512i {
        // SAFETY: this value exists only where the CPU has VPCLMULQDQ.
        unsafe { _mm512_clmulepi64_epi128::<0x01>(value, value) }
    }

    #[inline(always)]
    fn sum(self, value: __m512i) -> __m128i {
        // SAFETY: this value exists only where the CPU has AVX-512.
        unsafe {
            let half = _mm256_xor_si256(
                _mm512_castsi512_si256(value),
                _mm512_extracti64x4_epi64::<1>(value),
            );
            _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half))
        }
    }

    #[inline(always)]
    fn join(self, [a, b, c, d]: [__m128i; 4]) -> __m512i {
        // SAFETY: this value exists only where the CPU has AVX-512.
        unsafe {
            let (low, high) = (_mm256_set_m128i(b, a), _mm256_set_m128i(d, c));
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
        }
    }

    #[inline(always)]
    fn widen(self, value: __m128i) -> __m512i {
        // SAFETY: this value exists only where the CPU has AVX-512.
        unsafe { _mm512_zextsi128_si512(value) }
    }

    #[inline(always)]
    fn pin(self, value: __m512i) -> __m512i {
        // SAFETY: this value exists only where the CPU has AVX-512.
        unsafe { pin(value) }
    }
}

/// [`Lanes::pin`]: naming the register takes the feature.
#[inline]
#[target_feature(enable = "avx512f")]
fn pin(mut value: __m512i) -> __m512i {
    // SAFETY: no instruction.
    unsafe {
        asm!("/* {0} */", inout(zmm_reg) value, options(nomem, nostack, preserves_flags));
    }
    value
}

super::entry_points!(
    Vaes512,
    4,
    "aes,pclmulqdq,ssse3,sse4.1,avx2,vaes,vpclmulqdq,avx512f,avx512bw,avx512vl"
);
