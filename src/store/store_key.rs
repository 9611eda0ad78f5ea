//! The store key's part of a keystore: who wraps it, and how another takes its place.

#![forbid(unsafe_code)]

use std::sync::Arc;

use super::entry::Wrapped;
use super::seal::{MAX_WRAPS, Sealer};
use super::{Contents, Keystore, StoreKeyEntry, Wrapping, format};
use crate::env::{Rng, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::provider::WrapContext;
use crate::secret::{DataKey, scrubbed};

impl Keystore {
    /// The keystore with the store key wrapped by one provider more, or again by one it has.
    pub fn with_wrapping(&self, wrapping: Wrapping) -> Result<Self> {
        let contents = self.contents.with_active(|active| {
            let mut all = active.wrappings.iter_mut();
            match all.find(|old| old.provider == wrapping.provider) {
                Some(old) => *old = wrapping,
                None => active.wrappings.push(wrapping),
            }
            Ok(())
        })?;
        Ok(self.with(contents))
    }

    /// The keystore without the wrapping of a provider. The last one stays: without it, every key
    /// were lost.
    pub fn without_wrapping(&self, provider: &str) -> Result<Self> {
        let contents = self.contents.with_active(|active| {
            let before = active.wrappings.len();
            active.wrappings.retain(|wrapping| wrapping.provider != provider);
            if active.wrappings.len() == before {
                let what = format!("the store key is not wrapped by provider {provider:?}");
                return Err(Error::new(Kind::NotFound, what));
            }
            if active.wrappings.is_empty() {
                let what = format!("provider {provider:?} alone wraps the store key");
                return Err(Error::new(Kind::State, what).advise("add another provider first"));
            }
            Ok(())
        })?;
        Ok(self.with(contents))
    }

    /// What the wrappings of the next store key must be bound to.
    pub fn next_context(&self) -> Result<WrapContext> {
        let store_key = self.contents.next_store_key()?;
        Ok(WrapContext { keystore: self.contents.id.to_string(), store_key })
    }

    /// The keystore under a new store key: every data key is wrapped again, the former store key
    /// stays as a record without wrappings. `wrappings` are bound to [`Self::next_context`].
    pub fn with_store_key(
        &self,
        store_key: DataKey,
        wrappings: Vec<Wrapping>,
        now: Timestamp,
        rng: &dyn Rng,
    ) -> Result<Self> {
        let store_key = Arc::new(store_key);
        let mut keys = Vec::with_capacity(self.contents.keys.len());
        let (mut wraps, mut secret) = (0, None);
        let number = self.contents.next_store_key()?;
        scrubbed(|| {
            let (old, new) = (Sealer::new(&self.store_key)?, Sealer::new(&store_key)?);
            for key in self.contents.keys.iter() {
                let key = key.rewrapped(|entry, wrapped| {
                    wraps += 1;
                    let data = self.unwrapped(&old, key.name(), entry, wrapped)?;
                    let to = self.binding(key.name(), entry, number);
                    Ok(Wrapped { store_key: number, data: new.wrap(&data, &to, rng)? })
                })?;
                keys.push(Arc::new(key));
            }
            if let Some(one) = &self.secret {
                wraps += 1;
                let data = new.wrap_secret(one.key(), &self.contents.id, number, rng)?;
                secret = Some(Wrapped { store_key: number, data });
            }
            Ok::<_, Error>(())
        })?;
        let mut contents = self.contents.with_store_key(&store_key, wrappings, now, wraps)?;
        contents.keys = Arc::new(keys);
        contents.secret = secret;
        Ok(Self { contents, store_key, ..self.clone() })
    }
}

impl Contents {
    fn next_store_key(&self) -> Result<u32> {
        let last = self.store_keys.last().map_or(0, |entry| entry.number);
        let none = || Error::new(Kind::State, "there are no more numbers for a store key");
        last.checked_add(1).ok_or_else(none)
    }

    /// The same with a new active store key that has wrapped `wraps` data keys.
    pub(super) fn with_store_key(
        &self,
        store_key: &DataKey,
        wrappings: Vec<Wrapping>,
        now: Timestamp,
        wraps: u64,
    ) -> Result<Self> {
        format::check_store_key(store_key)?;
        let mut next = self.clone();
        if let Some(active) = next.store_keys.pop() {
            let mut record = StoreKeyEntry::clone(&active);
            record.retired = Some(now);
            record.wrappings.clear();
            next.store_keys.push(Arc::new(record));
        }
        let mut entry = StoreKeyEntry {
            number: self.next_store_key()?,
            created: now,
            retired: None,
            check: store_key.check_value(),
            wraps: 0,
            wrappings,
        };
        count_wraps(&mut entry, wraps)?;
        next.store_keys.push(Arc::new(entry));
        format::check_store_keys(&next.store_keys)?;
        Ok(next)
    }
}

/// Counts `wraps` more data keys under a store key, up to [`MAX_WRAPS`].
pub(super) fn count_wraps(entry: &mut StoreKeyEntry, wraps: u64) -> Result<()> {
    entry.wraps = entry.wraps.saturating_add(wraps);
    if entry.wraps > MAX_WRAPS {
        let what = format!("store key {} has wrapped as many data keys as is safe", entry.number);
        return Err(Error::new(Kind::State, what).advise("make a new store key first"));
    }
    Ok(())
}
