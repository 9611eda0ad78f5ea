//! From a keystore into the ring.

#![forbid(unsafe_code)]

use std::sync::Arc;

use super::continuity;
use crate::error::Result;
use crate::key::{KeyInfo, KeyName, KeyRef, KeyState, Purpose};
use crate::ring::{NamedKey, NamedKeys, Ring, RingKey};
use crate::secret::scrubbed;
use crate::store::{Contents, KeyEntry, Keystore};

/// Brings the ring up to date: every version that decrypts, and the active one of each key. `before` is
/// what the ring has its keys from; a version in the ring that is not the same key in `now` is
/// refused. On failure the ring stays as it was.
pub(super) fn publish(before: Option<&Keystore>, now: &Keystore, ring: &Ring) -> Result<()> {
    let (mut new, mut active) = (Vec::new(), Vec::new());
    // One wipe of the stack for all keys, not one for each.
    let named = scrubbed(|| {
        for info in infos(now.contents()) {
            let (KeyName::Id(id), Purpose::Pages(cipher)) = (&info.key.name, &info.purpose) else {
                continue;
            };
            let (id, version) = (*id, info.key.version);
            let is_proven = || {
                ring.get(id, version).is_some()
                    && before
                        .is_some_and(|old| continuity::is_wrapped_the_same(old, now, &info.key))
            };
            if info.state.decrypts() && !is_proven() {
                let key = RingKey::new(now.data_key(&info.key)?, *cipher);
                ring.check(id, version, &key)?;
                new.push((id, version, key));
            }
            if info.state == KeyState::Active {
                active.push((id, version));
            }
        }
        named_keys(now, ring)
    })?;
    new.into_iter().try_for_each(|(id, version, key)| ring.insert(id, version, key))?;
    ring.announce();
    active.into_iter().try_for_each(|(id, version)| ring.activate(id, version))?;
    ring.set_named(named);
    Ok(())
}

/// MySQL's keys as the ring is to have them: those of before that are still the same, and new ones.
fn named_keys(keystore: &Keystore, ring: &Ring) -> Result<NamedKeys> {
    let before = ring.named();
    let mut after = NamedKeys::default();
    for key in keystore.contents().keys() {
        let Some(entry) = key.active() else { continue };
        let (KeyName::Named { .. }, Purpose::Keyring(described)) = (key.name(), &entry.purpose)
        else {
            continue;
        };
        let same =
            |old: &&Arc<NamedKey>| old.version() == entry.version && old.check() == entry.check;
        let held = match before.get(key.name()).filter(same) {
            Some(held) => Arc::clone(held),
            None => {
                let data = keystore.data_key(&KeyRef::new(key.name().clone(), entry.version))?;
                Arc::new(NamedKey::new(entry.version, described.clone(), data, entry.check))
            }
        };
        after.insert(key.name().clone(), held);
    }
    Ok(after)
}

/// Every version of every key, sorted.
pub fn infos(contents: &Contents) -> Vec<KeyInfo> {
    let of_key = |key: &'_ _| -> Vec<KeyInfo> {
        let key: &KeyEntry = key;
        key.versions().map(|version| version.info(key.name())).collect()
    };
    contents.keys().flat_map(of_key).collect()
}
