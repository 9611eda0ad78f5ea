//! Signed checkpoints of an audit trail: what a copy elsewhere proves. Their format is that of C2SP's
//! signed-note and tlog-checkpoint (c2sp.org), so that others' verifiers read them; the hash is that of the
//! trail's line, not of a Merkle tree.

#![forbid(unsafe_code)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, UnparsedPublicKey};
use sha2::{Digest, Sha256};

use super::line::Head;
use crate::error::{Error, Kind, Result};
use crate::hex::Hex;

/// The longest checkpoint, in bytes: ours have some 250, and other logs' signatures may be added.
pub const MAX_LEN: u64 = 1 << 16;

/// The kind of signature: Ed25519.
pub const ED25519_KIND: u8 = 1;

/// What begins a line with a signature.
const DASH: &str = "\u{2014} ";

/// What is signed: how far the trail of a keystore had come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    keystore: String,
    head: Head,
}

/// A checkpoint that was read, and its signatures, which nobody has verified yet.
#[derive(Debug)]
pub struct Signed {
    checkpoint: Checkpoint,
    text: String,
    signatures: Vec<Vec<u8>>,
}

impl Checkpoint {
    /// The checkpoint at `head` of the trail of the keystore called `keystore`.
    #[must_use]
    pub fn new(keystore: &str, head: Head) -> Self {
        Self { keystore: keystore.to_owned(), head }
    }

    /// The text that is signed: origin, number of lines, hash of the last.
    #[must_use]
    pub fn text(&self) -> String {
        let Head { line, hash } = self.head;
        format!("{}\n{line}\n{}\n", name(&self.keystore), STANDARD.encode(hash.0))
    }

    /// The whole checkpoint, with `signature` by the key `public`.
    #[must_use]
    pub fn note(&self, public: &Hex<32>, signature: &[u8; 64]) -> String {
        let name = name(&self.keystore);
        let signed = [&key_id(&name, public)[..], signature].concat();
        format!("{}\n{DASH}{name} {}\n", self.text(), STANDARD.encode(signed))
    }
}

/// The key `public` of the keystore called `keystore` as verifiers of signed notes take it.
#[must_use]
pub fn verifier_key(keystore: &str, public: &Hex<32>) -> String {
    let name = name(keystore);
    let id: [u8; 4] = key_id(&name, public);
    let key = [&[ED25519_KIND][..], &public.0].concat();
    format!("{name}+{}+{}", Hex(id), STANDARD.encode(key))
}

/// The name of the log, and of the key that signs it.
fn name(keystore: &str) -> String {
    format!("keyward/audit/{keystore}")
}

/// The number of the key `public` of the name `name`, as C2SP's signed-note has it.
#[must_use]
pub fn key_id(name: &str, public: &Hex<32>) -> [u8; 4] {
    let mut hash = Sha256::new();
    hash.update(name);
    hash.update([b'\n', ED25519_KIND]);
    hash.update(public.0);
    let [a, b, c, d, ..] = <[u8; 32]>::from(hash.finalize());
    [a, b, c, d]
}

impl Signed {
    /// Reads a checkpoint of the trail of the keystore called `keystore`. `Config` where it is none, or
    /// another's.
    pub fn parse(text: &str, keystore: &str) -> Result<Self> {
        let none = |why: &str| {
            Error::new(
                Kind::Config,
                format!("not a checkpoint of this keystore's audit trail: {why}"),
            )
            .advise("name a file that `keyward audit checkpoint` wrote")
        };
        let (body, signatures) = text.split_once("\n\n").ok_or_else(|| none("no signature"))?;
        let mut lines = body.lines();
        let origin = lines.next().unwrap_or_default();
        if origin != name(keystore) {
            return Err(none("it is of another log"));
        }
        let number =
            lines.next().filter(|text| !text.starts_with('+')).and_then(|n| n.parse().ok());
        let hash = lines.next().and_then(|hash| STANDARD.decode(hash).ok());
        let hash = hash.and_then(|hash| <[u8; 32]>::try_from(hash).ok());
        let (Some(line), Some(hash)) = (number, hash) else {
            return Err(none("it has no number of lines or no hash"));
        };
        let of_line = |line: &str| {
            let (_, signature) = line.strip_prefix(DASH)?.split_once(' ')?;
            STANDARD.decode(signature).ok()
        };
        Ok(Self {
            checkpoint: Checkpoint::new(keystore, Head { line, hash: Hex(hash) }),
            text: format!("{body}\n"),
            signatures: signatures.lines().filter_map(of_line).collect(),
        })
    }

    /// The line that it is of, if one of the keys `public` has signed it; `Denied` where none has.
    pub fn verified(&self, public: &[Hex<32>]) -> Result<Head> {
        let name = name(&self.checkpoint.keystore);
        let is_by = |key: &Hex<32>| {
            let verifier = UnparsedPublicKey::new(&ED25519, key.0);
            let id = key_id(&name, key);
            let signatures = self.signatures.iter().filter_map(|bytes| bytes.strip_prefix(&id));
            signatures.into_iter().any(|bytes| verifier.verify(self.text.as_bytes(), bytes).is_ok())
        };
        match public.iter().any(is_by) {
            true => Ok(self.checkpoint.head),
            false => Err(Error::new(
                Kind::Denied,
                "no epoch's key of this keystore has signed the checkpoint: it was changed, or is of \
                 another keystore of the same id",
            )
            .advise("compare it with the copy that the auditor keeps")),
        }
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    const KEYSTORE: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

    fn key(seed: u8) -> (Ed25519KeyPair, Hex<32>) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let public = Hex(pair.public_key().as_ref().try_into().unwrap());
        (pair, public)
    }

    fn note(line: u64) -> (String, Hex<32>) {
        let (pair, public) = key(7);
        let checkpoint = Checkpoint::new(KEYSTORE, Head { line, hash: Hex([5; 32]) });
        let signature = pair.sign(checkpoint.text().as_bytes());
        (checkpoint.note(&public, signature.as_ref().try_into().unwrap()), public)
    }

    /// For ever: auditors keep them.
    #[test]
    fn is_written_in_one_way() {
        let (text, public) = note(57);
        let lines: Vec<_> = text.split('\n').collect();
        assert_eq!(
            lines[..4],
            [
                "keyward/audit/6ba7b810-9dad-41d1-80b4-00c04fd430c8",
                "57",
                "BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU=",
                ""
            ]
        );
        assert!(
            lines[4].starts_with("\u{2014} keyward/audit/6ba7b810-9dad-41d1-80b4-00c04fd430c8 ")
        );
        assert_eq!(lines[5..], [""]);
        let verifier = verifier_key(KEYSTORE, &public);
        assert!(
            verifier.starts_with("keyward/audit/6ba7b810-9dad-41d1-80b4-00c04fd430c8+"),
            "{verifier}"
        );
    }

    #[test]
    fn whoever_has_the_key_verifies_it() {
        let (text, public) = note(57);
        let signed = Signed::parse(&text, KEYSTORE).unwrap();
        let head = Head { line: 57, hash: Hex([5; 32]) };
        assert_eq!(signed.verified(&[key(1).1, public]).unwrap(), head);
        assert_eq!(signed.verified(&[key(1).1]).unwrap_err().kind(), Kind::Denied);
        // Another log's signature beside ours does no harm.
        let cosigned = text.clone() + "\u{2014} witness.example AAAAAAAA\n";
        assert_eq!(Signed::parse(&cosigned, KEYSTORE).unwrap().verified(&[public]).unwrap(), head);
    }

    #[test]
    fn any_change_of_a_byte_is_refused() {
        let (text, public) = note(57);
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            let read = Signed::parse(&changed, KEYSTORE).and_then(|it| it.verified(&[public]));
            // The name beside a signature is for people: key and text are what counts.
            let of_name = at > text.find('\u{2014}').unwrap() && at < text.rfind(' ').unwrap();
            assert!(read.is_err() || of_name, "byte {at}: {read:?}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        let (text, _) = note(57);
        for other in ["", "\n\n", "keyward/audit/x\n1\nAA==\n\n", &text.replace("57", "+57")] {
            let error = Signed::parse(other, KEYSTORE).unwrap_err();
            assert_eq!(error.kind(), Kind::Config, "{other}");
        }
    }
}
