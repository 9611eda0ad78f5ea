//! Cryptographic erasure: a key is destroyed so that what it encrypts becomes unreadable.

#![forbid(unsafe_code)]

use super::approvals::Approval;
use super::approvers::{gone, key_line};
use super::{Changed, Judged, Manager};
use crate::approval::{Action, Subject};
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::key::{KeyId, KeyName, KeyRef, KeyState};
use crate::source::Reason;
use crate::store::{Contents, KeyEntry, VersionEntry};

/// The last of the keys that a server encrypts its own files with: 1 for all, 2 for temporary ones.
const SERVERS_OWN: u32 = 2;

/// A key that is to be erased, and what goes with it.
#[derive(Clone, Debug)]
pub struct Erasure {
    /// The key.
    pub id: KeyId,
    /// The files that become unreadable, and those that may, a line each.
    pub losses: Vec<String>,
    /// Which data directories were looked at for them.
    pub judged: Judged,
}

impl Erasure {
    /// What is to be approved, or confirmed. `NotFound` where the key has no version that decrypts, `State`
    /// where it must stay.
    pub fn subject(&self, contents: &Contents) -> Result<Subject> {
        let versions = living(contents, self.id)?;
        let line =
            format!("key {}, all {} versions, at once and for ever", self.id, versions.len());
        let mut targets = vec![line];
        for key in &versions {
            targets.push(key_line(contents, key)?);
        }
        targets.extend(self.losses.iter().cloned());
        targets.extend(gone(contents, &self.judged));
        Ok(Subject::new(Action::Erase, targets, &[]))
    }
}

impl Manager {
    /// The versions of key `id` that [`Self::erase`] would destroy.
    pub fn may_erase(&self, id: KeyId) -> Result<Vec<KeyRef>> {
        let versions = living(self.reader.keystore()?.contents(), id)?;
        self.refuse_retained(self.reader.keystore()?.contents(), &versions)?;
        Ok(versions)
    }

    /// Destroys every version of the key at once, the one that encrypts as well, in one commit. Needs the
    /// approvals that the keystore wants. What was destroyed.
    pub fn erase(&mut self, erasure: &Erasure, reason: Reason<'_>) -> Result<Vec<KeyRef>> {
        let asked = erasure.judged.reason(reason.text, self.contents());
        let reason = Reason { actor: reason.actor, text: &asked };
        let approval = self.approval(|now| erasure.subject(now), reason)?;
        let told = Approval::reason(approval.as_deref(), &asked);
        let erased =
            self.commit(Reason { actor: reason.actor, text: &told }, |manager, before| {
                let (change, versions) =
                    (manager.change(reason), living(before.contents(), erasure.id)?);
                manager.refuse_retained(before.contents(), &versions)?;
                erasure.judged.check(before.contents())?;
                let mut after = before.clone();
                for key in &versions {
                    if before
                        .contents()
                        .info(key)
                        .is_some_and(|info| info.state == KeyState::Active)
                    {
                        after = after.with_state(key, KeyState::Retired, &change)?;
                    }
                    after = after.with_state(key, KeyState::Destroyed, &change)?;
                }
                let mut events = vec![(Event::Destroyed, versions)];
                if let Some(without) = erasure.judged.without_gone(&after)? {
                    after = without;
                    events.push((Event::DataDirectoryGone, Vec::new()));
                }
                let subject = |now: &Contents| erasure.subject(now);
                let after = manager.used(approval.as_deref(), subject, before.contents(), after)?;
                Ok(Some(Changed { after, events: Approval::events(approval.as_deref(), events) }))
            })?;
        self.carried_out(approval.as_deref());
        Ok(erased)
    }

    fn refuse_retained(&self, contents: &Contents, versions: &[KeyRef]) -> Result<()> {
        let now = self.reader.env.clock.now();
        for key in versions {
            let entry = contents.key(&key.name).and_then(|entry| entry.version(key.version));
            let until = entry.and_then(|entry| entry.retain_until).filter(|until| now < *until);
            if let Some(until) = until {
                return Err(Error::new(Kind::State, format!("{key} is to be kept until {until}")));
            }
        }
        Ok(())
    }
}

/// The versions of key `id` that decrypt.
fn living(contents: &Contents, id: KeyId) -> Result<Vec<KeyRef>> {
    if id.get() <= SERVERS_OWN {
        let what = format!("key {id} encrypts the server's own files: no server starts without it");
        return Err(Error::new(Kind::State, what).advise(
            "tables that are to be erased one day need a key of their own (ENCRYPTION_KEY_ID)",
        ));
    }
    let name = KeyName::Id(id);
    let lives = |entry: &&VersionEntry| entry.state.decrypts();
    let versions = contents.key(&name).into_iter().flat_map(KeyEntry::versions).filter(lives);
    let versions: Vec<_> = versions.map(|entry| KeyRef::new(id, entry.version)).collect();
    match versions.is_empty() {
        true => Err(Error::new(Kind::NotFound, format!("the keystore has no key {id} to erase"))
            .advise("`keyward keys list` shows all")),
        false => Ok(versions),
    }
}
