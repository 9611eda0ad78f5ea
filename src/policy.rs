//! What is due now, decided from the time, the keys and the policy alone: nothing here reads a
//! clock or a file, and nothing is changed.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::env::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::key::{KeyId, KeyName, KeyRef, KeyState};
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

/// When and how keys change by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// By how much a rotation raises the version.
    pub version_step: u32,
    /// How long a version encrypts before the next one takes over; none: until somebody rotates.
    pub rotate_after: Option<Duration>,
    /// How long before a rotation it is told of.
    pub notify_before: Duration,
    /// By up to how much earlier a keystore's keys rotate, so that many keystores made on one day
    /// do not all rotate on one day. The same for a keystore every time.
    pub jitter: Duration,
    /// How long a new version is pending before it encrypts, so that every node has it by then;
    /// none: it encrypts at once.
    pub activate_after: Option<Duration>,
    /// How long a retired version is kept at least; none: nothing is set.
    pub retire_after: Option<Duration>,
    /// How many of the newest versions of a key stay, whatever their age.
    pub keep_versions: u32,
    /// How long a version waits between the decision to destroy it and its end.
    pub destroy_wait: Duration,
}

/// Something that the policy wants done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Duty {
    /// The key needs a new version.
    Rotate(KeyId),
    /// The time of a pending version has come.
    Activate(KeyRef),
    /// A retired version is to be kept until then.
    Retain(KeyRef, Timestamp),
}

/// A rotation that time alone brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coming {
    /// When the next version is to encrypt.
    pub at: Timestamp,
    /// From when on it is told of.
    pub told_from: Timestamp,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            version_step: DEFAULT_VERSION_STEP,
            rotate_after: None,
            notify_before: Duration::ZERO,
            jitter: Duration::ZERO,
            activate_after: None,
            retire_after: None,
            keep_versions: DEFAULT_KEEP_VERSIONS,
            destroy_wait: MIN_DESTROY_WAIT,
        }
    }
}

impl Policy {
    /// Whether there is anything that time alone can make due.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let all = [self.rotate_after, self.activate_after, self.retire_after];
        all.iter().all(Option::is_none)
    }

    /// What is due, key by key. Doing it and asking again gives nothing more at the same time,
    /// but the [`Duty::Retain`] of what was retired by it.
    #[must_use]
    pub fn due<'a>(
        &self,
        now: Timestamp,
        keystore: &str,
        keys: impl Iterator<Item = &'a KeyEntry>,
    ) -> Vec<Duty> {
        let mut duties = Vec::new();
        for key in keys {
            // MySQL rotates its keys itself, under new names.
            let KeyName::Id(id) = *key.name() else { continue };
            self.due_of_key(now, keystore, id, key, &mut duties);
        }
        duties
    }

    fn due_of_key(
        &self,
        now: Timestamp,
        keystore: &str,
        id: KeyId,
        key: &KeyEntry,
        duties: &mut Vec<Duty>,
    ) {
        let at = |version: &VersionEntry| KeyRef::new(id, version.version);
        match (planned(key), self.start_of_rotation(keystore, key)) {
            (Some((version, time)), _) if time <= now => duties.push(Duty::Activate(at(version))),
            (None, Some(start)) if start <= now => duties.push(Duty::Rotate(id)),
            _ => {}
        }
        let Some(keep) = self.retire_after else { return };
        for version in key.versions() {
            if version.state == KeyState::Retired && version.retain_until.is_none() {
                duties.push(Duty::Retain(at(version), plus(entered(version), keep)));
            }
        }
    }

    /// When the active version of a key is to be replaced by the next.
    #[must_use]
    pub fn next_rotation(&self, keystore: &str, key: &KeyEntry) -> Option<Timestamp> {
        let age = self.rotate_after?.saturating_sub(self.jitter_of(keystore));
        Some(plus(began(key.active()?), age))
    }

    /// The next rotation of any key; those that have their next version already do not count.
    #[must_use]
    pub fn coming<'a>(
        &self,
        keystore: &str,
        keys: impl Iterator<Item = &'a KeyEntry>,
    ) -> Option<Coming> {
        // MySQL rotates its keys itself, under new names.
        let ours = keys.filter(|key| matches!(key.name(), KeyName::Id(_)));
        let waiting = ours.filter(|key| planned(key).is_none());
        let at = waiting.filter_map(|key| self.next_rotation(keystore, key)).min()?;
        Some(Coming { at, told_from: self.told_from(at) })
    }

    /// The rotation that is to be told of now: the active version, and when it is replaced.
    #[must_use]
    pub fn notice(
        &self,
        now: Timestamp,
        keystore: &str,
        key: &KeyEntry,
    ) -> Option<(KeyRef, Timestamp)> {
        let at = self.next_rotation(keystore, key)?;
        let active = KeyRef::new(key.name().clone(), key.active()?.version);
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
            said("retire_after", self.retire_after),
        ];
        all.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// How often to look at the clock: nothing is done later than a twentieth of its period, and
    /// no clock is looked at more than once a minute without need.
    #[must_use]
    pub fn period(&self) -> Duration {
        let all = [self.rotate_after, self.activate_after, self.retire_after];
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

/// The pending version that is to become active, and when.
#[must_use]
pub fn planned(key: &KeyEntry) -> Option<(&VersionEntry, Timestamp)> {
    let plan = |version: &VersionEntry| {
        let plan = version.planned.as_ref().filter(|plan| plan.state == KeyState::Active)?;
        (version.state == KeyState::Pending).then_some(plan.at)
    };
    key.versions().rev().find_map(|version| plan(version).map(|at| (version, at)))
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
