//! Two 256-bit registers in the place of one of 512 bits: lets a CPU without AVX-512 test what is
//! written for four lanes. What it leaves untested of `vaes512` are that file's one-line instructions.
#![allow(unsafe_code)]

use std::arch::x86_64::{__m128i, __m256i};
use std::mem::MaybeUninit;

use super::super::{Block, Hole, KeySize};
use super::aesni::AesNi;
use super::ghash::Table;
use super::vaes256::Vaes256;
use super::{Keys, Lanes, cbc, ctr, expand, gcm, ghash};

#[derive(Clone, Copy)]
struct Twice(Vaes256);

/// The same on both halves.
macro_rules! both {
    ($($name:ident($($arg:ident),+);)+) => {
        $(
            #[inline(always)]
            fn $name(self, $($arg: Self::V),+) -> Self::V {
                [self.0.$name($($arg[0]),+), self.0.$name($($arg[1]),+)]
            }
        )+
    };
}

impl Lanes<4> for Twice {
    type V = [__m256i; 2];

    both! {
        xor(a, b);
        enc(state, key);
        enc_last(state, key);
        dec(state, key);
        dec_last(state, key);
        reverse(value);
        low_halves(a, b);
        high_halves(a, b);
        swap(value);
        mul_low(a, b);
        mul_high(a, b);
        mul_cross(value);
        pin(value);
    }

    fn load(self, from: &[Block; 4]) -> Self::V {
        let halves = from.as_chunks::<2>().0;
        [self.0.load(&halves[0]), self.0.load(&halves[1])]
    }

    fn store(self, value: Self::V, to: &mut [Hole; 4]) {
        for (value, to) in value.into_iter().zip(to.as_chunks_mut::<2>().0) {
            self.0.store(value, to);
        }
    }

    fn blocks(self, value: Self::V) -> [Block; 4] {
        let ([a, b], [c, d]) = (self.0.blocks(value[0]), self.0.blocks(value[1]));
        [a, b, c, d]
    }

    fn splat(self, block: &Block) -> Self::V {
        [self.0.splat(block); 2]
    }

    fn sum(self, value: Self::V) -> __m128i {
        self.0.sum(self.0.xor(value[0], value[1]))
    }

    fn join(self, [a, b, c, d]: [__m128i; 4]) -> Self::V {
        [self.0.join([a, b]), self.0.join([c, d])]
    }

    fn widen(self, value: __m128i) -> Self::V {
        [self.0.widen(value), self.0.splat(&[0; 16])]
    }
}

super::entry_points!(Twice, 4, "aes,pclmulqdq,ssse3,sse4.1,avx2,vaes,vpclmulqdq");

/// What a kernel makes of `src`: CTR, CBC both ways, GCM both ways.
macro_rules! everything {
    ($cpu:expr, $size:expr, $key:expr, $counter:expr, $src:expr) => {{
        let (cpu, src): (_, &[u8]) = ($cpu, $src);
        let (blocks, _) = src.as_chunks::<16>();
        let mut keys = Keys::empty($size);
        cpu.expand($key, &mut keys);
        let room = || vec![MaybeUninit::new(0_u8); src.len()];
        let mut outs = [room(), room(), room(), room(), room()];
        let [ctr, enc, dec, seal, open] = &mut outs;
        let mut chains = [[$counter; 2]; 6];
        let mut table = Table::EMPTY;
        let [mask, start] = &mut chains[5];
        cpu.gcm_start(&keys, mask, start, &mut table);
        let mut left = [[0; 16]; 3];
        cpu.ctr(&keys, &mut chains[0][0], src, ctr, &mut left[0]);
        cpu.encrypt_block(&keys, &mut chains[0][1]);
        cpu.ghash(&table, &mut chains[1][1], blocks);
        cpu.cbc_encrypt(&keys, &mut chains[1][0], blocks, enc.as_chunks_mut().0);
        // GCM counts in the last four bytes, and its messages end before these overflow.
        for chain in &mut chains[2..4] {
            chain[1][12..15].fill(0);
        }
        let [hash, at] = &mut chains[2];
        cpu.gcm_encrypt(&keys, &table, hash, at, src, seal, &mut left[1]);
        let [hash, at] = &mut chains[3];
        cpu.gcm_decrypt(&keys, &table, hash, at, src, open, &mut left[2]);
        cpu.expand_inverse($key, &mut keys, &mut chains[3][1]);
        cpu.decrypt_block(&keys, &mut chains[4][1]);
        cpu.cbc_decrypt(&keys, &mut chains[4][0], blocks, dec.as_chunks_mut().0);
        if src.len() % 16 == 0 {
            // Nothing is left of the last block.
            left = [[0; 16]; 3];
        }
        let bytes = |out: &Vec<MaybeUninit<u8>>| -> Vec<u8> {
            // SAFETY: `room` sets every byte.
            out.iter().map(|byte| unsafe { byte.assume_init() }).collect()
        };
        (outs.iter().map(bytes).collect::<Vec<_>>(), chains, left)
    }};
}

#[test]
fn four_lanes_do_what_two_do() {
    let Some(two) = Vaes256::detect() else {
        println!("NOT RUN, this CPU has not VAES");
        return;
    };
    let src: Vec<u8> = (0..3000_u32).map(|i| ((i * i) >> 3) as u8).collect();
    let sizes = [(KeySize::Aes128, 16), (KeySize::Aes192, 24), (KeySize::Aes256, 32)];
    for len in (0..1100).chain([1535, 1536, 1537, 2999]) {
        // With and without a carry beyond the low half.
        let mut counter = [if len % 2 == 0 { 0xff } else { 0x7f }; 16];
        counter[15] = len as u8;
        let (size, key_len) = sizes[len % 3];
        let (key, src) = (&src[1..=key_len], &src[..len]);
        let wide = everything!(Twice(two), size, key, counter, src);
        assert!(wide == everything!(two, size, key, counter, src), "{len} bytes");
        let narrow = everything!(AesNi::implied(), size, key, counter, src);
        assert!(wide == narrow, "{len} bytes");
    }
}
