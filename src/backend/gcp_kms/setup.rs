//! Making a key, and a new version of one.

#![forbid(unsafe_code)]

use std::time::Duration;

use serde::de::IgnoredAny;
use serde_json::json;

use super::client::{Call, Target};
use super::failure::{CHOOSE_PRIMARY, MAKE_KEY, MAKE_RING, MAKE_VERSION, SHOW_VERSION, foreign};
use super::wrapper::{KmsWrapper, Version};
use crate::env::{Deadline, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::provider::KekInfo;

/// How often a key of ours gets a new version, in seconds.
const YEAR: u64 = 365 * 86_400;

/// An HSM takes a moment to make a version.
const PAUSE: Duration = Duration::from_millis(200);

impl KmsWrapper {
    /// Makes the key, with its key ring if that is missing; of a key that exists, a new primary version.
    pub fn create_key(&self, now: Timestamp, by: Deadline) -> Result<KekInfo> {
        self.client.run("making a key in Cloud KMS", by, |call| {
            match self.describe_key(call) {
                Ok(key) => {
                    let level =
                        key.primary.as_ref().map(|primary| primary.protection_level.as_str());
                    self.new_version(call, level.unwrap_or_default())?;
                }
                Err(error) if error.kind() == Kind::NotFound => self.new_key(call, now)?,
                Err(error) => return Err(error),
            }
            loop {
                let key = self.describe_key(call)?;
                match self.usable(&key) {
                    Ok((number, primary)) => return Ok(self.info(call, number, primary)),
                    Err(error) => wait(call, error)?,
                }
            }
        })
    }

    /// A key with yearly rotation.
    fn new_key(&self, call: &Call<'_>, now: Timestamp) -> Result<()> {
        let key = self.key();
        let path = format!("{}/cryptoKeys?cryptoKeyId={}", key.ring_name(), key.key);
        let body = json!({
            "purpose": "ENCRYPT_DECRYPT",
            "versionTemplate": {
                "algorithm": "GOOGLE_SYMMETRIC_ENCRYPTION",
                "protectionLevel": self.client.settings.protection_level.name(),
            },
            "rotationPeriod": format!("{YEAR}s"),
            "nextRotationTime": Timestamp::from_unix(now.as_unix() + YEAR).to_string(),
            "labels": { "made-by": "keyward" },
        });
        let make = Target { step: &MAKE_KEY, path: &path, version: None };
        match call.post::<IgnoredAny>(&make, &body) {
            Err(error) if error.kind() == Kind::NotFound => {
                self.new_ring(call)?;
                call.post::<IgnoredAny>(&make, &body).map(drop)
            }
            made => made.map(drop),
        }
    }

    /// A key ring, unless somebody made it at this moment.
    fn new_ring(&self, call: &Call<'_>) -> Result<()> {
        let key = self.key();
        let path = format!("{}/keyRings?keyRingId={}", key.location_name(), key.ring);
        let make = Target { step: &MAKE_RING, path: &path, version: None };
        match call.post::<IgnoredAny>(&make, &json!({})) {
            Err(error) if error.kind() != Kind::Conflict => Err(error),
            _ => Ok(()),
        }
    }

    /// A new version, and makes it the primary one.
    fn new_version(&self, call: &Call<'_>, level: &str) -> Result<()> {
        let key = self.key();
        if level.starts_with("EXTERNAL") {
            let what = format!("{key} is outside of Google, where keyward makes no version");
            return Err(Error::new(Kind::Unsupported, what).advise(format!(
                "gcloud kms keys versions create --primary --external-key-uri=URI --key={}",
                key.for_gcloud()
            )));
        }
        let path = format!("{key}/cryptoKeyVersions");
        let make = Target { step: &MAKE_VERSION, path: &path, version: None };
        let mut made: Version = call.post(&make, &json!({}))?;
        let number = key.version_in(&made.name).ok_or_else(|| foreign(&call.place()))?;
        let (path, version) = (key.version(number), Some(number));
        while made.state != "ENABLED" {
            wait(call, super::failure::unusable(key, number, &made.state))?;
            made = call.get(&Target { step: &SHOW_VERSION, path: &path, version })?;
        }
        let path = format!("{key}:updatePrimaryVersion");
        let choose = Target { step: &CHOOSE_PRIMARY, path: &path, version };
        let body = json!({ "cryptoKeyVersionId": number.to_string() });
        call.post::<IgnoredAny>(&choose, &body).map(drop).map_err(|error| {
            error.within(format_args!("version {number} was made and does not encrypt yet"))
        })
    }
}

/// Waits where the `error` may pass, until the operation ends.
fn wait(call: &Call<'_>, error: Error) -> Result<()> {
    let has_time = call.by().left("").is_ok_and(|left| left > PAUSE);
    if error.kind() != Kind::Unavailable || !has_time {
        return Err(error);
    }
    std::thread::sleep(PAUSE);
    Ok(())
}
