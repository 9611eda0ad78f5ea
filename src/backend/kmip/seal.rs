//! AES-GCM here, with a key that was made for this one message or fetched for it.

use aes_gcm::aead::consts::U12;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aes::{Aes128, Aes192, Aes256};
use aes_gcm::{AeadInOut, AesGcm, KeyInit, Nonce, Tag};

use super::requests::TAG_LEN;
use crate::error::{Error, Kind, Result};
use crate::secret::{DataKey, scrubbed};

/// NIST SP 800-38D, section 5.2.1.1: 96 bits are the length without further hashing.
pub(super) const NONCE_LEN: usize = 12;

/// `data` encrypted under `key`, then the tag; bound to `aad`. A key and a nonce go together once.
pub(super) fn seal(
    key: &DataKey,
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    data: &[u8],
) -> Result<Vec<u8>> {
    match key.expose().len() {
        16 => seal_by::<AesGcm<Aes128, U12>>(key, nonce, aad, data),
        24 => seal_by::<AesGcm<Aes192, U12>>(key, nonce, aad, data),
        32 => seal_by::<AesGcm<Aes256, U12>>(key, nonce, aad, data),
        _ => Err(no_aes_key()),
    }
}

/// What [`seal`] has sealed; nothing where it was changed, or for another `aad`.
pub(super) fn open(
    key: &DataKey,
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Option<DataKey>> {
    match key.expose().len() {
        16 => open_by::<AesGcm<Aes128, U12>>(key, nonce, aad, sealed),
        24 => open_by::<AesGcm<Aes192, U12>>(key, nonce, aad, sealed),
        32 => open_by::<AesGcm<Aes256, U12>>(key, nonce, aad, sealed),
        _ => Err(no_aes_key()),
    }
}

fn seal_by<C>(key: &DataKey, nonce: &[u8; NONCE_LEN], aad: &[u8], data: &[u8]) -> Result<Vec<u8>>
where
    C: AeadInOut<NonceSize = U12, TagSize = aes_gcm::aead::consts::U16> + KeyInit,
{
    let mut sealed = vec![0; data.len() + TAG_LEN];
    let (encrypted, place) = sealed.split_at_mut(data.len());
    let buffer = InOutBuf::new(data, encrypted).map_err(|_| broken())?;
    let tag = scrubbed(|| {
        let cipher = C::new_from_slice(key.expose()).map_err(|_| broken())?;
        cipher.encrypt_inout_detached(&Nonce::from(*nonce), aad, buffer).map_err(|_| broken())
    })?;
    place.copy_from_slice(&tag);
    Ok(sealed)
}

fn open_by<C>(
    key: &DataKey,
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Option<DataKey>>
where
    C: AeadInOut<NonceSize = U12, TagSize = aes_gcm::aead::consts::U16> + KeyInit,
{
    let Some((encrypted, tag)) = sealed.split_last_chunk::<TAG_LEN>() else { return Ok(None) };
    if encrypted.is_empty() || encrypted.len() > DataKey::MAX_LEN {
        return Ok(None);
    }
    let mut fits = true;
    let data = DataKey::build(encrypted.len(), |to| {
        let buffer = InOutBuf::new(encrypted, to).map_err(|_| broken())?;
        scrubbed(|| {
            let cipher = C::new_from_slice(key.expose()).map_err(|_| broken())?;
            let (nonce, tag) = (Nonce::from(*nonce), Tag::from(*tag));
            fits = cipher.decrypt_inout_detached(&nonce, aad, buffer, &tag).is_ok();
            Ok(())
        })
    })?;
    Ok(fits.then_some(data))
}

fn no_aes_key() -> Error {
    Error::new(Kind::Config, "the wrapping key is no AES key of 128, 192 or 256 bits")
        .advise("name one that is, or have one made: keyward init --create-key")
}

fn broken() -> Error {
    Error::new(Kind::Internal, "AES-GCM does not work")
}
