//! `local`: wraps with a key on this machine, from a key file or from a passphrase.

mod derive;
mod keyfile;

use std::collections::BTreeMap;
use std::sync::Arc;

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut as _, Aes256Gcm, KeyInit as _, Nonce, Tag};

pub use self::derive::Cost;
use self::derive::{Derivation, Passphrase};
use self::keyfile::KeyFile;
pub use self::keyfile::create as create_key_file;
use super::Backend;
use crate::config::Section;
use crate::env::{Deadline, Rng};
use crate::error::{Error, Kind, Result};
use crate::key::CheckValue;
use crate::provider::{FreshLogin, KekInfo, KeyWrapper, Probe, Provider, WrapContext, WrappedKey};
use crate::secret::source::SecretSource;
use crate::secret::{DataKey, scrubbed};

/// `local` in the table of backends.
pub(super) static BACKEND: Backend = Backend {
    kind: "local",
    environment: &[],
    groups: &[],
    open: |section, rng| {
        let wrapper = LocalWrapper::new(Settings::read(section)?, Arc::clone(rng))?;
        Ok(Provider::Wraps(Box::new(wrapper)))
    },
    create_key: None,
    set_up: None,
};

/// How this provider wraps, as `WrappedKey::algorithm` says it and the AAD binds it.
const ALGORITHM: &str = "aes-256-gcm";

/// The first byte of what `wrap` makes; `unwrap` refuses any other. Behind it stand the nonce, the
/// encrypted key and the tag (NIST SP 800-38D).
const FORMAT: u8 = 1;

/// Begins the AAD, so that nothing else sealed under the same key could be taken for a wrapped key.
const AAD_LABEL: &str = "keyward local wrap v1";

const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;
const KEK_LEN: usize = 32;

/// What the configuration says of a local wrapping key.
pub struct Settings {
    /// Where the key comes from.
    pub kek: KekSource,
    /// What deriving a key from a passphrase costs. What is wrapped already keeps its own cost.
    pub cost: Cost,
}

impl Settings {
    /// What a `[[provider]]` section says.
    pub fn read(section: &Section) -> Result<Self> {
        let key = section.secret("key", ["key_file", "key_env", "key_credential"])?;
        let passphrase = section
            .secret("passphrase", ["passphrase_file", "passphrase_env", "passphrase_credential"])?;
        let kek = match (key, passphrase) {
            (Some(key), None) => KekSource::KeyFile(key),
            (None, Some(passphrase)) => KekSource::Passphrase(passphrase),
            (None, None) => return Err(section.lacks("key_file")),
            (Some(_), Some(_)) => {
                return Err(section
                    .wrong("type", "a local key is either a key file or a passphrase")
                    .advise("make it two providers, or leave one out"));
            }
        };
        Ok(Self { kek, cost: Cost::default() })
    }
}

/// Where a local wrapping key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KekSource {
    /// 32 bytes, or 64 hex digits, as [`create_key_file`] makes them.
    KeyFile(SecretSource),
    /// A passphrase, from which Argon2id makes the key.
    Passphrase(SecretSource),
}

/// A local wrapping key. It is read anew for each call, so that a key file's key is in memory only
/// while it is used.
pub struct LocalWrapper {
    kek: Kek,
    rng: Arc<dyn Rng>,
}

enum Kek {
    KeyFile(KeyFile),
    Passphrase(Passphrase),
}

/// A wrapping key, and all that a wrapped key says of it.
struct OpenKek {
    key: Arc<DataKey>,
    parameters: BTreeMap<String, String>,
}

impl LocalWrapper {
    /// The wrapper that `settings` describe. Nothing is read yet.
    pub fn new(settings: Settings, rng: Arc<dyn Rng>) -> Result<Self> {
        let kek = match settings.kek {
            KekSource::KeyFile(source) => Kek::KeyFile(KeyFile::new(source)),
            KekSource::Passphrase(source) => {
                Kek::Passphrase(Passphrase::new(source, settings.cost)?)
            }
        };
        Ok(Self { kek, rng })
    }

    /// The key for wrapping anew.
    fn newest(&self) -> Result<OpenKek> {
        match &self.kek {
            Kek::KeyFile(file) => {
                Ok(OpenKek { key: Arc::new(file.read()?), parameters: BTreeMap::new() })
            }
            Kek::Passphrase(passphrase) => {
                let (derivation, key) = passphrase.newest(&*self.rng)?;
                Ok(OpenKek { key, parameters: derivation.to_parameters() })
            }
        }
    }

    /// The key that should open `wrapped`.
    fn of(&self, wrapped: &WrappedKey) -> Result<OpenKek> {
        let parameters = wrapped.parameters.clone();
        let key = match &self.kek {
            Kek::KeyFile(_) if Derivation::is_in(&parameters) => {
                return Err(Error::new(
                    Kind::NotMine,
                    format!("wrapped by a passphrase, and {self} is a key file"),
                )
                .advise("use the provider that has the passphrase"));
            }
            Kek::Passphrase(_) if parameters.is_empty() => {
                return Err(Error::new(
                    Kind::NotMine,
                    format!("wrapped by key file {}, and {self} is a passphrase", wrapped.kek),
                )
                .advise("use the provider that has the key file"));
            }
            Kek::KeyFile(file) => Arc::new(file.read()?),
            Kek::Passphrase(passphrase) => {
                passphrase.derive(&Derivation::from_parameters(&parameters)?)?
            }
        };
        Ok(OpenKek { key, parameters })
    }

    fn not_mine(&self, wrapped: &WrappedKey, ours: &OpenKek) -> Error {
        let what = format!("wrapped by KEK {}, {self} is {}", wrapped.kek, ours.name());
        Error::new(Kind::NotMine, what).advise(match &self.kek {
            Kek::KeyFile(_) => "point `key_file` at the right one",
            Kek::Passphrase(_) => "it is another passphrase: check what it is read from",
        })
    }
}

impl std::fmt::Display for LocalWrapper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.kek {
            Kek::KeyFile(file) => write!(f, "the key in {}", file.source()),
            Kek::Passphrase(passphrase) => write!(f, "the passphrase in {}", passphrase.source()),
        }
    }
}

impl KeyWrapper for LocalWrapper {
    fn wrap(&self, data: &DataKey, context: &WrapContext, by: Deadline) -> Result<WrappedKey> {
        by.left(format_args!("wrapping with {self}"))?;
        let kek = self.newest()?;
        let mut wrapped = WrappedKey {
            kek: kek.name(),
            algorithm: ALGORITHM.to_owned(),
            parameters: kek.parameters.clone(),
            blob: Vec::new(),
        };
        wrapped.blob =
            seal(&kek.key, data, &context.associated_data(AAD_LABEL, &wrapped), &*self.rng)?;
        Ok(wrapped)
    }

    fn unwrap(&self, wrapped: &WrappedKey, context: &WrapContext, by: Deadline) -> Result<DataKey> {
        by.left(format_args!("unwrapping with {self}"))?;
        if wrapped.algorithm != ALGORITHM || wrapped.kek.parse::<CheckValue>().is_err() {
            return Err(Error::new(Kind::Corrupt, "wrapped in a way that no local key wraps")
                .advise("restore the keystore from a backup, or use the keyward that wrote it"));
        }
        let kek = self.of(wrapped)?;
        if kek.name() != wrapped.kek {
            return Err(self.not_mine(wrapped, &kek));
        }
        open(&kek.key, &wrapped.blob, &context.associated_data(AAD_LABEL, wrapped)).map_err(
            |error| {
                error.within(format_args!("store key {}, wrapped by {self}", context.store_key))
            },
        )
    }

    fn rewrap(
        &self,
        wrapped: &WrappedKey,
        context: &WrapContext,
        by: Deadline,
    ) -> Result<WrappedKey> {
        self.wrap(&self.unwrap(wrapped, context, by)?, context, by)
    }

    fn describe(&self, by: Deadline) -> Result<KekInfo> {
        by.left(format_args!("reading {self}"))?;
        Ok(KekInfo {
            kek: self.newest()?.name(),
            algorithm: ALGORITHM.to_owned(),
            place: self.to_string(),
            created: None,
            exportable: true,
        })
    }

    fn probe(&self, by: Deadline) -> Result<Probe> {
        let info = self.describe(by)?;
        let mut facts = vec![
            ("place".to_owned(), info.place),
            ("kek".to_owned(), info.kek),
            ("algorithm".to_owned(), info.algorithm),
        ];
        if let Kek::Passphrase(passphrase) = &self.kek {
            facts.push(("derivation".to_owned(), passphrase.cost().to_string()));
        }
        Ok(Probe { facts })
    }

    /// A key file and a passphrase are read for each call; a key is derived again only from a
    /// passphrase that changed.
    fn fresh_login(&self) -> FreshLogin {
        FreshLogin::Needless
    }
}

impl OpenKek {
    /// The key's check value: says which key it is, and nothing of its bytes. A key made from a
    /// passphrase has one for each salt.
    fn name(&self) -> String {
        self.key.check_value().to_string()
    }
}

fn seal(kek: &DataKey, data: &DataKey, associated: &[u8], rng: &dyn Rng) -> Result<Vec<u8>> {
    let broken = || Error::new(Kind::Internal, "AES-256-GCM does not encrypt");
    let secret = data.expose();
    let mut blob = vec![0; 1 + NONCE_LEN + secret.len() + TAG_LEN];
    blob[0] = FORMAT;
    rng.fill(&mut blob[1..=NONCE_LEN])?;
    let (head, tail) = blob.split_at_mut(1 + NONCE_LEN);
    let (encrypted, tag_place) = tail.split_at_mut(secret.len());
    let nonce = Nonce::try_from(&head[1..]).map_err(|_| broken())?;
    let buffer = InOutBuf::new(secret, encrypted).map_err(|_| broken())?;
    let tag = scrubbed(|| {
        let cipher = Aes256Gcm::new_from_slice(kek.expose()).map_err(|_| broken())?;
        cipher.encrypt_inout_detached(&nonce, associated, buffer).map_err(|_| broken())
    })?;
    tag_place.copy_from_slice(&tag);
    Ok(blob)
}

fn open(kek: &DataKey, blob: &[u8], associated: &[u8]) -> Result<DataKey> {
    let broken = |what: &str| {
        Error::new(Kind::Corrupt, what)
            .advise("the right wrapping key, a changed keystore: restore that from a backup")
    };
    let Some((FORMAT, rest)) = blob.split_first().map(|(format, rest)| (*format, rest)) else {
        return Err(broken("it has an unknown format"));
    };
    if rest.len() <= NONCE_LEN + TAG_LEN {
        return Err(broken("it is cut short"));
    }
    let (nonce, rest) = rest.split_at(NONCE_LEN);
    let (encrypted, tag) = rest.split_at(rest.len() - TAG_LEN);
    let nonce = Nonce::try_from(nonce).map_err(|_| broken("it has no nonce"))?;
    let tag = Tag::try_from(tag).map_err(|_| broken("it has no tag"))?;
    if encrypted.len() > DataKey::MAX_LEN {
        return Err(broken("it is longer than any key"));
    }
    DataKey::build(encrypted.len(), |key| {
        let changed = |_| broken("it was changed, or belongs to another keystore or store key");
        let buffer = InOutBuf::new(encrypted, key)
            .map_err(|_| Error::new(Kind::Internal, "a buffer has not its own length"))?;
        scrubbed(|| {
            let cipher = Aes256Gcm::new_from_slice(kek.expose())
                .map_err(|_| Error::new(Kind::Internal, "the wrapping key is not 32 bytes long"))?;
            cipher.decrypt_inout_detached(&nonce, associated, buffer, &tag).map_err(changed)
        })
    })
}

#[cfg(test)]
mod tests;
