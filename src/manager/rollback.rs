//! Accepting an older copy of the keystore, after the newest one was lost.

#![forbid(unsafe_code)]

use super::Manager;
use super::approvals::Approval;
use super::approvers::of_rollback;
use crate::env::Deadline;
use crate::error::{Kind, Result};
use crate::event::Event;
use crate::source::{LOCK_WAIT, Reason};
use crate::store::{Contents, Revision};

/// A keystore that its rollback guard rejects.
pub struct Rollback {
    /// What the guard says.
    pub refused: String,
    /// What the keystore holds.
    pub contents: Contents,
}

impl Manager {
    /// What the rollback guard says against the keystore, and what the keystore holds. `State` where there
    /// is nothing to accept.
    pub fn rollback(&self) -> Result<Rollback> {
        let keystore = self.reader.read_unguarded()?.keystore;
        let refused = self.reader.refused(&keystore)?;
        Ok(Rollback { refused, contents: keystore.contents().clone() })
    }

    /// Accepts the keystore as it is, though its guard knows a newer one or another: as the next
    /// generation, of a new epoch, in which no number of a lost version is used again. Returns the
    /// new revision. `State` where there is nothing to accept. Needs the approvals that this copy wants, of
    /// what is `lost`, a line each.
    pub fn accept_rollback(&self, lost: &[String], reason: Reason<'_>) -> Result<Revision> {
        let lock = self.reader.file.lock(Deadline::after(LOCK_WAIT))?;
        let keystore = self.reader.read_unguarded()?.keystore;
        self.reader.refused(&keystore)?;
        let subject = |now: &Contents| Ok(of_rollback(now, lost));
        let before = keystore.contents();
        let approval = self.approval_locked(&keystore, &of_rollback(before, lost), reason)?;
        let text = Approval::reason(approval.as_deref(), reason.text);
        let reason = Reason { actor: reason.actor, text: &text };
        let keystore = self.used(approval.as_deref(), subject, before, keystore.clone())?;
        let rng = &*self.reader.env.rng;
        let known = self.reader.file.guard().epoch_to_pass(&keystore, rng)?;
        let after = keystore.with_epoch_above(known, self.reader.env.clock.now(), rng)?;
        let generation = keystore.contents().generation() + 1;
        let known = keystore.contents().registers().trail;
        let anchor = self.append(known, generation, Event::Intended, &[], reason)?;
        let after = after.with_trail(anchor);
        let accepted = self.reader.file.commit(&lock, &after, rng);
        if accepted.as_ref().err().is_none_or(|error| error.kind() == Kind::Unknown) {
            let events = vec![(Event::RollbackAccepted, Vec::new())];
            for (event, keys) in Approval::events(approval.as_deref(), events) {
                let told = self.append(Some(anchor), generation, event, &keys, reason);
                self.reader.warn_of(told.map(drop));
            }
        }
        let (accepted, _) = accepted?;
        self.carried_out(approval.as_deref());
        self.reader.warn_of(self.reader.file.write_witness(&accepted, rng));
        Ok(accepted.contents().revision())
    }
}
