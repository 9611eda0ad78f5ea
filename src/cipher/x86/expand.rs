//! Key expansion (FIPS 197 section 5.2, and 5.3.5 for decryption).

use std::arch::x86_64::__m128i;
use std::iter::zip;

use super::aesni::AesNi;
use super::{Keys, Lanes, RoundKeys};
use crate::cipher::{Block, KeySize};

/// Fills `keys` for encryption from `key`, which has the length that `keys` says.
#[inline(always)]
pub(super) fn expand(cpu: AesNi, key: &[u8], keys: &mut Keys) {
    match keys.size {
        KeySize::Aes128 => expand_128(cpu, key, &mut keys.round),
        KeySize::Aes192 => expand_192(cpu, key, &mut keys.round),
        KeySize::Aes256 => expand_256(cpu, key, &mut keys.round),
    }
}

/// Turns `keys` for encryption into those of the equivalent inverse cipher: in reverse order, the
/// inner ones mixed.
#[inline(always)]
pub(super) fn invert(cpu: AesNi, keys: &mut Keys) {
    match keys.size {
        KeySize::Aes128 => invert_rounds(cpu, &mut keys.round[..11]),
        KeySize::Aes192 => invert_rounds(cpu, &mut keys.round[..13]),
        KeySize::Aes256 => invert_rounds(cpu, &mut keys.round[..15]),
    }
}

#[inline(always)]
fn expand_128(cpu: AesNi, key: &[u8], round: &mut RoundKeys) {
    round[0].copy_from_slice(key);
    let mut last = cpu.splat(&round[0]);
    let mut rcon = 1;
    for slot in &mut round[1..11] {
        last = cpu.xor(cpu.spread(last), cpu.sub_word::<true>(last, rcon));
        *slot = cpu.block(last);
        rcon = double(rcon);
    }
}

/// By words, as the standard writes it: six words a step fit no register.
#[inline(always)]
fn expand_192(cpu: AesNi, key: &[u8], round: &mut RoundKeys) {
    let words = round.as_flattened_mut().as_chunks_mut::<4>().0;
    words[..6].as_flattened_mut().copy_from_slice(key);
    let mut rcon = 1;
    for at in 6..52 {
        let mut word = u32::from_le_bytes(words[at - 1]);
        if at % 6 == 0 {
            word = cpu.sub_word_of(word, rcon);
            rcon = double(rcon);
        }
        words[at] = (word ^ u32::from_le_bytes(words[at - 6])).to_le_bytes();
    }
}

#[inline(always)]
fn expand_256(cpu: AesNi, key: &[u8], round: &mut RoundKeys) {
    round[..2].as_flattened_mut().copy_from_slice(key);
    let mut even = cpu.splat(&round[0]);
    let mut odd = cpu.splat(&round[1]);
    let mut rcon = 1;
    for pair in round[2..].chunks_mut(2) {
        even = cpu.xor(cpu.spread(even), cpu.sub_word::<true>(odd, rcon));
        odd = cpu.xor(cpu.spread(odd), cpu.sub_word::<false>(even, 0));
        for (slot, value) in zip(pair, [even, odd]) {
            *slot = cpu.block(value);
        }
        rcon = double(rcon);
    }
}

/// The next round constant: times x in GF(2^8).
#[inline(always)]
fn double(rcon: u32) -> u32 {
    (rcon << 1) ^ ((rcon >> 7) * 0x11b)
}

#[inline(always)]
fn invert_rounds(cpu: AesNi, round: &mut [Block]) {
    round.reverse();
    let last = round.len() - 1;
    for key in &mut round[1..last] {
        let mixed: __m128i = cpu.inverse_mix(cpu.splat(key));
        *key = cpu.block(mixed);
    }
}
