//! GCM (NIST SP 800-38D) over whole blocks: CTR and GHASH in one pass. The rounds of AES and the
//! products of GHASH are stitched, so that one fills the gaps of the other.

use std::arch::x86_64::__m128i;
use std::iter::zip;
use std::mem::MaybeUninit;

use super::aesni::AesNi;
use super::ctr::{self, Counter};
use super::ghash::{self, Sum, Table};
use super::{DEPTH, Lanes, RoundKeys, encrypt_rounds};
use crate::cipher::engine::wipe;
use crate::cipher::{Block, Hole, write};

/// Begins a message: encrypts `mask`, makes the table for GHASH, and multiplies `hash`, a first block that
/// was added already, by the hash key.
#[inline(always)]
pub(super) fn start<L: Lanes<W>, const W: usize, const R: usize>(
    lanes: L,
    keys: &RoundKeys,
    mask: &mut Block,
    hash: &mut Block,
    table: &mut Table,
) {
    let cpu = AesNi::implied();
    let first = cpu.splat(&keys[0]);
    let state = [first, cpu.xor(first, cpu.splat(mask))];
    let state = encrypt_rounds::<_, 1, R, 2>(cpu, keys, state);
    let end = cpu.splat(&keys[R - 1]);
    let mut key = cpu.block(cpu.enc_last(state[0], end));
    *mask = cpu.block(cpu.enc_last(state[1], end));
    ghash::table::<_, W>(lanes, &key, table);
    wipe(&mut key);
    ghash::add_one::<W>(table, hash, &[0; 16]);
}

/// Encrypts `src` into `dst`, which is as long, and adds the ciphertext's whole blocks to `hash`. After it
/// `left` is the key stream of the last block that was begun.
///
/// The ciphertext that is hashed is that of the group before.
#[inline(always)]
pub(super) fn encrypt<L: Lanes<W>, const W: usize, const R: usize>(
    lanes: L,
    keys: &RoundKeys,
    table: &Table,
    hash: &mut Block,
    counter: &mut Block,
    src: &[u8],
    dst: &mut [MaybeUninit<u8>],
    left: &mut Block,
) {
    let cpu = AesNi::implied();
    let mut at = u128::from_be_bytes(*counter);
    let head = src.len().min(ctr::until::<W>(L::GCM_START, at) * 16);
    let (head, rest) = src.split_at(head);
    let (head_out, rest_out) = dst.split_at_mut(head.len());
    few::<_, W, R, true>(lanes, keys, table, hash, &mut at, head, head_out, left);

    let (groups, tail) = rest.split_at(rest.len() - rest.len() % (DEPTH * W * 16));
    let (outs, tail_out) = rest_out.split_at_mut(groups.len());
    let groups = groups.as_chunks::<16>().0.as_chunks::<W>().0.as_chunks::<DEPTH>().0;
    let outs = outs.as_chunks_mut::<16>().0.as_chunks_mut::<W>().0.as_chunks_mut::<DEPTH>().0;
    if lanes.gcm_groups::<R, true>(keys, table, hash, at, groups, outs) {
        at = at.wrapping_add(groups.as_flattened().as_flattened().len() as u128);
    } else if let Some(((from, others), (to, others_out))) =
        groups.split_first().zip(outs.split_first_mut())
    {
        let mut state = cpu.reverse(cpu.splat(hash));
        let mut groups_at = Counter::new(lanes, &keys[0], at);
        let base = groups_at.take(lanes, &keys[0]);
        let mut before = ctr::group::<_, W, R>(lanes, keys, base, from, to);
        for (from, to) in zip(others, others_out) {
            let base = groups_at.take(lanes, &keys[0]);
            let hashed = blocks(lanes, before);
            (before, state) = group::<_, W, R>(lanes, keys, table, base, state, &hashed, from, to);
        }
        at = groups_at.at;
        *hash = cpu.block(cpu.reverse(state));
        ghash::add(lanes, table, hash, blocks(lanes, before).as_flattened());
    }
    few::<_, W, R, true>(lanes, keys, table, hash, &mut at, tail, tail_out, left);
    *counter = at.to_be_bytes();
}

/// Adds the whole blocks of `src` to `hash` and decrypts `src` into `dst`, which is as long; `left` as for
/// encryption.
#[inline(always)]
pub(super) fn decrypt<L: Lanes<W>, const W: usize, const R: usize>(
    lanes: L,
    keys: &RoundKeys,
    table: &Table,
    hash: &mut Block,
    counter: &mut Block,
    src: &[u8],
    dst: &mut [MaybeUninit<u8>],
    left: &mut Block,
) {
    let cpu = AesNi::implied();
    let mut at = u128::from_be_bytes(*counter);
    let head = src.len().min(ctr::until::<W>(L::GCM_START, at) * 16);
    let (head, rest) = src.split_at(head);
    let (head_out, rest_out) = dst.split_at_mut(head.len());
    few::<_, W, R, false>(lanes, keys, table, hash, &mut at, head, head_out, left);

    let (groups, tail) = rest.split_at(rest.len() - rest.len() % (DEPTH * W * 16));
    let (outs, tail_out) = rest_out.split_at_mut(groups.len());
    let groups = groups.as_chunks::<16>().0.as_chunks::<W>().0.as_chunks::<DEPTH>().0;
    let outs = outs.as_chunks_mut::<16>().0.as_chunks_mut::<W>().0.as_chunks_mut::<DEPTH>().0;
    if lanes.gcm_groups::<R, false>(keys, table, hash, at, groups, outs) {
        at = at.wrapping_add(groups.as_flattened().as_flattened().len() as u128);
    } else {
        let mut state = cpu.reverse(cpu.splat(hash));
        let mut groups_at = Counter::new(lanes, &keys[0], at);
        for (from, to) in zip(groups, outs) {
            let base = groups_at.take(lanes, &keys[0]);
            (_, state) = group::<_, W, R>(lanes, keys, table, base, state, from, from, to);
        }
        at = groups_at.at;
        *hash = cpu.block(cpu.reverse(state));
    }
    few::<_, W, R, false>(lanes, keys, table, hash, &mut at, tail, tail_out, left);
    *counter = at.to_be_bytes();
}

/// One aligned group through AES, and another, `hashed`, into the hash: a register of it after
/// each round. The first register, which waits for the hash of the group before, comes last.
#[inline(always)]
fn group<L: Lanes<W>, const W: usize, const R: usize>(
    lanes: L,
    keys: &RoundKeys,
    table: &Table,
    base: L::V,
    hash: __m128i,
    hashed: &[[Block; W]; DEPTH],
    from: &[[Block; W]; DEPTH],
    to: &mut [[Hole; W]; DEPTH],
) -> ([L::V; DEPTH], __m128i) {
    let keys = AesNi::implied().afresh(keys);
    let table = AesNi::implied().afresh(table);
    let mut state = ctr::counters(lanes, base);
    let mut sum = Sum::zero(lanes);
    // By hand: as a loop it is too long for the compiler to unroll, and the registers go to memory.
    aes_round(lanes, &keys[1], &mut state);
    let first = sum.add_first(lanes, table, 3, lanes.load(&hashed[6]), None);
    aes_round(lanes, &keys[2], &mut state);
    sum.add_second(lanes, table, 3, lanes.load(&hashed[7]), first);
    aes_round(lanes, &keys[3], &mut state);
    let first = sum.add_first(lanes, table, 2, lanes.load(&hashed[4]), None);
    aes_round(lanes, &keys[4], &mut state);
    sum.add_second(lanes, table, 2, lanes.load(&hashed[5]), first);
    aes_round(lanes, &keys[5], &mut state);
    let first = sum.add_first(lanes, table, 1, lanes.load(&hashed[2]), None);
    aes_round(lanes, &keys[6], &mut state);
    sum.add_second(lanes, table, 1, lanes.load(&hashed[3]), first);
    aes_round(lanes, &keys[7], &mut state);
    let first = sum.add_first(lanes, table, 0, lanes.load(&hashed[0]), Some(hash));
    aes_round(lanes, &keys[8], &mut state);
    sum.add_second(lanes, table, 0, lanes.load(&hashed[1]), first);
    for key in &keys[9..R - 1] {
        aes_round(lanes, key, &mut state);
    }
    (ctr::finish_group(lanes, &keys[R - 1], state, from, to), sum.reduce(lanes))
}

/// One middle round of a group. Not pinned: the steps of the hash between the rounds are.
#[inline(always)]
fn aes_round<L: Lanes<W>, const W: usize>(lanes: L, key: &Block, state: &mut [L::V; DEPTH]) {
    let key = lanes.splat(key);
    for value in state {
        *value = lanes.enc(*value, key);
    }
}

/// A group of registers in memory.
#[inline(always)]
fn blocks<L: Lanes<W>, const W: usize>(lanes: L, values: [L::V; DEPTH]) -> [[Block; W]; DEPTH] {
    let mut blocks = [[[0; 16]; W]; DEPTH];
    for i in 0..DEPTH {
        blocks[i] = lanes.blocks(values[i]);
    }
    blocks
}

/// Up to a group and not all of a block, from any counter: what is before a multiple of the group's size, then the rest.
#[inline(always)]
fn few<L: Lanes<W>, const W: usize, const R: usize, const ENCRYPT: bool>(
    lanes: L,
    keys: &RoundKeys,
    table: &Table,
    hash: &mut Block,
    at: &mut u128,
    src: &[u8],
    dst: &mut [MaybeUninit<u8>],
    left: &mut Block,
) {
    let mut room = [[[0; 16]; W]; DEPTH];
    let (mut src, mut dst) = (src, dst);
    while !src.is_empty() {
        let blocks = ctr::until::<W>(0, at.wrapping_add(1)) + 1;
        let (now, later) = src.split_at(src.len().min(blocks * 16));
        let (out, later_out) = dst.split_at_mut(now.len());
        let begun = now.len().div_ceil(16);
        let stream = ctr::stream::<_, W, R>(lanes, keys, at, begun, &mut room);
        *left = stream[begun - 1];
        let (blocks, tail) = now.as_chunks::<16>();
        let (outs, tail_out) = out.as_chunks_mut::<16>();
        let stream = &mut stream[..blocks.len()];
        for ((block, key), to) in zip(zip(blocks, &mut *stream), outs) {
            *key = (u128::from_ne_bytes(*block) ^ u128::from_ne_bytes(*key)).to_ne_bytes();
            write(to, key);
        }
        for ((byte, key), to) in zip(zip(tail, left.iter()), tail_out) {
            to.write(byte ^ key);
        }
        ghash::add(lanes, table, hash, if ENCRYPT { stream } else { blocks });
        (src, dst) = (later, later_out);
    }
}
