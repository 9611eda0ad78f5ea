//! Making a key, and a new version of one.

#![forbid(unsafe_code)]

use serde_json::json;

use super::client::{Call, Target};
use super::failure::MAKE;
use super::settings::{Algorithm, KeyType};
use super::wrapper::{Key, KeyVaultWrapper};
use crate::env::{Deadline, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::provider::KekInfo;

impl KeyVaultWrapper {
    /// Makes the key if the vault has none of that name, else a new version of it, which then is the newest.
    pub fn create_key(&self, _: Timestamp, by: Deadline) -> Result<KekInfo> {
        let key = self.key();
        if key.version.is_some() {
            let what = format!("`key` names a version of {key}, so that no other would be used");
            return Err(Error::new(Kind::Config, what).advise(format!("set it to {key}")));
        }
        self.client.run("making a key in Azure Key Vault", by, |call| {
            let kind = match self.describe_key(call) {
                // What has ended or is disabled gets a new version for just that reason.
                Ok(found) => {
                    self.refuse_purgeable(&found)?;
                    Some(self.kind_of(&found)?)
                }
                Err(error) if error.kind() == Kind::NotFound => None,
                Err(error) => return Err(error),
            };
            let made = self.make(call, kind.unwrap_or_else(|| self.kind_to_make()))?;
            self.info(call, &made)
        })
    }

    fn kind_to_make(&self) -> KeyType {
        let settings = &self.client.settings;
        let usual = if self.key().is_in_hsm() { KeyType::OctHsm } else { KeyType::Rsa };
        settings.key_type.unwrap_or(usual)
    }

    fn make(&self, call: &Call<'_>, kind: KeyType) -> Result<Key> {
        let operations = match self.client.settings.algorithm {
            Some(Algorithm::A256Gcm) => ["encrypt", "decrypt"],
            _ => ["wrapKey", "unwrapKey"],
        };
        let path = format!("/keys/{}/create", self.key().name);
        let body = json!({
            "kty": kind.name(),
            "key_size": kind.bits(),
            "key_ops": operations,
            "attributes": { "enabled": true },
            "tags": { "made-by": "keyward" },
        });
        call.post(&Target { step: &MAKE, path: &path, version: None }, &body)
    }
}
