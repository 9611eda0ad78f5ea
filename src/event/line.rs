//! A line of the audit trail: what happened, to what, by whom and why, chained to the line before.

#![forbid(unsafe_code)]

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::env::Timestamp;
use crate::hex::Hex;
use crate::key::KeyRef;

/// What the first line is chained to.
pub(super) const GENESIS: Hex<32> = Hex([0; 32]);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A keystore was made.
    KeystoreCreated,
    /// A change is about to be committed. Without its own line after this one it was not, unless that
    /// line could not be written: the keystore's generation tells.
    Intended,
    /// A key was made.
    KeyCreated,
    /// A key has a new version that encrypts.
    Rotated,
    /// The store key is wrapped by one provider more.
    WrappingAdded,
    /// A provider wrapped the store key again, with its wrapping key's newest version.
    Rewrapped,
    /// The store key is no longer wrapped by a provider.
    WrappingRemoved,
    /// A new store key wraps all data keys.
    StoreKeyRotated,
    /// A key has a new version that is pending.
    Prepared,
    /// A pending version encrypts from now on.
    Activated,
    /// A version encrypts no more.
    Retired,
    /// Somebody else may know a version.
    Compromised,
    /// A version is to be kept for a time.
    Retained,
    /// The last rotation was taken back.
    RotationUndone,
    /// Keys of another key store came in.
    Imported,
    /// Keys are about to be taken to another key store.
    Exported,
    /// All keys are about to be written to an encrypted backup.
    BackedUp,
    /// A scheduled backup was not made, or not taken elsewhere.
    BackupFailed,
    /// The recipients of backups were changed.
    BackupRecipientsChanged,
    /// The keystore was made again from a backup.
    Restored,
    /// A copy of a keystore became one of its own.
    Forked,
    /// A backup was tried: opened, compared with the keystore, made again in memory.
    Drilled,
    /// Binary or relay logs are about to be decrypted.
    BinaryLogRead,
    /// An older copy of the keystore is to be the one in force.
    RollbackAccepted,
    /// The keys in a server's memory were written into a new keystore.
    Rescued,
    /// A version is to be destroyed once its waiting time has passed.
    DestructionPlanned,
    /// A version is not to be destroyed after all.
    DestructionCancelled,
    /// The key of a version is gone; a tombstone stays.
    Destroyed,
    /// A server that uses the keystore was entered in its register, or seen again.
    DataDirectoryRegistered,
    /// A data directory was taken out of the register, because it no longer exists.
    DataDirectoryGone,
    /// A backup of the data was entered in the register: the versions that it needs stay.
    DataBackupRegistered,
    /// A backup of the data was taken out of the register.
    DataBackupGone,
    /// Other people, or another number of them, are to approve from now on.
    ApproversChanged,
    /// Somebody wants what needs approvals.
    ApprovalRequested,
    /// An approver's signature under a request was taken in.
    ApprovalGiven,
    /// A request was approved by as many as are needed, and is about to be carried out.
    Approved,
    /// A checkpoint of the trail, which is the reason's text, was signed by itself.
    Checkpointed,
    /// A server has been running for a minute.
    ServerStarted,
    /// A server runs with another version of the library than before.
    LibraryUpgraded,
    /// A server's configuration is another one than before.
    ConfigurationChanged,
    /// A server has used versions that it had not used before.
    FirstUsed,
    /// A key store cannot be reached.
    ProviderDown,
    /// A key store refuses what it is asked.
    ProviderDenied,
    /// A key store that was away or refused does again what it is asked.
    ProviderUp,
    /// A server found that the trail is not whole.
    TrailDamaged,
    /// The oldest lines of the trail are about to be removed, as the policy wants.
    TrailShortened,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// One line of the trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// 1 for the first line, one more for each.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: Event,
    /// To which key versions.
    pub keys: Vec<KeyRef>,
    /// Which generation of the keystore this is about.
    pub generation: u64,
    /// Who: `root on db1`, `mariadbd`.
    pub actor: String,
    /// Why, in the actor's words.
    pub reason: String,
    /// SHA-256 of the line before, in hex.
    pub previous: String,
}

/// Event fields supplied by the caller; the trail adds number, time and chain.
pub struct Record<'a> {
    /// What happened.
    pub event: Event,
    /// To which key versions.
    pub keys: &'a [KeyRef],
    /// Which generation of the keystore this is about.
    pub generation: u64,
    /// Who did it.
    pub actor: &'a str,
    /// Why.
    pub reason: &'a str,
}

/// A line of the trail by its number, and its SHA-256, which fixes it and all lines before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Head {
    /// The line's number.
    pub line: u64,
    /// Its hash.
    pub hash: Hex<32>,
}

/// The part of a line that every release writes.
#[derive(Deserialize)]
pub(super) struct Chained {
    pub(super) number: u64,
    #[serde(default)]
    pub(super) event: String,
    #[serde(default)]
    pub(super) generation: u64,
    pub(super) previous: Hex<32>,
}

pub(super) fn digest(line: impl AsRef<[u8]>) -> Hex<32> {
    Hex(Sha256::digest(line.as_ref()).into())
}
