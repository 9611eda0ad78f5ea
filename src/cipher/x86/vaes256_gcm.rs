//! The inner loop of GCM on 256-bit registers, in assembly: AES of one group and GHASH of another.
//!
//! On AMD Zen 3 a product is microcode and takes a cycle in which nothing else is dispatched, so that
//! every other instruction counts; the compiler's loop has 261 of them for a group and takes 97
//! cycles, this one 223 and 91. Its order is the other half: a product after every two or three AES
//! instructions, and the sum of one group reduced between the first rounds of the next, where the
//! row of instructions that wait for each other holds nobody up.
#![allow(unsafe_code)]

use std::arch::asm;
use std::mem::{offset_of, size_of};

use super::super::{Block, Hole};
use super::ghash::{MOST, Table};
use super::{AHEAD, DEPTH, Lanes, RoundKeys};

/// A group: eight registers of two blocks.
pub(super) type Group = [[Block; 2]; DEPTH];
/// Room for one.
pub(super) type GroupHole = [[Hole; 2]; DEPTH];

/// The counter modulo 16 with which groups begin. A message's first one is 2: so it needs no blocks
/// before its groups. The last register's two blocks are then the first of the next 16.
pub(super) const START: usize = 2;

/// What the loop reads besides its arguments, at fixed distances.
#[repr(C, align(64))]
struct Constants {
    /// For each block of a group its counter's last four bits, where a counter block has them.
    numbers: Group,
    /// Reverses the bytes of each block.
    reverse: [Block; 2],
    /// GHASH's polynomial.
    poly: [Block; 2],
    /// Blocks of a group, to be added to a reversed counter block.
    step: [Block; 2],
}

static CONSTANTS: Constants = Constants {
    numbers: super::ctr::numbered::<2>(START),
    reverse: [[15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]; 2],
    poly: [0xc200_0000_0000_0000_u128.to_le_bytes(); 2],
    step: [(2 * DEPTH as u128).to_le_bytes(); 2],
};

/// What the loop has in memory rather than in registers.
#[repr(C, align(64))]
pub(super) struct State {
    /// The first counter block of the 16 after those that the next group begins in, the same in both
    /// lanes, bytes reversed.
    counter: [u128; 2],
    /// GHASH's sum of the group before, folded but not reduced: see `ghash::reduce`.
    high: [u128; 2],
    low: [u128; 2],
    /// The first counter block of the 16 that the next group begins in, with the first round key.
    base: [Block; 2],
    /// The first round key.
    key: [Block; 2],
}

impl State {
    /// Before the group whose first counter block is `at`, with what was hashed so far.
    pub(super) fn new(key: &Block, at: u128, hash: &Block) -> Self {
        let high = [u128::from_be_bytes(*hash), 0];
        let [base, next] = sixteens(at);
        let base = (base.to_be() ^ u128::from_ne_bytes(*key)).to_ne_bytes();
        Self { counter: [next; 2], high, low: [0; 2], base: [base; 2], key: [*key; 2] }
    }

    /// Low and high half of the sum, lane by lane.
    pub(super) fn sum(&self) -> [[Block; 2]; 2] {
        let [low, other_low] = self.low;
        let [high, other_high] = self.high;
        [
            [low.to_le_bytes(), other_low.to_le_bytes()],
            [high.to_le_bytes(), other_high.to_le_bytes()],
        ]
    }
}

/// Where the 16 counter blocks begin that `at` is one of, and the next 16.
fn sixteens(at: u128) -> [u128; 2] {
    let first = at & !15;
    [first, first.wrapping_add(16)]
}

/// The first round's input of the group whose first counter block is `at`.
#[inline(always)]
pub(super) fn counters<L: Lanes<2>>(lanes: L, key: &Block, at: u128) -> [L::V; DEPTH] {
    let key = lanes.splat(key);
    let [base, next] = sixteens(at);
    let mut state = [lanes.xor(key, lanes.splat(&base.to_be_bytes())); DEPTH];
    state[DEPTH - 1] = lanes.xor(key, lanes.splat(&next.to_be_bytes()));
    for (value, numbers) in state.iter_mut().zip(&CONSTANTS.numbers) {
        *value = lanes.xor(*value, lanes.load(numbers));
    }
    state
}

/// The same AES round for the registers named.
macro_rules! aes {
    ($($i:literal)+) => { concat!($("vaesenc ymm", $i, ", ymm", $i, ", ymm11\n"),+) };
}

/// The round key at that distance.
macro_rules! key {
    ($at:literal) => {
        concat!("vbroadcasti128 ymm11, [{keys} + ", $at, "]\n")
    };
}

/// A register of what is hashed.
macro_rules! read {
    ($to:literal, $at:literal) => {
        concat!(
            "vmovdqu ymm",
            $to,
            ", [{hashed} + ",
            $at,
            "]\n",
            "vpshufb ymm",
            $to,
            ", ymm",
            $to,
            ", [{constants} + 256]\n"
        )
    };
}

/// A product: the first into a sum, or one that is added to it.
macro_rules! product {
    (first $sum:literal, $of:literal, $by:literal, $halves:literal) => {
        concat!("vpclmulqdq ymm", $sum, ", ymm", $of, ", [{table} + ", $by, "], ", $halves, "\n")
    };
    (next $sum:literal, $of:literal, $by:literal, $halves:literal) => {
        concat!(
            "vpclmulqdq ymm14, ymm",
            $of,
            ", [{table} + ",
            $by,
            "], ",
            $halves,
            "\n",
            "vpxor ymm",
            $sum,
            ", ymm",
            $sum,
            ", ymm14\n"
        )
    };
}

/// Two AES rounds and a pair of registers hashed. `$nth` says whether these are the sum's first
/// products; `$reduce` is a part of the last group's reduction, `$add` adds what came of it.
macro_rules! pair {
    (
        $nth:ident, keys $k1:literal $k2:literal, data $d1:literal $d2:literal,
        powers $p1:literal $p2:literal $middles:literal, $add:expr, $reduce:expr
    ) => {
        concat!(
            key!($k1), aes!(0 1), read!(12, $d1), $add,
            product!($nth 8, 12, $p1, 0x00),
            aes!(2 3 4), $reduce,
            product!($nth 10, 12, $p1, 0x11),
            aes!(5 6 7), read!(13, $d2),
            product!(next 8, 13, $p2, 0x00),
            key!($k2), aes!(0 1 2),
            product!(next 10, 13, $p2, 0x11),
            "vpunpcklqdq ymm14, ymm12, ymm13\n",
            "vpunpckhqdq ymm12, ymm12, ymm13\n",
            "vpxor ymm13, ymm12, ymm14\n",
            aes!(3 4),
            product!($nth 9, 13, $middles, 0x00),
            aes!(5 6 7),
            product!(next 9, 13, $middles, 0x11)
        )
    };
}

/// One Montgomery step of 64 bits.
macro_rules! step {
    () => {
        concat!(
            "vpclmulqdq ymm14, ymm15, [{constants} + 288], 0\n",
            "vpshufd ymm15, ymm15, 0x4e\n",
            "vpxor ymm15, ymm15, ymm14\n"
        )
    };
}

/// The last round of a register, with the data in its key.
macro_rules! last {
    ($($i:literal $at:literal $key:literal),+) => {
        concat!($(
            "vpxor ymm", $key, ", ymm11, [{from} + ", $at, "]\n",
            "vaesenclast ymm", $i, ", ymm", $i, ", ymm", $key, "\n"
        ),+)
    };
}

/// The same instruction with one operand for each line of cache of a group.
macro_rules! each_line {
    ($before:literal $($at:literal)+) => { concat!($($before, $at, "]\n"),+) };
}

/// The same instruction for each register of a group, of its number and its distance.
macro_rules! each {
    ($($i:literal $at:literal),+; $a:literal, $b:literal, $c:literal) => {
        concat!($($a, $i, $b, $at, $c),+)
    };
}

/// Takes `from` through AES to `to`, and as many groups from `hashed` on into the hash.
///
/// # Safety
/// `to` has room for as many groups as `from` has; from `hashed` on as many can be read, each at
/// the latest when those before it are written. Neither is empty. The low half of `state`'s counter
/// does not overflow.
#[target_feature(enable = "avx2,vaes,vpclmulqdq")]
pub(super) unsafe fn groups<const R: usize>(
    keys: &RoundKeys,
    table: &Table,
    state: &mut State,
    hashed: *const Group,
    from: &[Group],
    to: *mut GroupHole,
) {
    // SAFETY: reads and writes are those the caller vouches for, and those of the structures above,
    // of the keys and of the table at the distances of their fields; a prefetch cannot fault.
    unsafe {
        asm!(
            "vmovdqa ymm15, [{state} + 64]",
            ".p2align 5",
            "2:",
            "vmovdqa ymm14, [{state}]",
            "vmovdqa ymm11, [{state} + 96]",
            "vpshufb ymm7, ymm14, [{constants} + 256]",
            "vpaddq ymm14, ymm14, [{constants} + 320]",
            "vpxor ymm7, ymm7, [{state} + 128]",
            "vmovdqa [{state}], ymm14",
            "vmovdqa [{state} + 96], ymm7",
            each!(0 0, 1 32, 2 64, 3 96, 4 128, 5 160, 6 192;
                "vpxor ymm", ", ymm11, [{constants} + ", "]\n"),
            "vpxor ymm7, ymm7, [{constants} + 224]",
            pair!(first, keys 16 32, data 192 224, powers 192 224 608, "", step!()),
            pair!(next, keys 48 64, data 128 160, powers 128 160 576, "",
                concat!(step!(), "vpxor ymm15, ymm15, [{state} + 32]\n")),
            pair!(next, keys 80 96, data 64 96, powers 64 96 544, "",
                "vextracti128 xmm14, ymm15, 1\nvpxor xmm15, xmm15, xmm14\n"),
            pair!(next, keys 112 128, data 0 32, powers 0 32 512, "vpxor ymm12, ymm12, ymm15\n", ""),
            key!(144), aes!(0 1 2 3 4 5 6 7),
            ".if {rounds} > 10",
            key!(160), aes!(0 1 2 3 4 5 6 7),
            key!(176), aes!(0 1 2 3 4 5 6 7),
            ".endif",
            ".if {rounds} > 12",
            key!(192), aes!(0 1 2 3 4 5 6 7),
            key!(208), aes!(0 1 2 3 4 5 6 7),
            ".endif",
            "vpxor ymm9, ymm9, ymm8",
            "vpxor ymm9, ymm9, ymm10",
            "vpslldq ymm14, ymm9, 8",
            "vpsrldq ymm9, ymm9, 8",
            "vpxor ymm15, ymm8, ymm14",
            "vpxor ymm10, ymm10, ymm9",
            "vmovdqa [{state} + 32], ymm10",
            "vbroadcasti128 ymm11, [{keys} + 16 * {rounds}]",
            each_line!("prefetcht0 [{from} + {ahead} + " 0 64 128 192),
            each_line!("prefetcht0 [{to} + {ahead} + " 0 64 128 192),
            last!(0 0 8, 1 32 9, 2 64 10, 3 96 12, 4 128 13, 5 160 14, 6 192 8, 7 224 9),
            each!(0 0, 32 1, 64 2, 96 3, 128 4, 160 5, 192 6, 224 7;
                "vmovdqu [{to} + ", "], ymm", "\n"),
            "add {hashed}, 256",
            "add {from}, 256",
            "add {to}, 256",
            "dec {left}",
            "jnz 2b",
            "vmovdqa [{state} + 64], ymm15",
            state = in(reg) state,
            keys = in(reg) keys,
            table = in(reg) table,
            constants = in(reg) &raw const CONSTANTS,
            hashed = inout(reg) hashed => _,
            from = inout(reg) from.as_ptr() => _,
            to = inout(reg) to => _,
            left = inout(reg) from.len() => _,
            rounds = const R - 1,
            ahead = const AHEAD,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _,
            out("ymm4") _, out("ymm5") _, out("ymm6") _, out("ymm7") _,
            out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
            out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(nostack),
        );
    }
}

/// The distances that the loop knows.
const _: () = {
    assert!(size_of::<Group>() == 256 && size_of::<Constants>() == 384);
    assert!(offset_of!(State, high) == 32 && offset_of!(State, low) == 64);
    assert!(offset_of!(State, base) == 96 && offset_of!(State, key) == 128);
    assert!(MOST == 32 && Table::MIDDLES == 512);
};
