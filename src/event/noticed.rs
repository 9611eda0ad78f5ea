//! What a server has told its audit trail besides changes of keys, so that it tells nothing twice: a small file
//! next to the trail, one for each data directory.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::line::digest;
use super::replace::replace;
use crate::error::{Error, Kind, Result};
use crate::hex::Hex;
use crate::key::KeyRef;
use crate::trust;

const MODE: u32 = 0o600;

/// The longest file, in bytes.
const MAX_LEN: u64 = 1 << 26;

/// What the trail has of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noticed {
    /// The version of the library.
    pub library: Option<String>,
    /// SHA-256 of the configuration's file.
    pub configuration: Option<Hex<32>>,
    /// What is wrong with the trail.
    #[serde(default)]
    pub damage: Option<String>,
    /// The key versions that the server has used.
    pub keys: BTreeSet<KeyRef>,
}

/// The file of one server.
pub struct NoticedFile {
    path: PathBuf,
}

impl NoticedFile {
    /// The file of the server with this data directory on this host, next to the keystore at `keystore`.
    #[must_use]
    pub fn beside(keystore: &Path, host: &str, data_directory: &str) -> Self {
        let name = digest(format!("{host}\n{data_directory}")).to_string();
        Self { path: keystore.with_file_name(format!("audit.server-{}", &name[..16])) }
    }

    /// What it holds; nothing where it is missing or not one of ours: then everything is told once more.
    #[must_use]
    pub fn read(&self) -> Noticed {
        let bytes = trust::read_untrusted(&self.path, MAX_LEN).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Puts `noticed` in its place in one step.
    pub fn write(&self, noticed: &Noticed) -> Result<()> {
        let text = serde_json::to_string(noticed)
            .map_err(|e| Error::new(Kind::Internal, format!("no JSON: {e}")))?;
        replace(&self.path, text.as_bytes(), MODE, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyId, KeyVersion};

    #[test]
    fn holds_what_one_server_told() {
        let folder = tempfile::tempdir().unwrap();
        let keystore = folder.path().join("keystore.json");
        let file = NoticedFile::beside(&keystore, "db1", "/var/lib/mysql");
        assert_eq!(file.read(), Noticed::default());
        let keys = BTreeSet::from([KeyRef::new(KeyId::SYSTEM, KeyVersion::FIRST)]);
        let (library, damage) = (Some("1.0".to_owned()), Some("a gap".to_owned()));
        let noticed = Noticed { library, configuration: Some(Hex([1; 32])), damage, keys };
        file.write(&noticed).unwrap();
        assert_eq!(file.read(), noticed);
        let other = NoticedFile::beside(&keystore, "db1", "/var/lib/other");
        assert_eq!(other.read(), Noticed::default());
        std::fs::write(&file.path, "{").unwrap();
        assert_eq!(file.read(), Noticed::default());
    }
}
