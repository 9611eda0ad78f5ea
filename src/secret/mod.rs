//! Memory for secrets: locked, left out of core dumps, wiped when it is given back.
//!
//! | need | use |
//! |---|---|
//! | a data key, store key or wrapping key | [`DataKey`] |
//! | any other secret of known length | [`SecretBytes`] |
//! | what a key is expanded to | [`Locked`] |
//! | a secret from a file | [`read_file`] |
//! | a key encrypted under another one | [`aead`] |
//! | to compute with secrets | [`scrubbed`] around it, results into one of the above |

#![allow(unsafe_code)]

pub mod aead;
mod alloc;
mod arena;
mod file;
mod locked;
mod scrub;

use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::slice;

pub mod source;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

pub use file::read_file;
pub use locked::Locked;
pub use scrub::scrubbed;

use crate::env::Rng;
use crate::error::{Error, Kind, Result};
use crate::key::CheckValue;

/// Secret bytes of a fixed length. No Debug, Clone, Display, Deref, Serialize or PartialEq.
pub struct SecretBytes {
    /// From the arena unless `len` is 0; ours alone.
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: the bytes belong to this value alone and to no thread.
unsafe impl Send for SecretBytes {}
// SAFETY: shared, they can only be read.
unsafe impl Sync for SecretBytes {}

impl SecretBytes {
    /// `len` bytes, zero at first, handed to `fill` in place; what fails leaves nothing behind.
    pub fn build<E>(len: usize, fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let at = if len == 0 { NonNull::dangling() } else { arena::allocate(len) };
        let mut bytes = Self { at, len };
        fill(bytes.expose_mut())?;
        Ok(bytes)
    }

    /// A copy of `bytes`; the caller wipes its own.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        let at = if bytes.is_empty() { NonNull::dangling() } else { arena::allocate(bytes.len()) };
        let mut copy = Self { at, len: bytes.len() };
        copy.expose_mut().copy_from_slice(bytes);
        copy
    }

    /// The bytes. Keep no copy.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        // SAFETY: `at` has `len` initialised bytes, ours until drop (or is dangling, with `len` 0),
        // and nobody changes them while `self` is borrowed.
        unsafe { slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }

    fn expose_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `expose`, and `self` is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.at.as_ptr(), self.len) }
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: `allocate` gave `at` for `len`, and nobody can use the bytes after this.
            unsafe { arena::free(self.at, self.len) };
        }
    }
}

/// A key of 1 to 16,384 bytes; one of MySQL's keyring may be empty.
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

    /// The same for a key of MySQL's keyring, which keeps whatever a client gives it: even nothing.
    pub fn of_keyring(len: usize, fill: impl FnOnce(&mut [u8]) -> Result<()>) -> Result<Self> {
        if len == 0 { Ok(Self(SecretBytes::copy_of(&[]))) } else { Self::build(len, fill) }
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

    /// Whether `other` is the same key, compared in constant time.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }

    /// Its check value, a function of the key alone: for a weak one it gives the key away. It never
    /// goes into a keystore; there, check values are keyed.
    #[must_use]
    pub fn check_value(&self) -> CheckValue {
        let mut check = CheckValue([0; 16]);
        scrubbed(|| {
            // HMAC takes a key of any length (RFC 2104 section 2), so this cannot fail.
            if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.expose()) {
                mac.update(b"keyward check value v1");
                check.0.copy_from_slice(&mac.finalize().into_bytes()[..16]);
            }
        });
        check
    }
}

/// How well the secrets of this process are kept, in bytes of memory set aside for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockState {
    /// Locked: never written to swap.
    pub locked: usize,
    /// What could not be locked: it may reach swap.
    pub unlocked: usize,
    /// Of the locked: hidden even from the kernel (`memfd_secret`).
    pub hidden: usize,
    /// Why the last attempt to lock failed.
    pub cause: Option<io::ErrorKind>,
}

impl fmt::Display for LockState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.unlocked == 0 {
            return write!(f, "all {} KiB of secret memory locked", self.locked / 1024);
        }
        let (unlocked, all) = (self.unlocked / 1024, (self.locked + self.unlocked) / 1024);
        write!(f, "{unlocked} of {all} KiB of secret memory are not locked and may reach swap")?;
        if let Some(cause) = self.cause {
            write!(f, " ({cause})")?;
        }
        write!(f, "; raise LimitMEMLOCK of the service (ulimit -l)")
    }
}

/// How well secrets are kept right now. Worth one warning where something is not locked.
#[must_use]
pub fn lock_state() -> LockState {
    arena::state()
}

/// Locks the memory again in a process that was forked. It also happens by itself, when the C
/// library forks and with the next secret made or dropped.
pub fn relock_after_fork() {
    arena::settle();
}

#[cfg(test)]
mod tests;
