//! CTR (NIST SP 800-38A section 6.5) with one 128-bit big-endian counter, for any number of bytes.

use std::iter::zip;
use std::mem::MaybeUninit;

use super::aesni::AesNi;
use super::{DEPTH, Lanes, RoundKeys, encrypt_rounds};
use crate::cipher::{Block, Hole, write};

/// Adds the key stream from block `counter` on to `src`. After it `counter` is the next block that
/// was not begun, and `left` the key stream of the last one that was.
///
/// Groups begin where the counter is a multiple of their size: then its lowest bits are the number
/// of the block in its group, and one xor with a constant makes each block of the group.
#[inline(always)]
pub(super) fn apply<L: Lanes<W>, const W: usize, const R: usize>(
    lanes: L,
    keys: &RoundKeys,
    counter: &mut Block,
    src: &[u8],
    dst: &mut [MaybeUninit<u8>],
    left: &mut Block,
) {
    let mut at = u128::from_be_bytes(*counter);
    let head = src.len().min(until_aligned::<W>(at) * 16);
    let (head, rest) = src.split_at(head);
    let (head_out, rest_out) = dst.split_at_mut(head.len());
    few::<_, W, R>(lanes, keys, &mut at, head, head_out, left);

    let (groups, tail) = rest.split_at(rest.len() - rest.len() % (DEPTH * W * 16));
    let (outs, tail_out) = rest_out.split_at_mut(groups.len());
    let groups = groups.as_chunks::<16>().0.as_chunks::<W>().0.as_chunks::<DEPTH>().0;
    let outs = outs.as_chunks_mut::<16>().0.as_chunks_mut::<W>().0.as_chunks_mut::<DEPTH>().0;
    for (from, to) in zip(groups, outs) {
        group::<_, W, R>(lanes, keys, at, from, to);
        at = at.wrapping_add((DEPTH * W) as u128);
    }
    few::<_, W, R>(lanes, keys, &mut at, tail, tail_out, left);
    *counter = at.to_be_bytes();
}

/// How many blocks there are to the next multiple of a group's size.
#[inline(always)]
pub(super) fn until_aligned<const W: usize>(at: u128) -> usize {
    let group = DEPTH * W;
    (group - (at % group as u128) as usize) % group
}

/// The first round's input of each block of an aligned group.
#[inline(always)]
pub(super) fn counters<L: Lanes<W>, const W: usize>(
    lanes: L,
    first_key: &Block,
    at: u128,
) -> [L::V; DEPTH] {
    let base = at.to_be() ^ u128::from_ne_bytes(*first_key);
    let base = lanes.splat(&base.to_ne_bytes());
    let numbers = const { &numbered::<W>() };
    let mut state = [base; DEPTH];
    for i in 0..DEPTH {
        state[i] = lanes.xor(base, lanes.load(&numbers[i]));
    }
    state
}

/// For each block of a group its number, in the last byte.
const fn numbered<const W: usize>() -> [[Block; W]; DEPTH] {
    let mut blocks = [[[0; 16]; W]; DEPTH];
    let mut number = 0;
    while number < DEPTH * W {
        blocks[number / W][number % W][15] = number as u8;
        number += 1;
    }
    blocks
}

/// One aligned group, which it also returns.
#[inline(always)]
pub(super) fn group<L: Lanes<W>, const W: usize, const R: usize>(
    lanes: L,
    keys: &RoundKeys,
    at: u128,
    from: &[[Block; W]; DEPTH],
    to: &mut [[Hole; W]; DEPTH],
) -> [L::V; DEPTH] {
    let keys = AesNi::implied().afresh(keys);
    let state = counters(lanes, &keys[0], at);
    let state = encrypt_rounds::<_, W, R, DEPTH>(lanes, keys, state);
    finish_group(lanes, &keys[R - 1], state, from, to)
}

/// The last round, with the data added to its key.
#[inline(always)]
pub(super) fn finish_group<L: Lanes<W>, const W: usize>(
    lanes: L,
    last_key: &Block,
    mut state: [L::V; DEPTH],
    from: &[[Block; W]; DEPTH],
    to: &mut [[Hole; W]; DEPTH],
) -> [L::V; DEPTH] {
    AesNi::implied().prefetch(from, to, 1024);
    let end = lanes.splat(last_key);
    for i in 0..DEPTH {
        let key = lanes.xor(end, lanes.load(&from[i]));
        state[i] = lanes.pin(lanes.enc_last(state[i], key));
    }
    for i in 0..DEPTH {
        lanes.store(state[i], &mut to[i]);
    }
    state
}

/// Up to a group, of any number of bytes and from any counter, in as few registers as will do.
#[inline(always)]
fn few<L: Lanes<W>, const W: usize, const R: usize>(
    lanes: L,
    keys: &RoundKeys,
    at: &mut u128,
    src: &[u8],
    dst: &mut [MaybeUninit<u8>],
    left: &mut Block,
) {
    let begun = src.len().div_ceil(16);
    let Some(last) = begun.checked_sub(1) else { return };
    let mut blocks = [[[0; 16]; W]; DEPTH];
    stream::<_, W, R>(lanes, keys, *at, begun, &mut blocks);
    *at = at.wrapping_add(begun as u128);
    let stream = blocks.as_flattened();
    *left = stream[last];

    let (blocks, tail) = src.as_chunks::<16>();
    let (outs, tail_out) = dst.as_chunks_mut::<16>();
    for ((block, key), to) in zip(zip(blocks, stream), outs) {
        let sum = u128::from_ne_bytes(*block) ^ u128::from_ne_bytes(*key);
        write(to, &sum.to_ne_bytes());
    }
    for ((byte, key), to) in zip(zip(tail, left), tail_out) {
        to.write(byte ^ *key);
    }
}

/// The first `len` blocks of key stream from block `at` on, and perhaps more.
#[inline(always)]
pub(super) fn stream<L: Lanes<W>, const W: usize, const R: usize>(
    lanes: L,
    keys: &RoundKeys,
    at: u128,
    len: usize,
    stream: &mut [[Block; W]; DEPTH],
) {
    match len.div_ceil(W) {
        0 => {}
        1 => fill::<_, W, R, 1>(lanes, keys, at, stream),
        2 => fill::<_, W, R, 2>(lanes, keys, at, stream),
        3..=4 => fill::<_, W, R, 4>(lanes, keys, at, stream),
        _ => fill::<_, W, R, DEPTH>(lanes, keys, at, stream),
    }
}

/// The key stream of `N` registers.
#[inline(always)]
fn fill<L: Lanes<W>, const W: usize, const R: usize, const N: usize>(
    lanes: L,
    keys: &RoundKeys,
    at: u128,
    stream: &mut [[Block; W]; DEPTH],
) {
    let (start, end) = (lanes.splat(&keys[0]), lanes.splat(&keys[R - 1]));
    let mut state = [start; N];
    let mut next = at;
    for value in &mut state {
        let mut blocks = [[0; 16]; W];
        for block in &mut blocks {
            *block = next.to_be_bytes();
            next = next.wrapping_add(1);
        }
        *value = lanes.xor(start, lanes.load(&blocks));
    }
    let state = encrypt_rounds::<_, W, R, N>(lanes, keys, state);
    for i in 0..N {
        stream[i] = lanes.blocks(lanes.enc_last(state[i], end));
    }
}
