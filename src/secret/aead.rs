//! AES-GCM (NIST SP 800-38D) from locked memory to ciphertext and back, and the associated data that it
//! binds.

use aes_gcm::aead::consts::U12;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aes::{Aes128, Aes192, Aes256};
use aes_gcm::{AeadInOut as _, AesGcm, KeyInit as _, Nonce, Tag};

use super::{DataKey, scrubbed};
use crate::error::{Error, Kind, Result};

/// The length of a nonce, in bytes: SP 800-38D, section 5.2.1.1, hashes no other into 96 bits.
pub const NONCE_LEN: usize = 12;

/// The length of a tag, in bytes.
pub const TAG_LEN: usize = 16;

/// Associated data of several parts, each with its length before it, so that no two lists of parts
/// give the same bytes.
#[derive(Default)]
pub struct Parts(Vec<u8>);

impl Parts {
    /// Adds a part.
    pub fn push(&mut self, part: &[u8]) {
        self.0.extend_from_slice(&(part.len() as u64).to_be_bytes());
        self.0.extend_from_slice(part);
    }

    /// The same with one part more.
    #[must_use]
    pub fn with(mut self, part: impl AsRef<[u8]>) -> Self {
        self.push(part.as_ref());
        self
    }

    /// All of them.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// `data` encrypted under `key`, then the tag; bound to `aad`. A key and a nonce go together once.
pub fn seal(key: &DataKey, nonce: &[u8; NONCE_LEN], aad: &[u8], data: &[u8]) -> Result<Vec<u8>> {
    scrubbed(|| Gcm::new(key)?.seal(nonce, aad, data))
}

/// The key that [`seal`] has sealed; nothing where it was changed, or for another `aad`.
pub fn open(
    key: &DataKey,
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Option<DataKey>> {
    scrubbed(|| Ok(Gcm::new(key)?.open(nonce, aad, sealed).filter(|key| !key.expose().is_empty())))
}

/// A key that is ready to seal and open. It holds the key on the stack: make and use it within
/// [`scrubbed`] only.
pub enum Gcm {
    /// With a key of 128 bits.
    Aes128(AesGcm<Aes128, U12>),
    /// With a key of 192 bits.
    Aes192(AesGcm<Aes192, U12>),
    /// With a key of 256 bits.
    Aes256(AesGcm<Aes256, U12>),
}

impl Gcm {
    /// Readies `key`. `Config` where it is no AES key.
    pub fn new(key: &DataKey) -> Result<Self> {
        let bytes = key.expose();
        let made = match bytes.len() {
            16 => AesGcm::new_from_slice(bytes).map(Self::Aes128),
            24 => AesGcm::new_from_slice(bytes).map(Self::Aes192),
            _ => AesGcm::new_from_slice(bytes).map(Self::Aes256),
        };
        made.map_err(|_| {
            Error::new(Kind::Config, "the wrapping key is no AES key of 128, 192 or 256 bits")
        })
    }

    /// See [`seal`]. The plain bytes are never in what it returns.
    pub fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], data: &[u8]) -> Result<Vec<u8>> {
        let failed = || Error::new(Kind::Internal, "AES-GCM does not encrypt");
        let mut sealed = vec![0; data.len() + TAG_LEN];
        let (encrypted, place) = sealed.split_at_mut(data.len());
        let buffer = InOutBuf::new(data, encrypted).map_err(|_| failed())?;
        let nonce = Nonce::from(*nonce);
        let tag = match self {
            Self::Aes128(cipher) => cipher.encrypt_inout_detached(&nonce, aad, buffer),
            Self::Aes192(cipher) => cipher.encrypt_inout_detached(&nonce, aad, buffer),
            Self::Aes256(cipher) => cipher.encrypt_inout_detached(&nonce, aad, buffer),
        };
        place.copy_from_slice(&tag.map_err(|_| failed())?);
        Ok(sealed)
    }

    /// See [`open`]; what was sealed may be empty.
    pub fn open(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], sealed: &[u8]) -> Option<DataKey> {
        let (encrypted, tag) = sealed.split_last_chunk::<TAG_LEN>()?;
        let (nonce, tag) = (Nonce::from(*nonce), Tag::from(*tag));
        let failed = || Error::new(Kind::Corrupt, "");
        DataKey::of_keyring(encrypted.len(), |key| {
            let buffer = InOutBuf::new(encrypted, key).map_err(|_| failed())?;
            match self {
                Self::Aes128(cipher) => cipher.decrypt_inout_detached(&nonce, aad, buffer, &tag),
                Self::Aes192(cipher) => cipher.decrypt_inout_detached(&nonce, aad, buffer, &tag),
                Self::Aes256(cipher) => cipher.decrypt_inout_detached(&nonce, aad, buffer, &tag),
            }
            .map_err(|_| failed())
        })
        .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_for_its_key_nonce_and_binding_alone() -> Result<()> {
        for len in [16, 24, 32] {
            let key = DataKey::copy_of(&vec![1; len])?;
            let other = DataKey::copy_of(&vec![2; len])?;
            let sealed = seal(&key, &[3; NONCE_LEN], b"aad", b"secret")?;
            assert_eq!(sealed.len(), 6 + TAG_LEN);
            let opened = |key, nonce, aad: &[u8], sealed: &[u8]| -> Result<Option<Vec<u8>>> {
                let opened = open(key, nonce, aad, sealed)?;
                Ok(opened.map(|key: DataKey| key.expose().to_vec()))
            };
            let nonce = &[3; NONCE_LEN];
            assert_eq!(opened(&key, nonce, b"aad", &sealed)?.as_deref(), Some(&b"secret"[..]));
            assert_eq!(opened(&other, nonce, b"aad", &sealed)?, None);
            assert_eq!(opened(&key, &[4; NONCE_LEN], b"aad", &sealed)?, None);
            assert_eq!(opened(&key, nonce, b"other", &sealed)?, None);
            for at in 0..sealed.len() {
                assert_eq!(opened(&key, nonce, b"aad", &sealed[..at])?, None);
                let mut changed = sealed.clone();
                changed[at] ^= 1;
                assert_eq!(opened(&key, nonce, b"aad", &changed)?, None);
            }
        }
        Ok(())
    }

    #[test]
    fn a_key_of_another_length_is_none() -> Result<()> {
        let key = DataKey::copy_of(&[1; 20])?;
        assert_eq!(
            seal(&key, &[0; NONCE_LEN], b"", b"x").err().map(|e| e.kind()),
            Some(Kind::Config)
        );
        Ok(())
    }

    #[test]
    fn nothing_sealed_is_no_key() -> Result<()> {
        let key = DataKey::copy_of(&[1; 32])?;
        let sealed = seal(&key, &[0; NONCE_LEN], b"", b"")?;
        assert!(open(&key, &[0; NONCE_LEN], b"", &sealed)?.is_none());
        assert!(
            scrubbed(|| Gcm::new(&key)?
                .open(&[0; NONCE_LEN], b"", &sealed)
                .ok_or_else(|| Error::new(Kind::Corrupt, "")))
            .is_ok()
        );
        Ok(())
    }

    #[test]
    fn no_two_lists_of_parts_give_the_same() {
        let bytes = |parts: &[&str]| parts.iter().fold(Parts::default(), Parts::with).into_bytes();
        let lists: [&[&str]; 5] = [&[], &[""], &["ab"], &["a", "b"], &["", "ab"]];
        for (at, one) in lists.iter().enumerate() {
            for other in &lists[..at] {
                assert_ne!(bytes(one), bytes(other));
            }
        }
        assert_eq!(bytes(&["ab"]), b"\0\0\0\0\0\0\0\x02ab");
    }
}
