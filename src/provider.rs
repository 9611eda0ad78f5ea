//! The traits that a key store implements: a [`KeyServer`] serves data keys, a [`KeyWrapper`] wraps the
//! store key, and a [`KeyLookup`] answers for one data key at a time.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::env::{Deadline, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::key::{Cipher, KeyId, KeyInfo, KeyRef, KeyState, KeyVersion};
use crate::secret::DataKey;
use crate::secret::aead::Parts;

/// One configured key store.
pub enum Provider {
    /// It holds data keys and gives them out.
    Serves(Box<dyn KeyServer>),
    /// It holds a wrapping key and never gives it out.
    Wraps(Box<dyn KeyWrapper>),
}

/// A key store that gives out data keys. Every call ends by its deadline.
pub trait KeyServer: Send + Sync {
    /// All versions of all keys that it has, in no order.
    fn list(&self, by: Deadline) -> Result<Vec<KeyInfo>>;

    /// The material of one version. `NotFound` only where the store said so with authority.
    fn fetch(&self, key: &KeyRef, by: Deadline) -> Result<DataKey>;

    /// Stores a new version; `Conflict` where it exists already, `Unsupported` where nothing can
    /// be stored.
    fn put(&self, key: &KeyRef, data: &DataKey, by: Deadline) -> Result<()>;

    /// The same, with the cipher that the key is for; kept beside it where the store can.
    fn put_for(&self, key: &KeyRef, data: &DataKey, _: Cipher, by: Deadline) -> Result<()> {
        self.put(key, data, by)
    }

    /// Has the store itself make a new version of a length of its own; `None` where it takes only
    /// what it is given.
    fn make(&self, _: &KeyRef, _: Deadline) -> Option<Result<()>> {
        None
    }

    /// How those of `keys`, the versions of a backup in their order, come back that the store lacks: each by
    /// its place in `keys`, in the order in which they are to come. Nothing is changed: an error says what an
    /// administrator must do before.
    fn plan_return(
        &self,
        keys: &[ReturningKey<'_>],
        _: Deadline,
    ) -> Result<Vec<(usize, ReturnWay)>> {
        let what = format!("{} key versions cannot be put back by keyward", keys.len());
        Err(Error::new(Kind::Unsupported, what))
    }

    /// Brings a version back under its own number, in the order of [`Self::plan_return`]. One that is there
    /// with the same key is left as it is; `State` where it is another.
    fn put_back(&self, key: &ReturningKey<'_>, _: Deadline) -> Result<()> {
        Err(Error::new(Kind::Unsupported, format!("{} cannot be put back", key.key)))
    }

    /// Removes one version for ever; `Unsupported` where nothing can be removed.
    fn remove(&self, key: &KeyRef, by: Deadline) -> Result<()>;

    /// Whether the store answers, and what it says of itself.
    fn probe(&self, by: Deadline) -> Result<Probe>;

    /// Stable identity of this set of keys, independent of the key store's address.
    fn identity(&self) -> String {
        String::new()
    }

    /// Where the keys are, for people: the folder and the key store.
    fn place(&self) -> String {
        String::new()
    }

    /// What a second log-in costs.
    fn fresh_login(&self) -> FreshLogin {
        FreshLogin::Repeatable
    }

    /// Checks that the secrets of a log-in can be read. Nothing is sent.
    fn credentials_readable(&self) -> Result<()> {
        Ok(())
    }

    /// How long what it listed is taken for the truth.
    fn refresh(&self) -> Duration {
        Duration::from_millis(500)
    }

    /// What its log-ins need and what ends by itself, as far as that is known at the moment `now`: a token
    /// after a call. Nobody is asked.
    fn ends(&self, _now: Timestamp) -> Vec<End> {
        Vec::new()
    }

    /// What must be done now and then though nobody asks for a key.
    fn maintenance(&self) -> Option<Arc<dyn Maintain>> {
        None
    }
}

/// How a version comes back that a key store lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnWay {
    /// The store still has it, deleted.
    Undeleted,
    /// It is written again.
    Written,
    /// The store has it in another state, since a restore was cut off.
    Completed,
}

/// A version that comes back.
pub struct ReturningKey<'a> {
    /// Which it is.
    pub key: &'a KeyRef,
    /// What the store is to note of it: of several active versions the highest encrypts.
    pub state: KeyState,
    /// What it is for.
    pub cipher: Cipher,
    /// The key.
    pub data: &'a DataKey,
}

/// A key store that wraps other keys with a key of its own. Every call ends by its deadline.
pub trait KeyWrapper: Send + Sync {
    /// Wraps `data`, bound to `context`.
    fn wrap(&self, data: &DataKey, context: &WrapContext, by: Deadline) -> Result<WrappedKey>;

    /// Opens what `wrap` made. `NotMine` if another wrapping key made it; `Corrupt` if ours did
    /// and it or its context was changed; a store that cannot be reached is neither.
    fn unwrap(&self, wrapped: &WrappedKey, context: &WrapContext, by: Deadline) -> Result<DataKey>;

    /// Wraps the same key again with the wrapping key's newest version.
    fn rewrap(
        &self,
        wrapped: &WrappedKey,
        context: &WrapContext,
        by: Deadline,
    ) -> Result<WrappedKey>;

    /// Whether only who has a secret can have made `wrapped`. A public key wraps for everybody.
    fn authenticates(&self, _: &WrappedKey) -> bool {
        true
    }

    /// What its log-ins need and what ends by itself, as far as that is known at the moment `now`: a token
    /// after a call. Nobody is asked.
    fn ends(&self, _now: Timestamp) -> Vec<End> {
        Vec::new()
    }

    /// What can be told of the wrapping key.
    fn describe(&self, by: Deadline) -> Result<KekInfo>;

    /// Whether the store answers, and what it says of itself.
    fn probe(&self, by: Deadline) -> Result<Probe>;

    /// What a second log-in costs.
    fn fresh_login(&self) -> FreshLogin {
        FreshLogin::Repeatable
    }

    /// Checks that the secrets of a log-in can be read. Nothing is sent.
    fn credentials_readable(&self) -> Result<()> {
        Ok(())
    }

    /// What must be done now and then though nobody wraps a key.
    fn maintenance(&self) -> Option<Arc<dyn Maintain>> {
        None
    }
}

/// Something that a log-in needs, and that ends by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// What.
    pub what: Ending,
    /// When.
    pub at: Timestamp,
}

/// What ends by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The certificate in this file.
    Certificate(PathBuf),
    /// A token that was made elsewhere.
    Token {
        /// Whether it lives on if a server renews it.
        renewable: bool,
    },
}

/// What it would mean for a running server to open a key store once more, as its next start will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreshLogin {
    /// It logs in again and uses nothing up.
    Repeatable,
    /// It shows nothing that the one already open does not show: this key store reads its secrets
    /// for each call, or never repeats what was refused.
    Needless,
    /// It uses up, or may use up, a credential: why.
    Spends(&'static str),
}

/// A key store that is asked for one key at a time, when the server wants it. Every call ends by its
/// deadline; `NotFound` only where the store said so with authority.
pub trait KeyLookup: Send + Sync {
    /// Looks at the store once before the first key is asked for, as far as that is wanted.
    fn begin(&self, by: Deadline) -> Result<()>;

    /// The version of key `id` that encrypts.
    fn newest(&self, id: KeyId, by: Deadline) -> Result<Found>;

    /// Version `version` of key `id`.
    fn version(&self, id: KeyId, version: KeyVersion, by: Deadline) -> Result<Found>;

    /// What must be done now and then though nobody asks for a key.
    fn maintenance(&self) -> Option<Arc<dyn Maintain>> {
        None
    }
}

/// A key version that was looked up.
pub struct Found {
    /// Which version it is.
    pub version: KeyVersion,
    /// The key.
    pub data: DataKey,
    /// What it encrypts with.
    pub cipher: Cipher,
}

/// What a provider must do by itself, such as staying logged in.
pub trait Maintain: Send + Sync {
    /// Does what is due now. Cheap where nothing is; an error where something was and failed, and once where
    /// somebody must act before it will.
    fn maintain(&self, by: Deadline) -> Result<()>;
}

/// What a wrapped store key is bound to, so that it cannot be moved: the provider's additional
/// authenticated data or encryption context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrapContext {
    /// The id of the keystore (a UUID).
    pub keystore: String,
    /// The number of the store key within it, from 1 on.
    pub store_key: u32,
}

impl WrapContext {
    /// The context as bytes, for providers whose additional data is a byte string.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        format!("keyward store key\0{}\0{}", self.keystore, self.store_key).into_bytes()
    }

    /// All that `wrapped` says of itself and where it belongs, but for its blob, each part with its
    /// length before it so that no two wrapped keys have the same. `label` names provider and format.
    #[must_use]
    pub fn associated_data(&self, label: &str, wrapped: &WrappedKey) -> Vec<u8> {
        let parts = Parts::default()
            .with(label)
            .with(self.to_bytes())
            .with(&wrapped.algorithm)
            .with(&wrapped.kek);
        let all = wrapped.parameters.iter();
        all.fold(parts, |parts, (name, value)| parts.with(name).with(value)).into_bytes()
    }
}

/// A key as a provider wrapped it. The keystore keeps it and cannot read it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrappedKey {
    /// Which wrapping key made it, and which version of that where it has any: says nothing about
    /// the key's bytes, and lets a provider tell "not mine" from "broken".
    pub kek: String,
    /// How it was wrapped, such as `aes-256-gcm`.
    pub algorithm: String,
    /// What the provider needs beside the key to unwrap it (salt, cost of the derivation).
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub parameters: std::collections::BTreeMap<String, String>,
    /// The wrapped bytes; base64 in the keystore file.
    #[serde(with = "base64_bytes")]
    pub blob: Vec<u8>,
}

/// What can be told of a wrapping key.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KekInfo {
    /// Which key, as `WrappedKey::kek` has it.
    pub kek: String,
    /// How it wraps, such as `aes-256-gcm`.
    pub algorithm: String,
    /// Where it lives, for people.
    pub place: String,
    /// When it was made, where the key store tells.
    pub created: Option<Timestamp>,
    /// Whether anybody could take it out of the key store.
    pub exportable: bool,
}

/// What is left where the wrapping key of a keystore is gone: no other key can take its place.
pub const WITHOUT_ITS_KEY: &str = "do not stop a server that still runs: it has the keys, and can rescue \
    them (`keyward help life-of-a-key`); else open the keystore by another provider that wraps it, or restore \
    it from its own backup (keyward keystore restore)";

/// What `doctor` shows of a provider that answers: lines of name and value.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Probe {
    /// What was found, in the order to show it.
    pub facts: Vec<(String, String)>,
}

/// Bytes as base64 text (RFC 4648 section 4) in the keystore's JSON.
pub mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de};

    /// Writes the bytes as base64.
    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    /// Reads the bytes back; anything but canonical base64 is an error.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(from)?).map_err(de::Error::custom)
    }
}
