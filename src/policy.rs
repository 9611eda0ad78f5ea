//! What is due now, decided from the time, the keys and the policy alone: nothing here reads a
//! clock or a file, and nothing is changed.

#![forbid(unsafe_code)]

mod checkpoints;
mod trail;

use std::collections::BTreeMap;
use std::time::Duration;

pub use checkpoints::CheckpointPolicy;
use sha2::{Digest, Sha256};
pub use trail::{MIN_KEEP, TrailPolicy};

use crate::env::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::key::{KeyId, KeyName, KeyRef, KeyState, KeyVersion, MasterKeyKind};
use crate::store::{KeyEntry, VersionEntry};

/// By how much a rotation raises the version when the configuration does not say: InnoDB
/// re-encrypts a page only when `version + innodb_encryption_rotate_key_age < latest`, and that
/// age is 1 by default.
pub const DEFAULT_VERSION_STEP: u32 = 2;

/// How long a version waits for its destruction at least, and when the configuration does not say.
pub const MIN_DESTROY_WAIT: Duration = Duration::from_secs(7 * 86_400);

/// How long it waits at most.
pub const MAX_DESTROY_WAIT: Duration = Duration::from_secs(30 * 86_400);

/// How many versions of each key stay when the configuration does not say.
pub const DEFAULT_KEEP_VERSIONS: u32 = 2;

/// How far the clocks of two machines are apart at most, unless `rotate_after` is short.
const MOST_APART: Duration = Duration::from_secs(86_400);

/// How far they may always be.
const LEAST_APART: Duration = Duration::from_secs(300);

/// When and how keys change by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// By how much a rotation raises the version.
    pub version_step: u32,
    /// How long a version encrypts before the next one takes over; none: until somebody rotates.
    pub rotate_after: Option<Duration>,
    /// How long before a rotation it is announced.
    pub notify_before: Duration,
    /// By up to how much earlier a keystore's keys rotate, so that many keystores made on one day
    /// do not all rotate on one day. The same for a keystore every time.
    pub jitter: Duration,
    /// How long a new version is pending before it encrypts, so that every node has it by then;
    /// none: it encrypts at once.
    pub activate_after: Option<Duration>,
    /// How long a retired version is kept at least; none: nothing is set.
    pub keep_retired: Option<Duration>,
    /// How many of the newest versions of a key stay, whatever their age.
    pub keep_versions: u32,
    /// How long a version waits between the decision to destroy it and its end.
    pub destroy_wait: Duration,
}

/// Something that the policy wants done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DueAction {
    /// The key needs a new version.
    Rotate(KeyId),
    /// The time of a pending version has come.
    Activate(KeyRef),
    /// A retired version is to be kept until then.
    Retain(KeyRef, Timestamp),
    /// A pending version was planned by a clock that ran ahead: it is to be active then.
    Plan(KeyRef, Timestamp),
}

/// A master key of MySQL's whose time is over: its server alone makes the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueMasterKey {
    /// What the key is for.
    pub kind: MasterKeyKind,
    /// The `server_uuid` of its server.
    pub server: String,
}

/// How the last rotation of a key can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undo {
    /// The pending version is not activated any more.
    CallOff(KeyVersion),
    /// One version is pending again, and the one whose place it took is active.
    GoBack {
        /// The active version.
        from: KeyVersion,
        /// The retired one.
        to: KeyVersion,
    },
}

/// A version whose date lies ahead of the clock: a clock was wrong, then or now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// Which.
    pub key: KeyRef,
    /// Since when it would be active or pending.
    pub since: Timestamp,
}

/// A rotation that time alone brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextRotation {
    /// When the next version is to encrypt.
    pub at: Timestamp,
    /// From when on it is announced.
    pub told_from: Timestamp,
}

/// A time in which a version encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Which version.
    pub version: KeyVersion,
    /// Since when.
    pub from: Timestamp,
    /// Until when; none while it does.
    pub to: Option<Timestamp>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            version_step: DEFAULT_VERSION_STEP,
            rotate_after: None,
            notify_before: Duration::ZERO,
            jitter: Duration::ZERO,
            activate_after: None,
            keep_retired: None,
            keep_versions: DEFAULT_KEEP_VERSIONS,
            destroy_wait: MIN_DESTROY_WAIT,
        }
    }
}

impl Policy {
    /// Whether there is anything that time alone can make due.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let all = [self.rotate_after, self.activate_after, self.keep_retired];
        all.iter().all(Option::is_none)
    }

    /// What is due, key by key. Doing it and asking again gives nothing more at the same time,
    /// but the [`DueAction::Retain`] of what was retired by it.
    #[must_use]
    pub fn due<'a>(
        &self,
        now: Timestamp,
        keystore: &str,
        keys: impl Iterator<Item = &'a KeyEntry>,
    ) -> Vec<DueAction> {
        let keys: Vec<_> = keys.collect();
        let mut due_actions = Vec::new();
        if self.check_clock(now, keys.iter().copied()).is_err() {
            return due_actions;
        }
        for key in keys {
            // MySQL rotates its keys itself, under new names.
            let KeyName::Id(id) = *key.name() else { continue };
            self.due_of_key(now, keystore, id, key, &mut due_actions);
        }
        due_actions
    }

    /// The master keys of MySQL's that are due; `notify_before` and `activate_after` are not for them.
    #[must_use]
    pub fn master_keys_due<'a>(
        &self,
        now: Timestamp,
        keystore: &str,
        keys: impl Iterator<Item = &'a KeyEntry>,
    ) -> Vec<DueMasterKey> {
        let due = |key: &KeyEntry| {
            let master = key.name().master_key()?;
            let ageless = key.active().is_some_and(|active| self.is_ahead(now, began(active)));
            let at = self.next_rotation(keystore, key)?;
            let server = master.server.to_owned();
            (at <= now || ageless).then_some(DueMasterKey { kind: master.kind, server })
        };
        that_rotate(keys).into_iter().filter_map(due).collect()
    }

    /// Checks that time can tell what is due: the clock is not before everything that ever happened to
    /// the keys.
    pub fn check_clock<'a>(
        &self,
        now: Timestamp,
        keys: impl Iterator<Item = &'a KeyEntry>,
    ) -> Result<()> {
        let Some(first) = keys.flat_map(KeyEntry::versions).map(|one| one.created).min() else {
            return Ok(());
        };
        if !self.is_ahead(now, first) {
            return Ok(());
        }
        let what = format!("the clock says {now}, but the oldest key version is of {first}");
        Err(Error::new(Kind::State, what).advise(
            "set the clock; if it is right, `keyward rotate --all` makes versions of today",
        ))
    }

    /// The versions, active or pending, whose age the clock cannot tell: it would be below zero.
    #[must_use]
    pub fn ahead<'a>(
        &self,
        now: Timestamp,
        keys: impl Iterator<Item = &'a KeyEntry>,
    ) -> Vec<Ahead> {
        let of_key = |key: &'a KeyEntry| {
            key.versions().filter_map(|version| {
                let since = match version.state {
                    KeyState::Active => began(version),
                    KeyState::Pending => entered(version),
                    _ => return None,
                };
                let key = KeyRef::new(key.name().clone(), version.version);
                self.is_ahead(now, since).then_some(Ahead { key, since })
            })
        };
        keys.flat_map(of_key).collect()
    }

    /// Whether a time is further ahead of `now` than the clocks of two machines are apart.
    fn is_ahead(&self, now: Timestamp, time: Timestamp) -> bool {
        let apart = self.rotate_after.map_or(MOST_APART, |after| after / 10);
        plus(now, apart.clamp(LEAST_APART, MOST_APART)) < time
    }

    fn due_of_key(
        &self,
        now: Timestamp,
        keystore: &str,
        id: KeyId,
        key: &KeyEntry,
        due_actions: &mut Vec<DueAction>,
    ) {
        let at = |version: &VersionEntry| KeyRef::new(id, version.version);
        // What a clock that ran ahead dated is not young: nobody knows how old it is.
        let ageless = key.active().is_some_and(|active| self.is_ahead(now, began(active)));
        let latest = plus(now, self.lead());
        match (planned(key), self.start_of_rotation(keystore, key)) {
            (Some((version, time)), _) if time <= now => {
                due_actions.push(DueAction::Activate(at(version)));
            }
            (Some((version, time)), _) if time > latest && self.is_ahead(now, entered(version)) => {
                due_actions.push(DueAction::Plan(at(version), latest));
            }
            (None, Some(start)) if start <= now || ageless => {
                due_actions.push(DueAction::Rotate(id));
            }
            _ => {}
        }
        let Some(keep) = self.keep_retired else { return };
        for version in key.versions() {
            if version.state == KeyState::Retired && version.retain_until.is_none() {
                let since = match entered(version) {
                    since if self.is_ahead(now, since) => now,
                    since => since,
                };
                due_actions.push(DueAction::Retain(at(version), plus(since, keep)));
            }
        }
    }

    /// When the active version of a key is to be replaced by the next, or a master key of MySQL's, if it
    /// is its server's newest, by another. The other keys of MySQL's never are.
    #[must_use]
    pub fn next_rotation(&self, keystore: &str, key: &KeyEntry) -> Option<Timestamp> {
        if matches!(key.name(), KeyName::Named { .. }) {
            key.name().master_key()?;
        }
        let age = self.rotate_after?.saturating_sub(self.jitter_of(keystore));
        Some(plus(began(key.active()?), age))
    }

    /// The next rotation of any key; those that have their next version already do not count.
    #[must_use]
    pub fn coming<'a>(
        &self,
        keystore: &str,
        keys: impl Iterator<Item = &'a KeyEntry>,
    ) -> Option<NextRotation> {
        self.rotate_after?;
        let waiting = that_rotate(keys).into_iter().filter(|key| planned(key).is_none());
        let at = waiting.filter_map(|key| self.next_rotation(keystore, key)).min()?;
        Some(NextRotation { at, told_from: self.told_from(at) })
    }

    /// The rotation of a key of MariaDB's to announce now: the active version, and when it is replaced.
    #[must_use]
    pub fn notice(
        &self,
        now: Timestamp,
        keystore: &str,
        key: &KeyEntry,
    ) -> Option<(KeyRef, Timestamp)> {
        let KeyName::Id(id) = *key.name() else { return None };
        let at = self.next_rotation(keystore, key)?;
        let active = KeyRef::new(id, key.active()?.version);
        (self.told_from(at) <= now && now < at && planned(key).is_none()).then_some((active, at))
    }

    /// Whether the policy lets a version be destroyed now: not before its time, and not one of
    /// the versions that stay, unless it is compromised. Whether data still needs it is another
    /// question.
    pub fn may_destroy(
        &self,
        now: Timestamp,
        key: &KeyEntry,
        version: &VersionEntry,
    ) -> Result<()> {
        let name = KeyRef::new(key.name().clone(), version.version);
        if let Some(until) = version.retain_until.filter(|until| now < *until) {
            return Err(Error::new(Kind::State, format!("{name} is to be kept until {until}")));
        }
        if version.state == KeyState::Compromised {
            return Ok(());
        }
        let living = key.versions().rev().filter(|one| one.state.decrypts());
        let keep = usize::try_from(self.keep_versions).unwrap_or(usize::MAX);
        if living.take(keep).any(|one| one.version == version.version) {
            let what = format!("{name} is one of the newest {keep} versions, which stay");
            return Err(Error::new(Kind::State, what).advise(
                "keep_versions in [policy] is how many; a further rotation adds a newer one",
            ));
        }
        Ok(())
    }

    /// The reason that histories give for what the policy did.
    #[must_use]
    pub fn reason(&self) -> String {
        let said = |name: &str, time: Option<Duration>| {
            time.map(|time| format!("{name} = {}", readable(time)))
        };
        let all = [
            said("rotate_after", self.rotate_after),
            said("activate_after", self.activate_after),
            said("keep_retired", self.keep_retired),
        ];
        all.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// How often to look at the clock: nothing is done later than a twentieth of its period, and
    /// no clock is looked at more than once a minute without need.
    #[must_use]
    pub fn period(&self) -> Duration {
        let all = [self.rotate_after, self.activate_after, self.keep_retired];
        let shortest = all.into_iter().flatten().min().unwrap_or(Duration::MAX);
        (shortest / 20).clamp(Duration::from_millis(500), Duration::from_secs(60))
    }

    /// When the next version is to be made: early enough to be pending for its time.
    fn start_of_rotation(&self, keystore: &str, key: &KeyEntry) -> Option<Timestamp> {
        self.next_rotation(keystore, key).map(|at| minus(at, self.lead()))
    }

    fn told_from(&self, rotation: Timestamp) -> Timestamp {
        minus(rotation, self.notify_before.saturating_add(self.lead()))
    }

    fn lead(&self) -> Duration {
        self.activate_after.unwrap_or_default()
    }

    fn jitter_of(&self, keystore: &str) -> Duration {
        let digest = Sha256::digest(keystore.as_bytes());
        let random = digest.iter().take(8).fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
        let most = self.jitter.as_secs();
        Duration::from_secs(most.checked_add(1).map_or(random, |numbers| random % numbers))
    }
}

/// Those of `keys` that rotate: MariaDB's, and of MySQL's the newest master key of each kind and server.
#[must_use]
pub fn that_rotate<'a>(keys: impl Iterator<Item = &'a KeyEntry>) -> Vec<&'a KeyEntry> {
    let mut rotating = Vec::new();
    let mut newest = BTreeMap::new();
    for key in keys {
        match (key.name(), key.name().master_key()) {
            (KeyName::Id(_), _) => rotating.push(key),
            (_, Some(master)) if key.active().is_some() => {
                let known = newest.entry((master.kind, master.server)).or_insert((0, key));
                if known.0 <= master.number {
                    *known = (master.number, key);
                }
            }
            _ => {}
        }
    }
    rotating.extend(newest.into_values().map(|(_, key)| key));
    rotating
}

/// When each version of `key` encrypted, by its time. Of versions that were imported once they encrypted no
/// more, nobody knows.
#[must_use]
pub fn periods(key: &KeyEntry) -> Vec<Period> {
    let of_version = |one: &VersionEntry| {
        let mut periods = Vec::new();
        for (at, event) in one.history.iter().enumerate() {
            if event.state == KeyState::Active {
                let from = if at == 0 { one.created } else { event.at };
                let to = one.history.get(at + 1).map(|next| next.at);
                periods.push(Period { version: one.version, from, to });
            }
        }
        periods
    };
    let mut periods: Vec<_> = key.versions().flat_map(of_version).collect();
    periods.sort_by_key(|period| period.from);
    periods
}

/// The pending version that is to become active, and when. One below the active version never is:
/// the server takes the highest version that it meets for the newest.
#[must_use]
pub fn planned(key: &KeyEntry) -> Option<(&VersionEntry, Timestamp)> {
    let plan = |version: &VersionEntry| {
        let plan = version.planned.as_ref().filter(|plan| plan.state == KeyState::Active)?;
        (version.state == KeyState::Pending).then_some(plan.at)
    };
    let active = key.active().map(|active| active.version);
    let above =
        key.versions().rev().take_while(|version| active.is_none_or(|it| version.version > it));
    above.into_iter().find_map(|version| plan(version).map(|at| (version, at)))
}

/// How the last rotation of `key` can be taken back; `State` where it cannot: a version that may no
/// longer encrypt does not come back. Whether data uses the active version is another question.
pub fn undo(key: &KeyEntry) -> Result<Undo> {
    if let Some((version, _)) = planned(key) {
        return Ok(Undo::CallOff(version.version));
    }
    let name = key.name();
    let refused = |what: String| Error::new(Kind::State, what);
    let active =
        key.active().ok_or_else(|| refused(format!("key {name} has no active version")))?;
    let below = key.versions().rev().skip_while(|version| version.version >= active.version);
    let Some(former) = below.into_iter().find(|version| has_encrypted(version)) else {
        return Err(refused(format!("key {name} has no rotation to undo")));
    };
    let new = KeyRef::new(name.clone(), active.version);
    let what = match (former.state, left_compromised(key, former, active)) {
        (KeyState::Retired, None) => {
            return Ok(Undo::GoBack { from: active.version, to: former.version });
        }
        (KeyState::Retired, Some(left)) => {
            format!(
                "{new} replaces version {left}, too, which is compromised: there is no way back"
            )
        }
        (state, _) => format!(
            "{new} took the place of version {}, which is {state}: there is no way back",
            former.version
        ),
    };
    Err(refused(what).advise(format!("`keyward rotate {name}` makes another version instead")))
}

/// A compromised version that pages leave for `active`, and would not leave for `former`, which is older.
fn left_compromised(
    key: &KeyEntry,
    former: &VersionEntry,
    active: &VersionEntry,
) -> Option<KeyVersion> {
    let between = key.versions().filter(|one| {
        one.version > former.version
            && one.version < active.version
            && one.state == KeyState::Compromised
    });
    between.into_iter().find(|one| may_have_pages(one)).map(|one| one.version)
}

/// Whether `version` of `key` may have pages that do not leave it: servers re-encrypt for a newer version
/// only, and none newer encrypts. It is active, or was until its rotation was undone.
#[must_use]
pub fn holds_pages(key: &KeyEntry, version: &VersionEntry) -> bool {
    let is_newest = key.active().is_some_and(|active| active.version <= version.version);
    is_newest && may_have_pages(version)
}

/// Whether pages may need a version: it encrypted once, or nobody knows, as it was imported.
fn may_have_pages(version: &VersionEntry) -> bool {
    let mut states = version.history.iter().map(|event| event.state);
    let first = states.next();
    first != Some(KeyState::Pending) || states.any(|state| state == KeyState::Active)
}

/// Whether a version that is not active encrypted until another took its place. One whose own
/// rotation was undone did not; of one that was imported nobody knows.
fn has_encrypted(version: &VersionEntry) -> bool {
    if matches!(version.state, KeyState::Active | KeyState::Pending) {
        return false;
    }
    let states: Vec<_> = version.history.iter().map(|event| event.state).collect();
    match states.iter().rposition(|state| *state == KeyState::Active) {
        Some(at) => states.get(at + 1) != Some(&KeyState::Pending),
        None => states.first() != Some(&KeyState::Pending),
    }
}

/// When a version began to encrypt: an imported one long before it came here.
fn began(version: &VersionEntry) -> Timestamp {
    if version.history.len() > 1 { entered(version) } else { version.created }
}

/// When a version took on its state.
fn entered(version: &VersionEntry) -> Timestamp {
    version.history.last().map_or(version.created, |event| event.at)
}

/// As the configuration has it: in the largest unit that leaves nothing over.
fn readable(time: Duration) -> String {
    match time.as_secs() {
        s if s >= 86_400 && s % 86_400 == 0 => format!("{}d", s / 86_400),
        s if s >= 3600 && s % 3600 == 0 => format!("{}h", s / 3600),
        s if s >= 60 && s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

fn plus(time: Timestamp, more: Duration) -> Timestamp {
    Timestamp::from_unix(time.as_unix().saturating_add(more.as_secs()))
}

fn minus(time: Timestamp, less: Duration) -> Timestamp {
    Timestamp::from_unix(time.as_unix().saturating_sub(less.as_secs()))
}
