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
/// what was published last, and the ring has all of it: only keys that have changed since are looked at.
/// A version in the ring that is not the same key in `now` is refused. On failure the ring stays as it was.
pub(super) fn publish(before: Option<&Keystore>, now: &Keystore, ring: &Ring) -> Result<()> {
    let changed = now.contents().changed_since(before.map(Keystore::contents));
    let (mut new, mut active) = (Vec::new(), Vec::new());
    // One wipe of the stack for all keys, not one for each.
    let named = scrubbed(|| {
        for key in changed.iter().filter_map(|(_, key)| *key) {
            let KeyName::Id(id) = key.name() else { continue };
            for entry in key.versions() {
                let Purpose::Pages(cipher) = &entry.purpose else { continue };
                let version = KeyRef::new(*id, entry.version);
                let is_proven = || {
                    ring.get(*id, entry.version).is_some()
                        && before
                            .is_some_and(|old| continuity::is_wrapped_the_same(old, now, &version))
                };
                if entry.state.decrypts() && !is_proven() {
                    let key = RingKey::new(now.data_key(&version)?, *cipher);
                    ring.check(*id, entry.version, &key)?;
                    new.push((*id, entry.version, key));
                }
                if entry.state == KeyState::Active {
                    active.push((*id, entry.version));
                }
            }
        }
        named_keys(&changed, before.is_some(), now, ring)
    })?;
    new.into_iter().try_for_each(|(id, version, key)| ring.insert(id, version, key))?;
    ring.announce();
    active.into_iter().try_for_each(|(id, version)| ring.activate(id, version))?;
    if let Some(named) = named {
        ring.set_named(named);
    }
    Ok(())
}

/// MySQL's keys as the ring is to have them; nothing where they stay as they are. Those of before that
/// are still the same are kept.
fn named_keys(
    changed: &[(&KeyName, Option<&KeyEntry>)],
    goes_on: bool,
    now: &Keystore,
    ring: &Ring,
) -> Result<Option<NamedKeys>> {
    let before = ring.named();
    let mut after = if goes_on { NamedKeys::clone(&before) } else { NamedKeys::default() };
    let mut is_changed = !goes_on;
    for (name, key) in changed {
        if matches!(name, KeyName::Id(_)) {
            continue;
        }
        is_changed = true;
        let active = key.and_then(KeyEntry::active);
        let described = active.map(|entry| (entry, &entry.purpose));
        let Some((entry, Purpose::Keyring(described))) = described else {
            after.remove(name);
            continue;
        };
        let same =
            |old: &&Arc<NamedKey>| old.version() == entry.version && old.check() == entry.check;
        let held = match before.get(name).filter(same) {
            Some(held) => Arc::clone(held),
            None => {
                let data = now.data_key(&KeyRef::new((*name).clone(), entry.version))?;
                Arc::new(NamedKey::new(entry.version, described.clone(), data, entry.check))
            }
        };
        after.insert((*name).clone(), held);
    }
    Ok(is_changed.then_some(after))
}

/// Every version of every key, sorted.
pub fn infos(contents: &Contents) -> Vec<KeyInfo> {
    let of_key = |key: &'_ _| -> Vec<KeyInfo> {
        let key: &KeyEntry = key;
        key.versions().map(|version| version.info(key.name())).collect()
    };
    contents.keys().flat_map(of_key).collect()
}
