//! What is done with the secret's bytes: encrypted and decrypted, split and joined. Within
//! `secret::scrubbed` only.

#![forbid(unsafe_code)]

use hmac::{Hmac, KeyInit, Mac};
use pbkdf2::pbkdf2_hmac;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::field::{product, weight};
use super::share::Common;
use crate::env::Rng;
use crate::error::{Error, Kind, Result};
use crate::secret::SecretBytes;

/// Where the shared polynomial has the secret, and where a digest of it.
const SECRET_AT: u8 = 255;
const DIGEST_AT: u8 = 254;
/// The length of the digest in front of the random bytes that it is keyed by.
const DIGEST: usize = 4;
/// The rounds of the cipher, and how often PBKDF2 hashes in each before the exponent.
const ROUNDS: [u8; 4] = [0, 1, 2, 3];
const ITERATIONS: u32 = 2_500;

pub(super) fn encrypted(
    plain: &SecretBytes,
    passphrase: &[u8],
    by: &Common,
) -> Result<SecretBytes> {
    turned(plain, passphrase, by, ROUNDS.into_iter())
}

pub(super) fn decrypted(text: &SecretBytes, passphrase: &[u8], by: &Common) -> Result<SecretBytes> {
    turned(text, passphrase, by, ROUNDS.into_iter().rev())
}

/// A Feistel network; its two directions differ by the order of the rounds.
fn turned(
    bytes: &SecretBytes,
    passphrase: &[u8],
    by: &Common,
    rounds: impl Iterator<Item = u8>,
) -> Result<SecretBytes> {
    let half = bytes.expose().len() / 2;
    let mut now = SecretBytes::copy_of(bytes.expose());
    for round in rounds {
        let (left, right) = now.expose().split_at(half);
        let password = joined_bytes(&[&[round], passphrase])?;
        let salt = joined_bytes(&[&by.salt(), right])?;
        let next = SecretBytes::build(bytes.expose().len(), |out| {
            let (to_left, to_right) = out.split_at_mut(half);
            let count = ITERATIONS << by.exponent;
            pbkdf2_hmac::<Sha256>(password.expose(), salt.expose(), count, to_right);
            to_right.iter_mut().zip(left).for_each(|(to, of)| *to ^= of);
            to_left.copy_from_slice(right);
            Ok::<_, Error>(())
        })?;
        now = next;
    }
    let (left, right) = now.expose().split_at(half);
    joined_bytes(&[right, left])
}

/// The values of `of` shares; any `needed`, 2 or more, give `secret` again.
pub(super) fn split(
    secret: &SecretBytes,
    needed: u8,
    of: u8,
    rng: &dyn Rng,
) -> Result<Vec<SecretBytes>> {
    let len = secret.expose().len();
    let random = |len| SecretBytes::build(len, |bytes| rng.fill(bytes));
    let mut values = (0..needed - 2).map(|_| random(len)).collect::<Result<Vec<_>>>()?;
    let key = random(len - DIGEST)?;
    let digest = joined_bytes(&[&digest(&key, secret)?, key.expose()])?;
    let free: Vec<_> = (0..).zip(&values).map(|(at, value)| (at, value.expose())).collect();
    let fixed = [(DIGEST_AT, digest.expose()), (SECRET_AT, secret.expose())];
    let points: Vec<_> = free.into_iter().chain(fixed).collect();
    let others = (needed - 2..of).map(|at| value_at(&points, at));
    let others = others.collect::<Result<Vec<_>>>()?;
    values.extend(others);
    Ok(values)
}

/// The secret that the first `needed` of `points` are shares of.
pub(super) fn joined(points: &[(u8, &[u8])], needed: u8) -> Result<SecretBytes> {
    let points = &points[..points.len().min(usize::from(needed))];
    if let ([(_, whole), ..], 1) = (points, needed) {
        return Ok(SecretBytes::copy_of(whole));
    }
    let (secret, digested) = (value_at(points, SECRET_AT)?, value_at(points, DIGEST_AT)?);
    let (is, key) = digested.expose().split_at(DIGEST);
    let key = SecretBytes::copy_of(key);
    if bool::from(digest(&key, &secret)?.ct_eq(is)) {
        return Ok(secret);
    }
    Err(Error::new(Kind::Corrupt, "the shares do not belong together").advise(
        "compare each with the paper it was written on; another set may have been mixed in",
    ))
}

/// The value at `x` of the polynomial through `points`.
fn value_at(points: &[(u8, &[u8])], x: u8) -> Result<SecretBytes> {
    let places: Vec<u8> = points.iter().map(|(at, _)| *at).collect();
    let len = points.first().map_or(0, |(_, value)| value.len());
    SecretBytes::build(len, |out| {
        for (nth, (_, value)) in points.iter().enumerate() {
            let weight = weight(&places, nth, x);
            out.iter_mut().zip(*value).for_each(|(to, of)| *to ^= product(weight, *of));
        }
        Ok(())
    })
}

fn digest(key: &SecretBytes, secret: &SecretBytes) -> Result<[u8; DIGEST]> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key.expose())
        .map_err(|_| Error::new(Kind::Internal, "a digest cannot be computed"))?;
    mac.update(secret.expose());
    let [a, b, c, d, ..] = <[u8; 32]>::from(mac.finalize().into_bytes());
    Ok([a, b, c, d])
}

fn joined_bytes(parts: &[&[u8]]) -> Result<SecretBytes> {
    SecretBytes::build(parts.iter().map(|part| part.len()).sum(), |out| {
        let mut at = 0;
        for part in parts {
            out[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        Ok(())
    })
}
