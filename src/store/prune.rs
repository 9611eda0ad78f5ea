//! The tombstones of MySQL's keyring keys go again: clients store and remove keys as they please, and the
//! material of a removed one is gone. Those of master keys stay, since data files name master keys.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Contents, KeyEntry, Keystore, Revision, VersionEntry};
use crate::env::Timestamp;
use crate::key::{KeyName, KeyRef, KeyState, KeyVersion};

/// How many tombstones are kept once some go: the newest.
const KEPT: usize = 100;

/// With how many the oldest go. Above [`KEPT`], so that not each change removes one.
const TOO_MANY: usize = 200;

impl Keystore {
    /// The keystore without the oldest tombstones of keyring keys, where there are too many; to be
    /// committed next.
    #[must_use]
    pub fn pruned(&self) -> Self {
        let surplus = surplus(&self.contents);
        if surplus.is_empty() || self.contents.secret.is_none() {
            return self.clone();
        }
        let mut registers = self.contents.registers().clone();
        let left = self.contents.keys.iter().filter_map(|key| {
            let Some(gone) = surplus.get(key.name()) else { return Some(Arc::clone(key)) };
            let left = key.without(gone);
            if left.is_none() {
                registers.pruned_names = registers.pruned_names.max(key.last_number());
            }
            left.map(Arc::new)
        });
        let keys = left.collect();
        let Revision { epoch, generation } = self.contents.revision();
        registers.pruned_through = Some(Revision { epoch, generation: generation + 1 });
        let mut contents = self.contents.clone();
        contents.keys = Arc::new(keys);
        contents.registers = registers.into();
        self.with(contents)
    }
}

impl Contents {
    /// Whether the entry of a destroyed version that is missing was removed on purpose, after the
    /// revision `known`: whoever knows no newer one cannot have seen it go.
    #[must_use]
    pub fn has_pruned(&self, key: &KeyRef, known: Revision) -> bool {
        let through = match (self.key(&key.name), &key.name) {
            (Some(entry), _) => entry.pruned_through,
            (None, KeyName::Named { .. }) => self.registers.pruned_names,
            (None, KeyName::Id(_)) => None,
        };
        self.registers.pruned_through > Some(known) && through >= Some(key.version)
    }
}

/// The tombstones that are too many, by name.
fn surplus(contents: &Contents) -> BTreeMap<&KeyName, BTreeSet<KeyVersion>> {
    let keyring = |key: &&KeyEntry| {
        matches!(key.name(), KeyName::Named { .. }) && key.name().master_key().is_none()
    };
    let mut all = Vec::new();
    for key in contents.keys().filter(keyring) {
        let dead = key.versions().filter(|one| one.state == KeyState::Destroyed);
        all.extend(dead.map(|one| (since(one), key.name(), one.version)));
    }
    if all.len() < TOO_MANY {
        return BTreeMap::new();
    }
    all.sort_unstable();
    all.truncate(all.len() - KEPT);
    let mut surplus: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (_, name, version) in all {
        surplus.entry(name).or_default().insert(version);
    }
    surplus
}

/// Since when a version is in its state.
fn since(version: &VersionEntry) -> Option<Timestamp> {
    version.history.last().map(|event| event.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::fake::FakeRng;
    use crate::secret::DataKey;
    use crate::store::tests::empty;
    use crate::store::{Change, NewVersion, Sealed};

    const MASTER_KEY: &str = "INNODBKey-a7c99ba7-e639-11f1-b21a-02fc00000001-1";

    fn change(at: u64) -> Change {
        let at = Timestamp::from_unix(1_772_366_400 + at);
        Change { at, actor: "test".to_owned(), reason: "because".to_owned() }
    }

    fn name(number: u32) -> KeyName {
        KeyName::named(format!("key{number:04}"), "joe@localhost")
    }

    fn stored(before: &Keystore, name: &KeyName) -> Keystore {
        let key = KeyRef::new(name.clone(), before.contents().next_version(name, 1).unwrap());
        let data = DataKey::copy_of(b"a secret").unwrap();
        let purpose = "keyring:SECRET:8".parse().unwrap();
        let (state, created) = (KeyState::Active, change(0).at);
        let new = NewVersion { key, purpose, data: &data, state, created };
        before.with_version(&new, &change(0), &FakeRng::new(2)).unwrap()
    }

    fn removed(before: &Keystore, name: &KeyName, at: u64) -> Keystore {
        let active = before.contents().key(name).unwrap().active().unwrap().version;
        let key = KeyRef::new(name.clone(), active);
        let retired = before.with_state(&key, KeyState::Retired, &change(at)).unwrap();
        retired.with_state(&key, KeyState::Destroyed, &change(at)).unwrap()
    }

    /// `count` keys that were stored and removed, one a second.
    fn used(mut keystore: Keystore, count: u32) -> Keystore {
        for number in 0..count {
            keystore = stored(&keystore, &name(number));
            keystore = removed(&keystore, &name(number), number.into());
        }
        keystore
    }

    fn tombstones(keystore: &Keystore) -> usize {
        let versions = keystore.contents().keys().flat_map(KeyEntry::versions);
        versions.filter(|one| one.state == KeyState::Destroyed).count()
    }

    #[test]
    fn the_newest_tombstones_stay() {
        let few = used(empty(), 199);
        assert_eq!(few.pruned().contents(), few.contents());
        let many = used(empty(), 200);
        let pruned = many.pruned().next_generation();
        assert_eq!(tombstones(&pruned), 100);
        assert!(pruned.contents().key(&name(99)).is_none());
        assert!(pruned.contents().key(&name(100)).is_some());
        let known = many.contents().revision();
        for number in 0..100 {
            let gone = KeyRef::new(name(number), KeyVersion::FIRST);
            assert!(pruned.contents().has_pruned(&gone, known));
            let never = KeyRef::new(name(number), KeyVersion::new(2).unwrap());
            assert!(!pruned.contents().has_pruned(&never, known));
        }
        let bytes = pruned.to_bytes().unwrap();
        let store_key = DataKey::copy_of(pruned.store_key().expose()).unwrap();
        let read = Sealed::parse(&bytes).unwrap().open(store_key).unwrap();
        assert_eq!(read.contents(), pruned.contents());
    }

    #[test]
    fn no_number_is_used_twice() {
        let (often, once) = (name(9_998), name(9_999));
        let mut keystore = empty();
        for _ in 0..3 {
            keystore = removed(&stored(&keystore, &often), &often, 0);
        }
        // Alive, with a tombstone below.
        let kept = name(9_997);
        keystore = stored(&removed(&stored(&keystore, &kept), &kept, 0), &kept);
        let pruned = used(keystore, 200).pruned();
        assert!(pruned.contents().key(&often).is_none());
        let next = |name: &KeyName| pruned.contents().next_version(name, 1).unwrap().get();
        assert_eq!((next(&often), next(&once), next(&kept)), (4, 4, 3));
        let living: Vec<_> = pruned.contents().key(&kept).unwrap().versions().collect();
        assert!(living.len() == 1 && living[0].version.get() == 2);
        let mariadbs = KeyName::Id(crate::key::KeyId::SYSTEM);
        assert_eq!(next(&mariadbs), 1);
        let later = pruned.with_next_epoch(change(0).at, &FakeRng::new(3)).unwrap();
        assert!(later.contents().next_version(&once, 1).unwrap().get() > 1 << 16);
    }

    #[test]
    fn what_data_files_name_stays() {
        let master = KeyName::named(MASTER_KEY, "");
        let keystore = removed(&stored(&empty(), &master), &master, 0);
        let pruned = used(keystore, 300).pruned();
        assert!(pruned.contents().key(&master).is_some());
        assert_eq!(tombstones(&pruned), 101);
    }
}
