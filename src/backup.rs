//! What a backup of a keystore says: every data key in plain, for people and programs that have nothing of
//! ours, and what it takes to make the same keystore again. `docs/recovery.md` has the format.
//!
//! The text is signed by the key of the keystore's epoch, since encryption for a recipient, to which anybody
//! can encrypt, proves no sender.

#![forbid(unsafe_code)]

mod folder;
mod note;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use folder::{Folder, Name};
pub use note::{Failure, Made, Note, NoteLock};

use crate::env::Timestamp;
use crate::error::{Error, Kind, Result, json_place};
use crate::hex::{self, Hex};
use crate::key::{KeyId, KeyInfo, KeyName, KeyRef, KeyState, KeyVersion, Purpose};
use crate::ring::{NamedKey, NamedKeys, Ring, RingKey};
use crate::secret::{DataKey, SecretBytes};
use crate::store::{Registers, Revision};

/// How the text begins, and with it what is signed.
const FIRST: &str = "keyward backup v1\n";

/// Instructions for people who have nothing but this text.
const WORDS: &str = "
This text holds the encryption keys of a database server. Whoever reads it can read that server's data: keep it
where you keep the data itself, or encrypted.

MariaDB without keyward: the lines below `MariaDB's keys` are key number, version and key, in hexadecimal digits. Copy
those of the highest version of each number to a file as NUMBER;KEY, and name it to MariaDB's own plugin:
    plugin_load_add = file_key_management
    file_key_management_filename = THAT FILE
    file_key_management_encryption_algorithm = AES_CTR      (or AES_CBC, as the line `state` of the key says)
That plugin knows one version of each key. Tables that older versions encrypted need keyward, whose provider `file`
reads the lines as they are.

MySQL without keyward: below `MySQL's keys` each line is a key in JSON, its names in base64, the key in hexadecimal
digits. component_keyring_file takes them in its own file: {\"version\":\"1.0\",\"elements\":[{\"user\":AUTH,
\"data_id\":NAME,\"data_type\":TYPE,\"data\":KEY IN CAPITALS,\"extension\":[]}]}.

With keyward: `keyward keystore restore FILE` makes the keystore again.

";

/// Where the part for programs begins.
const PROGRAMS: &str = "---\n";
/// The line before MariaDB's keys, and that before MySQL's.
const MARIADBS: &str = "# MariaDB's keys: number;version;key";
const MYSQLS: &str = "# MySQL's keys";

/// A keystore's backup, opened.
pub struct Backup {
    /// The keystore's id.
    pub keystore: String,
    /// When that was made.
    pub created: Timestamp,
    /// What it was when the backup was made.
    pub revision: Revision,
    /// When that was.
    pub made: Timestamp,
    /// SHA-256 of the configuration.
    pub configuration: Option<Hex<32>>,
    /// Epochs, data directories, approvers and the rest.
    pub registers: Registers,
    /// What check values and signing keys derive from.
    pub secret: DataKey,
    /// Every version that decrypts, by key and version.
    pub keys: Vec<BackupKey>,
}

/// A key version.
pub struct BackupKey {
    /// What is known of it.
    pub info: KeyInfo,
    /// The key.
    pub data: DataKey,
}

/// The first line for programs.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    keystore: String,
    created: Timestamp,
    revision: Revision,
    made: Timestamp,
    configuration: Option<Hex<32>>,
    registers: Registers,
}

/// What is known of a version besides its key.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    key: KeyRef,
    state: KeyState,
    cipher: Purpose,
    created: Option<Timestamp>,
}

impl Backup {
    /// The signed text. `sign` gives a public key and its signature over what it is given.
    pub fn to_text(
        &self,
        sign: impl FnOnce(&str) -> Result<(Hex<32>, [u8; 64])>,
    ) -> Result<SecretBytes> {
        let mut len = 0;
        self.put(&mut |part| len += part.len())?;
        let mut at = 0;
        let body = SecretBytes::build(len, |body| {
            self.put(&mut |part| {
                body[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            })
        })?;
        let text = str::from_utf8(body.expose()).map_err(|_| unreadable("it is no text"))?;
        let (key, signature) = sign(text)?;
        let end = format!("signature {key} {}\n", Hex(signature));
        SecretBytes::build(len + end.len(), |all| {
            all[..len].copy_from_slice(body.expose());
            all[len..].copy_from_slice(end.as_bytes());
            Ok(())
        })
    }

    /// A ring with all keys, to try data with; of MySQL's those in use.
    pub fn ring(&self) -> Result<Ring> {
        let (ring, mut named) = (Ring::new(), NamedKeys::default());
        for BackupKey { info, data } in &self.keys {
            let version = info.key.version;
            let bytes = data.expose();
            let copy = || {
                DataKey::of_keyring(bytes.len(), |to| {
                    to.copy_from_slice(bytes);
                    Ok(())
                })
            };
            match (&info.key.name, &info.purpose) {
                (KeyName::Id(id), Purpose::Pages(cipher)) => {
                    ring.insert(*id, version, RingKey::new(copy()?, *cipher))?;
                }
                (name, Purpose::Keyring(kind)) if info.state == KeyState::Active => {
                    let key = NamedKey::new(version, kind.clone(), copy()?, None);
                    named.insert(name.clone(), Arc::new(key));
                }
                _ => {}
            }
        }
        ring.set_named(named);
        Ok(ring)
    }

    /// Gives the text part by part, the same each time.
    fn put(&self, out: &mut dyn FnMut(&[u8])) -> Result<()> {
        let mut line = |words: &str| {
            out(words.as_bytes());
            out(b"\n");
        };
        let head = Head {
            keystore: self.keystore.clone(),
            created: self.created,
            revision: self.revision,
            made: self.made,
            configuration: self.configuration,
            registers: self.registers.clone(),
        };
        let head = serde_json::to_string(&head).map_err(|_| unwritable())?;
        line(&(FIRST.to_owned() + WORDS + PROGRAMS + "keystore " + &head));
        for BackupKey { info, .. } in &self.keys {
            let KeyInfo { key, state, purpose, created, .. } = info;
            let (key, cipher) = (key.clone(), purpose.clone());
            let state = State { key, state: *state, cipher, created: *created };
            let state = serde_json::to_string(&state).map_err(|_| unwritable())?;
            line(&format!("state {state}"));
        }
        out(b"secret ");
        put_hex(&self.secret, out);
        out(format!("\n{MARIADBS}\n").as_bytes());
        for BackupKey { info, data } in &self.keys {
            if let KeyName::Id(id) = info.key.name {
                out(format!("{id};{};", info.key.version).as_bytes());
                put_hex(data, out);
                out(b"\n");
            }
        }
        out(format!("{MYSQLS}\n").as_bytes());
        for BackupKey { info, data } in &self.keys {
            if let (KeyName::Named { data_id, auth_id }, Purpose::Keyring(kind)) =
                (&info.key.name, &info.purpose)
            {
                let [name, user] = [data_id, auth_id].map(|name| STANDARD.encode(name.as_bytes()));
                let kind = serde_json::to_string(kind.kind()).map_err(|_| unwritable())?;
                let version = info.key.version;
                let front = format!(
                    "{{\"data_id\":\"{name}\",\"auth_id\":\"{user}\",\"version\":{version},\"type\":{kind},\"key\":\""
                );
                out(front.as_bytes());
                put_hex(data, out);
                out(b"\"}\n");
            }
        }
        Ok(())
    }

    /// Reads a text that is signed by the keystore of this `fingerprint`.
    ///
    /// # Errors
    /// `Config` where it is no backup, `Untrusted` where that keystore has not signed it, or it was changed.
    pub fn parse(text: &[u8], fingerprint: &str) -> Result<Self> {
        let text = str::from_utf8(text).map_err(|_| unreadable("it is no text"))?;
        let body = text.strip_prefix(FIRST).ok_or_else(|| unreadable("it begins otherwise"))?;
        let at = text.rfind("\nsignature ").map(|at| at + 1);
        let at = at.ok_or_else(|| unreadable("it has no signature"))?;
        let (signed, signature) = text.split_at(at);
        let lines = body.get(..at - FIRST.len()).unwrap_or_default();
        let (_, lines) = lines.split_once(PROGRAMS).ok_or_else(|| unreadable("it has no keys"))?;
        let first = lines.lines().next().and_then(|line| line.strip_prefix("keystore "));
        let head: Head =
            serde_json::from_str(first.ok_or_else(|| unreadable("it has no keystore"))?)
                .map_err(|cause| unreadable(&json_place(&cause)))?;
        check_signature(signed, signature, &head.registers, fingerprint)?;
        let read = Read::of(lines.lines().skip(1))?;
        let Head { keystore, created, revision, made, configuration, registers } = head;
        let secret = read.secret.ok_or_else(|| unreadable("it has no secret"))?;
        let mut keys = Vec::with_capacity(read.states.len());
        let mut data = read.keys.into_iter();
        for State { key, state, cipher, created } in read.states {
            let found = data.next().filter(|(name, _)| *name == key);
            let (_, data) = found.ok_or_else(|| unreadable("a key is missing or out of order"))?;
            let info = KeyInfo { key, state, purpose: cipher, created, check: None };
            keys.push(BackupKey { info, data });
        }
        if data.next().is_some() {
            return Err(unreadable("a key has no state"));
        }
        Ok(Self { keystore, created, revision, made, configuration, registers, secret, keys })
    }
}

/// What the lines after the first say.
#[derive(Default)]
struct Read {
    states: Vec<State>,
    secret: Option<DataKey>,
    keys: Vec<(KeyRef, DataKey)>,
}

/// A key of MySQL's; what it is for is in its `state`.
#[derive(Deserialize)]
struct Named<'a> {
    data_id: String,
    auth_id: String,
    version: KeyVersion,
    /// Borrowed, so that no copy of it is made.
    key: &'a str,
}

impl Read {
    fn of<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut read = Self::default();
        for line in lines.filter(|line| !line.starts_with('#')) {
            if let Some(state) = line.strip_prefix("state ") {
                let state = serde_json::from_str(state);
                read.states.push(state.map_err(|cause| unreadable(&json_place(&cause)))?);
            } else if let Some(secret) = line.strip_prefix("secret ") {
                read.secret = Some(key_of(secret)?);
            } else if line.starts_with('{') {
                read.named(line)?;
            } else {
                let mut words = line.splitn(3, ';');
                let mut number = || words.next()?.parse::<u32>().ok();
                let numbers = number().zip(number());
                let (id, version) =
                    numbers.ok_or_else(|| unreadable("a line is none of a backup's"))?;
                let key = key_of(words.next().unwrap_or_default())?;
                let name = KeyRef::new(KeyId::try_from(id)?, KeyVersion::try_from(version)?);
                read.keys.push((name, key));
            }
        }
        Ok(read)
    }

    fn named(&mut self, line: &str) -> Result<()> {
        let named: Named<'_> =
            serde_json::from_str(line).map_err(|cause| unreadable(&json_place(&cause)))?;
        let name =
            |text: &str| STANDARD.decode(text).map_err(|_| unreadable("a name is no base64"));
        let name = KeyName::named(name(&named.data_id)?, name(&named.auth_id)?);
        self.keys.push((KeyRef::new(name, named.version), key_of(named.key)?));
        Ok(())
    }
}

/// Checks that `signed` was signed in the last epoch of `registers`, and that the keystore of that
/// `fingerprint` has come to be that one.
fn check_signature(
    signed: &str,
    line: &str,
    registers: &Registers,
    fingerprint: &str,
) -> Result<()> {
    let refused = |what: &str| {
        Err(Error::new(Kind::Untrusted, format!("it is not to be believed: {what}")).advise(
            "take another copy of it, and compare the fingerprint with the one that was noted",
        ))
    };
    let Some(last) = registers.epochs().last() else { return refused("it names no signing key") };
    if !registers.descends_from(fingerprint) {
        return refused("it is of a keystore with another fingerprint");
    }
    let mut words = line.trim_end_matches('\n').split(' ').skip(1);
    let key: Option<Hex<32>> = words.next().and_then(|key| key.parse().ok());
    let signature: Option<Hex<64>> = words.next().and_then(|signature| signature.parse().ok());
    let right = key == Some(last.public_key)
        && signature.is_some_and(|signature| {
            let key = UnparsedPublicKey::new(&ED25519, last.public_key.0);
            key.verify(signed.as_bytes(), &signature.0).is_ok()
        });
    if right { Ok(()) } else { refused("it was changed, or signed by somebody else") }
}

fn put_hex(key: &DataKey, out: &mut dyn FnMut(&[u8])) {
    for byte in key.expose() {
        out(&*Zeroizing::new(hex::digits(*byte)));
    }
}

fn key_of(hex: &str) -> Result<DataKey> {
    let wrong = || unreadable("a key is no hexadecimal digits");
    let (pairs, []) = hex.as_bytes().as_chunks::<2>() else { return Err(wrong()) };
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    DataKey::of_keyring(pairs.len(), |key| {
        for (to, [high, low]) in key.iter_mut().zip(pairs) {
            *to = digit(*high)
                .zip(digit(*low))
                .map(|(high, low)| high << 4 | low)
                .ok_or_else(wrong)?;
        }
        Ok(())
    })
}

fn unreadable(why: &str) -> Error {
    Error::new(Kind::Config, format!("it is no backup of a keystore: {why}"))
        .advise("name a file that `keyward keystore backup` wrote")
}

fn unwritable() -> Error {
    Error::new(Kind::Internal, "a backup cannot be written")
}
