//! An approver's SSH public key, as OpenSSH writes it in a file `.pub`.

#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::signature::{ED25519, UnparsedPublicKey};
use sha2::{Digest as _, Sha256};

use super::Wire;
use crate::error::{Error, Kind, Result, escaped};
use crate::hex::Hex;

/// A key in a file (RFC 8709).
const ED25519_KIND: &str = "ssh-ed25519";
/// A key in a FIDO authenticator (OpenSSH's PROTOCOL.u2f).
const SK_ED25519_KIND: &str = "sk-ssh-ed25519@openssh.com";
/// The longest line of a public key, in bytes.
const MAX_LINE: usize = 4096;
/// The longest name, in bytes.
const MAX_NAME: usize = 200;
/// The authenticator's word that somebody touched it (U2F raw message formats, section 5.4).
const USER_PRESENT: u8 = 1;

/// The key of an approver. Two are the same if their bytes are, whatever they are called.
#[derive(Clone, Debug)]
pub struct PublicKey {
    blob: Vec<u8>,
    key: [u8; 32],
    /// What a key of an authenticator is for, such as `ssh:`; none of a key in a file.
    application: Option<Vec<u8>>,
    name: String,
}

/// A signature as SSH has it: by which kind of key, and what an authenticator adds.
pub(super) struct KeySignature<'a> {
    kind: &'a [u8],
    bytes: &'a [u8],
    /// Flags and counter.
    of_authenticator: Option<&'a [u8]>,
}

impl PublicKey {
    /// The key in the wire format `blob`, of somebody called `name`. `Config` where it is of another kind.
    pub(super) fn from_blob(blob: &[u8], name: &str) -> Result<Self> {
        let mut wire = Wire(blob);
        let broken = || Error::new(Kind::Config, "its public key is damaged");
        let kind = wire.string().ok_or_else(broken)?;
        let has_application = match kind {
            kind if kind == ED25519_KIND.as_bytes() => false,
            kind if kind == SK_ED25519_KIND.as_bytes() => true,
            other => return Err(other_kind(&String::from_utf8_lossy(other))),
        };
        let mut read = || {
            let key = wire.string()?.try_into().ok()?;
            let application = match has_application {
                true => Some(wire.string()?.to_vec()),
                false => None,
            };
            wire.end((key, application))
        };
        let (key, application) = read().ok_or_else(broken)?;
        Ok(Self { blob: blob.to_vec(), key, application, name: name.to_owned() })
    }

    /// Whose it is: the comment in the file `.pub`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What names it to people, as `ssh-keygen -l` prints it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(&self.blob)))
    }

    /// What names it in the name of a file.
    #[must_use]
    pub fn short(&self) -> String {
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(Sha256::digest(&self.blob));
        Hex([a, b, c, d, e, f, g, h]).to_string()
    }

    /// Whether both are the same key.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.blob == other.blob
    }

    /// Whether it is the key of the person who acts as `actor`: `alice (sudo, uid 0) on db1` or
    /// `'alice'@'localhost'` are the key that is called `alice`, or `alice@` and anything.
    #[must_use]
    pub fn is_of(&self, actor: &str) -> bool {
        let person = |text: &str| {
            let text = text.trim_start_matches(['\'', '`', '"']);
            text.split(['@', ' ', '\'', '`', '"']).next().unwrap_or_default().to_owned()
        };
        let (person, own) = (person(actor), person(&self.name));
        !person.is_empty() && person.eq_ignore_ascii_case(&own)
    }

    /// Whether it made `signature` over `message`. An authenticator must say that somebody touched it.
    pub(super) fn has_signed(&self, message: &[u8], signature: &KeySignature<'_>) -> bool {
        let KeySignature { kind, bytes, of_authenticator } = signature;
        let verify = |message: &[u8]| {
            UnparsedPublicKey::new(&ED25519, self.key).verify(message, bytes).is_ok()
        };
        match (&self.application, of_authenticator) {
            (None, None) => *kind == ED25519_KIND.as_bytes() && verify(message),
            (Some(application), Some(more)) => {
                let present = more.first().is_some_and(|flags| flags & USER_PRESENT != 0);
                let (application, digest) = (Sha256::digest(application), Sha256::digest(message));
                *kind == SK_ED25519_KIND.as_bytes()
                    && present
                    && verify(&[&application[..], more, &digest[..]].concat())
            }
            _ => false,
        }
    }
}

impl<'a> KeySignature<'a> {
    /// Reads the signature in a signature's wire format.
    pub(super) fn parse(blob: &'a [u8]) -> Option<Self> {
        let mut wire = Wire(blob);
        let (kind, bytes) = (wire.string()?, wire.string()?);
        let of_authenticator = match kind == SK_ED25519_KIND.as_bytes() {
            true => Some(wire.bytes(5)?),
            false => None,
        };
        wire.end(Self { kind, bytes, of_authenticator })
    }
}

impl FromStr for PublicKey {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        let refused = |what: &str| {
            Error::new(Kind::Config, what).advise(
                "name a file .pub that `ssh-keygen -t ed25519` made: one line of kind, key and whose it is",
            )
        };
        let line = line.trim();
        if line.len() > MAX_LINE {
            return Err(refused("a public key is longer than 4096 bytes"));
        }
        let (kind, rest) = line.split_once(' ').ok_or_else(|| refused("no SSH public key"))?;
        if ![ED25519_KIND, SK_ED25519_KIND].contains(&kind) {
            return Err(match is_a_kind(kind) {
                true => other_kind(kind),
                false => refused("no SSH public key"),
            });
        }
        let (key, name) = rest.trim_start().split_once(' ').unwrap_or((rest, ""));
        let name = name.trim();
        if name.is_empty() || name.len() > MAX_NAME || escaped(name) != name {
            let what = "an approver's public key does not say whose it is";
            return Err(Error::new(Kind::Config, what)
                .advise("write the person's account behind the key: ssh-ed25519 AAAA... alice"));
        }
        let blob = STANDARD.decode(key).map_err(|_| refused("the public key is damaged"))?;
        let parsed = Self::from_blob(&blob, name)?;
        match parsed.to_string().split(' ').next() == Some(kind) {
            true => Ok(parsed),
            false => Err(refused("the public key is of another kind than it says")),
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.application.is_some() { SK_ED25519_KIND } else { ED25519_KIND };
        write!(f, "{kind} {} {}", STANDARD.encode(&self.blob), self.name)
    }
}

fn is_a_kind(word: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-", "rsa-"].iter().any(|begins| word.starts_with(begins))
}

fn other_kind(kind: &str) -> Error {
    let what = match kind.contains("-cert-v0") {
        true => format!("it is a certificate ({kind}), and approvals are by plain keys"),
        false => format!("it is by a key of kind {kind}"),
    };
    Error::new(Kind::Config, what)
        .advise("approvers have keys of kind ssh-ed25519 or sk-ssh-ed25519@openssh.com: `ssh-keygen -t ed25519` makes one")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBERERERERERERERERERERERERERERERERERERERERER alice@example.org";

    #[test]
    fn a_key_reads_back_as_it_is_written() {
        let key: PublicKey = ALICE.parse().unwrap();
        assert_eq!((key.to_string().as_str(), key.name()), (ALICE, "alice@example.org"));
        assert_eq!(key.key, [0x11; 32]);
        assert!(key.fingerprint().starts_with("SHA256:") && key.fingerprint().len() == 50);
    }

    #[test]
    fn other_kinds_and_damaged_keys_are_refused_with_words() {
        let told = |line: &str| line.parse::<PublicKey>().unwrap_err().to_string();
        for (line, words) in [
            ("", "no SSH public key"),
            ("alice", "no SSH public key"),
            ("command=x ssh-ed25519 AAAA x", "no SSH public key"),
            ("ssh-rsa AAAAB3NzaC1yc2E= alice", "a key of kind ssh-rsa"),
            ("ecdsa-sha2-nistp256 AAAA alice", "a key of kind ecdsa-sha2-nistp256"),
            ("ssh-ed25519-cert-v01@openssh.com AAAA alice", "it is a certificate"),
            ("ssh-ed25519 AAAA alice", "damaged"),
            ("ssh-ed25519 ! alice", "damaged"),
            (ALICE.split(" alice").next().unwrap(), "whose it is"),
            (
                &ALICE.replace("ssh-ed", "sk-ssh-ed").replace("9 AAAA", "9@openssh.com AAAA"),
                "another kind",
            ),
        ] {
            assert!(told(line).contains(words), "{line}: {}", told(line));
        }
    }

    #[test]
    fn a_key_is_its_persons_whatever_machine_the_name_has() {
        let key: PublicKey = ALICE.parse().unwrap();
        for actor in
            ["alice on db1", "alice (sudo, uid 0) on db1", "'alice'@'localhost'", "Alice@x"]
        {
            assert!(key.is_of(actor), "{actor}");
        }
        for actor in ["alicia on db1", "root on db1", "", " alice", "@"] {
            assert!(!key.is_of(actor), "{actor}");
        }
    }
}
