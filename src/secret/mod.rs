//! Memory for secrets.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::env::Rng;
use crate::error::{Error, Kind, Result};
use crate::key::CheckValue;

/// Secret bytes of a fixed length. No Debug, Clone, Display, Deref, Serialize or PartialEq.
pub struct SecretBytes(Zeroizing<Box<[u8]>>);

impl SecretBytes {
    /// `len` bytes, zero at first, handed to `fill` in place; what fails leaves nothing behind.
    pub fn build<E>(len: usize, fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut bytes = Zeroizing::new(vec![0; len].into_boxed_slice());
        fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The bytes. Keep no copy.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// A key of 1 to 16,384 bytes.
pub struct DataKey(SecretBytes);

impl DataKey {
    /// The longest key, in bytes (MySQL's keyring allows no longer one).
    pub const MAX_LEN: usize = 16_384;

    /// A key of `len` bytes that `fill` writes in place.
    pub fn build(len: usize, fill: impl FnOnce(&mut [u8]) -> Result<()>) -> Result<Self> {
        if len == 0 || len > Self::MAX_LEN {
            return Err(Error::new(Kind::Config, format!("a key of {len} bytes"))
                .advise("keys have 1 to 16384 bytes"));
        }
        SecretBytes::build(len, fill).map(Self)
    }

    /// A new random key of `len` bytes.
    pub fn generate(len: usize, rng: &dyn Rng) -> Result<Self> {
        Self::build(len, |bytes| rng.fill(bytes))
    }

    /// A copy of `bytes`; the caller wipes its own.
    pub fn copy_of(bytes: &[u8]) -> Result<Self> {
        Self::build(bytes.len(), |to| {
            to.copy_from_slice(bytes);
            Ok(())
        })
    }

    /// The key. Keep no copy.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// Its check value.
    #[must_use]
    pub fn check_value(&self) -> CheckValue {
        let mut check = CheckValue([0; 16]);
        // HMAC takes a key of any length (RFC 2104 section 2), so this cannot fail.
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.expose()) {
            mac.update(b"keyward check value v1");
            check.0.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        }
        check
    }
}

/// Runs `work`.
pub fn scrubbed<T>(work: impl FnOnce() -> T) -> T {
    work()
}
