//! Secrets of a KV engine as its API gives them, and the key in one.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::hex;
use crate::key::KeyVersion;
use crate::secret::DataKey;

/// The answer of `metadata/<secret>`.
#[derive(Deserialize)]
pub(super) struct Metadata {
    pub(super) data: MetadataBody,
}

/// What an engine of version 2 tells of a secret; one of version 1 gives what somebody wrote there.
#[derive(Deserialize)]
pub(super) struct MetadataBody {
    #[serde(default)]
    pub(super) current_version: Option<u32>,
    #[serde(default)]
    pub(super) max_versions: u32,
    #[serde(default)]
    pub(super) versions: Option<BTreeMap<u32, VersionBody>>,
}

impl MetadataBody {
    /// Whether it has what only an engine of version 2 tells.
    pub(super) fn is_versioned(&self) -> bool {
        self.current_version.is_some() || self.versions.is_some()
    }

    /// The number that the next version gets.
    pub(super) fn next_version(&self) -> Option<u32> {
        self.current_version.unwrap_or_default().checked_add(1)
    }

    /// The versions, each with its number.
    pub(super) fn versions(&self) -> impl DoubleEndedIterator<Item = (&u32, &VersionBody)> {
        self.versions.iter().flatten()
    }

    pub(super) fn version(&self, number: u32) -> Option<&VersionBody> {
        self.versions.as_ref()?.get(&number)
    }
}

#[derive(Deserialize)]
pub(super) struct VersionBody {
    /// Told only beside the secret itself.
    version: Option<u32>,
    pub(super) created_time: String,
    #[serde(default)]
    deletion_time: String,
    #[serde(default)]
    destroyed: bool,
}

impl VersionBody {
    /// Which version it is of.
    pub(super) fn number(&self) -> Option<KeyVersion> {
        KeyVersion::try_from(self.version?).ok()
    }

    /// Whether it can be read.
    pub(super) fn condition(&self) -> Condition {
        match (self.destroyed, self.deletion_time.is_empty()) {
            (true, _) => Condition::Destroyed,
            (false, false) => Condition::Deleted,
            (false, true) => Condition::Live,
        }
    }
}

/// Whether a version can be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Live,
    Deleted,
    Destroyed,
}

/// What stands beside the secret in the answer of `data/<secret>`.
#[derive(Deserialize)]
pub(super) struct Newest {
    pub(super) data: NewestBody,
}

#[derive(Deserialize)]
pub(super) struct NewestBody {
    pub(super) metadata: Option<VersionBody>,
}

/// The answer of `data/<secret>`, also where that version was deleted: then without the secret.
#[derive(Deserialize)]
pub(super) struct Data {
    pub(super) data: DataBody,
}

#[derive(Deserialize)]
pub(super) struct DataBody {
    pub(super) data: Option<Secret>,
    pub(super) metadata: Option<VersionBody>,
}

#[derive(Deserialize)]
pub(super) struct Secret {
    pub(super) data: Option<String>,
    pub(super) cipher: Option<String>,
    /// In the place of a key: see [`PLACEHOLDER`].
    placeholder: Option<String>,
}

/// What a restore writes as a version that the backup does not have, so that those after it get their
/// numbers: the engine counts by itself. The text is for people.
pub(super) const PLACEHOLDER: &str = "no key: this version was gone when the backup was made, and later ones keep their numbers by this";

impl Secret {
    /// Whether it only keeps a number taken.
    pub(super) fn is_placeholder(&self) -> bool {
        self.data.is_none() && self.placeholder.is_some()
    }
}

/// The answer to a secret that was stored.
#[derive(Deserialize)]
pub(super) struct Stored {
    pub(super) data: StoredBody,
}

#[derive(Deserialize)]
pub(super) struct StoredBody {
    pub(super) version: Option<u32>,
}

#[derive(Deserialize)]
pub(super) struct Names {
    pub(super) data: NamesBody,
}

#[derive(Deserialize)]
pub(super) struct NamesBody {
    pub(super) keys: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct MountConfig {
    pub(super) data: MountConfigBody,
}

#[derive(Deserialize)]
pub(super) struct MountConfigBody {
    #[serde(default)]
    pub(super) max_versions: u32,
}

/// The words of the plugin that wrote such secrets first, for what is wrong with one.
pub(super) const NO_DATA: &str = "Unable to get data string";
const NO_HEX: &str = "Syntax error - the key data should contain only hexadecimal digits";
const ODD: &str = "Syntax error - extra character in the key data";
const LENGTH: &str = "The key data has not the length of an AES key";

/// The key in the field `data`; `wrong` makes the error for one that is none.
pub(super) fn key_of(secret: Secret, wrong: impl Fn(&str) -> Error) -> Result<DataKey> {
    let hex = Zeroizing::new(secret.data.ok_or_else(|| wrong(NO_DATA))?);
    if !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(wrong(NO_HEX));
    }
    match hex.len() {
        32 | 48 | 64 => DataKey::build(hex.len() / 2, |to| {
            hex::decode_into(to, hex.as_bytes());
            Ok(())
        }),
        odd if odd % 2 == 1 => Err(wrong(ODD)),
        _ => Err(wrong(LENGTH)),
    }
}
