//! The rollback guard next to a keystore: the newest revision that was in force, so that an older copy
//! put back while nothing ran is noticed.
//!
//! It proves nothing against somebody who puts back an older guard as well; the audit trail and the
//! servers that run are what is left then.

#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

use super::format::MacText;
use super::seal::{FileMac, derived};
use super::{Keystore, Revision};
use crate::error::{Error, Kind, Result};
use crate::secret::scrubbed;

/// What every guard calls itself. Written by `to_bytes`, read first by `parse`.
const FORMAT: &str = "keyward-witness";

/// The version of the format; a newer one is refused, never guessed at.
const VERSION: u32 = 2;

/// The HKDF label of the key that authenticates it, which the keystore's secret makes.
const LABEL: &[u8] = b"keyward witness mac v2";

/// No guard is longer, in bytes.
pub(super) const MAX_LEN: usize = 4096;

/// What the file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// The keystore's id.
    pub(super) keystore: String,
    /// The newest revision that was in force.
    pub(super) revision: Revision,
    by: Maker,
    mac: MacText,
}

/// What made its check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maker {
    /// The store key of that number, in format 1: another one cannot verify it.
    StoreKey(u32),
    /// The keystore's secret, which stays the same.
    Secret,
}

/// Whether the check of a guard that does not speak against a keystore was verified.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// It was.
    Verified,
    /// It was made in format 1 by a store key that is gone.
    Unverifiable,
}

/// The part that every version of the format has.
#[derive(Deserialize)]
struct Header {
    format: String,
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Format1 {
    format: String,
    version: u32,
    keystore: String,
    generation: u64,
    store_key: u32,
    mac: MacText,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Format2 {
    format: String,
    version: u32,
    keystore: String,
    epoch: u64,
    generation: u64,
    mac: MacText,
}

impl Witness {
    /// The guard of `keystore` as it is: in format 1 while the keystore is.
    pub(super) fn of(keystore: &Keystore) -> Result<Self> {
        let contents = keystore.contents();
        let by = match keystore.secret() {
            Ok(_) => Maker::Secret,
            Err(_) => Maker::StoreKey(contents.wrap_context().store_key),
        };
        let (id, revision) = (contents.id().to_owned(), contents.revision());
        let mut witness = Self { keystore: id, revision, by, mac: MacText([0; 32]) };
        witness.mac = MacText(scrubbed(|| witness.mac_by(keystore).map(FileMac::finish))?);
        Ok(witness)
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; whether it is true shows only against a keystore.
    /// `Corrupt` where it is no guard, `Unsupported` where a newer keyward wrote it.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let broken =
            || Error::new(Kind::Corrupt, "it is no rollback guard of keyward's, or damaged");
        let header: Header = serde_json::from_slice(bytes).map_err(|_| broken())?;
        match (header.format.as_str(), header.version) {
            (FORMAT, 1) => serde_json::from_slice(bytes).map(Self::of_format_1),
            (FORMAT, VERSION) => serde_json::from_slice(bytes).map(Self::of_format_2),
            (FORMAT, newer) if newer > VERSION => {
                let what = format!("it has format version {newer}, this keyward knows {VERSION}");
                return Err(Error::new(Kind::Unsupported, what).advise("update this keyward"));
            }
            _ => return Err(broken()),
        }
        .map_err(|_| broken())
    }

    fn of_format_1(read: Format1) -> Self {
        let Format1 { keystore, generation, store_key, mac, .. } = read;
        let revision = Revision { epoch: 1, generation };
        Self { keystore, revision, by: Maker::StoreKey(store_key), mac }
    }

    fn of_format_2(read: Format2) -> Self {
        let Format2 { keystore, epoch, generation, mac, .. } = read;
        Self { keystore, revision: Revision { epoch, generation }, by: Maker::Secret, mac }
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let (format, keystore, mac) = (FORMAT.to_owned(), self.keystore.clone(), self.mac);
        let Revision { epoch, generation } = self.revision;
        let text = match self.by {
            Maker::StoreKey(store_key) => serde_json::to_vec_pretty(&Format1 {
                format,
                version: 1,
                keystore,
                generation,
                store_key,
                mac,
            }),
            Maker::Secret => serde_json::to_vec_pretty(&Format2 {
                format,
                version: VERSION,
                keystore,
                epoch,
                generation,
                mac,
            }),
        };
        let mut bytes = text.map_err(|_| {
            Error::new(Kind::Internal, "a rollback guard cannot be written as JSON")
        })?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Checks that nothing newer than `keystore`, and nothing else, was in force before.
    pub(super) fn check(&self, keystore: &Keystore) -> Result<Proof> {
        let contents = keystore.contents();
        if self.keystore != contents.id() {
            let what = format!("keystore {} was here before, not {}", self.keystore, contents.id());
            return Err(Error::new(Kind::State, what));
        }
        let store_key = contents.wrap_context().store_key;
        let proof = match self.by {
            Maker::Secret if keystore.secret().is_err() => {
                let what = format!(
                    "the keystore is of {} in format 1, but {} in format 2 was in force",
                    contents.revision(),
                    self.revision
                );
                return Err(Error::new(Kind::State, what));
            }
            Maker::StoreKey(other) if other != store_key => Proof::Unverifiable,
            _ => Proof::Verified,
        };
        let verified = || scrubbed(|| Ok::<_, Error>(self.mac_by(keystore)?.verify(&self.mac.0)));
        if proof == Proof::Verified && !verified()? {
            return Err(Error::new(Kind::Corrupt, "it was changed by something else than keyward"));
        }
        let (is, was) = (contents.revision(), self.revision);
        if is < was {
            let what = format!("the keystore is of {is}, but {was} was in force");
            return Err(Error::new(Kind::State, what));
        }
        Ok(proof)
    }

    /// The epoch that it names; nothing where that cannot be verified with `keystore`.
    pub(super) fn proven_epoch(&self, keystore: &Keystore) -> Option<u64> {
        let is_proven = scrubbed(|| {
            self.mac_by(keystore).is_ok_and(|mac| mac.verify(&self.mac.0))
                && self.keystore == keystore.contents().id()
        });
        is_proven.then_some(self.revision.epoch)
    }

    /// Whether it should be written again for `keystore`, which it does not speak against.
    pub(super) fn is_behind(&self, keystore: &Keystore) -> bool {
        let upgrade = self.by != Maker::Secret && keystore.secret().is_ok();
        upgrade || self.revision < keystore.contents().revision()
    }

    /// Within `scrubbed` only.
    fn mac_by(&self, keystore: &Keystore) -> Result<FileMac> {
        let Revision { epoch, generation } = self.revision;
        match self.by {
            Maker::StoreKey(number) => {
                let mut mac = FileMac::of_witness(keystore.store_key(), &self.keystore)?;
                mac.update(&generation.to_be_bytes());
                mac.update(&number.to_be_bytes());
                Ok(mac)
            }
            Maker::Secret => {
                let secret = keystore.secret()?.key().expose();
                let mut mac = FileMac::under(&derived(&self.keystore, secret, &[LABEL])?)?;
                mac.update(&epoch.to_be_bytes());
                mac.update(&generation.to_be_bytes());
                Ok(mac)
            }
        }
    }
}
