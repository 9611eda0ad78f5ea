//! Key expansion (FIPS 197 section 5.2, and 5.3.5 for decryption).

use std::arch::x86_64::__m128i;
use std::iter::zip;

use super::aesni::AesNi;
use super::{Keys, Lanes, RoundKeys, cbc};
use crate::cipher::{Block, KeySize};

/// Fills `keys` for encryption from `key`, which has the length that `keys` says.
#[inline(always)]
pub(super) fn expand(cpu: AesNi, key: &[u8], keys: &mut Keys) {
    match keys.size {
        KeySize::Aes128 => {
            let Some(key) = key.first_chunk() else { return };
            for (slot, key) in zip(&mut keys.round, expand_128(cpu, key)) {
                *slot = cpu.block(key);
            }
        }
        KeySize::Aes192 => expand_192(cpu, key, &mut keys.round),
        KeySize::Aes256 => expand_256(cpu, key, &mut keys.round),
    }
}

/// Fills `keys` likewise for decryption, with the equivalent inverse cipher's: in reverse order, the
/// inner ones mixed. Encrypts `block` while those for encryption are at hand.
#[inline(always)]
pub(super) fn expand_inverse(cpu: AesNi, key: &[u8], keys: &mut Keys, block: &mut Block) {
    match keys.size {
        KeySize::Aes128 => {
            let Some(key) = key.first_chunk() else { return };
            inverse_128(cpu, key, &mut keys.round, block);
        }
        KeySize::Aes192 => {
            expand_192(cpu, key, &mut keys.round);
            cbc::encrypt_block::<_, 1, 13>(cpu, &keys.round, block);
            invert::<13>(cpu, &mut keys.round);
        }
        KeySize::Aes256 => {
            expand_256(cpu, key, &mut keys.round);
            cbc::encrypt_block::<_, 1, 15>(cpu, &keys.round, block);
            invert::<15>(cpu, &mut keys.round);
        }
    }
}

/// Registers suffice for all of AES-128's keys.
#[inline(always)]
fn expand_128(cpu: AesNi, key: &Block) -> [__m128i; 11] {
    let mut round = [cpu.splat(key); 11];
    let mut rcon = 1;
    for i in 1..11 {
        let last = round[i - 1];
        round[i] = cpu.xor(cpu.spread(last), cpu.sub_word::<true>(last, rcon));
        rcon = double(rcon);
    }
    round
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

/// Never through memory: decryption begins with the key that was made last, and what was just
/// stored takes as long to come back as two rounds take.
#[inline(always)]
fn inverse_128(cpu: AesNi, key: &Block, to: &mut RoundKeys, block: &mut Block) {
    let round = expand_128(cpu, key);
    to[0] = cpu.block(round[10]);
    for i in 1..10 {
        to[i] = cpu.block(cpu.inverse_mix(round[10 - i]));
    }
    to[10] = cpu.block(round[0]);
    let mut state = cpu.xor(cpu.splat(block), round[0]);
    for i in 1..10 {
        state = cpu.enc(state, round[i]);
    }
    *block = cpu.block(cpu.enc_last(state, round[10]));
}

/// Turns round the `R` keys of `round`. Each is loaded as it was stored, by itself: the CPU passes on
/// to a load what one store has, not two.
#[inline(always)]
fn invert<const R: usize>(cpu: AesNi, round: &mut RoundKeys) {
    for i in 0..=R / 2 {
        let mut low = cpu.pin(cpu.splat(&round[i]));
        let mut high = cpu.pin(cpu.splat(&round[R - 1 - i]));
        if i > 0 {
            (low, high) = (cpu.inverse_mix(low), cpu.inverse_mix(high));
        }
        round[i] = cpu.block(cpu.pin(high));
        round[R - 1 - i] = cpu.block(cpu.pin(low));
    }
}
