//! Wraps with a key in Cloud KMS.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::client::{Call, Client, Target};
use super::crc32c::crc32c;
use super::failure::{self, ASK_RIGHTS, DECRYPT, DESCRIBE, ENCRYPT};
use super::name::KeyName;
use super::settings::Settings;
use crate::config::Section;
use crate::env::{Deadline, Rng};
use crate::error::{Error, Kind, Result};
use crate::provider::{KekInfo, KeyWrapper, Probe, WrapContext, WrappedKey};
use crate::secret::DataKey;

/// How Cloud KMS encrypts with a symmetric key, in its own words; with a key outside of Google, too.
const ALGORITHM: &str = "GOOGLE_SYMMETRIC_ENCRYPTION";

/// What wraps, and in which way: the first part of the additional data.
const LABEL: &str = "keyward gcp-kms v1";

/// The longest ciphertext that can be one: the longest plaintext has half of it.
const MAX_CIPHERTEXT: usize = 128 << 10;

/// What the probe encrypts, for nothing.
const PROBE: &[u8] = b"keyward doctor";

/// A key in Cloud KMS. A wrapped key's `kek` is the full name of the version that made it, and part of
/// what it is bound to: an answer to `decrypt` does not tell which version it was.
pub struct KmsWrapper {
    pub(super) client: Client,
}

/// A key, as far as that matters here (`CryptoKey`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Key {
    #[serde(default)]
    purpose: String,
    pub(super) primary: Option<Version>,
    rotation_period: Option<String>,
    next_rotation_time: Option<String>,
}

/// A version of one (`CryptoKeyVersion`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Version {
    pub(super) name: String,
    #[serde(default)]
    pub(super) state: String,
    #[serde(default)]
    pub(super) protection_level: String,
    #[serde(default)]
    algorithm: String,
    create_time: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Encrypted {
    name: String,
    ciphertext: String,
    ciphertext_crc32c: Option<Value>,
    #[serde(default)]
    verified_plaintext_crc32c: bool,
    #[serde(default)]
    verified_additional_authenticated_data_crc32c: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Decrypted {
    /// Not there where it is empty.
    #[serde(default)]
    plaintext: String,
    plaintext_crc32c: Option<Value>,
}

/// Which of the rights that were asked for we have.
#[derive(Deserialize)]
struct Rights {
    #[serde(default)]
    permissions: Vec<String>,
}

impl KmsWrapper {
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

    /// The key as Cloud KMS describes it, whatever its state.
    pub(super) fn describe_key(&self, call: &Call<'_>) -> Result<Key> {
        let path = self.key().to_string();
        let key: Key = call.get(&Target { step: &DESCRIBE, path: &path, version: None })?;
        match key.purpose.as_str() {
            "ENCRYPT_DECRYPT" => Ok(key),
            "" => Err(failure::foreign(&call.place())),
            _ => Err(failure::not_symmetric(self.key())),
        }
    }

    /// The primary version, with its number, if it can encrypt.
    pub(super) fn usable<'k>(&self, key: &'k Key) -> Result<(u64, &'k Version)> {
        let primary = key.primary.as_ref().ok_or_else(|| failure::no_primary(self.key()))?;
        let number = self.key().version_in(&primary.name);
        let number = number.ok_or_else(|| failure::foreign("Cloud KMS"))?;
        match primary.state.as_str() {
            "ENABLED" => Ok((number, primary)),
            state => Err(failure::unusable(self.key(), number, state)),
        }
    }

    pub(super) fn info(&self, call: &Call<'_>, number: u64, version: &Version) -> KekInfo {
        KekInfo {
            kek: self.key().version(number),
            algorithm: ALGORITHM.to_owned(),
            place: format!(
                "Google Cloud KMS at {} ({}, {})",
                call.place(),
                self.key().location,
                shown(&version.protection_level)
            ),
            created: version.create_time.as_ref().and_then(|time| time.parse().ok()),
            exportable: false,
        }
    }

    /// Refuses what this key cannot have wrapped, as far as that shows without asking; else which
    /// version it was.
    fn check(&self, wrapped: &WrappedKey) -> Result<u64> {
        if !self.key().is_key_of(&wrapped.kek) {
            return Err(failure::not_mine(self.key(), &wrapped.kek));
        }
        let fits = !wrapped.blob.is_empty() && wrapped.blob.len() <= MAX_CIPHERTEXT;
        match self.key().version_in(&wrapped.kek) {
            Some(number)
                if wrapped.algorithm == ALGORITHM && wrapped.parameters.is_empty() && fits =>
            {
                Ok(number)
            }
            _ => Err(Error::new(Kind::Corrupt, "wrapped in a way that no key of Cloud KMS wraps")
                .advise("restore the keystore from a backup, or use the keyward that wrote it")),
        }
    }

    /// The error for a wrapped key that Cloud KMS did not open: which store key it was.
    fn within(wrapped: &WrappedKey, context: &WrapContext, error: Error) -> Error {
        match error.kind() {
            Kind::Corrupt | Kind::NotMine => {
                let (number, kek) = (context.store_key, wrapped.kek.escape_default());
                error.within(format!("store key {number}, wrapped by {kek}"))
            }
            _ => error,
        }
    }

    /// The version to wrap with. A new primary version takes its time to be the one that encrypts, and
    /// is described at once; without the right to describe the key, a first encryption shows which it is.
    fn version(&self, call: &Call<'_>) -> Result<u64> {
        match self.describe_key(call) {
            Ok(key) => self.usable(&key).map(|(number, _)| number),
            Err(error) if error.kind() == Kind::Denied => {
                self.encrypt_with(call, None, PROBE, &[]).map(|(number, _)| number)
            }
            Err(error) => Err(error),
        }
    }

    fn encrypt(&self, call: &Call<'_>, data: &[u8], context: &WrapContext) -> Result<WrappedKey> {
        let number = self.version(call)?;
        let header = WrappedKey {
            kek: self.key().version(number),
            algorithm: ALGORITHM.to_owned(),
            parameters: BTreeMap::new(),
            blob: Vec::new(),
        };
        let bound = context.associated_data(LABEL, &header);
        let (answered, blob) = self.encrypt_with(call, Some(number), data, &bound)?;
        match answered == number {
            true => Ok(WrappedKey { blob, ..header }),
            false => Err(failure::foreign(&call.place())),
        }
    }

    /// The ciphertext of `data` by a version, or by the primary one, and which that was.
    fn encrypt_with(
        &self,
        call: &Call<'_>,
        version: Option<u64>,
        data: &[u8],
        bound: &[u8],
    ) -> Result<(u64, Vec<u8>)> {
        let name = version.map_or_else(|| self.key().to_string(), |n| self.key().version(n));
        let plaintext = Zeroizing::new(STANDARD.encode(data));
        let body = json!({
            "plaintext": *plaintext,
            "plaintextCrc32c": crc32c(data).to_string(),
            "additionalAuthenticatedData": STANDARD.encode(bound),
            "additionalAuthenticatedDataCrc32c": crc32c(bound).to_string(),
        });
        let target = Target { step: &ENCRYPT, path: &format!("{name}:encrypt"), version };
        call.post_checked(&target, &body, |answer: Encrypted| {
            let foreign = || failure::foreign(&call.place());
            let number = self.key().version_in(&answer.name).ok_or_else(foreign)?;
            let blob = STANDARD.decode(&answer.ciphertext).map_err(|_| foreign())?;
            let verified = answer.verified_plaintext_crc32c
                && answer.verified_additional_authenticated_data_crc32c;
            match verified && is_checksum(answer.ciphertext_crc32c.as_ref(), &blob) {
                true if !blob.is_empty() && blob.len() <= MAX_CIPHERTEXT => Ok((number, blob)),
                true => Err(foreign()),
                false => Err(failure::damaged(&call.place())),
            }
        })
    }

    fn decrypt(
        &self,
        call: &Call<'_>,
        wrapped: &WrappedKey,
        context: &WrapContext,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let version = Some(self.check(wrapped)?);
        let bound = context.associated_data(LABEL, wrapped);
        let body = json!({
            "ciphertext": STANDARD.encode(&wrapped.blob),
            "ciphertextCrc32c": crc32c(&wrapped.blob).to_string(),
            "additionalAuthenticatedData": STANDARD.encode(&bound),
            "additionalAuthenticatedDataCrc32c": crc32c(&bound).to_string(),
        });
        let path = format!("{}:decrypt", self.key());
        let target = Target { step: &DECRYPT, path: &path, version };
        call.post_checked(&target, &body, |answer: Decrypted| {
            let text = Zeroizing::new(answer.plaintext);
            let plain = STANDARD.decode(text.as_bytes()).map(Zeroizing::new);
            let plain = plain.map_err(|_| failure::foreign(&call.place()))?;
            match is_checksum(answer.plaintext_crc32c.as_ref(), &plain) {
                true => Ok(plain),
                false => Err(failure::damaged(&call.place())),
            }
        })
    }

    /// What `doctor` shows of the key itself.
    fn facts(&self, call: &Call<'_>, key: Option<&Key>) -> Result<Vec<(&'static str, String)>> {
        let mut facts = vec![
            ("service", format!("Google Cloud KMS at {}", call.place())),
            ("key", self.key().to_string()),
            (
                "credentials",
                match &call.token.account {
                    Some(account) => format!("{account}, by {}", call.credentials),
                    None => call.credentials.clone(),
                },
            ),
        ];
        let Some(key) = key else {
            facts.push(("state", "unknown: roles/cloudkms.viewer would show it".to_owned()));
            return Ok(facts);
        };
        let (number, primary) = self.usable(key)?;
        facts.push(("kek", self.key().version(number)));
        facts.push(("algorithm", shown(&primary.algorithm)));
        facts.push(("protection level", shown(&primary.protection_level)));
        facts.push(("state", shown(&primary.state)));
        facts.push((
            "rotation",
            match (&key.rotation_period, &key.next_rotation_time) {
                (Some(period), Some(next)) => {
                    format!("every {}, next {}", shown(period), shown(next))
                }
                _ => "off; gcloud kms keys update --rotation-period switches it on".to_owned(),
            },
        ));
        Ok(facts)
    }

    /// Whether we may do what a server does, and what else.
    fn proof(&self, call: &Call<'_>) -> Result<String> {
        let path = format!("{}:testIamPermissions", self.key());
        let wanted = [DECRYPT.permission(), ENCRYPT.permission()];
        let target = Target { step: &ASK_RIGHTS, path: &path, version: None };
        let answer = call.post::<Rights>(&target, &json!({ "permissions": wanted }));
        let [decrypts, encrypts] = match answer {
            Ok(rights) => wanted.map(|one| rights.permissions.iter().any(|has| has == one)),
            // It shows when it is tried.
            Err(error) if error.kind() == Kind::Denied => [true, true],
            Err(error) => return Err(error),
        };
        if !decrypts {
            return Err(failure::lacks(&DECRYPT, self.key(), call.token.account.as_deref()));
        }
        if !encrypts {
            let lacking = ENCRYPT.permission();
            return Ok(format!("decrypts; lacks {lacking}, which init, rewrap and migrate need"));
        }
        let context = WrapContext { keystore: "doctor".to_owned(), store_key: 0 };
        let made = self.encrypt(call, PROBE, &context)?;
        match self.decrypt(call, &made, &context)?.as_slice() == PROBE {
            true => Ok("encrypts and decrypts".to_owned()),
            false => Err(failure::foreign(&call.place())),
        }
    }
}

impl KeyWrapper for KmsWrapper {
    fn wrap(&self, data: &DataKey, context: &WrapContext, by: Deadline) -> Result<WrappedKey> {
        let what = "wrapping with Cloud KMS";
        self.client.run(what, by, |call| self.encrypt(call, data.expose(), context))
    }

    fn unwrap(&self, wrapped: &WrappedKey, context: &WrapContext, by: Deadline) -> Result<DataKey> {
        let (what, within) =
            ("unwrapping with Cloud KMS", |error| Self::within(wrapped, context, error));
        by.left(what)?;
        self.check(wrapped).map_err(within)?;
        self.client
            .run(what, by, |call| DataKey::copy_of(&self.decrypt(call, wrapped, context)?))
            .map_err(within)
    }

    fn rewrap(
        &self,
        wrapped: &WrappedKey,
        context: &WrapContext,
        by: Deadline,
    ) -> Result<WrappedKey> {
        let (what, within) =
            ("rewrapping with Cloud KMS", |error| Self::within(wrapped, context, error));
        by.left(what)?;
        self.check(wrapped).map_err(within)?;
        self.client
            .run(what, by, |call| {
                let data = self.decrypt(call, wrapped, context)?;
                self.encrypt(call, &data, context)
            })
            .map_err(within)
    }

    fn describe(&self, by: Deadline) -> Result<KekInfo> {
        self.client.run("describing a key of Cloud KMS", by, |call| {
            let key = self.describe_key(call)?;
            let (number, primary) = self.usable(&key)?;
            Ok(self.info(call, number, primary))
        })
    }

    fn probe(&self, by: Deadline) -> Result<Probe> {
        let facts = self.client.run("asking Cloud KMS", by, |call| {
            let key = match self.describe_key(call) {
                Ok(key) => Some(key),
                Err(error) if error.kind() == Kind::Denied => None,
                Err(error) => return Err(error),
            };
            let mut facts = self.facts(call, key.as_ref())?;
            facts.push(("rights", self.proof(call)?));
            Ok(facts)
        })?;
        let plain = |text: String| text.chars().filter(|c| !c.is_control()).collect::<String>();
        let facts = facts.into_iter().map(|(name, value)| (name.to_owned(), plain(value)));
        Ok(Probe { facts: facts.filter(|(_, value)| !value.is_empty()).collect() })
    }
}

/// A word of an answer's that people are shown: letters, digits and what times have.
fn shown(word: &str) -> String {
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || "_-:.".contains(*c);
    word.chars().filter(is_plain).take(64).collect()
}

/// Whether `given`, a number or its digits, is the checksum of `bytes`.
fn is_checksum(given: Option<&Value>, bytes: &[u8]) -> bool {
    let number = match given {
        Some(Value::String(digits)) => digits.parse().ok(),
        Some(other) => other.as_u64(),
        None => None,
    };
    number == Some(u64::from(crc32c(bytes)))
}
