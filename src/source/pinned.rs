//! The signing key that the configuration pins: a store key that was wrapped for a public key shows
//! nothing of who wrapped it, so that anybody could put a keystore of their own in its place.

#![forbid(unsafe_code)]

use super::KeystoreReader;
use crate::error::{Error, Kind, Result};
use crate::store::Keystore;

impl KeystoreReader {
    /// For the keystore alone of which an epoch's key has this fingerprint.
    #[must_use]
    pub(crate) fn with_fingerprint(mut self, fingerprint: Option<String>) -> Self {
        self.pinned = fingerprint;
        self
    }

    /// Refuses `found`, which was verified, unless its fingerprint is the pinned one. Its epochs are
    /// a chain of signatures, of which the last key is its own: any of them does.
    pub(super) fn refuse_unpinned(&self, found: &Keystore) -> Result<()> {
        let Some(pinned) = &self.pinned else { return Ok(()) };
        let epochs = found.contents().registers().epochs();
        if epochs.iter().any(|epoch| epoch.fingerprint().to_string() == *pinned) {
            return Ok(());
        }
        let is = match epochs.last() {
            Some(epoch) => format!("the keystore's fingerprint is {}", epoch.fingerprint()),
            None => "the keystore is of format 1, which has no fingerprint".to_owned(),
        };
        let path = self.file.path().display();
        let what = format!("{path}: {is}, and the configuration names {pinned}");
        Err(Error::new(Kind::State, what).advise(
            "another keystore took its place: put the right one back; if this is the right one, \
             change `fingerprint` in [keystore]",
        ))
    }
}
