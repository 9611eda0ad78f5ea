//! Signatures of `ssh-keygen -Y sign` (OpenSSH's PROTOCOL.sshsig), as far as approvals may be made with them.

#![forbid(unsafe_code)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha512};

use super::key::KeySignature;
use super::{NAMESPACE, PublicKey, Wire, put};
use crate::error::{Error, Kind, Result, escaped};

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
/// What the blob, and what is signed, begins with.
const MAGIC: &[u8] = b"SSHSIG";
const VERSION: u32 = 1;
const HASH: &str = "sha512";

/// A signature that somebody made, which nobody has verified yet.
#[derive(Debug)]
pub struct Signature {
    key: PublicKey,
    signature: Vec<u8>,
}

impl Signature {
    /// Reads the text of a file `.sig`. `Config` where it is none, is by another kind of key, or is for
    /// something else than an approval.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let blob =
            unarmored(text).ok_or_else(|| none("it is no file that `ssh-keygen -Y sign` made"))?;
        let mut wire = Wire(&blob);
        let damaged = || none("it is damaged");
        if wire.bytes(MAGIC.len()).ok_or_else(damaged)? != MAGIC {
            return Err(damaged());
        }
        if wire.number().ok_or_else(damaged)? != VERSION {
            return Err(none("it is of a later form of SSH signatures"));
        }
        let mut string = || wire.string().ok_or_else(damaged);
        let (key, namespace, reserved) = (string()?, string()?, string()?);
        let (hash, signature) = (string()?, string()?);
        wire.end(()).ok_or_else(damaged)?;
        let key = PublicKey::from_blob(key, "")?;
        if namespace != NAMESPACE.as_bytes() {
            let namespace = escaped(String::from_utf8_lossy(namespace));
            return Err(none(&format!("it was made for {namespace:?}, not for {NAMESPACE:?}"))
                .advise(format!("sign with `ssh-keygen -Y sign -n {NAMESPACE}`")));
        }
        if hash != HASH.as_bytes() {
            return Err(none("it is by another hash than sha512")
                .advise("leave out `-O hashalg`: sha512 is what ssh-keygen takes by itself"));
        }
        if !reserved.is_empty() {
            return Err(damaged());
        }
        KeySignature::parse(signature).ok_or_else(damaged)?;
        Ok(Self { key, signature: signature.to_vec() })
    }

    /// Whose key it says to be by. Its name is empty.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Whether that key made it over `message`.
    #[must_use]
    pub fn is_over(&self, message: &[u8]) -> bool {
        let mut signed = MAGIC.to_vec();
        put(&mut signed, NAMESPACE.as_bytes());
        put(&mut signed, b"");
        put(&mut signed, HASH.as_bytes());
        put(&mut signed, &Sha512::digest(message));
        let raw = KeySignature::parse(&self.signature);
        raw.is_some_and(|raw| self.key.has_signed(&signed, &raw))
    }
}

/// The bytes in the armor. A mail's line ends are no harm.
fn unarmored(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let mut lines = text.lines().map(str::trim_end);
    if lines.next() != Some(BEGIN) || lines.next_back() != Some(END) {
        return None;
    }
    STANDARD.decode(lines.collect::<String>()).ok()
}

fn none(why: &str) -> Error {
    Error::new(Kind::Config, format!("no approval: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By `ssh-keygen -Y sign -n keyward-approval-v1` of OpenSSH 9.2, over "hello\n".
    const SIGNED: &str = include_str!("../../tests/golden/approval/hello.sig");

    #[test]
    fn a_signature_of_openssh_is_over_what_was_signed_alone() {
        let signature = Signature::parse(SIGNED.as_bytes()).unwrap();
        assert!(signature.is_over(b"hello\n"));
        for other in [&b"hello"[..], b"hello\n\n", b"hellp\n", b""] {
            assert!(!signature.is_over(other));
        }
        Signature::parse(SIGNED.replace('\n', "\r\n").as_bytes()).unwrap();
    }

    #[test]
    fn every_changed_byte_is_refused_or_signs_nothing() {
        let blob = unarmored(SIGNED.as_bytes()).unwrap();
        for at in 0..blob.len() {
            let mut other = blob.clone();
            other[at] ^= 1;
            let text = format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(&other));
            let read = Signature::parse(text.as_bytes());
            assert!(read.is_err() || !read.unwrap().is_over(b"hello\n"), "byte {at}");
        }
        for cut in 0..blob.len() {
            let text = format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(&blob[..cut]));
            assert!(Signature::parse(text.as_bytes()).is_err(), "{cut} bytes");
        }
        let longer = [&blob[..], b"x"].concat();
        let text = format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(longer));
        assert!(Signature::parse(text.as_bytes()).is_err());
    }
}
