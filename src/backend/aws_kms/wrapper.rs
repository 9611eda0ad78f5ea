//! Wraps with a key in KMS.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyMetadata, KeyState, KeyUsageType, MultiRegionKeyType};
use zeroize::Zeroizing;

use super::arn::is_same_key;
use super::client::{Call, Client};
use super::settings::Settings;
use super::{MAX_CIPHERTEXT, failure};
use crate::config::Section;
use crate::env::{Deadline, Rng, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::provider::{KekInfo, KeyWrapper, Probe, WrapContext, WrappedKey};
use crate::secret::DataKey;

/// How KMS encrypts with a symmetric key, in its own words.
const ALGORITHM: &str = "SYMMETRIC_DEFAULT";

/// The names in the encryption context. CloudTrail shows them, policies can ask for them.
const CONTEXT_KEYSTORE: &str = "keyward:keystore";
const CONTEXT_STORE_KEY: &str = "keyward:store-key";

/// What the probe encrypts, for nothing.
const PROBE: &[u8] = b"keyward doctor";

/// A key in KMS. A wrapped key's `kek` is the ARN of the key that made it.
pub struct KmsWrapper {
    pub(super) client: Client,
    pub(super) key: String,
}

impl KmsWrapper {
    pub(super) fn of(section: &Section, rng: &Arc<dyn Rng>) -> Result<Self> {
        Ok(Self::new(Settings::read(section)?, Arc::clone(rng)))
    }

    /// The wrapper that `settings` describe. Nobody is called yet.
    #[must_use]
    pub fn new(settings: Settings, rng: Arc<dyn Rng>) -> Self {
        Self { key: settings.key.clone(), client: Client::new(settings, rng) }
    }

    /// The key as KMS describes it, whatever its state.
    fn metadata(&self, call: &Call<'_>) -> Result<KeyMetadata> {
        let answer = call.send("kms:DescribeKey", &self.key, || {
            call.kms().describe_key().key_id(&self.key).send()
        })?;
        answer.key_metadata.ok_or_else(|| call.foreign())
    }

    /// The key, if it can encrypt and decrypt.
    pub(super) fn usable(&self, call: &Call<'_>) -> Result<KeyMetadata> {
        let found = self.metadata(call)?;
        let symmetric = found.encryption_algorithms().iter().any(|one| one.as_str() == ALGORITHM);
        if found.key_usage() != Some(&KeyUsageType::EncryptDecrypt) || !symmetric {
            return Err(failure::not_symmetric(&self.key));
        }
        match found.key_state() {
            Some(KeyState::Enabled) | None => Ok(found),
            Some(KeyState::Disabled) => Err(failure::disabled(&self.key)),
            Some(KeyState::PendingDeletion) => Err(failure::pending_deletion(&self.key)),
            Some(state) => Err(failure::unusable(&self.key, state.as_str())),
        }
    }

    pub(super) fn info(&self, call: &Call<'_>, found: &KeyMetadata) -> KekInfo {
        let created = found.creation_date().and_then(|date| u64::try_from(date.secs()).ok());
        KekInfo {
            kek: found.arn().unwrap_or(&self.key).to_owned(),
            algorithm: ALGORITHM.to_owned(),
            place: format!("AWS KMS at {}", call.place()),
            created: created.map(Timestamp::from_unix),
            exportable: false,
        }
    }

    /// Refuses what this key cannot have wrapped, as far as that shows without asking KMS.
    fn check(&self, wrapped: &WrappedKey) -> Result<()> {
        if self.key.contains(":key/") && !is_same_key(&self.key, &wrapped.kek) {
            return Err(failure::not_mine(&self.key, &wrapped.kek));
        }
        let fits = !wrapped.blob.is_empty() && wrapped.blob.len() <= MAX_CIPHERTEXT;
        if wrapped.algorithm == ALGORITHM && wrapped.parameters.is_empty() && fits {
            return Ok(());
        }
        Err(Error::new(Kind::Corrupt, "wrapped in a way that no key of AWS KMS wraps")
            .advise("restore the keystore from a backup, or use the keyward that wrote it"))
    }

    /// The error for a wrapped key that KMS did not open: which store key it was.
    fn within(wrapped: &WrappedKey, context: &WrapContext, error: Error) -> Error {
        match error.kind() {
            Kind::Corrupt | Kind::NotMine => {
                let (number, kek) = (context.store_key, wrapped.kek.escape_default());
                error.within(format!("store key {number}, wrapped by {kek}"))
            }
            _ => error,
        }
    }

    /// Refuses a key that another one opened than the keystore says.
    fn opened_by(&self, wrapped: &WrappedKey, arn: Option<&str>) -> Result<()> {
        match arn {
            Some(arn) if is_same_key(arn, &wrapped.kek) => Ok(()),
            _ => Err(Error::new(Kind::Corrupt, "the name of its wrapping key was changed")
                .advise("restore the keystore from a backup")),
        }
    }

    fn encrypt(&self, call: &Call<'_>, data: &[u8], context: &WrapContext) -> Result<WrappedKey> {
        let answer = call.send("kms:Encrypt", &self.key, || {
            let request = call.kms().encrypt().key_id(&self.key).plaintext(Blob::new(data));
            request.set_encryption_context(Some(bound(context))).send()
        })?;
        wrapped(call, answer.key_id, answer.ciphertext_blob)
    }

    fn decrypt(
        &self,
        call: &Call<'_>,
        wrapped: &WrappedKey,
        context: &WrapContext,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let answer = call.send("kms:Decrypt", &self.key, || {
            let blob = Blob::new(wrapped.blob.as_slice());
            let request = call.kms().decrypt().key_id(&self.key).ciphertext_blob(blob);
            request.set_encryption_context(Some(bound(context))).send()
        })?;
        self.opened_by(wrapped, answer.key_id.as_deref())?;
        let plain = answer.plaintext.ok_or_else(|| call.foreign())?;
        Ok(Zeroizing::new(plain.into_inner()))
    }

    fn reencrypt(
        &self,
        call: &Call<'_>,
        old: &WrappedKey,
        context: &WrapContext,
    ) -> Result<WrappedKey> {
        let answer = call.send("kms:ReEncrypt*", &self.key, || {
            let request = call.kms().re_encrypt().ciphertext_blob(Blob::new(old.blob.as_slice()));
            request
                .source_key_id(&self.key)
                .destination_key_id(&self.key)
                .set_source_encryption_context(Some(bound(context)))
                .set_destination_encryption_context(Some(bound(context)))
                .send()
        })?;
        self.opened_by(old, answer.source_key_id.as_deref())?;
        wrapped(call, answer.key_id, answer.ciphertext_blob)
    }

    /// What `doctor` shows of the key itself.
    fn facts(&self, call: &Call<'_>, found: &KeyMetadata) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("service", format!("AWS KMS at {}", call.place())),
            ("kek", found.arn().unwrap_or(&self.key).to_owned()),
            ("algorithm", ALGORITHM.to_owned()),
        ];
        if let Some(spec) = found.key_spec() {
            facts.push(("spec", spec.as_str().to_owned()));
        }
        if let Some(origin) = found.origin() {
            facts.push(("origin", origin.as_str().to_owned()));
        }
        if let Some(state) = found.key_state() {
            facts.push(("state", state.as_str().to_owned()));
        }
        facts.push(("multi-region", regions(found)));
        facts.push(("rotation", self.rotation(call)));
        if let Some(material) = found.current_key_material_id() {
            facts.push(("key material", material.to_owned()));
        }
        facts
    }

    fn rotation(&self, call: &Call<'_>) -> String {
        let id = self.key.as_str();
        // Of an alias it is not told, which is no reason to ask for one right more.
        let answer = call.send("kms:GetKeyRotationStatus", id, || {
            call.kms().get_key_rotation_status().key_id(id).send()
        });
        match answer {
            Ok(status) if status.key_rotation_enabled() => match status.rotation_period_in_days() {
                Some(days) => format!("every {days} days"),
                None => "on".to_owned(),
            },
            Ok(_) => "off; `aws kms enable-key-rotation` switches it on".to_owned(),
            Err(_) => "not told".to_owned(),
        }
    }

    /// Whether we may do what a server does: a policy may allow it for the keystore's own context
    /// alone, so a refusal is told and is no error.
    fn proof(&self, call: &Call<'_>) -> Result<String> {
        let context = WrapContext { keystore: "doctor".to_owned(), store_key: 0 };
        let denied = |error: Error| match error.kind() {
            Kind::Denied => Ok(format!("{error} (or only the keystore's own context is allowed)")),
            _ => Err(error),
        };
        match self.encrypt(call, PROBE, &context) {
            Err(error) => denied(error),
            Ok(made) => match self.decrypt(call, &made, &context) {
                Err(error) => denied(error),
                Ok(plain) if plain.as_slice() == PROBE => Ok("encrypts and decrypts".to_owned()),
                Ok(_) => Err(call.foreign()),
            },
        }
    }
}

impl KeyWrapper for KmsWrapper {
    fn wrap(&self, data: &DataKey, context: &WrapContext, by: Deadline) -> Result<WrappedKey> {
        let what = "wrapping with AWS KMS";
        self.client.run(what, by, |call| self.encrypt(call, data.expose(), context))
    }

    fn unwrap(&self, wrapped: &WrappedKey, context: &WrapContext, by: Deadline) -> Result<DataKey> {
        let (what, within) =
            ("unwrapping with AWS KMS", |error| Self::within(wrapped, context, error));
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
            ("rewrapping with AWS KMS", |error| Self::within(wrapped, context, error));
        by.left(what)?;
        self.check(wrapped).map_err(within)?;
        self.client.run(what, by, |call| self.reencrypt(call, wrapped, context)).map_err(within)
    }

    fn describe(&self, by: Deadline) -> Result<KekInfo> {
        let what = "describing a key of AWS KMS";
        self.client.run(what, by, |call| Ok(self.info(call, &self.usable(call)?)))
    }

    fn probe(&self, by: Deadline) -> Result<Probe> {
        let facts = self.client.run("asking AWS KMS", by, |call| {
            let found = self.usable(call)?;
            let mut facts = self.facts(call, &found);
            facts.push(("rights", self.proof(call)?));
            Ok(facts)
        })?;
        let plain = |text: String| text.chars().filter(|c| !c.is_control()).collect::<String>();
        let facts = facts.into_iter().map(|(name, value)| (name.to_owned(), plain(value)));
        Ok(Probe { facts: facts.filter(|(_, value)| !value.is_empty()).collect() })
    }
}

/// What a wrapped key is bound to, in KMS's terms.
fn bound(context: &WrapContext) -> std::collections::HashMap<String, String> {
    std::collections::HashMap::from([
        (CONTEXT_KEYSTORE.to_owned(), context.keystore.clone()),
        (CONTEXT_STORE_KEY.to_owned(), context.store_key.to_string()),
    ])
}

fn wrapped(call: &Call<'_>, arn: Option<String>, blob: Option<Blob>) -> Result<WrappedKey> {
    let (Some(kek), Some(blob)) = (arn, blob) else { return Err(call.foreign()) };
    Ok(WrappedKey {
        kek,
        algorithm: ALGORITHM.to_owned(),
        parameters: BTreeMap::new(),
        blob: blob.into_inner(),
    })
}

/// Where else a key of this material is.
fn regions(found: &KeyMetadata) -> String {
    let Some(known) = found.multi_region_configuration() else {
        return "no: it opens nothing in another region".to_owned();
    };
    let role = match known.multi_region_key_type() {
        Some(MultiRegionKeyType::Replica) => "replica",
        _ => "primary",
    };
    let primary = known.primary_key().and_then(|key| key.region());
    let replicas = known.replica_keys().iter().filter_map(|key| key.region());
    let all: Vec<&str> = primary.into_iter().chain(replicas).collect();
    format!("yes, this is the {role}; in {}", all.join(", "))
}
