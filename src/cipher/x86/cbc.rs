//! CBC (NIST SP 800-38A section 6.2) over whole blocks.

use std::iter::zip;

use super::aesni::AesNi;
use super::{AHEAD, DEPTH, Lanes, RoundKeys, decrypt_rounds, encrypt_rounds};
use crate::cipher::{Block, Hole, write};

/// Encrypts one block.
#[inline(always)]
pub(super) fn encrypt_block<L: Lanes<W>, const W: usize, const R: usize>(
    _lanes: L,
    keys: &RoundKeys,
    block: &mut Block,
) {
    let cpu = AesNi::implied();
    let state = cpu.xor(cpu.splat(block), cpu.splat(&keys[0]));
    let [state] = encrypt_rounds::<_, 1, R, 1>(cpu, keys, [state]);
    *block = cpu.block(cpu.enc_last(state, cpu.splat(&keys[R - 1])));
}

/// Decrypts one block.
#[inline(always)]
pub(super) fn decrypt_block<L: Lanes<W>, const W: usize, const R: usize>(
    _lanes: L,
    keys: &RoundKeys,
    block: &mut Block,
) {
    let cpu = AesNi::implied();
    let state = cpu.xor(cpu.splat(block), cpu.splat(&keys[0]));
    let [state] = decrypt_rounds::<_, 1, R, 1>(cpu, keys, [state]);
    *block = cpu.block(cpu.dec_last(state, cpu.splat(&keys[R - 1])));
}

/// Encrypts `src` into `dst`, which is as long; `chain` is the IV before and the last block after.
///
/// Each block waits for the one before: 10 to 14 rounds in a row, and no way round it. The xor
/// with the next plaintext goes into the last round's key, together with the next first key, so
/// that nothing but rounds is in that row.
#[inline(always)]
pub(super) fn encrypt<L: Lanes<W>, const W: usize, const R: usize>(
    _lanes: L,
    keys: &RoundKeys,
    chain: &mut Block,
    src: &[Block],
    dst: &mut [Hole],
) {
    let cpu = AesNi::implied();
    let Some((first, rest)) = src.split_first() else { return };
    let (start, end) = (cpu.splat(&keys[0]), cpu.splat(&keys[R - 1]));
    let mut mask = cpu.xor(start, cpu.splat(first));
    let mut state = cpu.xor(mask, cpu.splat(chain));
    let mut out = dst.iter_mut();
    for (next, to) in zip(rest, &mut out) {
        [state] = encrypt_rounds::<_, 1, R, 1>(cpu, keys, [state]);
        mask = cpu.xor(start, cpu.splat(next));
        state = cpu.enc_last(state, cpu.xor(end, mask));
        cpu.store(cpu.xor(state, mask), std::array::from_mut(to));
    }
    [state] = encrypt_rounds::<_, 1, R, 1>(cpu, keys, [state]);
    state = cpu.enc_last(state, end);
    *chain = cpu.block(state);
    if let Some(to) = out.next() {
        cpu.store(state, std::array::from_mut(to));
    }
}

/// Decrypts `src` into `dst`, which is as long; `chain` is the IV before and the last block after.
///
/// Where the blocks are no whole number of groups, the second group begins inside the first: to
/// decrypt a few blocks twice is cheaper than to handle a few on their own.
#[inline(always)]
pub(super) fn decrypt<L: Lanes<W>, const W: usize, const R: usize>(
    lanes: L,
    keys: &RoundKeys,
    chain: &mut Block,
    src: &[Block],
    dst: &mut [Hole],
) {
    let Some(last) = src.last() else { return };
    if src.len() < DEPTH * W {
        decrypt_few::<_, W, R>(lanes, keys, chain, src, dst);
        *chain = *last;
        return;
    }
    let mut start = [[0; 16]; W];
    start[0] = *chain;
    start[1..].copy_from_slice(&src[..W - 1]);
    let before = src[W - 1..].as_chunks::<W>().0;
    let first = src.as_chunks::<W>().0.as_chunks::<DEPTH>().0;
    let out = dst.as_chunks_mut::<W>().0.as_chunks_mut::<DEPTH>().0;
    for (from, to) in zip(first, out).take(1) {
        decrypt_group::<_, W, R>(lanes, keys, &start, &before[..DEPTH - 1], from, to);
    }

    let done = (src.len() - 1) % (DEPTH * W) + 1;
    let before = src[done - 1..].as_chunks::<W>().0.as_chunks::<DEPTH>().0;
    let groups = src[done..].as_chunks::<W>().0.as_chunks::<DEPTH>().0;
    let outs = dst[done..].as_chunks_mut::<W>().0.as_chunks_mut::<DEPTH>().0;
    for ((from, before), to) in zip(zip(groups, before), outs) {
        decrypt_group::<_, W, R>(lanes, keys, &before[0], &before[1..], from, to);
    }
    *chain = *last;
}

/// One group; `before` are the blocks before those of its first register, `others` before the others'.
#[inline(always)]
fn decrypt_group<L: Lanes<W>, const W: usize, const R: usize>(
    lanes: L,
    keys: &RoundKeys,
    before: &[Block; W],
    others: &[[Block; W]],
    from: &[[Block; W]; DEPTH],
    to: &mut [[Hole; W]; DEPTH],
) {
    let keys = AesNi::implied().afresh(keys);
    AesNi::implied().prefetch(from, to, AHEAD);
    let start = lanes.splat(&keys[0]);
    let mut state = [start; DEPTH];
    for i in 0..DEPTH {
        state[i] = lanes.xor(start, lanes.load(&from[i]));
    }
    let mut state = decrypt_rounds::<_, W, R, DEPTH>(lanes, keys, state);
    let end = lanes.splat(&keys[R - 1]);
    for i in 0..DEPTH {
        let before = if i == 0 { before } else { &others[i - 1] };
        let key = lanes.xor(end, lanes.load(before));
        state[i] = lanes.pin(lanes.dec_last(state[i], key));
    }
    for i in 0..DEPTH {
        lanes.store(state[i], &mut to[i]);
    }
}

/// Decrypts up to a group, of any number of blocks, in as few registers as will do.
#[inline(always)]
fn decrypt_few<L: Lanes<W>, const W: usize, const R: usize>(
    lanes: L,
    keys: &RoundKeys,
    chain: &Block,
    src: &[Block],
    dst: &mut [Hole],
) {
    match src.len().div_ceil(W) {
        1 if src.len() < W => decrypt_part::<_, W, R>(lanes, keys, chain, src, dst),
        0..=1 => decrypt_over::<_, W, R, 1>(lanes, keys, chain, src, dst),
        2 => decrypt_over::<_, W, R, 2>(lanes, keys, chain, src, dst),
        3..=4 => decrypt_over::<_, W, R, 4>(lanes, keys, chain, src, dst),
        _ => decrypt_over::<_, W, R, DEPTH>(lanes, keys, chain, src, dst),
    }
}

/// In `N` registers, `W` blocks or more. The last registers begin inside those before, and do some blocks
/// again.
#[inline(always)]
fn decrypt_over<L: Lanes<W>, const W: usize, const R: usize, const N: usize>(
    lanes: L,
    keys: &RoundKeys,
    chain: &Block,
    src: &[Block],
    dst: &mut [Hole],
) {
    let Some(last) = src.len().checked_sub(W) else { return };
    let (start, end) = (lanes.splat(&keys[0]), lanes.splat(&keys[R - 1]));
    let mut first = [*chain; W];
    first[1..].copy_from_slice(&src[..W - 1]);
    let mut state = [start; N];
    let mut masks = [end; N];
    for i in 0..N {
        let at = (i * W).min(last);
        let before = if at == 0 { Some(&first) } else { src[at - 1..].first_chunk() };
        if let (Some(blocks), Some(before)) = (src[at..].first_chunk(), before) {
            state[i] = lanes.xor(start, lanes.load(blocks));
            masks[i] = lanes.xor(end, lanes.load(before));
        }
    }
    let state = decrypt_rounds::<_, W, R, N>(lanes, keys, state);
    for i in 0..N {
        if let Some(to) = dst[(i * W).min(last)..].first_chunk_mut() {
            lanes.store(lanes.dec_last(state[i], masks[i]), to);
        }
    }
}

/// Less than a register.
#[inline(always)]
fn decrypt_part<L: Lanes<W>, const W: usize, const R: usize>(
    lanes: L,
    keys: &RoundKeys,
    chain: &Block,
    src: &[Block],
    dst: &mut [Hole],
) {
    let mut blocks = [[0; 16]; W];
    for (block, from) in zip(&mut blocks, src) {
        *block = *from;
    }
    let state = lanes.xor(lanes.splat(&keys[0]), lanes.load(&blocks));
    let [state] = decrypt_rounds::<_, W, R, 1>(lanes, keys, [state]);
    let blocks = lanes.blocks(lanes.dec_last(state, lanes.splat(&keys[R - 1])));
    let before = std::iter::once(chain).chain(src);
    for ((block, before), to) in zip(zip(&blocks, before), dst) {
        let plain = u128::from_ne_bytes(*block) ^ u128::from_ne_bytes(*before);
        write(to, &plain.to_ne_bytes());
    }
}
