//! Wraps with a key on this machine.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::Arc;

use super::derive::{Derivation, Passphrase};
use super::keyfile::KeyFile;
use super::settings::{KekSource, Settings};
use crate::env::{Deadline, Rng};
use crate::error::{Error, Kind, Result};
use crate::key::CheckValue;
use crate::provider::{FreshLogin, KekInfo, KeyWrapper, Probe, WrapContext, WrappedKey};
use crate::secret::DataKey;
use crate::secret::aead::{self, NONCE_LEN, TAG_LEN};

/// How this provider wraps, as `WrappedKey::algorithm` says it and the AAD binds it.
const ALGORITHM: &str = "aes-256-gcm";

/// The first byte of what `wrap` makes; `unwrap` refuses any other. Behind it stand the nonce, the
/// encrypted key and the tag (NIST SP 800-38D).
pub(super) const FORMAT: u8 = 1;

/// Begins the AAD, so that nothing else sealed under the same key could be taken for a wrapped key.
const AAD_LABEL: &str = "keyward local wrap v1";

/// A local wrapping key. It is read again for each call, so that a key file's key is in memory only
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

    /// The key for wrapping again.
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

pub(super) fn seal(
    kek: &DataKey,
    data: &DataKey,
    associated: &[u8],
    rng: &dyn Rng,
) -> Result<Vec<u8>> {
    let mut nonce = [0; NONCE_LEN];
    rng.fill(&mut nonce)?;
    let sealed = aead::seal(kek, &nonce, associated, data.expose())?;
    Ok([&[FORMAT][..], &nonce, &sealed].concat())
}

pub(super) fn open(kek: &DataKey, blob: &[u8], associated: &[u8]) -> Result<DataKey> {
    let broken = |what: &str| {
        Error::new(Kind::Corrupt, what)
            .advise("the right wrapping key, a changed keystore: restore that from a backup")
    };
    let Some((&FORMAT, rest)) = blob.split_first() else {
        return Err(broken("it has an unknown format"));
    };
    let Some((nonce, sealed)) = rest.split_first_chunk().filter(|(_, rest)| rest.len() > TAG_LEN)
    else {
        return Err(broken("it is cut short"));
    };
    aead::open(kek, nonce, associated, sealed)?
        .ok_or_else(|| broken("it was changed, or belongs to another keystore or store key"))
}
