//! The signing key that the configuration pins: a store key that was wrapped for a public key shows
//! nothing of who wrapped it, so that anybody could put a keystore of their own in its place.

#![forbid(unsafe_code)]

use super::{KeystoreReader, NamedWrapper};
use crate::error::{Error, Kind, Result};
use crate::store::{Contents, Keystore};

impl KeystoreReader {
    /// For the keystore alone of which an epoch's key has this fingerprint.
    #[must_use]
    pub(crate) fn with_fingerprint(mut self, fingerprint: Option<String>) -> Self {
        self.pinned = fingerprint;
        self
    }

    /// Refuses `found`, which was verified and which `provider` opened, unless its fingerprint is the pinned
    /// one. Its epochs are a chain of signatures, of which the last key is its own: any of them does.
    pub(super) fn refuse_unpinned(&self, found: &Keystore, provider: &str) -> Result<()> {
        let Some(pinned) = &self.pinned else { return self.refuse_unproven(found, provider) };
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

    /// Refuses to write `after`, which nothing pins, if one of its providers wraps by a public key: the next
    /// start might open it by no other, and be refused.
    pub(crate) fn refuse_to_need_a_pin(&self, after: &Keystore) -> Result<()> {
        let contents = after.contents();
        let last = contents.registers().epochs().last();
        let Some(epoch) = last.filter(|_| self.pinned.is_none()) else { return Ok(()) };
        let by_public_key = |named: &&NamedWrapper| !proves(&self.wrappers, contents, &named.name);
        let Some(NamedWrapper { name, .. }) = self.wrappers.iter().find(by_public_key) else {
            return Ok(());
        };
        let path = self.file.path().display();
        let what = format!(
            "{path}: provider {name:?} wraps by a public key, so that the configuration must name this \
             keystore first; nothing was changed"
        );
        let fingerprint = epoch.fingerprint();
        Err(Error::new(Kind::State, what).advise(format!(
            "write fingerprint = \"{fingerprint}\" into [keystore], then run this again"
        )))
    }

    /// Refuses `found`, which nothing pins, if anybody could have wrapped what `provider` opened it by.
    fn refuse_unproven(&self, found: &Keystore, provider: &str) -> Result<()> {
        let contents = found.contents();
        let proves = proves(&self.wrappers, contents, provider);
        // One of format 1 has nothing to be known by.
        let Some(epoch) = contents.registers().epochs().last().filter(|_| !proves) else {
            return Ok(());
        };
        let path = self.file.path().display();
        let what = format!(
            "{path}: provider {provider:?} wraps by a public key, so that anybody can have made this \
             keystore"
        );
        let fingerprint = epoch.fingerprint();
        Err(Error::new(Kind::State, what).advise(format!(
            "if it is yours, write fingerprint = \"{fingerprint}\" into [keystore]"
        )))
    }
}

/// Whether only who has a secret can have wrapped what `provider` opens of `contents`.
pub(super) fn proves(wrappers: &[NamedWrapper], contents: &Contents, provider: &str) -> bool {
    let named = wrappers.iter().find(|named| named.name == provider);
    let wrapping = contents.wrappings().iter().find(|one| one.provider == provider);
    named.zip(wrapping).is_none_or(|(named, wrapping)| named.wrapper.authenticates(&wrapping.key))
}

/// The fingerprint that the configuration must name, where one of `wrappers` wrapped the store key of
/// `contents` by a public key.
pub(crate) fn fingerprint_to_pin(wrappers: &[NamedWrapper], contents: &Contents) -> Option<String> {
    let epoch = contents.registers().epochs().last()?;
    let all_prove = wrappers.iter().all(|named| proves(wrappers, contents, &named.name));
    (!all_prove).then(|| epoch.fingerprint().to_string())
}
