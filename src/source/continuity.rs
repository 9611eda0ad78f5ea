//! A version is for ever: what a source shows must go on from what it showed before.
//!
//! Our own keystore is refused as a whole where it does not; it holds after any number of generations
//! that nobody read. A key store that serves is judged key by key: such a key serves on from memory.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;

use crate::error::Result;
use crate::key::{CheckValue, Cipher, KeyInfo, KeyName, KeyRef, KeyState, KeyVersion, Purpose};
use crate::secret::scrubbed;
use crate::store::{Contents, Keystore, VersionEntry};

/// How a source breaks with what it showed before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// It does not show this version any more.
    Gone(KeyRef),
    /// It says that this version was deleted or destroyed; keyward did not do that.
    Deleted(KeyRef),
    /// It shows another key under this version.
    OtherKey(KeyRef),
    /// It shows the version as made for something else.
    OtherPurpose(KeyRef),
    /// It does not know of this change of the version's state.
    Forgot(KeyRef, KeyState),
    /// It shows two contents under one generation.
    Repeats(u64),
    /// It has an older version encrypt than this one, or none.
    Older(KeyRef, Option<KeyVersion>),
}

impl Break {
    /// The version that it is about.
    pub(super) fn key(&self) -> Option<&KeyRef> {
        match self {
            Self::Gone(key)
            | Self::Deleted(key)
            | Self::OtherKey(key)
            | Self::OtherPurpose(key)
            | Self::Forgot(key, _)
            | Self::Older(key, _) => Some(key),
            Self::Repeats(_) => None,
        }
    }

    /// Whether it is about a version of `name`.
    pub(super) fn is_of(&self, name: &KeyName) -> bool {
        self.key().is_some_and(|key| key.name == *name)
    }

    /// Whether the source lost a version, so that a restart would not find it.
    pub(super) fn is_loss(&self) -> bool {
        !matches!(self, Self::Older(..))
    }
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(key) => write!(f, "{key} is gone"),
            Self::Deleted(key) => write!(f, "{key} is deleted"),
            Self::OtherKey(key) => write!(f, "{key} is another key than the one in use"),
            Self::OtherPurpose(key) => {
                write!(f, "{key} is for another cipher than the one in use")
            }
            Self::Forgot(key, state) => write!(f, "{key} was {state} before and is not now"),
            Self::Repeats(generation) => {
                write!(f, "generation {generation} has other contents than before")
            }
            Self::Older(key, Some(active)) => {
                write!(f, "{key} is in use, and version {active} encrypts there")
            }
            Self::Older(key, None) => write!(f, "{key} is in use, and no version encrypts there"),
        }
    }
}

/// How the keystore `now` breaks with `before`, which has the same id: the first break that there is,
/// of a key before one of a state.
pub(super) fn of_keystore(before: &Keystore, now: &Keystore) -> Result<Option<Break>> {
    // One wipe of the stack for all keys, not one for each.
    scrubbed(|| {
        of_contents(before.contents(), now.contents(), |key| {
            // Wrapped the same is the same; wrapped again, both are opened.
            Ok(is_wrapped_the_same(before, now, key)
                || before.data_key(key)?.check_value() == now.data_key(key)?.check_value())
        })
    })
}

/// Whether both hold `key`, wrapped in the same bytes: then it is the same key.
pub(super) fn is_wrapped_the_same(before: &Keystore, now: &Keystore, key: &KeyRef) -> bool {
    fn entry<'a>(keystore: &'a Keystore, key: &KeyRef) -> Option<&'a VersionEntry> {
        keystore.contents().key(&key.name)?.version(key.version)
    }
    entry(before, key).zip(entry(now, key)).is_some_and(|(before, now)| before.is_wrapped_as(now))
}

fn of_contents(
    before: &Contents,
    now: &Contents,
    is_same: impl Fn(&KeyRef) -> Result<bool>,
) -> Result<Option<Break>> {
    if before.revision() == now.revision() {
        return Ok((before != now).then(|| Break::Repeats(now.generation())));
    }
    let mut forgot = None;
    for key in before.keys() {
        let found = now.key(key.name());
        for version in key.versions() {
            let name = KeyRef::new(key.name().clone(), version.version);
            let Some(found) = found.and_then(|key| key.version(version.version)) else {
                if now.has_pruned(&name, before.revision()) {
                    continue;
                }
                return Ok(Some(Break::Gone(name)));
            };
            match of_version(&name, version, found, &is_same)? {
                None => {}
                // A version that is gone says more.
                Some(state @ Break::Forgot(..)) => forgot = forgot.or(Some(state)),
                broken => return Ok(broken),
            }
        }
    }
    Ok(forgot)
}

fn of_version(
    key: &KeyRef,
    before: &VersionEntry,
    now: &VersionEntry,
    is_same: impl Fn(&KeyRef) -> Result<bool>,
) -> Result<Option<Break>> {
    if before.purpose != now.purpose {
        return Ok(Some(Break::OtherPurpose(key.clone())));
    }
    if before.state.decrypts() && now.state.decrypts() && !is_same(key)? {
        return Ok(Some(Break::OtherKey(key.clone())));
    }
    let goes_on = now.history.starts_with(&before.history)
        && (before.state.decrypts() || !now.state.decrypts());
    Ok((!goes_on).then(|| Break::Forgot(key.clone(), before.state)))
}

/// A version that a key store served and this process uses.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) key: KeyRef,
    pub(super) check: CheckValue,
    pub(super) cipher: Cipher,
    /// Whether it is the one that encrypts.
    pub(super) encrypts: bool,
}

/// How the key store's list `now` breaks with what it served before: of each version in `held`, in
/// their order.
pub(super) fn of_served(held: &[Held], now: &[KeyInfo]) -> Vec<Break> {
    let listed: BTreeMap<&KeyRef, &KeyInfo> = now.iter().map(|info| (&info.key, info)).collect();
    let mut active: BTreeMap<&KeyName, KeyVersion> = BTreeMap::new();
    for KeyInfo { key, .. } in now.iter().filter(|info| info.state == KeyState::Active) {
        let newest = active.entry(&key.name).or_insert(key.version);
        *newest = key.version.max(*newest);
    }
    let judged = held.iter().filter_map(|held| {
        let key = held.key.clone();
        let Some(info) = listed.get(&key) else { return Some(Break::Gone(key)) };
        if !info.state.decrypts() {
            return Some(Break::Deleted(key));
        }
        if info.check.is_some_and(|check| check != held.check) {
            return Some(Break::OtherKey(key));
        }
        if info.purpose != Purpose::Pages(held.cipher) {
            return Some(Break::OtherPurpose(key));
        }
        let active = active.get(&key.name).copied();
        let is_older = held.encrypts && active < Some(key.version);
        is_older.then_some(Break::Older(key, active))
    });
    judged.collect()
}

/// The first three of `breaks`, and how many more there are.
pub(super) fn in_words(breaks: &[Break]) -> String {
    let shown: Vec<_> = breaks.iter().take(3).map(ToString::to_string).collect();
    match breaks.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{}, and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyId;

    fn key(id: u32, version: u32) -> KeyRef {
        let version = KeyVersion::try_from(version).unwrap();
        KeyRef::new(KeyId::try_from(id).unwrap(), version)
    }

    fn held(id: u32, version: u32, encrypts: bool) -> Held {
        let check = CheckValue([u8::try_from(version).unwrap(); 16]);
        Held { key: key(id, version), check, cipher: Cipher::DEFAULT, encrypts }
    }

    fn listed(id: u32, version: u32, state: KeyState) -> KeyInfo {
        let check = Some(CheckValue([u8::try_from(version).unwrap(); 16]));
        let (key, purpose) = (key(id, version), Cipher::DEFAULT.into());
        KeyInfo { key, state, purpose, created: None, check }
    }

    #[test]
    fn a_list_that_goes_on_from_what_was_served_has_no_break() {
        use KeyState::{Active, Compromised, Pending, Retired};
        let before = [held(1, 1, false), held(1, 2, true)];
        for now in [
            vec![listed(1, 1, Retired), listed(1, 2, Active)],
            vec![listed(1, 1, Compromised), listed(1, 2, Retired), listed(1, 3, Active)],
            vec![listed(1, 1, Retired), listed(1, 2, Active), listed(1, 9, Pending)],
            vec![listed(7, 1, Active), listed(1, 2, Active), listed(1, 1, Retired)],
        ] {
            assert_eq!(of_served(&before, &now), []);
        }
    }

    #[test]
    fn each_version_that_was_served_is_missed_by_itself() {
        use KeyState::{Active, Destroyed, Retired};
        let before = [held(1, 1, false), held(1, 2, true), held(5, 1, true), held(6, 3, true)];
        let mut other = listed(6, 3, Active);
        other.check = Some(CheckValue([9; 16]));
        let now = [listed(1, 1, Destroyed), listed(1, 2, Active), other];
        let breaks = of_served(&before, &now);
        assert_eq!(
            breaks,
            [Break::Deleted(key(1, 1)), Break::Gone(key(5, 1)), Break::OtherKey(key(6, 3)),]
        );
        assert!(breaks.iter().all(Break::is_loss));
        assert_eq!(
            in_words(&breaks),
            "key 1 version 1 is deleted, key 5 version 1 is gone, key 6 version 3 is another key \
             than the one in use"
        );
        assert!(in_words(&[breaks.clone(), breaks].concat()).ends_with(", and 3 more"));
        // Numbers that begin at 1 again.
        let before = [held(1, 1, false), held(1, 2, true)];
        let mut again = listed(1, 1, Active);
        again.check = Some(CheckValue([9; 16]));
        let gone = [Break::OtherKey(key(1, 1)), Break::Gone(key(1, 2))];
        assert_eq!(of_served(&before, &[again]), gone);
        assert_eq!(of_served(&before, &[]).len(), 2);
        let older = of_served(&before, &[listed(1, 1, Active), listed(1, 2, Retired)]);
        let first = KeyVersion::FIRST;
        assert_eq!(older, [Break::Older(key(1, 2), Some(first))]);
        assert!(!older[0].is_loss());
        let none = of_served(&before, &[listed(1, 1, Retired), listed(1, 2, Retired)]);
        assert_eq!(in_words(&none), "key 1 version 2 is in use, and no version encrypts there");
    }

    #[test]
    fn another_cipher_is_a_break_as_well() {
        let mut cbc = listed(1, 1, KeyState::Active);
        cbc.purpose = "aes-256-cbc".parse().unwrap();
        let breaks = of_served(&[held(1, 1, true)], &[cbc]);
        assert_eq!(breaks, [Break::OtherPurpose(key(1, 1))]);
    }
}
