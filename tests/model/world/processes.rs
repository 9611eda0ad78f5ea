//! The two processes: how they start, read, and meet each other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use keyward::Result;
use keyward::custodian::Custodian;
use keyward::env::Env;
use keyward::key::{Cipher, KeyRef};
use keyward::manager::Manager;
use keyward::source::Role;
use keyward::store::StoreFile;

use super::World;
use super::changes::{Done, perform};
use super::files::{GuardIs, revision};
use crate::life::Broken;
use crate::sequence::{Change, Who};
use crate::stage::{Stage, wrapper};

/// One process.
pub(super) struct Node {
    pub(super) custodian: Arc<Custodian>,
    pub(super) stage: Stage,
    /// Every version that it gave out as the newest.
    pub(super) memory: BTreeMap<KeyRef, Vec<u8>>,
    /// The keystore's bytes as it read them last, unless somebody tampered since.
    pub(super) seen: Option<Vec<u8>>,
    /// The keystore that somebody put in the place of ours, as this process read it while nothing in the
    /// folder could tell, or a warning did.
    pub(super) took: Option<Vec<u8>>,
    /// The newest revision that it may have read.
    pub(super) known: Option<(u64, u64)>,
    /// Whether the keystore lost what it holds, and somebody accepted that or nobody could know.
    pub(super) estranged: bool,
}

/// Where what the other process did is told.
pub(super) type Slot = Arc<Mutex<Option<(Who, Result<Done>)>>>;

impl World {
    pub(super) fn env(&self) -> Env {
        Env { clock: self.clock.clone(), rng: self.rng.clone(), log: self.log.clone() }
    }

    pub(super) fn source(&self, stage: &Stage) -> Manager {
        let file = StoreFile::on(self.path(), Arc::new(stage.clone()));
        Manager::new(file, vec![wrapper()], Cipher::DEFAULT, 2, self.env())
    }

    /// The process, started where it does not run; none where it does not start.
    pub(super) fn running(&mut self, who: Who) -> Result<Option<&mut Node>, Broken> {
        if self.nodes[who as usize].is_none() {
            self.start(who, None)?;
        }
        Ok(self.nodes[who as usize].as_mut())
    }

    pub(super) fn start(
        &mut self,
        who: Who,
        during: Option<(usize, Change)>,
    ) -> Result<(), Broken> {
        let stage = self.stage();
        let other = self.hook(who, during, &stage, false)?;
        let tampered = self.is_tampered_with();
        let role = if who == Who::Server { Role::Daemon } else { Role::Command };
        let started = Custodian::start(self.source(&stage), role, self.env());
        stage.calm();
        let happened = self.note_other(other)?;
        match started {
            Err(error) if !tampered => Err(format!("{who:?} does not start: {error}")),
            Err(error) => {
                self.told.push(format!("refused: {error}"));
                Ok(())
            }
            Ok(custodian) => {
                self.judge("a start succeeds")?;
                self.settle();
                let custodian = Arc::new(custodian);
                let (memory, seen) = (BTreeMap::new(), self.files().keystore);
                let (took, known, estranged) = (None, None, false);
                self.nodes[who as usize] =
                    Some(Node { custodian, stage, memory, seen, took, known, estranged });
                if happened {
                    self.met(!tampered);
                }
                Ok(())
            }
        }
    }

    pub(super) fn restart(
        &mut self,
        who: Who,
        during: Option<(usize, Change)>,
    ) -> Result<(), Broken> {
        self.nodes[who as usize] = None;
        self.start(who, during)
    }

    pub(super) fn read(&mut self, who: Who, during: Option<(usize, Change)>) -> Result<(), Broken> {
        let Some(node) = self.running(who)? else { return Ok(()) };
        let (custodian, stage) = (Arc::clone(&node.custodian), node.stage.clone());
        let estranged = node.estranged;
        let tampered = self.is_tampered_with() || estranged;
        let other = self.hook(who, during, &stage, false)?;
        let outcome = custodian.refresh();
        stage.calm();
        let happened = self.note_other(other)?;
        match outcome {
            Err(error) if !tampered => Err(format!("{who:?} raises a false alarm: {error}")),
            Err(error) => {
                self.told.push(format!("refused: {error}"));
                Ok(())
            }
            Ok(()) if happened => {
                self.met(!tampered);
                Ok(())
            }
            // The file is as it was read, so nothing was read: only a change looks at the guard.
            Ok(()) if self.forked && self.is_behind() && self.took_what_is_there(who) => Ok(()),
            Ok(()) => {
                let now = self.files().keystore;
                if !self.goes_on_with(who, now.as_deref()) {
                    self.judge("a process goes on")?;
                }
                self.settle();
                self.saw(who);
                Ok(())
            }
        }
    }

    /// Whether the process has read `keystore` before, when it might: then it need not look at it again,
    /// and what it does counts.
    pub(super) fn goes_on_with(&mut self, who: Who, keystore: Option<&[u8]>) -> bool {
        let took = self.nodes[who as usize].as_ref().and_then(|node| node.took.as_deref());
        let goes_on = self.forked && took.is_some() && took == keystore && !self.is_behind();
        if goes_on {
            let older = self.files().guard.filter(|_| self.guard == GuardIs::Older);
            self.ours.guard = older;
            self.begin_another_history();
        }
        goes_on
    }

    fn took_what_is_there(&self, who: Who) -> bool {
        let took = self.nodes[who as usize].as_ref().and_then(|node| node.took.clone());
        took.is_some() && took == self.files().keystore
    }

    /// Both have read and changed things at once: either may have been the last. Where nobody had tampered
    /// before, it shows in the generation.
    pub(super) fn met(&mut self, untouched: bool) {
        let now = self.files().keystore;
        let generation = now.as_deref().map(|bytes| revision(bytes).1);
        for node in self.nodes.iter_mut().flatten() {
            let is_last = Some(node.custodian.status().generation) == generation;
            node.seen = now.clone().filter(|_| untouched && is_last && !node.estranged);
        }
    }

    pub(super) fn saw(&mut self, who: Who) {
        let seen = self.files().keystore;
        if let Some(node) = &mut self.nodes[who as usize] {
            (node.seen, node.estranged) = (seen, false);
        }
    }

    /// Has the other process make a change at a call of this one's.
    pub(super) fn hook(
        &mut self,
        who: Who,
        during: Option<(usize, Change)>,
        stage: &Stage,
        loses_lock: bool,
    ) -> Result<Slot, Broken> {
        let slot = Slot::default();
        let Some((at, change)) = during else { return Ok(slot) };
        let Some(other) = self.running(who.other())? else { return Ok(slot) };
        let (custodian, locks) = (Arc::clone(&other.custodian), Arc::clone(&self.locks));
        let result = Arc::clone(&slot);
        stage.at(at, move || {
            let mut held = locks.lock().unwrap();
            if loses_lock {
                held.clear();
            }
            // It would wait for the lock, and this very thread has that.
            let waits = !held.is_empty();
            drop(held);
            if !waits {
                *result.lock().unwrap() = Some((who.other(), perform(&custodian, change)));
            }
        });
        Ok(slot)
    }

    /// What the other process did meanwhile; whether it changed the keystore.
    pub(super) fn note_other(&mut self, slot: Slot) -> Result<bool, Broken> {
        let Some((who, outcome)) = slot.lock().unwrap().take() else { return Ok(false) };
        self.told.push("meanwhile:".to_owned());
        let changed = outcome.as_ref().is_ok_and(|done| !done.idle);
        self.note(who, outcome, None)?;
        Ok(changed)
    }
}
