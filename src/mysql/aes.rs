//! The server's own use of a key: AES-256 (FIPS 197) in the modes of NIST SP 800-38A that
//! `keyring_aes` has. Its AES key is the SHA-256 of the keyring's key.

#![forbid(unsafe_code)]

use aes::Aes256;
use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::error::{Error, Kind, Result};
use crate::secret::{DataKey, scrubbed};

/// The length of a block and of an initialisation vector, in bytes.
pub(super) const BLOCK: usize = 16;

/// A mode of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Cbc,
    Cfb1,
    Cfb8,
    Cfb128,
    Ofb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Encrypt,
    Decrypt,
}

impl Mode {
    /// The mode that the server names so; `bits` is the key size.
    pub(super) fn named(name: &str, bits: usize) -> Option<Self> {
        match (name, bits) {
            ("cbc", 256) => Some(Self::Cbc),
            ("cfb1", 256) => Some(Self::Cfb1),
            ("cfb8", 256) => Some(Self::Cfb8),
            ("cfb128", 256) => Some(Self::Cfb128),
            ("ofb", 256) => Some(Self::Ofb),
            _ => None,
        }
    }

    /// Room for `len` bytes encrypted, padding included.
    pub(super) fn encrypted_len(self, len: usize) -> Option<usize> {
        match self {
            Self::Cbc => (len / BLOCK).checked_add(1)?.checked_mul(BLOCK),
            _ => Some(len),
        }
    }
}

/// Encrypts or decrypts `data`. `padding` (PKCS #7) counts for CBC only.
pub(super) fn crypt(
    key: &DataKey,
    mode: Mode,
    direction: Direction,
    iv: &[u8; BLOCK],
    padding: bool,
    data: &[u8],
) -> Result<Zeroizing<Vec<u8>>> {
    scrubbed(|| {
        let digest = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(key.expose())));
        let cipher = Aes256::new((&*digest).into());
        let mut out = Zeroizing::new(Vec::with_capacity(data.len() + BLOCK));
        out.extend_from_slice(data);
        match (mode, direction) {
            (Mode::Cbc, Direction::Encrypt) => encrypt_cbc(&cipher, *iv, padding, &mut out)?,
            (Mode::Cbc, Direction::Decrypt) => decrypt_cbc(&cipher, *iv, padding, &mut out)?,
            (Mode::Cfb1, _) => cfb1(&cipher, *iv, direction, &mut out),
            (Mode::Cfb8, _) => cfb(&cipher, *iv, direction, 1, &mut out),
            (Mode::Cfb128, _) => cfb(&cipher, *iv, direction, BLOCK, &mut out),
            (Mode::Ofb, _) => ofb(&cipher, *iv, &mut out),
        }
        Ok(out)
    })
}

fn encrypt_cbc(
    cipher: &Aes256,
    mut chain: [u8; BLOCK],
    padding: bool,
    data: &mut Vec<u8>,
) -> Result<()> {
    if padding {
        let missing = BLOCK - data.len() % BLOCK;
        // At most 16, so it fits a byte; and the capacity is there, so nothing is left behind.
        data.resize(data.len() + missing, missing.to_le_bytes()[0]);
    }
    let (blocks, []) = data.as_chunks_mut::<BLOCK>() else { return Err(not_whole()) };
    for block in blocks {
        xor(block, &chain);
        cipher.encrypt_block(Array::cast_from_core_mut(block));
        chain = *block;
    }
    Ok(())
}

fn decrypt_cbc(
    cipher: &Aes256,
    mut chain: [u8; BLOCK],
    padding: bool,
    data: &mut Vec<u8>,
) -> Result<()> {
    let (blocks, []) = data.as_chunks_mut::<BLOCK>() else { return Err(not_whole()) };
    for block in blocks {
        let before = *block;
        cipher.decrypt_block(Array::cast_from_core_mut(block));
        xor(block, &chain);
        chain = before;
    }
    if padding {
        let wrong = || Error::new(Kind::Corrupt, "the data was not encrypted with this key");
        let len = usize::from(*data.last().ok_or_else(wrong)?);
        let body = data.len().checked_sub(len).filter(|_| (1..=BLOCK).contains(&len));
        let body = body.ok_or_else(wrong)?;
        if data[body..].iter().any(|byte| usize::from(*byte) != len) {
            return Err(wrong());
        }
        data.truncate(body);
    }
    Ok(())
}

/// Cipher feedback in segments of `segment` bytes.
fn cfb(
    cipher: &Aes256,
    mut register: [u8; BLOCK],
    direction: Direction,
    segment: usize,
    data: &mut [u8],
) {
    for part in data.chunks_mut(segment) {
        let stream = encrypted(cipher, &register);
        register.copy_within(segment.., 0);
        let fed = &mut register[BLOCK - segment..];
        if direction == Direction::Decrypt {
            fed[..part.len()].copy_from_slice(part);
        }
        xor(part, &stream);
        if direction == Direction::Encrypt {
            fed[..part.len()].copy_from_slice(part);
        }
    }
}

/// Cipher feedback bit by bit, the highest first.
fn cfb1(cipher: &Aes256, register: [u8; BLOCK], direction: Direction, data: &mut [u8]) {
    let mut register = u128::from_be_bytes(register);
    for byte in data {
        for bit in (0..8).rev() {
            let stream = encrypted(cipher, &register.to_be_bytes())[0] >> 7;
            let before = *byte >> bit & 1;
            let after = before ^ stream;
            let fed = if direction == Direction::Encrypt { after } else { before };
            register = register << 1 | u128::from(fed);
            *byte = *byte & !(1 << bit) | after << bit;
        }
    }
}

/// Output feedback: the same in both directions.
fn ofb(cipher: &Aes256, mut register: [u8; BLOCK], data: &mut [u8]) {
    for part in data.chunks_mut(BLOCK) {
        register = encrypted(cipher, &register);
        xor(part, &register);
    }
}

fn encrypted(cipher: &Aes256, block: &[u8; BLOCK]) -> [u8; BLOCK] {
    let mut block = Array::from(*block);
    cipher.encrypt_block(&mut block);
    block.into()
}

fn xor(to: &mut [u8], with: &[u8]) {
    to.iter_mut().zip(with).for_each(|(to, with)| *to ^= with);
}

fn not_whole() -> Error {
    Error::new(Kind::Config, "without padding, CBC wants whole blocks of 16 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `openssl enc` under the SHA-256 of the key `0123456789`, IV 00..0f.
    const VECTORS: &[(Mode, &str)] = &[
        (Mode::Cbc, "be55b9fcfbc9075944fd19ed689dee0dc07b7eba9e1742d29e68bdcc609599e5"),
        (Mode::Cfb1, "df826daeb3e58590941fce44efb4b239f9"),
        (Mode::Cfb8, "813a4772e8c1538a89c6a172d23127d740"),
        (Mode::Cfb128, "818905ab62890383669e5d5f223ef023a8"),
        (Mode::Ofb, "818905ab62890383669e5d5f223ef02353"),
    ];

    #[test]
    fn agrees_with_openssl() {
        for (mode, wanted) in VECTORS {
            let key = DataKey::copy_of(b"0123456789").unwrap();
            let iv = std::array::from_fn(|at| u8::try_from(at).unwrap());
            let data = b"seventeen letters";
            let out = crypt(&key, *mode, Direction::Encrypt, &iv, true, data).unwrap();
            let hex = crate::hex::text(&out);
            assert_eq!(hex, *wanted, "{mode:?}");
            assert_eq!(mode.encrypted_len(data.len()), Some(out.len()));
            let back = crypt(&key, *mode, Direction::Decrypt, &iv, true, &out).unwrap();
            assert_eq!(back.as_slice(), data);
        }
    }

    #[test]
    fn cbc_tells_a_wrong_key_and_a_wrong_length() {
        let key = |text: &[u8]| DataKey::copy_of(text).unwrap();
        let run = |key: &DataKey, direction, padding, data: &[u8]| {
            crypt(key, Mode::Cbc, direction, &[0; BLOCK], padding, data)
        };
        let out = run(&key(b"a"), Direction::Encrypt, true, b"text").unwrap();
        let wrong = run(&key(b"c"), Direction::Decrypt, true, &out);
        assert_eq!(wrong.unwrap_err().kind(), Kind::Corrupt);
        let odd = run(&key(b"a"), Direction::Encrypt, false, b"text");
        assert_eq!(odd.unwrap_err().kind(), Kind::Config);
        assert_eq!(Mode::named("ecb", 256), None);
        assert_eq!(Mode::named("cbc", 128), None);
    }
}
