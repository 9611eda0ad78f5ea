//! A stash: a keystore whose keys are those of a key store that serves them, as they were when it was
//! taken. The same file, so that nothing more has to be read, proven and kept from damage.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::entry::{Change, KeyEntry, Text, VersionEntry, Wrapped};
use super::seal::Sealer;
use super::store_key::count_wraps;
use super::{Keystore, format};
use crate::env::Rng;
use crate::error::{Error, Kind, Result};
use crate::key::{CheckValue, KeyInfo, KeyName};
use crate::secret::{DataKey, scrubbed};

/// What is hashed before the words that name a key store: who takes a stash makes its id of them,
/// who opens one compares; so the stash of one key store is none of another's.
const ID_LABEL: &[u8] = b"keyward stash v1\0";

/// A version as a key store serves it.
pub struct Served<'a> {
    /// What it says of it.
    pub info: &'a KeyInfo,
    /// The key.
    pub data: &'a DataKey,
}

impl Keystore {
    /// The id of the stash of the key store that `words` name.
    #[must_use]
    pub fn stash_id(words: &str) -> String {
        let digest = Sha256::new().chain_update(ID_LABEL).chain_update(words).finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        format::uuid(bytes)
    }

    /// The keystore with these versions, sorted by key and version, and no others; made again at
    /// `change.at`. What was wrapped before is taken over as it is.
    pub fn with_only(&self, all: &[Served<'_>], change: &Change, rng: &dyn Rng) -> Result<Self> {
        let mut wraps = 0;
        let mut keys: BTreeMap<&KeyName, Vec<Arc<VersionEntry>>> = BTreeMap::new();
        scrubbed(|| {
            let sealer = Sealer::new(&self.store_key)?;
            for served in all {
                let check = self.check_value(&served.info.key, served.data)?;
                let mut entry = served.entry(check, change)?;
                entry.wrapped = match self.wrapped_before(served, &entry) {
                    Some(before) => Some(before),
                    None => {
                        wraps += 1;
                        Some(self.wrap_served(&sealer, served, &entry, rng)?)
                    }
                };
                keys.entry(&served.info.key.name).or_default().push(Arc::new(entry));
            }
            Ok(())
        })?;
        let entries = keys.into_iter().map(|(name, versions)| {
            KeyEntry::new(name.clone(), versions).map(Arc::new).map_err(unfit)
        });
        let mut contents = self.contents.with_active(|active| count_wraps(active, wraps))?;
        contents.keys = Arc::new(entries.collect::<Result<_>>()?);
        contents.created = change.at;
        Ok(self.with(contents))
    }

    fn wrapped_before(&self, served: &Served<'_>, entry: &VersionEntry) -> Option<Wrapped> {
        let before = self.version(&served.info.key).ok()?;
        let same = before.check == entry.check && before.purpose == entry.purpose;
        let active = self.contents.store_keys.last()?.number;
        before.wrapped.as_ref().filter(|wrapped| same && wrapped.store_key == active).cloned()
    }

    fn wrap_served(
        &self,
        sealer: &Sealer,
        served: &Served<'_>,
        entry: &VersionEntry,
        rng: &dyn Rng,
    ) -> Result<Wrapped> {
        let store_key = self.contents.active_store_key()?.number;
        let binding = self.binding(&served.info.key.name, entry, store_key);
        Ok(Wrapped { store_key, data: sealer.wrap(served.data, &binding, rng)? })
    }
}

impl Served<'_> {
    /// Its entry, the key still to be wrapped.
    fn entry(&self, check: CheckValue, change: &Change) -> Result<VersionEntry> {
        let KeyInfo { key, state, purpose, created, .. } = self.info;
        if !state.decrypts() || self.data.expose().len() != purpose.key_len() {
            let what = format!("{key} cannot be kept as {state} and for {purpose}");
            return Err(Error::new(Kind::Internal, what));
        }
        Ok(VersionEntry {
            version: key.version,
            purpose: purpose.clone(),
            state: *state,
            created: created.unwrap_or(change.at),
            check: Some(check),
            retain_until: None,
            planned: None,
            history: vec![change.into(*state)?],
            wrapped: None,
            text: Text::default(),
        })
    }
}

/// A key store may have states side by side that a keystore's rules do not know.
fn unfit(bad: Error) -> Error {
    Error::new(Kind::Unsupported, format!("the states of its versions do not fit: {}", bad.what()))
}
