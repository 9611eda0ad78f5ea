//! What the keystore holds of each key: its versions, and the life of each.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::env::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::key::{CheckValue, KeyInfo, KeyName, KeyRef, KeyState, KeyVersion, Purpose};
use crate::provider::base64_bytes;

/// Who changes a version's state, when and why; kept in its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// Who: a person, the policy, the server. At most 200 bytes.
    pub actor: String,
    /// Why. At most 200 bytes.
    pub reason: String,
}

impl Change {
    /// The longest actor and reason, in bytes: they are kept for ever in a file that is read whole.
    pub const MAX_TEXT: usize = 200;

    /// The change as the history keeps it, or an error if its texts are not fit to be kept.
    pub(super) fn into(&self, state: KeyState) -> Result<Event> {
        let event =
            Event { state, at: self.at, actor: self.actor.clone(), reason: self.reason.clone() };
        event.check().map(|()| event)
    }
}

/// A state that a version took on, or is planned to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// The new state.
    pub state: KeyState,
    /// When.
    pub at: Timestamp,
    /// Who saw to it.
    pub actor: String,
    /// Why.
    pub reason: String,
}

impl Event {
    pub(super) fn check(&self) -> Result<()> {
        for (what, text) in [("actor", &self.actor), ("reason", &self.reason)] {
            if text.len() > Change::MAX_TEXT || text.chars().any(char::is_control) {
                return Err(Error::new(Kind::Config, format!("the {what} of a change of state"))
                    .advise("use one line of at most 200 bytes"));
            }
        }
        Ok(())
    }
}

/// One version of one key, or its tombstone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionEntry {
    /// Which version.
    pub version: KeyVersion,
    /// What it is for.
    #[serde(rename = "cipher")]
    pub purpose: Purpose,
    /// Where it stands in its life: the state of the last event of `history`.
    pub state: KeyState,
    /// When it was made.
    pub created: Timestamp,
    /// Its check value under this keystore's secret: a tombstone keeps it, so that a found copy of
    /// the key can be recognised, unless it is from before format 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckValue>,
    /// It may not be destroyed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain_until: Option<Timestamp>,
    /// The next change of state, where one is set for a later time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned: Option<Event>,
    /// Every state that it took on, oldest first.
    pub history: Vec<Event>,
    /// The key as the store key wrapped it; none once destroyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) wrapped: Option<Wrapped>,
    /// What the file says of it, once a commit has written it. An entry never changes: a change makes
    /// another one.
    #[serde(skip)]
    pub(super) text: Text,
}

/// The text of an entry. A copy of the entry is there to be changed, so it begins without.
#[derive(Default)]
pub(super) struct Text(OnceLock<Box<[u8]>>);

impl Text {
    /// Keeps `text`, unless there is one already.
    pub(super) fn keep(&self, text: Vec<u8>) {
        self.0.get_or_init(|| text.into_boxed_slice());
    }
}

impl Clone for Text {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Text {
    /// The entries are compared without it.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Text {}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// A data key as a store key wrapped it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wrapped {
    /// The number of the store key.
    pub(super) store_key: u32,
    /// Nonce (12 bytes), encrypted key, tag (16 bytes).
    #[serde(with = "base64_bytes")]
    pub(super) data: Vec<u8>,
}

impl VersionEntry {
    /// What may be told of it to anybody; `name` is the key's.
    #[must_use]
    pub fn info(&self, name: &KeyName) -> KeyInfo {
        KeyInfo {
            key: KeyRef::new(name.clone(), self.version),
            state: self.state,
            purpose: self.purpose.clone(),
            created: Some(self.created),
            check: self.check,
        }
    }

    /// Since when there has been data under it, here or in the keystore that this one was made of.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        // A history begins with a restore; the date of its making may be another keystore's.
        self.history.first().map_or(self.created, |first| first.at.min(self.created))
    }

    /// What the file says of it, where a commit has written it before.
    pub(super) fn text(&self) -> Option<&[u8]> {
        self.text.0.get().map(AsRef::as_ref)
    }

    /// Whether both hold a key, and the same store key wrapped it in the same bytes.
    #[must_use]
    pub fn is_wrapped_as(&self, other: &Self) -> bool {
        self.wrapped.is_some() && self.wrapped == other.wrapped && self.purpose == other.purpose
    }

    /// The same version in the state of `event`. What was planned for it is off.
    fn moved(&self, event: Event) -> Self {
        let mut next = self.clone();
        next.state = event.state;
        next.planned = None;
        next.history.push(event);
        if next.state == KeyState::Destroyed {
            next.wrapped = None;
        }
        next
    }

    fn check(&self) -> Result<()> {
        let broken = |what: &str| Err(Error::new(Kind::Corrupt, what));
        if self.history.last().map(|event| event.state) != Some(self.state) {
            return broken("its history does not end in its state");
        }
        if self.wrapped.is_none() != (self.state == KeyState::Destroyed) {
            return broken("a destroyed version with key, or a living one without");
        }
        if self.check.is_none() && self.state != KeyState::Destroyed {
            return broken("it has no check value");
        }
        if let Some(plan) = &self.planned
            && !may_become(self.state, plan.state)
        {
            return broken("what is planned for it is not possible");
        }
        let events = self.history.iter().chain(&self.planned);
        events.clone().try_for_each(Event::check).or_else(|bad| broken(bad.what()))
    }
}

/// Whether a version may go from one state to the other (NIST SP 800-57 part 1, section 7). The
/// way back from active to pending exists only as [`Keystore::with_rotation_undone`](super::Keystore::with_rotation_undone).
#[must_use]
pub const fn may_become(from: KeyState, to: KeyState) -> bool {
    use KeyState::{Active, Compromised, Destroyed, Pending, Retired};
    matches!(
        (from, to),
        (Pending, Active | Compromised | Destroyed)
            | (Active, Retired | Compromised)
            | (Retired, Compromised | Destroyed)
            | (Compromised, Destroyed)
    )
}

/// One key: its name and its versions. A value; every change gives a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEntry {
    pub(super) name: KeyName,
    /// The lowest number that its next version may have.
    pub(super) next_from: Option<KeyVersion>,
    /// The highest of its versions whose entry was removed.
    pub(super) pruned_through: Option<KeyVersion>,
    /// Ascending. Behind `Arc`, so that a change copies one version and not all.
    versions: Vec<Arc<VersionEntry>>,
}

impl KeyEntry {
    /// A key from versions in ascending order, or what is wrong with them.
    pub(super) fn new(name: KeyName, versions: Vec<Arc<VersionEntry>>) -> Result<Self> {
        let entry = Self { name, next_from: None, pruned_through: None, versions };
        entry.check().map_err(|bad| bad.within(format!("key {}", entry.name)))?;
        Ok(entry)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// Its versions, ascending, tombstones included.
    pub fn versions(&self) -> impl DoubleEndedIterator<Item = &VersionEntry> + ExactSizeIterator {
        self.versions.iter().map(AsRef::as_ref)
    }

    /// One version.
    #[must_use]
    pub fn version(&self, version: KeyVersion) -> Option<&VersionEntry> {
        self.place(version).ok().map(|at| self.versions[at].as_ref())
    }

    /// The version that encrypts.
    #[must_use]
    pub fn active(&self) -> Option<&VersionEntry> {
        self.versions().rev().find(|entry| entry.state == KeyState::Active)
    }

    /// The highest version there ever was, tombstones included: a rotation goes on from it.
    #[must_use]
    pub fn newest(&self) -> Option<&VersionEntry> {
        self.versions().next_back()
    }

    /// The key with one more version; if that is active, `change` retires the former active one.
    pub(super) fn added(&self, entry: VersionEntry, change: &Change) -> Result<Self> {
        let mut versions = self.versions.clone();
        if entry.state == KeyState::Active {
            retire_active(&mut versions, change)?;
        }
        let at = versions.partition_point(|other| other.version < entry.version);
        versions.insert(at, Arc::new(entry));
        self.with(versions)
    }

    /// The key with one version in another state.
    pub(super) fn moved(&self, version: KeyVersion, to: KeyState, change: &Change) -> Result<Self> {
        let (at, old) = self.find(version)?;
        let refused = |why: String| {
            let key = KeyRef::new(self.name.clone(), version);
            Err(Error::new(
                Kind::State,
                format!("{key} is {} and cannot become {to}{why}", old.state),
            ))
        };
        if !may_become(old.state, to) {
            return refused(String::new());
        }
        if let Some(until) = old.retain_until
            && to == KeyState::Destroyed
            && change.at < until
        {
            return refused(format!(" before {until}"));
        }
        let mut versions = self.versions.clone();
        if to == KeyState::Active {
            retire_active(&mut versions, change)?;
        }
        versions[at] = Arc::new(old.moved(change.into(to)?));
        self.with(versions)
    }

    /// The key as before its last rotation: the active version is pending again, and the newest
    /// retired one below it is active. Only safe while nothing is encrypted with the former.
    pub(super) fn undone(&self, change: &Change) -> Result<Self> {
        let state_of = |state| self.versions.iter().rposition(|entry| entry.state == state);
        let (Some(active), Some(former)) =
            (state_of(KeyState::Active), state_of(KeyState::Retired))
        else {
            let what = format!("key {} has no rotation to undo", self.name);
            return Err(Error::new(Kind::State, what));
        };
        let mut versions = self.versions.clone();
        versions[active] = Arc::new(versions[active].moved(change.into(KeyState::Pending)?));
        versions[former] = Arc::new(versions[former].moved(change.into(KeyState::Active)?));
        self.with(versions)
    }

    /// The key with one version edited by `edit`, which leaves its state alone.
    pub(super) fn edited(
        &self,
        version: KeyVersion,
        edit: impl FnOnce(&mut VersionEntry) -> Result<()>,
    ) -> Result<Self> {
        let (at, old) = self.find(version)?;
        let mut next = VersionEntry::clone(old);
        edit(&mut next)?;
        let mut versions = self.versions.clone();
        versions[at] = Arc::new(next);
        self.with(versions)
    }

    /// The key without the entries of the destroyed versions `gone`; nothing where no other is left.
    pub(super) fn without(&self, gone: &BTreeSet<KeyVersion>) -> Option<Self> {
        let (gone, versions): (Vec<_>, Vec<_>) =
            self.versions.iter().cloned().partition(|entry| gone.contains(&entry.version));
        let newest_gone = gone.last().map(|entry| entry.version);
        let pruned_through = self.pruned_through.max(newest_gone);
        (!versions.is_empty()).then(|| Self { versions, pruned_through, ..self.clone() })
    }

    /// What was changed in it since `before`: the key with those of its versions alone that are new or
    /// others. Nothing where more than that was changed.
    pub(super) fn changed_since(&self, before: &Self) -> Option<Self> {
        let of_before = |entry: &Arc<VersionEntry>| before.place(entry.version).ok();
        let mut versions = self.versions.clone();
        let kept = versions.iter().filter_map(of_before).count();
        versions.retain(|entry| {
            of_before(entry).is_none_or(|at| !Arc::ptr_eq(entry, &before.versions[at]))
        });
        (kept == before.versions.len() && !versions.is_empty())
            .then(|| Self { versions, ..self.clone() })
    }

    /// The key with `changes`, which [`changed_since`](Self::changed_since) found.
    pub(super) fn with_changes(&self, changes: &Self) -> Result<Self> {
        let mut versions = self.versions.clone();
        for entry in &changes.versions {
            match versions.binary_search_by_key(&entry.version, |other| other.version) {
                Ok(at) => versions[at] = Arc::clone(entry),
                Err(at) => versions.insert(at, Arc::clone(entry)),
            }
        }
        let Self { next_from, pruned_through, .. } = *changes;
        Self::new(self.name.clone(), versions).map(|entry| Self {
            next_from,
            pruned_through,
            ..entry
        })
    }

    /// The highest number that any version of it has had, or is passed over.
    pub(super) fn last_number(&self) -> Option<KeyVersion> {
        let passed_over = self.next_from.and_then(|next| KeyVersion::new(next.get() - 1));
        self.newest().map(|entry| entry.version).max(self.pruned_through).max(passed_over)
    }

    /// The key with every wrapped key as `rewrap` gives it.
    pub(super) fn rewrapped(
        &self,
        mut rewrap: impl FnMut(&VersionEntry, &Wrapped) -> Result<Wrapped>,
    ) -> Result<Self> {
        let mut versions = self.versions.clone();
        for entry in &mut versions {
            let Some(wrapped) = &entry.wrapped else { continue };
            let key = || KeyRef::new(self.name.clone(), entry.version);
            let wrapped = rewrap(entry, wrapped).map_err(|bad| bad.within(key()))?;
            *entry =
                Arc::new(VersionEntry { wrapped: Some(wrapped), ..VersionEntry::clone(entry) });
        }
        self.with(versions)
    }

    /// The key with every check value as `check` gives it, and none for destroyed versions.
    pub(super) fn rechecked(
        &self,
        mut check: impl FnMut(&VersionEntry, &Wrapped) -> Result<CheckValue>,
    ) -> Result<Self> {
        let mut versions = self.versions.clone();
        for entry in &mut versions {
            let check = entry.wrapped.as_ref().map(|wrapped| check(entry, wrapped)).transpose()?;
            *entry = Arc::new(VersionEntry { check, ..VersionEntry::clone(entry) });
        }
        self.with(versions)
    }

    fn find(&self, version: KeyVersion) -> Result<(usize, &VersionEntry)> {
        match self.place(version) {
            Ok(at) => Ok((at, &self.versions[at])),
            Err(_) => Err(missing(&KeyRef::new(self.name.clone(), version))),
        }
    }

    fn place(&self, version: KeyVersion) -> Result<usize, usize> {
        self.versions.binary_search_by_key(&version, |entry| entry.version)
    }

    /// A change whose outcome breaks a rule is refused as such: the file itself is not corrupt.
    fn with(&self, versions: Vec<Arc<VersionEntry>>) -> Result<Self> {
        let Self { next_from, pruned_through, .. } = *self;
        Self::new(self.name.clone(), versions)
            .map(|entry| Self { next_from, pruned_through, ..entry })
            .map_err(|bad| Error::new(Kind::State, bad.what().to_owned()))
    }

    fn check(&self) -> Result<()> {
        let broken = |what: String| Err(Error::new(Kind::Corrupt, what));
        if self.versions.is_empty() {
            return broken("no version".to_owned());
        }
        for pair in self.versions.windows(2) {
            if pair[0].version >= pair[1].version {
                return broken(format!("version {} twice or out of order", pair[1].version));
            }
        }
        let mut active = None;
        for entry in &self.versions {
            let at = |bad: Error| bad.within(format!("version {}", entry.version));
            entry.check().map_err(at)?;
            match (entry.state, active) {
                (KeyState::Active, Some(first)) => {
                    return broken(format!("versions {first} and {} both active", entry.version));
                }
                (KeyState::Active, None) => active = Some(entry.version),
                // The server takes the highest version it meets for the newest.
                (KeyState::Retired, Some(first)) => {
                    return broken(format!(
                        "version {} retired above active {first}",
                        entry.version
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn retire_active(versions: &mut [Arc<VersionEntry>], change: &Change) -> Result<()> {
    for entry in versions.iter_mut().filter(|entry| entry.state == KeyState::Active) {
        *entry = Arc::new(entry.moved(change.into(KeyState::Retired)?));
    }
    Ok(())
}

/// The keystore has no such version.
pub(super) fn missing(key: &KeyRef) -> Error {
    Error::new(Kind::NotFound, format!("the keystore has no {key}"))
}
