//! GHASH (NIST SP 800-38D section 6.4), computed as POLYVAL (RFC 8452 appendix A): on blocks with
//! their bytes reversed and a key that was multiplied by x, carry-less products need no shift.

use std::arch::x86_64::__m128i;

use super::aesni::AesNi;
use super::{DEPTH, Lanes};
use crate::cipher::Block;

/// The most blocks that one reduction serves: a group of the widest registers.
const MOST: usize = DEPTH * 4;

/// Powers of the hash key: power `k` lies at `MOST - k`, so that the last `n` entries are what `n`
/// blocks in a row are multiplied by.
pub(in crate::cipher) struct Table {
    powers: [Block; MOST],
    /// High half plus low half of each power, for Karatsuba's middle product.
    middles: [Block; MOST],
}

impl Table {
    /// Room for the powers.
    pub(in crate::cipher) const EMPTY: Self =
        Self { powers: [[0; 16]; MOST], middles: [[0; 16]; MOST] };

    /// The powers for a whole group.
    #[inline(always)]
    fn group<const W: usize>(&self) -> (&[[Block; W]], &[[Block; W]]) {
        let from = MOST - DEPTH * W;
        (self.powers[from..].as_chunks::<W>().0, self.middles[from..].as_chunks::<W>().0)
    }
}

/// Fills `table` for the hash key `key` with as many powers as a group of `W` lanes needs.
#[inline(always)]
pub(super) fn table<L: Lanes<W>, const W: usize>(_lanes: L, key: &Block, table: &mut Table) {
    let cpu = AesNi::implied();
    table.powers[MOST - 1] = times_x(u128::from_be_bytes(*key)).to_le_bytes();
    for k in 1..=DEPTH * W {
        // The largest power of two below k leaves the most products independent of each other.
        if k > 1 {
            let half = 1 << (k - 1).ilog2();
            let (a, b) = (&table.powers[MOST - half], &table.powers[MOST - (k - half)]);
            table.powers[MOST - k] = cpu.block(product(cpu, cpu.splat(a), cpu.splat(b)));
        }
        let power = cpu.splat(&table.powers[MOST - k]);
        table.middles[MOST - k] = cpu.block(cpu.xor(power, cpu.swap(power)));
    }
}

/// Multiplication by x in POLYVAL's field; the same steps whatever the bits.
#[inline(always)]
fn times_x(value: u128) -> u128 {
    let carry = 0_u128.wrapping_sub(value >> 127);
    value << 1 ^ carry & 0xc200_0000_0000_0000_0000_0000_0000_0001
}

#[inline(always)]
fn product(cpu: AesNi, a: __m128i, b: __m128i) -> __m128i {
    let middle = cpu.xor(b, cpu.swap(b));
    Sum::<_, AesNi, 1>::new(cpu, a, b, middle).reduce(cpu)
}

/// Adds whole blocks to `hash`, one lane at a time.
#[inline(always)]
pub(super) fn add(cpu: AesNi, table: &Table, hash: &mut Block, src: &[Block]) {
    let mut state = cpu.reverse(cpu.splat(hash));
    for blocks in src.chunks(DEPTH) {
        let from = MOST - blocks.len();
        let mut sum: Option<Sum<__m128i, AesNi, 1>> = None;
        for (i, block) in blocks.iter().enumerate() {
            let mut block = cpu.reverse(cpu.splat(block));
            if i == 0 {
                block = cpu.xor(block, state);
            }
            let (power, middle) = (&table.powers[from + i], &table.middles[from + i]);
            let part = Sum::new(cpu, block, cpu.splat(power), cpu.splat(middle));
            sum = Some(match sum {
                Some(sum) => sum.plus(cpu, &part),
                None => part,
            });
        }
        if let Some(sum) = sum {
            state = sum.reduce(cpu);
        }
    }
    *hash = cpu.block(cpu.reverse(state));
}

/// A sum of products that is yet to be reduced, in Karatsuba's three parts.
pub(super) struct Sum<V, L, const W: usize> {
    low: V,
    middle: V,
    high: V,
    of: std::marker::PhantomData<L>,
}

impl<L: Lanes<W>, const W: usize> Sum<L::V, L, W> {
    #[inline(always)]
    fn new(lanes: L, block: L::V, power: L::V, middle: L::V) -> Self {
        Self {
            low: lanes.mul_low(block, power),
            middle: lanes.mul_low(lanes.xor(block, lanes.swap(block)), middle),
            high: lanes.mul_high(block, power),
            of: std::marker::PhantomData,
        }
    }

    /// Register `i` of a group, its bytes already reversed.
    #[inline(always)]
    pub(super) fn of(lanes: L, table: &Table, i: usize, blocks: L::V) -> Self {
        let (powers, middles) = table.group::<W>();
        Self::new(lanes, blocks, lanes.load(&powers[i]), lanes.load(&middles[i]))
    }

    #[inline(always)]
    pub(super) fn plus(&self, lanes: L, other: &Self) -> Self {
        Self {
            low: lanes.xor(self.low, other.low),
            middle: lanes.xor(self.middle, other.middle),
            high: lanes.xor(self.high, other.high),
            of: std::marker::PhantomData,
        }
    }

    /// The sum over all lanes, reduced: two Montgomery steps of 64 bits each.
    #[inline(always)]
    pub(super) fn reduce(&self, lanes: L) -> __m128i {
        let cpu = AesNi::implied();
        let (low, high) = (lanes.sum(self.low), lanes.sum(self.high));
        let middle = cpu.xor(cpu.xor(lanes.sum(self.middle), low), high);
        let low = cpu.xor(low, cpu.half_up(middle));
        let high = cpu.xor(high, cpu.half_down(middle));
        let poly = cpu.splat(&0xc200_0000_0000_0000_u128.to_le_bytes());
        let step = cpu.xor(cpu.swap(low), cpu.mul_low(low, poly));
        let step = cpu.xor(cpu.swap(step), cpu.mul_low(step, poly));
        cpu.xor(step, high)
    }
}
