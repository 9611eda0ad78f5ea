//! The witness beside a keystore: the highest generation that was in force, so that an older copy
//! put back while nothing ran is noticed.
//!
//! It proves nothing against somebody who puts back an older witness as well; the audit trail and
//! the servers that run are what is left then.

use serde::{Deserialize, Serialize};

use super::Keystore;
use super::format::MacText;
use super::seal::FileMac;
use crate::error::{Error, Kind, Result};
use crate::secret::scrubbed;

/// What every witness calls itself. Written by `to_bytes`, read first by `parse`.
const FORMAT: &str = "keyward-witness";

/// The version of the format; a newer one is refused, never guessed at.
const VERSION: u32 = 1;

/// No witness is longer, in bytes.
pub(super) const MAX_LEN: usize = 4096;

/// What the file holds.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Witness {
    format: String,
    version: u32,
    /// The keystore's id.
    pub(super) keystore: String,
    /// The highest generation that was in force.
    pub(super) generation: u64,
    /// The number of the store key that was active then, and made `mac`.
    store_key: u32,
    mac: MacText,
}

impl Witness {
    /// The witness of `keystore` as it is.
    pub(super) fn of(keystore: &Keystore) -> Result<Self> {
        let contents = keystore.contents();
        let store_key = contents.wrap_context().store_key;
        let mut witness = Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            keystore: contents.id().to_owned(),
            generation: contents.generation(),
            store_key,
            mac: MacText([0; 32]),
        };
        witness.mac = MacText(scrubbed(|| witness.mac_by(keystore).map(FileMac::finish))?);
        Ok(witness)
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; whether it is true shows only against a keystore.
    /// `Corrupt` where it is no witness, `Unsupported` where a newer keyward wrote it.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let broken = || Error::new(Kind::Corrupt, "it is no keyward witness, or damaged");
        let witness: Self = serde_json::from_slice(bytes).map_err(|_| broken())?;
        match (witness.format.as_str(), witness.version) {
            (FORMAT, VERSION) => Ok(witness),
            (FORMAT, newer) if newer > VERSION => {
                let what = format!("it has format version {newer}, this keyward knows {VERSION}");
                Err(Error::new(Kind::Unsupported, what).advise("update this keyward"))
            }
            _ => Err(broken()),
        }
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|_| Error::new(Kind::Internal, "a witness cannot be written as JSON"))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// That nothing newer than `keystore`, and nothing else, was in force before.
    pub(super) fn check(&self, keystore: &Keystore) -> Result<()> {
        let contents = keystore.contents();
        if self.keystore != contents.id() {
            let what = format!("keystore {} was here before, not {}", self.keystore, contents.id());
            return Err(Error::new(Kind::State, what));
        }
        let (is, was) = (contents.generation(), self.generation);
        if is < was {
            let what =
                format!("the keystore is of generation {is}, but generation {was} was in force");
            return Err(Error::new(Kind::State, what));
        }
        // Another store key made it: then only the generation counts, which is not above ours.
        let ours = self.store_key == contents.wrap_context().store_key;
        if ours && !scrubbed(|| Ok::<_, Error>(self.mac_by(keystore)?.verify(&self.mac.0)))? {
            return Err(Error::new(Kind::Corrupt, "it was changed by something else than keyward"));
        }
        Ok(())
    }

    /// Within `scrubbed` only.
    fn mac_by(&self, keystore: &Keystore) -> Result<FileMac> {
        let mut mac = FileMac::of_witness(keystore.store_key(), &self.keystore)?;
        mac.update(&self.generation.to_be_bytes());
        mac.update(&self.store_key.to_be_bytes());
        Ok(mac)
    }
}
