//! What a keystore records next to its keys, under the same check over the file: its epochs, who
//! uses it, its backups, who approves, where the audit trail stood.

#![forbid(unsafe_code)]

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Keystore;
use super::numbers::{MAX_EPOCHS, Revision};
use crate::env::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::hex::Hex;
use crate::key::{KeyRef, KeyVersion};

/// How many data directories may be registered.
pub const MAX_DATA_DIRECTORIES: usize = 1_000;

/// How many backups may be registered.
pub const MAX_BACKUPS: usize = 10_000;

/// How many versions a registered backup may name. One that needs more needs all that were there.
pub const MAX_NEEDS: usize = 1_000;

/// How many approvers, and how many recipients of backups, there may be.
pub const MAX_PEOPLE: usize = 100;

/// How many approvals may be remembered as used.
pub const MAX_USED_APPROVALS: usize = 10_000;

/// The longest path or public key, in bytes.
const MAX_LONG_TEXT: usize = 4_096;

/// The longest name, in bytes.
const MAX_TEXT: usize = 255;

/// A time between two uses of numbers that were given up: it begins where generations may have been
/// lost (a rollback accepted, a restore), and no number of the epoch before is used again in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Epoch {
    /// From 1 on.
    pub number: u64,
    /// When it began.
    pub began: Timestamp,
    /// The Ed25519 key (RFC 8032) of what is signed in it.
    pub public_key: Hex<32>,
    /// By the key of the epoch before; the first epoch has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Hex<64>>,
}

/// A data directory whose server uses the keystore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataDirectory {
    /// The id of the mark in it.
    pub mark: String,
    /// The host that it was seen on.
    pub host: String,
    /// Where it is there.
    pub path: String,
    /// When its server used the keystore last.
    pub last_seen: Timestamp,
}

/// A backup of data, which is to stay readable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// The folder that it is in, or another name for it.
    pub name: String,
    /// The host that it was registered on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// What the keystore was when it was registered.
    pub revision: Revision,
    /// When that was.
    pub made: Timestamp,
    /// Until when it is to stay readable; until it is taken out where there is no such day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The versions that it needs; all that were there where nobody has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Vec<KeyRef>>,
}

impl Backup {
    /// Whether it needs `key`, which came into the keystore at `since`.
    #[must_use]
    pub fn needs(&self, key: &KeyRef, since: Timestamp) -> bool {
        self.needs.as_ref().map_or(since <= self.made, |needs| needs.contains(key))
    }

    /// Whether it need not stay readable any longer.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until < now)
    }
}

/// Who approves what needs more than one person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approvers {
    /// Their SSH public keys, as OpenSSH writes them.
    pub keys: Vec<String>,
    /// How many of them are needed; 0 while nothing needs approval.
    pub needed: u32,
}

/// An approval that was used, so that it is not used again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsedApproval {
    /// SHA-256 of the request that was approved.
    pub digest: Hex<32>,
    /// When it would have expired: then it need not be remembered any longer.
    pub expires: Timestamp,
}

/// Where the audit trail stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrailAnchor {
    /// The number of its last line.
    pub line: u64,
    /// The hash of that line.
    pub head: Hex<32>,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registers {
    /// By number; the last is the present one.
    pub(super) epochs: Vec<Epoch>,
    /// The lowest number that the first version of a key made from now on may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) new_keys_from: Option<KeyVersion>,
    /// The newest revision that removed entries of destroyed keys: whoever knows an older one may
    /// miss some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pruned_through: Option<Revision>,
    /// The highest version of all keyring keys whose entries were removed whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pruned_names: Option<KeyVersion>,
    /// Who uses the keystore, by mark.
    pub data_directories: Vec<DataDirectory>,
    /// Backups of the data that it has the keys of, oldest first.
    pub backups: Vec<Backup>,
    /// Who approves.
    pub approvers: Approvers,
    /// For whom backups are encrypted: their public keys.
    pub backup_recipients: Vec<String>,
    /// Approvals that were used and have not expired.
    pub used_approvals: Vec<UsedApproval>,
    /// Where the audit trail stood at the last commit that noted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trail: Option<TrailAnchor>,
    /// The last line of the audit trail that the policy had removed, with all before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trail_floor: Option<TrailAnchor>,
}

impl Registers {
    /// The epochs that are kept, by number; the last is the present one.
    #[must_use]
    pub fn epochs(&self) -> &[Epoch] {
        &self.epochs
    }

    /// The newest revision that removed entries of destroyed keys.
    #[must_use]
    pub fn pruned_through(&self) -> Option<Revision> {
        self.pruned_through
    }

    pub(super) fn last_epoch(&self) -> Option<u64> {
        self.epochs.last().map(|epoch| epoch.number)
    }

    /// Checks that every list and text is within its bounds, and in order.
    pub(super) fn check(&self) -> Result<()> {
        self.check_epochs()?;
        bounded("data directories", &self.data_directories, MAX_DATA_DIRECTORIES)?;
        for DataDirectory { mark, host, path, .. } in &self.data_directories {
            text("the mark of a data directory", mark, MAX_TEXT)?;
            text("the host of a data directory", host, MAX_TEXT)?;
            text("the path of a data directory", path, MAX_LONG_TEXT)?;
        }
        if self.data_directories.windows(2).any(|pair| pair[0].mark >= pair[1].mark) {
            return refused("data directories twice or out of order");
        }
        bounded("backups", &self.backups, MAX_BACKUPS)?;
        for Backup { name, host, needs, .. } in &self.backups {
            text("a backup's name", name, MAX_LONG_TEXT)?;
            if !host.is_empty() {
                text("a backup's host", host, MAX_TEXT)?;
            }
            bounded("versions of a backup", needs.as_deref().unwrap_or_default(), MAX_NEEDS)?;
        }
        let Approvers { keys, needed } = &self.approvers;
        bounded("approvers", keys, MAX_PEOPLE)?;
        keys.iter().try_for_each(|key| text("an approver's key", key, MAX_LONG_TEXT))?;
        if *needed as usize > keys.len() {
            return refused("more approvals are needed than there are approvers");
        }
        bounded("recipients of backups", &self.backup_recipients, MAX_PEOPLE)?;
        let mut recipients = self.backup_recipients.iter();
        recipients.try_for_each(|key| text("a recipient's key", key, MAX_LONG_TEXT))?;
        bounded("used approvals", &self.used_approvals, MAX_USED_APPROVALS)
    }

    /// Ascending numbers, each epoch but the first of all signed.
    fn check_epochs(&self) -> Result<()> {
        bounded("epochs", &self.epochs, MAX_EPOCHS)?;
        let ascending = self.epochs.windows(2).all(|pair| pair[0].number < pair[1].number);
        let signed = |epoch: &Epoch| epoch.signature.is_some() != (epoch.number == 1);
        if !ascending || self.epochs.iter().any(|epoch| epoch.number == 0 || !signed(epoch)) {
            return refused("its epochs are not in order, or not signed");
        }
        Ok(())
    }
}

impl Keystore {
    /// The keystore with its registers as `edit` leaves them. `Config` where a text does not fit,
    /// `State` where a register is full.
    pub fn with_registers(&self, edit: impl FnOnce(&mut Registers) -> Result<()>) -> Result<Self> {
        let mut registers = self.contents.registers().clone();
        edit(&mut registers)?;
        registers.check()?;
        let mut contents = self.contents.clone();
        contents.registers = registers.into();
        Ok(self.with(contents))
    }

    /// The keystore with what `other` has registered, but its epochs, its numbers and who uses it.
    pub fn with_registers_of(&self, other: &Self) -> Result<Self> {
        let theirs = other.contents.registers().clone();
        self.with_registers(|registers| {
            let Registers { epochs, new_keys_from, .. } = std::mem::take(registers);
            let none = Vec::new();
            *registers = Registers {
                epochs,
                new_keys_from,
                pruned_through: None,
                data_directories: none,
                ..theirs
            };
            Ok(())
        })
    }

    /// The keystore in which an approval was used. Those that have ended by `now` need not be remembered.
    /// `State` where it was used before.
    pub fn with_used_approval(&self, used: UsedApproval, now: Timestamp) -> Result<Self> {
        self.with_registers(|registers| {
            let all = &mut registers.used_approvals;
            if all.iter().any(|one| one.digest == used.digest) {
                return Err(Error::new(Kind::State, "the approval was used already"));
            }
            all.retain(|one| one.expires > now);
            all.push(used);
            Ok(())
        })
    }

    /// The keystore that knows the trail up to `anchor`.
    #[must_use]
    pub fn with_trail(&self, anchor: TrailAnchor) -> Self {
        let mut contents = self.contents.clone();
        Arc::make_mut(&mut contents.registers).trail = Some(anchor);
        self.with(contents)
    }

    /// The keystore whose trail begins behind `floor`.
    #[must_use]
    pub fn with_trail_floor(&self, floor: TrailAnchor) -> Self {
        let mut contents = self.contents.clone();
        Arc::make_mut(&mut contents.registers).trail_floor = Some(floor);
        self.with(contents)
    }

    /// The keystore with a data directory that uses it: registered, or seen again.
    pub fn with_data_directory(&self, seen: DataDirectory) -> Result<Self> {
        self.with_registers(|registers| {
            let all = &mut registers.data_directories;
            match all.binary_search_by(|one| one.mark.cmp(&seen.mark)) {
                Ok(at) => all[at] = seen,
                Err(at) => all.insert(at, seen),
            }
            Ok(())
        })
    }

    /// The keystore with a backup in its register: a new one, or in the place of the one of that name.
    pub fn with_backup(&self, backup: Backup) -> Result<Self> {
        self.with_registers(|registers| {
            let all = &mut registers.backups;
            all.retain(|one| (&one.host, &one.name) != (&backup.host, &backup.name));
            all.push(backup);
            Ok(())
        })
    }

    /// The keystore without the backup of that name and host.
    pub fn without_backup(&self, host: &str, name: &str) -> Result<Self> {
        self.with_registers(|registers| {
            let all = &mut registers.backups;
            let before = all.len();
            all.retain(|one| (&*one.host, &*one.name) != (host, name));
            if all.len() == before {
                let what = format!("no backup {name} on {host} is registered");
                let advice = "`keyward keystore backups list` shows those that are";
                return Err(Error::new(Kind::NotFound, what).advise(advice));
            }
            Ok(())
        })
    }

    /// The keystore without the data directory of that mark, which is gone.
    pub fn without_data_directory(&self, mark: &str) -> Result<Self> {
        self.with_registers(|registers| {
            let all = &mut registers.data_directories;
            let before = all.len();
            all.retain(|one| one.mark != mark);
            if all.len() == before {
                let what = format!("no data directory with mark {mark:?} is registered");
                return Err(Error::new(Kind::NotFound, what));
            }
            Ok(())
        })
    }
}

fn bounded<T>(what: &str, list: &[T], max: usize) -> Result<()> {
    if list.len() > max {
        let what = format!("{} {what}, and the keystore has room for {max}", list.len());
        return Err(Error::new(Kind::State, what).advise("remove those that are gone"));
    }
    Ok(())
}

fn text(what: &str, text: &str, max: usize) -> Result<()> {
    if text.is_empty() || text.len() > max || text.chars().any(char::is_control) {
        return Err(
            Error::new(Kind::Config, what).advise(format!("use one line of at most {max} bytes"))
        );
    }
    Ok(())
}

fn refused(what: &str) -> Result<()> {
    Err(Error::new(Kind::Config, what))
}
