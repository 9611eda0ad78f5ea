//! What is wrapped where the algorithm has no additional authenticated data: the key, and behind it SHA-256 of
//! what it is bound to. AES key wrap guards both against change; RSA lets everybody wrap who has the public key.

#![forbid(unsafe_code)]

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::secret::{DataKey, SecretBytes, scrubbed};

/// The length of the hash.
const DIGEST_LEN: usize = 32;

/// `data` with the hash of `binding`. Of a store key 64 bytes.
pub(super) fn seal(data: &[u8], binding: &[u8]) -> SecretBytes {
    let built: Result<_, std::convert::Infallible> =
        SecretBytes::build(data.len() + DIGEST_LEN, |to| {
            let (key, digest) = to.split_at_mut(data.len());
            key.copy_from_slice(data);
            digest.copy_from_slice(&hash(binding));
            Ok(())
        });
    let Ok(payload) = built;
    payload
}

/// The key in `bytes`, if they have one that is bound to `binding`.
pub(super) fn open(bytes: &[u8], binding: &[u8]) -> Option<DataKey> {
    let len = bytes.len().checked_sub(DIGEST_LEN)?;
    let (data, digest) = bytes.split_at(len);
    let is_bound = bool::from(digest.ct_eq(&hash(binding)));
    DataKey::copy_of(data).ok().filter(|_| is_bound)
}

fn hash(binding: &[u8]) -> [u8; DIGEST_LEN] {
    scrubbed(|| Sha256::digest(binding).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_under_its_binding_alone() {
        let payload = seal(&[7; 32], b"here");
        assert_eq!(payload.expose().len(), 64);
        assert_eq!(open(payload.expose(), b"here").unwrap().expose(), [7; 32]);
        assert!(open(payload.expose(), b"there").is_none());
        for len in 0..64 {
            assert!(open(&payload.expose()[..len], b"here").is_none(), "{len} bytes");
        }
        assert!(open(&hash(b"here"), b"here").is_none(), "an empty key");
    }
}
