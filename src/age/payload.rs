//! The text, in chunks of 64 KiB, each encrypted by ChaCha20-Poly1305 (RFC 8439): STREAM, whose nonce is the
//! number of the chunk and whether it is the last.

#![forbid(unsafe_code)]

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::damaged;
use super::header::derived;
use crate::env::Rng;
use crate::error::{Error, Kind, Result};
use crate::secret::SecretBytes;

const CHUNK: usize = 64 << 10;
const TAG: usize = 16;
/// The length of what the payload's key is derived with, in front of it.
const SALT: usize = 16;

/// Appends `text` to `file`.
pub(super) fn seal(
    text: &[u8],
    key: &SecretBytes,
    rng: &dyn Rng,
    file: &mut Vec<u8>,
) -> Result<()> {
    let mut salt = [0; SALT];
    rng.fill(&mut salt)?;
    file.extend(salt);
    let key = stream_key(key, &salt)?;
    let chunks = text.len().div_ceil(CHUNK).max(1);
    for n in 0..chunks {
        let chunk = &text[n * CHUNK..text.len().min((n + 1) * CHUNK)];
        let mut room = Zeroizing::new(Vec::with_capacity(chunk.len() + TAG));
        room.extend_from_slice(chunk);
        key.seal_in_place_append_tag(nonce(n, n + 1 == chunks), Aad::empty(), &mut *room)
            .map_err(|_| Error::new(Kind::Internal, "the text cannot be encrypted"))?;
        file.extend_from_slice(&room);
    }
    Ok(())
}

/// The text of `payload`, all of it.
pub(super) fn open(payload: &[u8], key: &SecretBytes) -> Result<SecretBytes> {
    let (salt, sealed) =
        payload.split_at_checked(SALT).ok_or_else(|| damaged("its end is missing"))?;
    let key = stream_key(key, salt)?;
    let chunks = sealed.len().div_ceil(CHUNK + TAG).max(1);
    let len = sealed.len().checked_sub(chunks * TAG);
    let len = len.ok_or_else(|| damaged("its end is missing"))?;
    SecretBytes::build(len, |text| {
        for n in 0..chunks {
            let from = n * (CHUNK + TAG);
            let chunk = &sealed[from..sealed.len().min(from + CHUNK + TAG)];
            let mut room = Zeroizing::new(chunk.to_vec());
            let opened = key
                .open_in_place(nonce(n, n + 1 == chunks), Aad::empty(), &mut room)
                .map_err(|_| damaged("a part of it was changed, or its end is missing"))?;
            // Only an empty text has an empty chunk.
            if opened.is_empty() && chunks > 1 {
                return Err(damaged("it has a chunk too many"));
            }
            text[n * CHUNK..n * CHUNK + opened.len()].copy_from_slice(opened);
        }
        Ok(())
    })
}

fn stream_key(key: &SecretBytes, salt: &[u8]) -> Result<LessSafeKey> {
    let key = derived(key, Some(salt), b"payload")?;
    let unusable = |_| Error::new(Kind::Internal, "a key cannot be used");
    UnboundKey::new(&CHACHA20_POLY1305, key.expose()).map(LessSafeKey::new).map_err(unusable)
}

fn nonce(n: usize, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&(n as u64).to_be_bytes());
    nonce[11] = u8::from(last);
    Nonce::assume_unique_for_key(nonce)
}

/// One message under a key that is used once, as recipients wrap the file's.
pub(super) fn wrap_once(key: &SecretBytes, data: &SecretBytes) -> Result<Vec<u8>> {
    let unusable = |_| Error::new(Kind::Internal, "a key cannot be wrapped");
    let key = UnboundKey::new(&CHACHA20_POLY1305, key.expose()).map_err(unusable)?;
    let mut room = Zeroizing::new(Vec::with_capacity(data.expose().len() + TAG));
    room.extend_from_slice(data.expose());
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    LessSafeKey::new(key)
        .seal_in_place_append_tag(nonce, Aad::empty(), &mut *room)
        .map_err(unusable)?;
    Ok(room.to_vec())
}

/// What [`wrap_once`] wrapped; nothing where the key is another.
pub(super) fn unwrap_once(key: &SecretBytes, wrapped: &[u8]) -> Option<SecretBytes> {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key.expose()).ok()?;
    let mut room = Zeroizing::new(wrapped.to_vec());
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    let opened = LessSafeKey::new(key).open_in_place(nonce, Aad::empty(), &mut room).ok()?;
    Some(SecretBytes::copy_of(opened))
}
