//! Key files as `openssl enc -aes-256-cbc` encrypts them.

#![forbid(unsafe_code)]

use aes::Aes256;
use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt as _, KeyIvInit as _};
use pbkdf2::pbkdf2_hmac;
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};
use zeroize::Zeroize as _;

use super::settings::Digest;
use crate::error::Result;
use crate::secret::SecretBytes;
use crate::secret::scrubbed;

/// What `openssl enc` writes before the salt.
const MAGIC: &[u8; 8] = b"Salted__";

/// Where the encrypted text begins: behind the magic and 8 bytes of salt.
const HEADER_LEN: usize = 16;

const BLOCK: usize = 16;

/// AES-256 key and initialisation vector, in the order in which they are derived.
const KEY_AND_IV: usize = 32 + 16;

/// How key and initialisation vector come from the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Derivation {
    /// `-md`.
    pub digest: Digest,
    /// `-iter` of `-pbkdf2`, or 0 where that was not given.
    pub pbkdf2_iterations: u32,
}

/// The text of a key file that was decrypted.
pub struct Plaintext {
    padded: SecretBytes,
    len: usize,
}

impl Plaintext {
    /// The text. Keep no copy.
    pub fn expose(&self) -> &[u8] {
        &self.padded.expose()[..self.len]
    }
}

/// Whether `file` begins as an encrypted one does.
pub fn is_encrypted(file: &[u8]) -> bool {
    // MariaDB takes the bare magic for text.
    file.starts_with(MAGIC) && file.len() > MAGIC.len()
}

/// Whether an encrypted `file` has its whole header and whole blocks, as a right one must.
pub fn is_whole(file: &[u8]) -> bool {
    file.len() > HEADER_LEN && (file.len() - HEADER_LEN).is_multiple_of(BLOCK)
}

/// The text of a [whole](is_whole) encrypted `file`; `None` if the padding does not check, which a
/// wrong password passes once in 256 times: look at the text, too.
pub fn decrypt(file: &[u8], password: &[u8], how: Derivation) -> Result<Option<Plaintext>> {
    let (header, encrypted) = file.split_at(HEADER_LEN.min(file.len()));
    let salt = header.get(MAGIC.len()..).unwrap_or_default();
    let secret = derive(password, salt, how)?;
    let (key, iv) = secret.expose().split_at(32);
    let mut len = None;
    let padded = SecretBytes::build(encrypted.len(), |text| {
        text.copy_from_slice(encrypted);
        if let Ok(decryptor) = Decryptor::<Aes256>::new_from_slices(key, iv) {
            len = scrubbed(|| decryptor.decrypt_padded::<Pkcs7>(text).ok().map(<[u8]>::len));
        }
        Result::Ok(())
    })?;
    Ok(len.map(|len| Plaintext { padded, len }))
}

fn derive(password: &[u8], salt: &[u8], how: Derivation) -> Result<SecretBytes> {
    SecretBytes::build(KEY_AND_IV, |out| {
        scrubbed(|| match (how.digest, how.pbkdf2_iterations) {
            (Digest::Sha1, 0) => bytes_to_key::<Sha1>(password, salt, out),
            (Digest::Sha224, 0) => bytes_to_key::<Sha224>(password, salt, out),
            (Digest::Sha256, 0) => bytes_to_key::<Sha256>(password, salt, out),
            (Digest::Sha384, 0) => bytes_to_key::<Sha384>(password, salt, out),
            (Digest::Sha512, 0) => bytes_to_key::<Sha512>(password, salt, out),
            (Digest::Sha1, rounds) => pbkdf2_hmac::<Sha1>(password, salt, rounds, out),
            (Digest::Sha224, rounds) => pbkdf2_hmac::<Sha224>(password, salt, rounds, out),
            (Digest::Sha256, rounds) => pbkdf2_hmac::<Sha256>(password, salt, rounds, out),
            (Digest::Sha384, rounds) => pbkdf2_hmac::<Sha384>(password, salt, rounds, out),
            (Digest::Sha512, rounds) => pbkdf2_hmac::<Sha512>(password, salt, rounds, out),
        });
        Ok(())
    })
}

/// OpenSSL's `EVP_BytesToKey` with a count of 1: each piece is the digest of the piece before it,
/// the password and the salt.
fn bytes_to_key<D: sha2::digest::Digest>(password: &[u8], salt: &[u8], out: &mut [u8]) {
    let mut piece = sha2::digest::Output::<D>::default();
    let mut before = 0;
    for chunk in out.chunks_mut(<D as sha2::digest::Digest>::output_size()) {
        let mut digest = D::new();
        digest.update(&piece[..before]);
        digest.update(password);
        digest.update(salt);
        digest.finalize_into(&mut piece);
        before = piece.len();
        chunk.copy_from_slice(&piece[..chunk.len()]);
    }
    piece.as_mut_slice().zeroize();
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    const TEXT: &[u8] = b"1;00112233445566778899aabbccddeeff\n";
    const PASSWORD: &str = "correct horse";

    /// `TEXT` as the machine's own `openssl enc` encrypts it.
    fn by_openssl(arguments: &[&str]) -> Vec<u8> {
        let mut child = Command::new("openssl")
            .args(["enc", "-aes-256-cbc", "-k", PASSWORD])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(TEXT).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        output.stdout
    }

    #[test]
    fn files_of_openssl_enc_open_for_every_digest_and_derivation() -> Result<()> {
        for digest in Digest::ALL {
            for pbkdf2_iterations in [0, 1, 10_000] {
                let name = digest.to_string();
                let rounds = pbkdf2_iterations.to_string();
                let mut arguments = vec!["-md", &name];
                if pbkdf2_iterations > 0 {
                    arguments.extend(["-pbkdf2", "-iter", &rounds]);
                }
                let file = by_openssl(&arguments);
                assert!(is_encrypted(&file) && is_whole(&file));
                let how = Derivation { digest, pbkdf2_iterations };
                let text = decrypt(&file, PASSWORD.as_bytes(), how)?.unwrap();
                assert_eq!(text.expose(), TEXT, "{how:?}");
                let wrong = decrypt(&file, b"wrong horse", how)?;
                assert!(wrong.is_none_or(|text| text.expose() != TEXT), "{how:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn no_length_of_a_file_makes_it_panic() -> Result<()> {
        let file = by_openssl(&["-md", "sha1"]);
        let how = Derivation { digest: Digest::Sha1, pbkdf2_iterations: 0 };
        for len in 0..file.len() {
            let cut = &file[..len];
            let whole = is_encrypted(cut) && is_whole(cut);
            assert_eq!(whole, len > HEADER_LEN && len % BLOCK == 0, "{len}");
            let text = decrypt(cut, PASSWORD.as_bytes(), how)?;
            assert!(text.is_none_or(|text| text.expose() != TEXT), "{len}");
        }
        Ok(())
    }
}
