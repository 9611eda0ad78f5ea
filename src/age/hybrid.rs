//! Recipients whose key stays secret from quantum computers, too: X25519 with ML-KEM-768 (X-Wing), by HPKE
//! (RFC 9180).

#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, setup_receiver, setup_sender_with_rng,
};
use zeroize::Zeroizing;

use super::{FILE_KEY, Stanza, bech32, damaged};
use crate::env::Rng;
use crate::error::{Error, Kind, Result};
use crate::secret::{SecretBytes, scrubbed};

type PublicKey = <XWing as Kem>::PublicKey;
type PrivateKey = <XWing as Kem>::PrivateKey;

const KIND: &str = "mlkem768x25519";
const INFO: &[u8] = b"age-encryption.org/mlkem768x25519";
/// What a recipient begins with, and an identity, in lower case.
const PUBLIC: &str = "age1pq";
const SECRET: &str = "age-secret-key-pq-";
/// How much randomness a wrapping takes, in bytes.
const RANDOM: usize = 64;
/// The length of an identity, in bytes.
const SEED: usize = 32;

/// A public key to encrypt a file for: `age1pq1...`.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient(PublicKey);

/// The secret part of a recipient: `AGE-SECRET-KEY-PQ-1...`.
pub struct Identity(SecretBytes);

impl Recipient {
    pub(super) fn wrap(&self, key: &SecretBytes, rng: &dyn Rng) -> Result<Stanza> {
        let unusable = |_| Error::new(Kind::Internal, "a key cannot be wrapped for a recipient");
        let mut random = Given { bytes: Zeroizing::new([0; RANDOM]), used: 0 };
        rng.fill(&mut *random.bytes)?;
        let (sent, mut sender) = setup_sender_with_rng::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeS::Base,
            &self.0,
            INFO,
            &mut random,
        )
        .map_err(unusable)?;
        if random.used != RANDOM {
            return Err(Error::new(Kind::Internal, "a wrapping took another amount of randomness"));
        }
        let body = sender.seal(key.expose(), b"").map_err(unusable)?;
        let arguments = vec![STANDARD_NO_PAD.encode(sent.to_bytes())];
        Ok(Stanza { kind: KIND.to_owned(), arguments, body })
    }
}

impl FromStr for Recipient {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes = bech32::decode(PUBLIC, text).filter(|_| text.starts_with(PUBLIC));
        let key = bytes.and_then(|bytes| PublicKey::from_bytes(&bytes).ok());
        key.map(Self).ok_or_else(|| {
            Error::new(Kind::Config, format!("{text:?} is no post-quantum recipient of age's"))
                .advise("name one that begins with age1pq1, from `age-keygen -pq` or `keyward keystore backup --identity FILE`")
        })
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bech32::encode(PUBLIC, &self.0.to_bytes()))
    }
}

impl Identity {
    /// A new one.
    pub fn generate(rng: &dyn Rng) -> Result<Self> {
        SecretBytes::build(SEED, |seed| rng.fill(seed)).map(Self)
    }

    /// The one in the text of a file: `age-keygen`'s, or ours. Lines with `#` are comments.
    pub fn parse(file: &[u8]) -> Result<Self> {
        let none = || {
            Error::new(Kind::Config, "there is no post-quantum identity of age's in it")
                .advise("name the file with the line that begins with AGE-SECRET-KEY-PQ-1")
        };
        let text = str::from_utf8(file).map_err(|_| none())?;
        let is_key = |line: &&str| !line.is_empty() && !line.starts_with('#');
        let mut lines = text.lines().map(str::trim).filter(is_key);
        let (Some(line), None) = (lines.next(), lines.next()) else { return Err(none()) };
        // The standard has identities in upper case and recipients in lower case.
        let seed = bech32::decode(SECRET, line)
            .filter(|seed| seed.len() == SEED && line.starts_with("AGE-"));
        seed.map(|seed| Self(SecretBytes::copy_of(&seed))).ok_or_else(none)
    }

    /// The text of a file that holds it.
    pub fn to_text(&self) -> Result<SecretBytes> {
        let key = Zeroizing::new(bech32::encode(SECRET, self.0.expose()).to_ascii_uppercase());
        let head = format!("# public key: {}\n", self.recipient()?);
        Ok(SecretBytes::copy_of(Zeroizing::new(format!("{head}{}\n", *key)).as_bytes()))
    }

    /// Its recipient: the public part, to encrypt for.
    pub fn recipient(&self) -> Result<Recipient> {
        let recipient = scrubbed(|| Ok(Box::new(Recipient(XWing::sk_to_pk(&self.key()?)))));
        recipient.map(|boxed| *boxed)
    }

    /// The file's key; nothing where the stanza is for others.
    pub(super) fn unwrap(&self, stanza: &Stanza) -> Result<Option<SecretBytes>> {
        if stanza.kind != KIND {
            return Ok(None);
        }
        let wrong = || damaged("a recipient is none");
        let [sent] = &stanza.arguments[..] else { return Err(wrong()) };
        let sent = STANDARD_NO_PAD.decode(sent).map_err(|_| wrong())?;
        let sent = <XWing as Kem>::EncappedKey::from_bytes(&sent).map_err(|_| wrong())?;
        if stanza.body.len() != FILE_KEY + 16 {
            return Err(wrong());
        }
        let receiver = setup_receiver::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeR::Base,
            &self.key()?,
            &sent,
            INFO,
        );
        let mut receiver = receiver.map_err(|_| wrong())?;
        let opened = receiver.open(&stanza.body, b"").ok().map(Zeroizing::new);
        Ok(opened.map(|key| SecretBytes::copy_of(key.as_slice())))
    }

    fn key(&self) -> Result<PrivateKey> {
        let unusable = |_| Error::new(Kind::Internal, "an identity cannot be used");
        PrivateKey::from_bytes(self.0.expose()).map_err(unusable)
    }
}

/// Randomness that is here already, for a function that takes a source which cannot fail.
struct Given {
    bytes: Zeroizing<[u8; RANDOM]>,
    used: usize,
}

impl TryRng for Given {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes).map(|()| u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes).map(|()| u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        let given = self.bytes.get(self.used..).unwrap_or_default();
        for (to, byte) in out.iter_mut().zip(given) {
            *to = *byte;
        }
        self.used += out.len();
        Ok(())
    }
}

impl TryCryptoRng for Given {}
