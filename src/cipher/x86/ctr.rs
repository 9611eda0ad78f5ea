//! CTR (NIST SP 800-38A section 6.5) with one 128-bit big-endian counter, for any number of bytes.

use std::iter::zip;
use std::mem::MaybeUninit;

use super::aesni::AesNi;
use super::{AHEAD, DEPTH, Lanes, RoundKeys, encrypt_rounds};
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
    let head = src.len().min(until::<W>(0, at) * 16);
    let (head, rest) = src.split_at(head);
    let (head_out, rest_out) = dst.split_at_mut(head.len());
    few::<_, W, R>(lanes, keys, &mut at, head, head_out, left);

    let (groups, tail) = rest.split_at(rest.len() - rest.len() % (DEPTH * W * 16));
    let (outs, tail_out) = rest_out.split_at_mut(groups.len());
    let groups = groups.as_chunks::<16>().0.as_chunks::<W>().0.as_chunks::<DEPTH>().0;
    let outs = outs.as_chunks_mut::<16>().0.as_chunks_mut::<W>().0.as_chunks_mut::<DEPTH>().0;
    let mut groups_at = Counter::new(lanes, &keys[0], at);
    for (from, to) in zip(groups, outs) {
        let base = groups_at.take(lanes, &keys[0]);
        group::<_, W, R>(lanes, keys, base, from, to);
    }
    at = groups_at.at;
    few::<_, W, R>(lanes, keys, &mut at, tail, tail_out, left);
    *counter = at.to_be_bytes();
}

/// How many blocks there are from `at` to where the counter is `start` modulo a group's size.
#[inline(always)]
pub(super) fn until<const W: usize>(start: usize, at: u128) -> usize {
    let group = DEPTH * W;
    (group + start - (at % group as u128) as usize) % group
}

/// Where an aligned group begins, and its first block, with the first round key, in every lane.
/// It is made a group ahead: between the registers of integers and those of blocks is a long way.
pub(super) struct Counter<V> {
    pub(super) at: u128,
    base: V,
}

impl<V: Copy> Counter<V> {
    #[inline(always)]
    pub(super) fn new<L: Lanes<W, V = V>, const W: usize>(
        lanes: L,
        first_key: &Block,
        at: u128,
    ) -> Self {
        let base = at.to_be() ^ u128::from_ne_bytes(*first_key);
        Self { at, base: lanes.pin(lanes.splat(&base.to_ne_bytes())) }
    }

    /// This group's base; moves on to the next group.
    #[inline(always)]
    pub(super) fn take<L: Lanes<W, V = V>, const W: usize>(
        &mut self,
        lanes: L,
        first_key: &Block,
    ) -> V {
        let base = self.base;
        *self = Self::new(lanes, first_key, self.at.wrapping_add((DEPTH * W) as u128));
        base
    }
}

/// The first round's input of each block of the group with that `base`.
#[inline(always)]
pub(super) fn counters<L: Lanes<W>, const W: usize>(lanes: L, base: L::V) -> [L::V; DEPTH] {
    let numbers = const { &numbered::<W>(0) };
    let mut state = [base; DEPTH];
    for i in 0..DEPTH {
        state[i] = lanes.xor(base, lanes.load(&numbers[i]));
    }
    state
}

/// For each block of a group that begins with `start` its counter modulo the group's size, in the last
/// byte.
pub(super) const fn numbered<const W: usize>(start: usize) -> [[Block; W]; DEPTH] {
    let mut blocks = [[[0; 16]; W]; DEPTH];
    let mut number = 0;
    while number < DEPTH * W {
        blocks[number / W][number % W][15] = ((start + number) % (DEPTH * W)) as u8;
        number += 1;
    }
    blocks
}

/// One aligned group, which it also returns.
#[inline(always)]
pub(super) fn group<L: Lanes<W>, const W: usize, const R: usize>(
    lanes: L,
    keys: &RoundKeys,
    base: L::V,
    from: &[[Block; W]; DEPTH],
    to: &mut [[Hole; W]; DEPTH],
) -> [L::V; DEPTH] {
    let keys = AesNi::implied().afresh(keys);
    let state = counters(lanes, base);
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
    AesNi::implied().prefetch(from, to, AHEAD);
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

/// Up to the end of an aligned group, any number of bytes, in as few registers as will do.
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
    let skip = (*at % (DEPTH * W) as u128) as usize;
    let base = Counter::new(lanes, &keys[0], *at - skip as u128).base;
    *at = at.wrapping_add(begun as u128);
    match (skip + last) / W - skip / W {
        0 => add::<_, W, R, 1>(lanes, keys, base, skip, src, dst, left),
        1 => add::<_, W, R, 2>(lanes, keys, base, skip, src, dst, left),
        2..=3 => add::<_, W, R, 4>(lanes, keys, base, skip, src, dst, left),
        _ => add::<_, W, R, DEPTH>(lanes, keys, base, skip, src, dst, left),
    }
}

/// Adds the key stream from block `skip` of a group on, which `N` registers have.
#[inline(always)]
fn add<L: Lanes<W>, const W: usize, const R: usize, const N: usize>(
    lanes: L,
    keys: &RoundKeys,
    base: L::V,
    skip: usize,
    src: &[u8],
    dst: &mut [MaybeUninit<u8>],
    left: &mut Block,
) {
    let first = (skip / W).min(DEPTH - N);
    let mut room = [[[0; 16]; W]; N];
    fill::<_, W, R, N>(lanes, keys, &counters(lanes, base), first, &mut room);
    let stream = &room.as_flattened()[skip - first * W..];

    let (blocks, tail) = src.as_chunks::<16>();
    let (outs, tail_out) = dst.as_chunks_mut::<16>();
    for ((block, key), to) in zip(zip(blocks, stream), outs) {
        let sum = u128::from_ne_bytes(*block) ^ u128::from_ne_bytes(*key);
        write(to, &sum.to_ne_bytes());
    }
    *left = stream[src.len().saturating_sub(1) / 16];
    for ((byte, key), to) in zip(zip(tail, left), tail_out) {
        to.write(byte ^ *key);
    }
}

/// `len` blocks of key stream from block `at` on, which is moved on by as many; they must not go
/// beyond the end of an aligned group. `group` is room for it.
#[inline(always)]
pub(super) fn stream<'room, L: Lanes<W>, const W: usize, const R: usize>(
    lanes: L,
    keys: &RoundKeys,
    at: &mut u128,
    len: usize,
    group: &'room mut [[Block; W]; DEPTH],
) -> &'room mut [Block] {
    let skip = (*at % (DEPTH * W) as u128) as usize;
    let base = Counter::new(lanes, &keys[0], *at - skip as u128).base;
    let state = counters(lanes, base);
    let (first, last) = (skip / W, (skip + len.max(1) - 1) / W);
    match last - first {
        0 => fill_part::<_, W, R, 1>(lanes, keys, &state, first, group),
        1 => fill_part::<_, W, R, 2>(lanes, keys, &state, first, group),
        2..=3 => fill_part::<_, W, R, 4>(lanes, keys, &state, first, group),
        _ => fill_part::<_, W, R, DEPTH>(lanes, keys, &state, first, group),
    }
    *at = at.wrapping_add(len as u128);
    &mut group.as_flattened_mut()[skip..skip + len]
}

/// The key stream of `N` registers of a group, from `first` or sooner on.
#[inline(always)]
fn fill_part<L: Lanes<W>, const W: usize, const R: usize, const N: usize>(
    lanes: L,
    keys: &RoundKeys,
    counters: &[L::V; DEPTH],
    first: usize,
    group: &mut [[Block; W]; DEPTH],
) {
    let first = first.min(DEPTH - N);
    if let Some(part) = group[first..].first_chunk_mut() {
        fill::<_, W, R, N>(lanes, keys, counters, first, part);
    }
}

/// The key stream of `N` registers of a group, from `first` on.
#[inline(always)]
fn fill<L: Lanes<W>, const W: usize, const R: usize, const N: usize>(
    lanes: L,
    keys: &RoundKeys,
    counters: &[L::V; DEPTH],
    first: usize,
    room: &mut [[Block; W]; N],
) {
    let mut state = [counters[0]; N];
    state.copy_from_slice(&counters[first..first + N]);
    let state = encrypt_rounds::<_, W, R, N>(lanes, keys, state);
    let end = lanes.splat(&keys[R - 1]);
    for i in 0..N {
        room[i] = lanes.blocks(lanes.enc_last(state[i], end));
    }
}
