//! The newest checkpoint of an audit trail, in a file next to it: for whoever keeps copies elsewhere.

#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::checkpoint::{MAX_LEN, Signed};
use super::line::Head;
use super::replace::replace;
use crate::env::Timestamp;
use crate::error::Result;
use crate::hex::Hex;
use crate::trust;

/// It holds no secret. The folder says who may come so far.
const MODE: u32 = 0o644;

/// The file of the newest checkpoint.
pub struct NewestCheckpoint {
    path: PathBuf,
}

impl NewestCheckpoint {
    /// The file for the keystore at `keystore`: `audit.checkpoint` in the same folder.
    #[must_use]
    pub fn beside(keystore: &Path) -> Self {
        Self { path: keystore.with_file_name("audit.checkpoint") }
    }

    /// The line that it is of and when it was written; none unless one of the keys `public` has signed it for the
    /// keystore called `keystore`.
    #[must_use]
    pub fn read(&self, keystore: &str, public: &[Hex<32>]) -> Option<(Head, Timestamp)> {
        let bytes = trust::read_untrusted(&self.path, MAX_LEN).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let head = Signed::parse(&text, keystore).and_then(|it| it.verified(public)).ok()?;
        let written = fs::symlink_metadata(&self.path).ok()?.modified().ok()?;
        let since = written.duration_since(UNIX_EPOCH).unwrap_or_default();
        Some((head, Timestamp::from_unix(since.as_secs())))
    }

    /// Puts `text` in its place in one step. When this returns, it is on disk and dated `at`.
    pub fn replace(&self, text: &str, at: Timestamp) -> Result<()> {
        replace(&self.path, text.as_bytes(), MODE, Some(at))
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair};

    use super::*;
    use crate::event::checkpoint::Checkpoint;

    const KEYSTORE: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

    #[test]
    fn has_what_was_written_last_if_it_is_ours() {
        let folder = tempfile::tempdir().unwrap();
        let newest = NewestCheckpoint::beside(&folder.path().join("keystore.json"));
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let public = Hex(pair.public_key().as_ref().try_into().unwrap());
        assert_eq!(newest.read(KEYSTORE, &[public]), None);
        for line in [5, 9] {
            let head = Head { line, hash: Hex([1; 32]) };
            let checkpoint = Checkpoint::new(KEYSTORE, head);
            let signature = pair.sign(checkpoint.text().as_bytes());
            let text = checkpoint.note(&public, signature.as_ref().try_into().unwrap());
            // Half of one, which a crash left.
            fs::write(folder.path().join("audit.checkpoint.new"), "keyw").unwrap();
            let at = Timestamp::from_unix(1_700_000_000 + line);
            newest.replace(&text, at).unwrap();
            assert_eq!(newest.read(KEYSTORE, &[public]), Some((head, at)));
            assert_eq!(newest.read(KEYSTORE, &[Hex([2; 32])]), None, "another's key");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
        fs::write(&newest.path, "9").unwrap();
        assert_eq!(newest.read(KEYSTORE, &[public]), None);
    }
}
