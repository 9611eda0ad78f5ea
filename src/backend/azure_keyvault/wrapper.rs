//! Wraps with a key in Key Vault or Managed HSM.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::client::{Call, Client, Target};
use super::failure::{self, DECRYPT, DESCRIBE, ENCRYPT, Step, UNWRAP, WRAP};
use super::name::KeyName;
use super::payload;
use super::settings::{Algorithm, KeyType, Settings};
use crate::config::Section;
use crate::env::{Clock as _, Deadline, Rng, System, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::hex;
use crate::provider::{KekInfo, KeyWrapper, Probe, WrapContext, WrappedKey};
use crate::secret::DataKey;

/// What wraps, and in which way: the first part of what a wrapped key is bound to.
const LABEL: &str = "keyward azure-keyvault v1";

/// The longest wrapped key that can be one: RSA with 16,384 bits.
const MAX_WRAPPED: usize = 2048;

/// AES-GCM's nonce and tag, before and behind the encrypted key (NIST SP 800-38D).
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;

/// AES key wrap takes such blocks (RFC 3394).
const BLOCK: usize = 8;

/// What makes two of the same key differ, in hex among the parameters.
const SALT: &str = "salt";
const SALT_LEN: usize = 16;

/// What the probe wraps, for nothing.
const PROBE: &[u8; 16] = b"keyward's doctor";

/// A key in Key Vault or Managed HSM. A wrapped key's `kek` is the full name of the version that made it, and
/// part of what it is bound to.
pub struct KeyVaultWrapper {
    pub(super) client: Client,
}

/// A key as it is described (`KeyBundle`).
#[derive(Deserialize)]
pub(super) struct Key {
    key: JsonWebKey,
    #[serde(default)]
    attributes: Attributes,
}

#[derive(Deserialize)]
struct JsonWebKey {
    kid: String,
    kty: String,
    #[serde(default)]
    key_ops: Vec<String>,
}

/// Moments are seconds since 1970.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attributes {
    enabled: Option<bool>,
    nbf: Option<u64>,
    exp: Option<u64>,
    created: Option<u64>,
    exportable: Option<bool>,
    recovery_level: Option<String>,
    recoverable_days: Option<u32>,
}

/// What a key made of something (`KeyOperationResult`).
#[derive(Deserialize)]
struct Made {
    kid: Option<String>,
    value: String,
    iv: Option<String>,
    #[serde(alias = "authenticationTag")]
    tag: Option<String>,
}

impl Key {
    /// What kind it is, where that is one that wraps.
    fn kind(&self) -> Option<KeyType> {
        Some(match self.key.kty.as_str() {
            "RSA" => KeyType::Rsa,
            "RSA-HSM" => KeyType::RsaHsm,
            "oct-HSM" | "oct" => KeyType::OctHsm,
            _ => return None,
        })
    }

    /// Whether somebody can destroy it at once.
    fn is_purgeable(&self) -> bool {
        self.attributes.recovery_level.as_ref().is_none_or(|level| level.contains("Purgeable"))
    }
}

impl KeyVaultWrapper {
    pub(super) fn of(section: &Section, rng: &Arc<dyn Rng>) -> Result<Self> {
        Ok(Self::new(Settings::read(section)?, Arc::clone(rng)))
    }

    /// The wrapper that `settings` describe. Nobody is called yet.
    #[must_use]
    pub fn new(settings: Settings, rng: Arc<dyn Rng>) -> Self {
        Self { client: Client::new(settings, rng) }
    }

    pub(super) fn key(&self) -> &KeyName {
        &self.client.settings.key
    }

    /// The key as the vault describes it, whatever its state: the version that is named, else the newest.
    pub(super) fn describe_key(&self, call: &Call<'_>) -> Result<Key> {
        let key = self.key();
        let version = key.version.as_deref();
        let path = match version {
            Some(version) => format!("/keys/{}/{version}", key.name),
            None => format!("/keys/{}", key.name),
        };
        call.get(&Target { step: &DESCRIBE, path: &path, version })
    }

    /// The version of `found` and how it wraps, if it can wrap and cannot be lost.
    pub(super) fn usable(&self, call: &Call<'_>, found: &Key) -> Result<(String, Algorithm)> {
        let (key, now) = (self.key(), System.now().as_unix());
        let version = key.version_in(&found.key.kid);
        let version = version.ok_or_else(|| failure::foreign(&call.place()))?;
        let kind = self.kind_of(found)?;
        let algorithm = self.client.settings.algorithm.unwrap_or(kind.algorithm());
        let fits = (algorithm == Algorithm::RsaOaep256) == (kind != KeyType::OctHsm);
        if !fits {
            return Err(failure::wrong_algorithm(key, kind, algorithm));
        }
        let attributes = &found.attributes;
        if attributes.enabled == Some(false) {
            return Err(failure::disabled(key, Some(&version)));
        }
        if let Some(begins) = attributes.nbf.filter(|begins| *begins > now) {
            return Err(failure::not_yet(key, &version, Some(Timestamp::from_unix(begins))));
        }
        if let Some(ended) = attributes.exp.filter(|ended| *ended <= now) {
            return Err(failure::expired(key, &version, Some(Timestamp::from_unix(ended))));
        }
        self.refuse_purgeable(found)?;
        Ok((version, algorithm))
    }

    /// What kind `found` is, which must be one that wraps.
    pub(super) fn kind_of(&self, found: &Key) -> Result<KeyType> {
        found.kind().ok_or_else(|| failure::cannot_wrap(self.key(), &shown(&found.key.kty)))
    }

    /// Refuses a key that somebody can destroy at once, unless the configuration accepts that.
    pub(super) fn refuse_purgeable(&self, found: &Key) -> Result<()> {
        match found.is_purgeable() && !self.client.settings.allow_purge {
            true => Err(failure::purgeable(self.key())),
            false => Ok(()),
        }
    }

    pub(super) fn info(&self, call: &Call<'_>, found: &Key) -> Result<KekInfo> {
        let (version, algorithm) = self.usable(call, found)?;
        Ok(KekInfo {
            kek: self.key().version_name(&version),
            algorithm: algorithm.name().to_owned(),
            place: format!("{} at {} ({})", self.service(), call.place(), shown(&found.key.kty)),
            created: found.attributes.created.map(Timestamp::from_unix),
            exportable: found.attributes.exportable.unwrap_or_default(),
        })
    }

    fn service(&self) -> &'static str {
        if self.key().is_in_hsm() { "Azure Managed HSM" } else { "Azure Key Vault" }
    }

    /// Refuses what this key cannot have wrapped, as far as that shows without asking; else which version it
    /// was, and how.
    fn check(&self, wrapped: &WrappedKey) -> Result<(String, Algorithm)> {
        let Some(version) = self.key().version_in(&wrapped.kek) else {
            return Err(failure::not_mine(self.key(), &wrapped.kek));
        };
        let fits = |algorithm: Algorithm| {
            let names = wrapped.parameters.keys().map(String::as_str);
            let due = (algorithm == Algorithm::A256Kw).then_some(SALT);
            (1..=MAX_WRAPPED).contains(&wrapped.blob.len()) && names.eq(due)
        };
        match wrapped.algorithm.parse() {
            Ok(algorithm) if fits(algorithm) => Ok((version, algorithm)),
            _ => Err(Error::new(Kind::Corrupt, "wrapped in a way that no key of Azure wraps")
                .advise("restore the keystore from a backup, or use the keyward that wrote it")),
        }
    }

    /// The error for a wrapped key that the vault did not open: which store key it was.
    fn within(wrapped: &WrappedKey, context: &WrapContext, error: Error) -> Error {
        match error.kind() {
            Kind::Corrupt | Kind::NotMine => {
                let (number, kek) = (context.store_key, wrapped.kek.escape_default());
                error.within(format!("store key {number}, wrapped by {kek}"))
            }
            _ => error,
        }
    }

    fn wrap_with(
        &self,
        call: &Call<'_>,
        (version, algorithm): (&str, Algorithm),
        data: &[u8],
        context: &WrapContext,
    ) -> Result<WrappedKey> {
        let header = WrappedKey {
            kek: self.key().version_name(version),
            algorithm: algorithm.name().to_owned(),
            parameters: self.parameters(algorithm)?,
            blob: Vec::new(),
        };
        let bound = context.associated_data(LABEL, &header);
        let blob = match algorithm {
            Algorithm::A256Gcm => {
                let more = json!({ "aad": URL_SAFE_NO_PAD.encode(&bound) });
                let made = self.operate(call, &ENCRYPT, (version, algorithm), data, more)?;
                self.sealed(call, &made)?
            }
            Algorithm::A256Kw if !data.len().is_multiple_of(BLOCK) => {
                let what =
                    format!("a key of {} bytes does not go into {}", data.len(), algorithm.name());
                return Err(Error::new(Kind::Config, what)
                    .advise("it takes multiples of 8; set algorithm to A256GCM"));
            }
            _ => {
                let payload = payload::seal(data, &bound);
                let made =
                    self.operate(call, &WRAP, (version, algorithm), payload.expose(), json!({}))?;
                self.bytes(call, &made.value)?.to_vec()
            }
        };
        match (1..=MAX_WRAPPED).contains(&blob.len()) {
            true => Ok(WrappedKey { blob, ..header }),
            false => Err(failure::foreign(&call.place())),
        }
    }

    /// AES key wrap makes the same of the same: what is bound has a salt there.
    fn parameters(&self, algorithm: Algorithm) -> Result<BTreeMap<String, String>> {
        let mut salt = [0; SALT_LEN];
        if algorithm != Algorithm::A256Kw {
            return Ok(BTreeMap::new());
        }
        self.client.rng().fill(&mut salt)?;
        Ok(BTreeMap::from([(SALT.to_owned(), hex::text(&salt))]))
    }

    fn unwrap_with(
        &self,
        call: &Call<'_>,
        wrapped: &WrappedKey,
        context: &WrapContext,
    ) -> Result<DataKey> {
        let (version, algorithm) = self.check(wrapped)?;
        let of = (version.as_str(), algorithm);
        let bound = context.associated_data(LABEL, wrapped);
        if algorithm != Algorithm::A256Gcm {
            let made = self.operate(call, &UNWRAP, of, &wrapped.blob, json!({}))?;
            let bytes = self.bytes(call, &Zeroizing::new(made.value))?;
            return payload::open(&bytes, &bound).ok_or_else(failure::changed);
        }
        let parts = wrapped.blob.split_first_chunk::<NONCE_LEN>();
        let parts =
            parts.and_then(|(nonce, rest)| Some((nonce, rest.split_last_chunk::<TAG_LEN>()?)));
        let (nonce, (sealed, tag)) = parts.ok_or_else(failure::changed)?;
        let more = json!({
            "iv": URL_SAFE_NO_PAD.encode(nonce),
            "tag": URL_SAFE_NO_PAD.encode(tag),
            "aad": URL_SAFE_NO_PAD.encode(&bound),
        });
        let made = self.operate(call, &DECRYPT, of, sealed, more)?;
        DataKey::copy_of(&self.bytes(call, &Zeroizing::new(made.value))?)
    }

    /// Has the version do one of its operations on `value`.
    fn operate(
        &self,
        call: &Call<'_>,
        step: &'static Step,
        (version, algorithm): (&str, Algorithm),
        value: &[u8],
        mut body: Value,
    ) -> Result<Made> {
        let path = format!("/keys/{}/{version}/{}", self.key().name, step.path());
        let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(value));
        body["alg"] = json!(algorithm.name());
        body["value"] = json!(*text);
        let made: Made = call.post(&Target { step, path: &path, version: Some(version) }, &body)?;
        let is_it = |kid: &String| self.key().version_in(kid).as_deref() == Some(version);
        match made.kid.as_ref().is_none_or(is_it) {
            true => Ok(made),
            false => Err(failure::foreign(&call.place())),
        }
    }

    /// Nonce, encrypted key and tag of AES-GCM.
    fn sealed(&self, call: &Call<'_>, made: &Made) -> Result<Vec<u8>> {
        let part = |text: &Option<String>, len: usize| {
            let bytes = self.bytes(call, text.as_deref().unwrap_or_default())?;
            if bytes.len() == len { Ok(bytes) } else { Err(failure::foreign(&call.place())) }
        };
        let (nonce, tag) = (part(&made.iv, NONCE_LEN)?, part(&made.tag, TAG_LEN)?);
        let sealed = self.bytes(call, &made.value)?;
        Ok([nonce.as_slice(), &sealed, &tag].concat())
    }

    /// What `text` of an answer is in bytes; Azure pads nothing, and servers before it may.
    fn bytes(&self, call: &Call<'_>, text: &str) -> Result<Zeroizing<Vec<u8>>> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
        bytes.map(Zeroizing::new).map_err(|_| failure::foreign(&call.place()))
    }

    fn wrap_newest(
        &self,
        call: &Call<'_>,
        data: &[u8],
        context: &WrapContext,
    ) -> Result<WrappedKey> {
        let found = self.describe_key(call)?;
        let (version, algorithm) = self.usable(call, &found)?;
        self.wrap_with(call, (&version, algorithm), data, context)
    }

    /// What `doctor` shows of the key itself.
    fn facts(&self, call: &Call<'_>, found: Option<&Key>) -> Result<Vec<(&'static str, String)>> {
        let credentials = match call.credentials.account() {
            Some(account) => format!("{account}, by {}", call.credentials.place()),
            None => call.credentials.place(),
        };
        let mut facts = vec![
            ("service", format!("{} at {}", self.service(), call.place())),
            ("key", self.key().to_string()),
            ("credentials", credentials),
        ];
        let Some(found) = found else {
            facts.push(("state", "unknown: the right to read the key would show it".to_owned()));
            return Ok(facts);
        };
        facts.extend(self.facts_of(call, found)?);
        Ok(facts)
    }

    /// The same of a key that we may read.
    fn facts_of(&self, call: &Call<'_>, found: &Key) -> Result<Vec<(&'static str, String)>> {
        let (version, algorithm) = self.usable(call, found)?;
        let attributes = &found.attributes;
        let end = |end| format!("{}: then it wraps no more", Timestamp::from_unix(end));
        let level = shown(attributes.recovery_level.as_deref().unwrap_or("unknown"));
        let days = attributes.recoverable_days.map(|days| format!(", {days} days"));
        let recovery = level + &days.unwrap_or_default();
        let mut facts = vec![
            ("kek", self.key().version_name(&version)),
            ("algorithm", algorithm.name().to_owned()),
            ("kind", shown(&found.key.kty)),
            ("state", "enabled".to_owned()),
            ("ends", attributes.exp.map_or("never".to_owned(), end)),
            (
                "recovery",
                match found.is_purgeable() {
                    true => {
                        format!("{recovery}: a right to purge is enough to destroy the key at once")
                    }
                    false => recovery,
                },
            ),
        ];
        if algorithm == Algorithm::RsaOaep256 {
            let pin = "whoever has the public key can wrap: pin the keystore by `fingerprint`";
            facts.push(("authenticates", format!("nobody; {pin}")));
        }
        Ok(facts)
    }

    /// Whether we may do what a server does, and what else. A disabled key may still wrap: only that it
    /// unwraps tells.
    fn proof(&self, call: &Call<'_>, found: Option<&Key>) -> Result<String> {
        let context = WrapContext { keystore: "doctor".to_owned(), store_key: 0 };
        let Some(found) = found else {
            return Ok(
                "unknown: without the right to read the key nothing can be wrapped".to_owned()
            );
        };
        let (version, algorithm) = self.usable(call, found)?;
        let of = (version.as_str(), algorithm);
        match self.wrap_with(call, of, PROBE, &context) {
            Ok(made) => match self.unwrap_with(call, &made, &context)?.expose() == PROBE {
                true => Ok("wraps and unwraps".to_owned()),
                false => Err(failure::foreign(&call.place())),
            },
            Err(error) if error.kind() == Kind::Denied => {
                self.proof_of_nothing(call, of)?;
                Ok("unwraps; may not wrap, which init, rewrap and migrate need".to_owned())
            }
            Err(error) => Err(error),
        }
    }

    /// Whether we may unwrap: then what is no wrapped key is refused as that.
    fn proof_of_nothing(&self, call: &Call<'_>, of: (&str, Algorithm)) -> Result<()> {
        let (step, more) = match of.1 {
            Algorithm::A256Gcm => (
                &DECRYPT,
                json!({
                    "iv": URL_SAFE_NO_PAD.encode([0; NONCE_LEN]),
                    "tag": URL_SAFE_NO_PAD.encode([0; TAG_LEN]),
                    "aad": "",
                }),
            ),
            _ => (&UNWRAP, json!({})),
        };
        match self.operate(call, step, of, &[0; 72], more) {
            Err(error) if error.kind() != Kind::Corrupt => Err(error),
            _ => Ok(()),
        }
    }
}

impl KeyWrapper for KeyVaultWrapper {
    fn wrap(&self, data: &DataKey, context: &WrapContext, by: Deadline) -> Result<WrappedKey> {
        let what = "wrapping with Azure Key Vault";
        self.client.run(what, by, |call| self.wrap_newest(call, data.expose(), context))
    }

    fn unwrap(&self, wrapped: &WrappedKey, context: &WrapContext, by: Deadline) -> Result<DataKey> {
        let what = "unwrapping with Azure Key Vault";
        let within = |error| Self::within(wrapped, context, error);
        by.left(what)?;
        self.check(wrapped).map_err(within)?;
        self.client.run(what, by, |call| self.unwrap_with(call, wrapped, context)).map_err(within)
    }

    fn rewrap(
        &self,
        wrapped: &WrappedKey,
        context: &WrapContext,
        by: Deadline,
    ) -> Result<WrappedKey> {
        let what = "rewrapping with Azure Key Vault";
        let within = |error| Self::within(wrapped, context, error);
        by.left(what)?;
        self.check(wrapped).map_err(within)?;
        self.client
            .run(what, by, |call| {
                let data = self.unwrap_with(call, wrapped, context)?;
                self.wrap_newest(call, data.expose(), context)
            })
            .map_err(within)
    }

    fn authenticates(&self, wrapped: &WrappedKey) -> bool {
        wrapped.algorithm != Algorithm::RsaOaep256.name()
    }

    fn describe(&self, by: Deadline) -> Result<KekInfo> {
        let what = "describing a key of Azure Key Vault";
        self.client.run(what, by, |call| self.info(call, &self.describe_key(call)?))
    }

    fn probe(&self, by: Deadline) -> Result<Probe> {
        let facts = self.client.run("asking Azure Key Vault", by, |call| {
            let found = match self.describe_key(call) {
                Ok(found) => Some(found),
                Err(error) if error.kind() == Kind::Denied => None,
                Err(error) => return Err(error),
            };
            let mut facts = self.facts(call, found.as_ref())?;
            facts.push(("rights", self.proof(call, found.as_ref())?));
            if let Some(found) = &found {
                facts.push(("operations", shown_list(&found.key.key_ops)));
            }
            Ok(facts)
        })?;
        let plain = |text: String| text.chars().filter(|c| !c.is_control()).collect::<String>();
        let facts = facts.into_iter().map(|(name, value)| (name.to_owned(), plain(value)));
        Ok(Probe { facts: facts.filter(|(_, value)| !value.is_empty()).collect() })
    }
}

/// A word of an answer's that people are shown: letters, digits and what names have.
fn shown(word: &str) -> String {
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || "_-+.".contains(*c);
    word.chars().filter(is_plain).take(64).collect()
}

fn shown_list(words: &[String]) -> String {
    words.iter().take(12).map(|word| shown(word)).collect::<Vec<_>>().join(", ")
}
