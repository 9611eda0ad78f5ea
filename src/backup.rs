//! What a backup of a keystore says: every data key in plain, for people and programs that have nothing of
//! ours, and what it takes to make the same keystore again. `docs/recovery.md` has the format.
//!
//! The text is signed by the key of the keystore's epoch, since encryption for a recipient, to which anybody
//! can encrypt, proves no sender.

#![forbid(unsafe_code)]

mod folder;
mod lines;
mod note;
mod served;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

pub use folder::{Folder, Name};
use lines::{Out, Read, put_hex, put_numbered, put_states, ring_of, text_of};
pub use note::{Failure, Made, Note, NoteLock};
pub use served::{Origin, ServedBackup};

use crate::env::Timestamp;
use crate::error::{Error, Kind, Result, json_place};
use crate::hex::Hex;
use crate::key::{KeyInfo, KeyName, Purpose};
use crate::ring::Ring;
use crate::secret::{DataKey, SecretBytes};
use crate::store::{Registers, Revision};

/// How the text begins, and with it what is signed.
const FIRST: &str = "keyward backup v1\n";

/// Instructions for people who have nothing but this text.
const WORDS: &str = "
This text holds the encryption keys of a database server. Whoever reads it can read that server's data: keep it
where you keep the data itself, or encrypted.
";

/// Those for MariaDB.
const MARIADB_WORDS: &str = "
MariaDB without keyward: the lines below `MariaDB's keys` are key number, version and key, in hexadecimal digits. Copy
those of the highest version of each number to a file as NUMBER;KEY, and name it to MariaDB's own plugin:
    plugin_load_add = file_key_management
    file_key_management_filename = THAT FILE
    file_key_management_encryption_algorithm = AES_CTR      (or AES_CBC, as the line `state` of the key says)
That plugin knows one version of each key. Tables that older versions encrypted need keyward, whose provider `file`
reads the lines as they are.
";

/// Those for MySQL.
const MYSQL_WORDS: &str = "
MySQL without keyward: below `MySQL's keys` each line is a key in JSON, its names in base64, the key in hexadecimal
digits. component_keyring_file takes them in its own file: {\"version\":\"1.0\",\"elements\":[{\"user\":AUTH,
\"data_id\":NAME,\"data_type\":TYPE,\"data\":KEY IN CAPITALS,\"extension\":[]}]}.
";

/// How keyward takes a keystore's.
const KEYSTORE_WORDS: &str = "
With keyward: `keyward keystore restore FILE` makes the keystore again.

";

/// Where the part for programs begins.
const PROGRAMS: &str = "---\n";
/// The line before MySQL's keys.
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

impl Backup {
    /// The signed text. `sign` gives a public key and its signature over what it is given.
    pub fn to_text(
        &self,
        sign: impl FnOnce(&str) -> Result<(Hex<32>, [u8; 64])>,
    ) -> Result<SecretBytes> {
        let body = text_of(|out| self.put(out))?;
        let len = body.expose().len();
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
        ring_of(&self.keys)
    }

    /// Gives the text part by part, the same each time.
    fn put(&self, out: &mut Out<'_>) -> Result<()> {
        let head = Head {
            keystore: self.keystore.clone(),
            created: self.created,
            revision: self.revision,
            made: self.made,
            configuration: self.configuration,
            registers: self.registers.clone(),
        };
        let head = serde_json::to_string(&head).map_err(|_| unwritable())?;
        let words = [FIRST, WORDS, MARIADB_WORDS, MYSQL_WORDS, KEYSTORE_WORDS, PROGRAMS].concat();
        out(format!("{words}keystore {head}\n").as_bytes());
        put_states(&self.keys, out)?;
        out(b"secret ");
        put_hex(&self.secret, out);
        out(b"\n");
        put_numbered(&self.keys, out);
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
        if served::is_one(body) {
            return Err(Error::new(Kind::Config, "it is of keys that a key store serves")
                .advise("name the configuration of that key store, with --config"));
        }
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
        let mut read = Read::of(lines.lines().skip(1))?;
        let Head { keystore, created, revision, made, configuration, registers } = head;
        let secret = read.secret.take().ok_or_else(|| unreadable("it has no secret"))?;
        let keys = read.keys()?;
        Ok(Self { keystore, created, revision, made, configuration, registers, secret, keys })
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

fn unreadable(why: &str) -> Error {
    Error::new(Kind::Config, format!("it is no backup of a keystore: {why}"))
        .advise("name a file that `keyward keystore backup` wrote")
}

fn unwritable() -> Error {
    Error::new(Kind::Internal, "a backup cannot be written")
}
