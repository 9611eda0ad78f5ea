//! GHASH (NIST SP 800-38D section 6.4), computed as POLYVAL (RFC 8452 appendix A): on blocks with
//! their bytes reversed and a key that was multiplied by x, carry-less products need no shift.
//!
//! A group of blocks is multiplied by as many powers of the key, each product in Karatsuba's three
//! parts; the parts are added up and reduced once.

use std::arch::x86_64::__m128i;
use std::iter::zip;

use super::aesni::AesNi;
use super::{DEPTH, Lanes};
use crate::cipher::Block;

/// The most blocks that one reduction serves: a group of the widest registers.
pub(super) const MOST: usize = DEPTH * 4;

/// Registers of a group are multiplied two by two.
const PAIRS: usize = DEPTH / 2;

/// Powers of the hash key for a group, the highest first; those of narrow registers take only the
/// first part.
#[repr(C, align(64))]
pub(in crate::cipher) struct Table {
    powers: [Block; MOST],
    /// High half plus low half of each power, for the middle products: of a pair's first register in
    /// the low halves, of its second in the high ones.
    middles: [Block; MOST / 2],
    /// Where `Option` says `None`. A place of its own would leave a gap before the powers, and moving
    /// the whole would fill that with whatever lay on the stack.
    made: [Made; 64],
}

/// The one value that a table has there.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Made {
    Yes,
}

const _: () = assert!(size_of::<Option<Table>>() == MOST * 24 + 64, "there is a gap");

impl Table {
    /// Room for the powers.
    pub(in crate::cipher) const EMPTY: Self =
        Self { powers: [[0; 16]; MOST], middles: [[0; 16]; MOST / 2], made: [Made::Yes; 64] };

    /// How far the middles are from the beginning.
    pub(super) const MIDDLES: usize = std::mem::offset_of!(Self, middles);

    #[inline(always)]
    fn powers<const W: usize>(&self) -> &[[Block; W]] {
        self.powers.as_chunks::<W>().0
    }

    #[inline(always)]
    fn middles<const W: usize>(&self) -> &[[Block; W]] {
        self.middles.as_chunks::<W>().0
    }
}

/// Fills `table` for the hash key `key` with the powers for a group of `W` lanes.
///
/// The last register has the powers from W down to 1. Each one before it is a later one times the
/// highest power of another, so chosen that as few products as can be wait for each other.
#[inline(always)]
pub(super) fn table<L: Lanes<W>, const W: usize>(lanes: L, key: &Block, table: &mut Table) {
    let mut powers = [first_powers(lanes, key); DEPTH];
    for k in 1..DEPTH {
        let half = 1 << k.ilog2();
        let from = powers[DEPTH - 1 - (k - half)];
        let by = lanes.splat(&lanes.blocks(powers[DEPTH - half])[0]);
        powers[DEPTH - 1 - k] = product(lanes, from, by);
    }
    let middles = table.middles.as_chunks_mut::<W>().0;
    for pair in 0..PAIRS {
        let middle = middle(lanes, powers[2 * pair], powers[2 * pair + 1]);
        middles[pair] = lanes.blocks(middle);
    }
    for (to, powers) in zip(table.powers.as_chunks_mut::<W>().0, powers) {
        *to = lanes.blocks(powers);
    }
}

/// Powers W to 1 of the key.
#[inline(always)]
fn first_powers<L: Lanes<W>, const W: usize>(lanes: L, key: &Block) -> L::V {
    let cpu = AesNi::implied();
    let first = times_x(u128::from_be_bytes(*key)).to_le_bytes();
    let mut powers = [cpu.pin(cpu.splat(&first)); W];
    for k in 2..=W {
        let half = k / 2;
        powers[W - k] = product(cpu, powers[W - half], powers[W - (k - half)]);
    }
    lanes.join(powers)
}

/// Multiplication by x in POLYVAL's field; the same steps whatever the bits.
#[inline(always)]
fn times_x(value: u128) -> u128 {
    let carry = 0_u128.wrapping_sub(value >> 127);
    (value << 1) ^ (carry & 0xc200_0000_0000_0000_0000_0000_0000_0001)
}

/// Adds whole blocks to `hash`.
#[inline(always)]
pub(super) fn add<L: Lanes<W>, const W: usize>(
    lanes: L,
    table: &Table,
    hash: &mut Block,
    src: &[Block],
) {
    if let [block] = src {
        add_one::<W>(table, hash, block);
        return;
    }
    for few in src.chunks(DEPTH * W) {
        add_few(lanes, table, hash, few);
    }
}

/// One block, as there is at the beginning and at the end of each message.
#[inline(always)]
pub(super) fn add_one<const W: usize>(table: &Table, hash: &mut Block, block: &Block) {
    let cpu = AesNi::implied();
    let block = cpu.reverse(cpu.xor(cpu.splat(hash), cpu.splat(block)));
    let power = cpu.splat(&table.powers[DEPTH * W - 1]);
    *hash = cpu.block(cpu.reverse(product(cpu, block, power)));
}

/// One group at most. The blocks go to its end: zeros before the first one change nothing.
#[inline(always)]
fn add_few<L: Lanes<W>, const W: usize>(lanes: L, table: &Table, hash: &mut Block, few: &[Block]) {
    let cpu = AesNi::implied();
    let registers = few.len().div_ceil(W);
    let (head, rest) = few.split_at(few.len() - (registers - 1) * W);
    let empty = W - head.len();
    let mut start = [cpu.splat(&[0; 16]); W];
    for i in 0..W {
        if i >= empty {
            start[i] = cpu.splat(&head[i - empty]);
        }
        if i == empty {
            start[i] = cpu.xor(start[i], cpu.splat(hash));
        }
    }
    let start = lanes.join(start);

    let mut sum = Sum::zero(lanes);
    let mut odd = lanes.splat(&[0; 16]);
    let rest = rest.as_chunks::<W>().0;
    for i in 0..registers {
        let blocks = if i == 0 { start } else { lanes.load(&rest[i - 1]) };
        let register = DEPTH - registers + i;
        if register.is_multiple_of(2) {
            odd = sum.add_first(lanes, table, register / 2, blocks, None);
        } else {
            sum.add_second(lanes, table, register / 2, blocks, odd);
        }
    }
    *hash = cpu.block(cpu.reverse(sum.reduce(lanes)));
}

/// A sum of products that is yet to be reduced.
///
/// Everything is pinned: between two rounds of eight registers there are just enough left for one
/// register to be hashed, if its steps stay together.
pub(super) struct Sum<V> {
    low: V,
    middle: V,
    high: V,
}

impl<V: Copy> Sum<V> {
    /// Nothing added yet.
    #[inline(always)]
    pub(super) fn zero<L: Lanes<W, V = V>, const W: usize>(lanes: L) -> Self {
        let zero = lanes.splat(&[0; 16]);
        Self { low: zero, middle: zero, high: zero }
    }

    /// Where the middle products are in the low and high ones already.
    #[inline(always)]
    pub(super) fn folded<L: Lanes<W, V = V>, const W: usize>(lanes: L, low: V, high: V) -> Self {
        Self { low, middle: lanes.xor(low, high), high }
    }

    /// Adds the first register of pair `pair` of a group, but for its middle product; that comes with
    /// the second, which is given what this returns. `hash` is added to the first block.
    #[inline(always)]
    pub(super) fn add_first<L: Lanes<W, V = V>, const W: usize>(
        &mut self,
        lanes: L,
        table: &Table,
        pair: usize,
        blocks: V,
        hash: Option<__m128i>,
    ) -> V {
        let mut blocks = lanes.pin(lanes.reverse(blocks));
        if let Some(hash) = hash {
            blocks = lanes.pin(lanes.xor(blocks, lanes.widen(hash)));
        }
        self.add_outer(lanes, blocks, &table.powers::<W>()[2 * pair]);
        blocks
    }

    /// Adds the second register of a pair, and the middle products of both.
    #[inline(always)]
    pub(super) fn add_second<L: Lanes<W, V = V>, const W: usize>(
        &mut self,
        lanes: L,
        table: &Table,
        pair: usize,
        blocks: V,
        first: V,
    ) {
        let blocks = lanes.pin(lanes.reverse(blocks));
        let both = lanes.pin(middle(lanes, first, blocks));
        self.add_outer(lanes, blocks, &table.powers::<W>()[2 * pair + 1]);
        let middles = lanes.load(&table.middles::<W>()[pair]);
        self.middle = lanes.pin(lanes.xor(self.middle, lanes.mul_low(both, middles)));
        self.middle = lanes.pin(lanes.xor(self.middle, lanes.mul_high(both, middles)));
    }

    #[inline(always)]
    fn add_outer<L: Lanes<W, V = V>, const W: usize>(
        &mut self,
        lanes: L,
        blocks: V,
        powers: &[Block; W],
    ) {
        let powers = lanes.load(powers);
        self.low = lanes.pin(lanes.xor(self.low, lanes.mul_low(blocks, powers)));
        self.high = lanes.pin(lanes.xor(self.high, lanes.mul_high(blocks, powers)));
    }

    /// The sum over all lanes, reduced.
    #[inline(always)]
    pub(super) fn reduce<L: Lanes<W, V = V>, const W: usize>(&self, lanes: L) -> __m128i {
        let (low, middle) = (lanes.sum(self.low), lanes.sum(self.middle));
        reduce(AesNi::implied(), low, middle, lanes.sum(self.high))
    }
}

/// High half plus low half of each block: of `a` in the low halves, of `b` in the high ones.
#[inline(always)]
fn middle<L: Lanes<W>, const W: usize>(lanes: L, a: L::V, b: L::V) -> L::V {
    lanes.xor(lanes.low_halves(a, b), lanes.high_halves(a, b))
}

/// The product in the field, lane by lane.
#[inline(always)]
fn product<L: Lanes<W>, const W: usize>(lanes: L, a: L::V, b: L::V) -> L::V {
    let both = middle(lanes, a, b);
    let middle = lanes.mul_cross(both);
    reduce(lanes, lanes.mul_low(a, b), middle, lanes.mul_high(a, b))
}

/// Karatsuba's parts put together and reduced: two Montgomery steps of 64 bits each.
#[inline(always)]
fn reduce<L: Lanes<W>, const W: usize>(lanes: L, low: L::V, middle: L::V, high: L::V) -> L::V {
    let middle = lanes.xor(middle, lanes.xor(low, high));
    let zero = lanes.xor(low, low);
    let low = lanes.xor(low, lanes.low_halves(zero, middle));
    let high = lanes.xor(high, lanes.high_halves(middle, zero));
    let poly = lanes.splat(&0xc200_0000_0000_0000_u128.to_le_bytes());
    let step = lanes.xor(lanes.swap(low), lanes.mul_low(low, poly));
    let step = lanes.xor(lanes.swap(step), lanes.mul_low(step, poly));
    lanes.xor(step, high)
}
