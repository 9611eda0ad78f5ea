//! What is wrapped where the mechanism has no place for additional authenticated data.

#![forbid(unsafe_code)]

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::failure::changed;
use crate::env::Rng;
use crate::error::{Error, Kind, Result};
use crate::secret::{DataKey, SecretBytes, scrubbed};

/// Random, so that the same key never wraps to the same bytes.
const SALT_LEN: usize = 16;

/// SHA-256 over salt and binding: what was moved elsewhere does not match.
const DIGEST_LEN: usize = 32;

/// The key's length, big endian.
const LEN_LEN: usize = 4;

/// Salt, digest, length, key, and zeros up to a multiple of this (RFC 3394 wants one).
const BLOCK: usize = 8;

const HEAD_LEN: usize = SALT_LEN + DIGEST_LEN + LEN_LEN;

/// A key with its binding beside it. The mechanism that wraps it guards both against change.
pub struct Payload(SecretBytes);

impl Payload {
    /// `data` bound to `binding`; `rng` gives the salt. `Config` where it is too long.
    pub fn seal(data: &[u8], binding: &[u8], rng: &dyn Rng) -> Result<Self> {
        let too_long = |_| Error::new(Kind::Config, "a key longer than 4 GiB");
        let len = u32::try_from(data.len()).map_err(too_long)?;
        let whole = (HEAD_LEN + data.len()).next_multiple_of(BLOCK);
        SecretBytes::build(whole, |to| {
            let (salt, rest) = to.split_at_mut(SALT_LEN);
            rng.fill(salt)?;
            let (digest, rest) = rest.split_at_mut(DIGEST_LEN);
            digest.copy_from_slice(&bound(salt, binding));
            let (length, rest) = rest.split_at_mut(LEN_LEN);
            length.copy_from_slice(&len.to_be_bytes());
            rest[..data.len()].copy_from_slice(data);
            Ok(())
        })
        .map(Self)
    }

    /// The key in `bytes`, if it is bound to `binding`. `Corrupt` where it is not, or where these are no such bytes.
    pub fn open(bytes: &[u8], binding: &[u8]) -> Result<DataKey> {
        let broken = || changed("what it opens to is none that keyward wraps");
        let (salt, rest) = bytes.split_at_checked(SALT_LEN).ok_or_else(broken)?;
        let (digest, rest) = rest.split_at_checked(DIGEST_LEN).ok_or_else(broken)?;
        let (length, rest) = rest.split_first_chunk::<LEN_LEN>().ok_or_else(broken)?;
        let len = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| broken())?;
        let (data, padding) = rest.split_at_checked(len).ok_or_else(broken)?;
        let whole = bytes.len().is_multiple_of(BLOCK) && padding.len() < BLOCK;
        if !whole || padding.iter().any(|byte| *byte != 0) {
            return Err(broken());
        }
        if !bool::from(digest.ct_eq(&bound(salt, binding))) {
            return Err(changed("it belongs to another keystore or store key"));
        }
        DataKey::copy_of(data)
    }

    /// What is to be wrapped. Keep no copy.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.expose()
    }
}

fn bound(salt: &[u8], binding: &[u8]) -> [u8; DIGEST_LEN] {
    scrubbed(|| Sha256::new().chain_update(salt).chain_update(binding).finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::fake::FakeRng;

    #[test]
    fn what_was_sealed_opens_under_its_binding_alone() {
        for len in [1, 7, 8, 32, 16_384] {
            let data = vec![0xa5; len];
            let payload = Payload::seal(&data, b"here", &FakeRng::new(1)).unwrap();
            assert_eq!(payload.bytes().len() % BLOCK, 0);
            assert_eq!(Payload::open(payload.bytes(), b"here").unwrap().expose(), data);
            let error = Payload::open(payload.bytes(), b"there").err().unwrap();
            assert_eq!(error.kind(), Kind::Corrupt);
        }
    }

    #[test]
    fn what_is_cut_or_longer_is_no_key() {
        let payload = Payload::seal(&[1; 33], b"here", &FakeRng::new(1)).unwrap();
        let bytes = payload.bytes();
        for len in 0..bytes.len() {
            assert!(Payload::open(&bytes[..len], b"here").is_err(), "{len} bytes");
        }
        assert!(Payload::open(&[bytes, &[0; 8]].concat(), b"here").is_err());
        assert!(Payload::open(&[&bytes[..bytes.len() - 1], &[1]].concat(), b"here").is_err());
    }
}
