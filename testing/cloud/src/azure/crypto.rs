//! What keys do: RSA-OAEP with SHA-256 by openssl, AES key wrap (RFC 3394) and AES-GCM.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aes::Aes256;
use aes::cipher::{Array, BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use test_kit::Result;
use test_kit::command::answer;

/// What every wrapped key has before it (RFC 3394, 2.2.3.1).
const KW_START: [u8; 8] = [0xa6; 8];

/// The material of one version.
pub(super) enum Material {
    /// A file with the private key, and the modulus.
    Rsa(PathBuf, Vec<u8>),
    Aes([u8; 32]),
}

impl Material {
    /// An RSA key of so many bits, kept in `folder`.
    pub(super) fn rsa(folder: &Path, name: &str, bits: u64) -> Result<Self> {
        let file = folder.join(format!("{name}.pem"));
        let bits = format!("rsa_keygen_bits:{bits}");
        let mut make = Command::new("openssl");
        make.args(["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", &bits, "-out"]).arg(&file);
        answer(&mut make)?.ok()?;
        let mut show = Command::new("openssl");
        show.args(["rsa", "-noout", "-modulus", "-in"]).arg(&file);
        let said = answer(&mut show)?.ok()?;
        let digits = said.trim().trim_start_matches("Modulus=");
        let modulus = digits.as_bytes().chunks(2).map(|two| {
            let two = std::str::from_utf8(two).map_err(|error| error.to_string())?;
            u8::from_str_radix(two, 16).map_err(|error| error.to_string())
        });
        Ok(Self::Rsa(file, modulus.collect::<std::result::Result<_, String>>()?))
    }

    pub(super) fn aes() -> Self {
        Self::Aes(random())
    }

    /// Wraps by RSA-OAEP-256 or A256KW; nothing where the key cannot.
    pub(super) fn wrap(&self, algorithm: &str, data: &[u8]) -> Option<Vec<u8>> {
        match (self, algorithm) {
            (Self::Rsa(file, _), "RSA-OAEP-256") => oaep("-encrypt", file, data),
            (Self::Aes(key), "A256KW") => kw_wrap(key, data),
            _ => None,
        }
    }

    pub(super) fn unwrap(&self, algorithm: &str, data: &[u8]) -> Option<Vec<u8>> {
        match (self, algorithm) {
            (Self::Rsa(file, modulus), "RSA-OAEP-256") if data.len() == modulus.len() => {
                oaep("-decrypt", file, data)
            }
            (Self::Aes(key), "A256KW") => kw_unwrap(key, data),
            _ => None,
        }
    }

    /// Nonce, ciphertext and tag.
    pub(super) fn encrypt(&self, data: &[u8], aad: &[u8]) -> Option<[Vec<u8>; 3]> {
        let Self::Aes(key) = self else { return None };
        let nonce: [u8; NONCE_LEN] = random();
        let mut sealed = data.to_vec();
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
        let tag = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(aad),
                &mut sealed,
            )
            .ok()?;
        Some([nonce.to_vec(), sealed, tag.as_ref().to_vec()])
    }

    pub(super) fn decrypt(
        &self,
        nonce: &[u8],
        data: &[u8],
        tag: &[u8],
        aad: &[u8],
    ) -> Option<Vec<u8>> {
        let Self::Aes(key) = self else { return None };
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
        let mut both = [data, tag].concat();
        key.open_in_place(nonce, Aad::from(aad), &mut both).ok().map(|plain| plain.to_vec())
    }
}

/// Bytes that nobody can guess.
pub(super) fn random<const LEN: usize>() -> [u8; LEN] {
    let mut bytes = [0; LEN];
    // It has never failed.
    let _ = SystemRandom::new().fill(&mut bytes);
    bytes
}

fn oaep(way: &str, key: &Path, data: &[u8]) -> Option<Vec<u8>> {
    let mut command = Command::new("openssl");
    command.args(["pkeyutl", way, "-inkey"]).arg(key);
    for option in ["rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha256"] {
        command.args(["-pkeyopt", option]);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    child.stdin.take()?.write_all(data).ok()?;
    let done = child.wait_with_output().ok()?;
    done.status.success().then_some(done.stdout)
}

/// RFC 3394, 2.2.1.
fn kw_wrap(key: &[u8; 32], data: &[u8]) -> Option<Vec<u8>> {
    if data.len() < 16 || !data.len().is_multiple_of(8) {
        return None;
    }
    let cipher = Aes256::new(&Array::from(*key));
    let mut start = KW_START;
    let mut rest: Vec<[u8; 8]> =
        data.chunks_exact(8).map(|part| part.try_into().unwrap_or([0; 8])).collect();
    let mut step = 0_u64;
    for _ in 0..6 {
        for part in &mut rest {
            step += 1;
            let mut block = [0; 16];
            block[..8].copy_from_slice(&start);
            block[8..].copy_from_slice(part);
            let mut block = Array::from(block);
            cipher.encrypt_block(&mut block);
            start.copy_from_slice(&block[..8]);
            start.iter_mut().zip(step.to_be_bytes()).for_each(|(byte, with)| *byte ^= with);
            part.copy_from_slice(&block[8..]);
        }
    }
    Some([start.to_vec(), rest.concat()].concat())
}

/// RFC 3394, 2.2.2.
fn kw_unwrap(key: &[u8; 32], wrapped: &[u8]) -> Option<Vec<u8>> {
    if wrapped.len() < 24 || !wrapped.len().is_multiple_of(8) {
        return None;
    }
    let cipher = Aes256::new(&Array::from(*key));
    let (start, rest) = wrapped.split_first_chunk::<8>()?;
    let mut start = *start;
    let mut rest: Vec<[u8; 8]> =
        rest.chunks_exact(8).map(|part| part.try_into().unwrap_or([0; 8])).collect();
    let mut step = 6 * rest.len() as u64;
    for _ in 0..6 {
        for part in rest.iter_mut().rev() {
            let mut block = [0; 16];
            block[..8].copy_from_slice(&start);
            block.iter_mut().zip(step.to_be_bytes()).for_each(|(byte, with)| *byte ^= with);
            block[8..].copy_from_slice(part);
            let mut block = Array::from(block);
            cipher.decrypt_block(&mut block);
            start.copy_from_slice(&block[..8]);
            part.copy_from_slice(&block[8..]);
            step -= 1;
        }
    }
    (start == KW_START).then(|| rest.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3394, 4.6: 256 bits of key data with a 256-bit key.
    #[test]
    fn key_wrap_is_as_its_rfc_shows() {
        let key: [u8; 32] = std::array::from_fn(|n| n as u8);
        let data: Vec<u8> = (0..16).map(|n| n * 0x11).chain(0..16).collect();
        let wrapped = kw_wrap(&key, &data).unwrap();
        assert_eq!(wrapped[..8], [0x28, 0xc9, 0xf4, 0x04, 0xc4, 0xb8, 0x10, 0xf4]);
        assert_eq!(kw_unwrap(&key, &wrapped).unwrap(), data);
        for n in 0..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[n] ^= 1;
            assert_eq!(kw_unwrap(&key, &changed), None);
        }
    }
}
