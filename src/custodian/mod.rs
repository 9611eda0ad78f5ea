//! The custodian serves keys to the doors. It holds the source and the worker, and reads the source's ring.
//!
//! Every refresh and every rotation takes one mutex, the source's, so they run one at a time. A thread
//! that reads a key in the ring never waits for it.

#![forbid(unsafe_code)]

mod backoff;
mod contents;
mod degraded;
mod held;
mod lookups;
mod named;
mod notices;
mod rescue;
mod restart;
mod status;
mod trail;
mod worker;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use held::{ManagerGuard, Source};
pub use notices::Configuration;
pub use restart::{NextSource, NextStart, Proof, ProviderProof};

use crate::env::{Env, Level, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::event::{Backlog, Degraded};
use crate::key::{Cipher, KeyId, KeyInfo, KeyRef, KeyVersion};
use crate::manager::Home;
use crate::ring::{Ring, RingKey};
use crate::source::{Looked, Maintenance, Reason, Role, Which};
use backoff::BackOff;
use lookups::Lookups;
use notices::Notices;
use status::Summary;
use trail::Verifying;
use worker::{Attendant, Worker};

/// How many absent keys are remembered; a damaged page can ask for any number of them.
const MAX_ABSENT: usize = 4096;

/// How [`Custodian::identity`] begins where the keys are not in a keystore of ours.
pub const SERVED_BY: &str = "provider:";

/// Owns the keys of this process. Shared by all its threads.
pub struct Custodian {
    ring: Arc<Ring>,
    shared: Arc<Shared>,
    worker: Mutex<Option<Worker>>,
    attendant: Mutex<Option<Attendant>>,
}

struct Shared {
    ring: Arc<Ring>,
    source: Source,
    /// What `status` shows, kept by whoever had the source last.
    summary: Mutex<Summary>,
    absent: Mutex<HashSet<(KeyId, Option<KeyVersion>)>>,
    /// Where keys are asked for one at a time.
    lookups: Option<Lookups>,
    degraded: Mutex<Option<Degraded>>,
    restart: restart::Watch,
    notices: Box<Notices>,
    verifying: Box<Mutex<Verifying>>,
    backlog: Arc<Backlog>,
    /// When a provider answered last, in Unix seconds; 0 = not yet.
    answered: AtomicU64,
    back_off: Mutex<BackOff>,
    rotations: AtomicU64,
    maintenance: Vec<Maintenance>,
    started: Timestamp,
    role: Role,
    env: Env,
}

impl Custodian {
    /// Reads all keys and begins to serve. On failure nothing is left behind.
    pub fn start(source: impl Into<Source>, role: Role, env: Env) -> Result<Self> {
        let source = source.into();
        let mut reading = source.lock();
        reading.begin(role);
        reading.load()?;
        drop(reading);
        Self::serving(source, role, env)
    }

    /// Serves what `source` has read. Apart from `start`: what is built here takes much of a
    /// connection's stack, which reading the keys needs for itself.
    fn serving(source: Source, role: Role, env: Env) -> Result<Self> {
        let read = source.lock();
        let (ring, state, maintenance) =
            (Arc::clone(read.ring()), read.state(), read.maintenance());
        let summary = Summary::of(&*read, read.next_rotation());
        let lookups = read.lookup_options().map(Lookups::new);
        drop(read);
        let outage = state.outage;
        let answered = if outage.is_none() { env.clock.now().as_unix() } else { 0 };
        let back_off = outage.as_ref().map_or_else(BackOff::default, |_| BackOff::begun(&*env.rng));
        let shared = Arc::new(Shared {
            ring: Arc::clone(&ring),
            source,
            summary: Mutex::new(summary),
            absent: Mutex::default(),
            lookups,
            degraded: Mutex::new(outage.map(|cause| Degraded { since: env.clock.now(), cause })),
            restart: restart::Watch::new(role),
            notices: Box::default(),
            verifying: Box::default(),
            backlog: Arc::default(),
            answered: AtomicU64::new(answered),
            back_off: Mutex::new(back_off),
            rotations: AtomicU64::new(0),
            maintenance,
            started: env.clock.now(),
            role,
            env,
        });
        if let Some(cause) = state.losses {
            shared.note_state(Some(cause));
        }
        let worker = match role {
            Role::Server => Some(Worker::start(Arc::downgrade(&shared))?),
            Role::Daemon | Role::Reader | Role::Command => None,
        };
        let attendant = Mutex::default();
        Ok(Self { ring, shared, worker: Mutex::new(worker), attendant })
    }

    /// Starts the worker of a `Daemon`, in the process that will serve; later calls do nothing.
    pub fn wake(&self) {
        let mut worker = lock(&self.worker);
        if self.shared.role != Role::Daemon || worker.is_some() {
            return;
        }
        match Worker::start(Arc::downgrade(&self.shared)) {
            Ok(started) => *worker = Some(started),
            Err(error) => {
                let line = format!("changes of the keystore will not be noticed: {error}");
                self.shared.env.log.log(Level::Warning, &line);
            }
        }
        if let Some(attendant) = &mut *lock(&self.attendant) {
            attendant.start(&*self.shared.env.log);
        }
    }

    /// What is counted of the audit trail's copies.
    #[must_use]
    pub fn backlog(&self) -> Arc<Backlog> {
        Arc::clone(&self.shared.backlog)
    }

    /// Has a server do `work` again and again on a thread of its own, which no key waits for. It says whether
    /// there is more to do at once. Does nothing in other processes.
    pub fn attend(&self, work: Box<dyn FnMut() -> bool + Send>) {
        let mut attendant = Attendant::of(work);
        match self.shared.role {
            Role::Server => attendant.start(&*self.shared.env.log),
            // Once it has forked.
            Role::Daemon => {}
            Role::Reader | Role::Command => return,
        }
        *lock(&self.attendant) = Some(attendant);
    }

    /// The version of `id` that encrypts. One atomic load where the key is known.
    #[inline]
    #[must_use]
    pub fn latest(&self, id: KeyId) -> Option<KeyVersion> {
        if let Some(lookups) = &self.shared.lookups {
            return self.shared.latest_of(lookups, id);
        }
        match self.ring.latest(id) {
            None => self.shared.look_again(id, None).and_then(|()| self.ring.latest(id)),
            known => known,
        }
    }

    /// Version `version` of key `id`. Wait-free where it is known.
    #[inline]
    #[must_use]
    pub fn key(&self, id: KeyId, version: KeyVersion) -> Option<&RingKey> {
        if let Some(lookups) = &self.shared.lookups {
            return self.shared.key_of(lookups, id, version);
        }
        let key = match self.ring.get(id, version) {
            None => {
                self.shared.look_again(id, Some(version))?;
                self.ring.get(id, version)
            }
            known => known,
        }?;
        key.note_use();
        Some(key)
    }

    /// The cipher of a key version that is in memory; never calls out.
    #[inline]
    #[must_use]
    pub fn cipher(&self, id: KeyId, version: KeyVersion) -> Option<Cipher> {
        self.ring.get(id, version).map(RingKey::cipher)
    }

    /// Reads the source again now.
    pub fn refresh(&self) -> Result<()> {
        self.shared.refresh()
    }

    /// Gives the keys a new version: the active one, or a pending one where the policy's
    /// `activate_after` says so. When this returns it is on disk and in the ring.
    pub fn rotate(&self, which: Which, reason: Reason<'_>) -> Result<Vec<KeyRef>> {
        self.shared.may_write()?;
        self.shared.prove_restart()?;
        let mut source = self.shared.source();
        let rotated = source.rotate(which, reason);
        self.shared.note_losses(&**source);
        drop(source);
        let rotated = rotated?;
        self.shared.rotations.fetch_add(1, Ordering::Relaxed);
        self.shared.forget_absent();
        Ok(rotated)
    }

    /// Makes key `id`.
    pub fn create(&self, id: KeyId, cipher: Option<Cipher>, reason: Reason<'_>) -> Result<KeyRef> {
        self.shared.may_write()?;
        self.shared.prove_restart()?;
        let mut source = self.shared.source();
        let made = source.create(id, cipher, reason);
        self.shared.note_losses(&**source);
        drop(source);
        let made = made?;
        self.shared.forget_absent();
        Ok(made)
    }

    /// What changes our own keystore otherwise; `Unsupported` where a key store serves the keys.
    pub fn manager(&self) -> Result<ManagerGuard<'_>> {
        self.shared.manager().ok_or_else(|| {
            let provider = self.status().provider;
            let what =
                format!("provider {provider:?} serves the keys, not a keystore of keyward's");
            Error::new(Kind::Unsupported, what).advise(
                "do it in that key store, or move the keys into a keystore with `keyward migrate`",
            )
        })
    }

    /// Has this server, whose data directory is `home`, entered in the keystore's register. Does nothing
    /// for readers and commands, nor where a key store serves the keys.
    pub fn register(&self, home: Home) {
        if let (Role::Server | Role::Daemon, Some(mut manager)) =
            (self.shared.role, self.shared.manager())
        {
            manager.register(home);
        }
    }

    /// All key versions, sorted by key and version.
    #[must_use]
    pub fn keys(&self) -> Vec<KeyInfo> {
        self.shared.source().keys()
    }

    /// The keys in memory.
    #[must_use]
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Ends the worker and waits for it: afterwards no thread of ours is left. May be called again.
    pub fn stop(&self) {
        if let Some(attendant) = lock(&self.attendant).take() {
            attendant.stop();
        }
        if let Some(worker) = lock(&self.worker).take() {
            worker.stop();
        }
    }
}

impl Drop for Custodian {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn may_write(&self) -> Result<()> {
        match self.role {
            Role::Reader => Err(Error::new(Kind::Unsupported, "this process only reads keys")
                .advise("rotate in the server, or with `keyward rotate`")),
            Role::Server | Role::Daemon | Role::Command => Ok(()),
        }
    }

    /// Looks for a key that is not in the ring: one thread reads again, the others wait for it,
    /// unless reading failed last: then they have their answer at once. An absent key is remembered
    /// until the source changes. `None` = still absent.
    #[cold]
    fn look_again(&self, id: KeyId, version: Option<KeyVersion>) -> Option<()> {
        let wanted = (id, version);
        let settled = || lock(&self.absent).contains(&wanted) || lock(&self.back_off).holds();
        if settled() {
            return None;
        }
        let is_failing = lock(&self.back_off).is_failing();
        let mut source = match is_failing {
            true => self.try_source()?,
            false => self.source(),
        };
        let found = |ring: &Ring| match version {
            Some(version) => ring.get(id, version).map(|_| ()),
            None => ring.latest(id).map(|_| ()),
        };
        if let Some(()) = found(&self.ring) {
            return Some(());
        }
        // What the thread before us learned while we waited for it.
        if settled() {
            return None;
        }
        let may_make = version.is_none() && self.may_write().is_ok();
        let looked = source.look_for(id, may_make);
        if !matches!(looked, Ok(Looked::NothingNew)) {
            self.note_outcome(looked.as_ref().err(), &**source);
            if looked.ok()? == Looked::Made {
                let line = format!("key {id} was made, because the server asked for it");
                self.env.log.log(Level::Note, &line);
            }
            self.forget_absent();
        }
        let found = found(&self.ring);
        if found.is_none() {
            self.remember_absent(wanted);
            self.tell_of_absent(id, version);
        }
        found
    }

    /// `mariadb-backup --prepare` fails on a missing version, and InnoDB names the page, not the key.
    fn tell_of_absent(&self, id: KeyId, version: Option<KeyVersion>) {
        if let (Role::Reader, Some(version)) = (self.role, version) {
            let line = format!(
                "key {id} version {version} is asked for and is not there: use the keystore, or a copy of it, \
                 that the server had when the backup was made"
            );
            self.env.log.log(Level::Warning, &line);
        }
    }

    fn refresh(&self) -> Result<()> {
        let mut source = self.source();
        let outcome = source.load();
        self.note_outcome(outcome.as_ref().err(), &**source);
        if outcome.is_ok() {
            self.forget_absent();
        }
        outcome
    }

    /// Reads again if there may be something new.
    fn refresh_changed(&self) -> Result<()> {
        if self.source().has_changed() { self.refresh() } else { Ok(()) }
    }

    /// Does what the policy wants done, if it is time to look.
    fn run_policy_in_time(&self) {
        let changed = self.manager().map_or(0, |mut manager| manager.run_policy_in_time());
        if changed > 0 {
            self.rotations.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Enters this server in the keystore's register, if it is time to.
    fn register_in_time(&self) {
        if let Some(mut manager) = self.manager() {
            manager.register_in_time();
        }
    }

    /// Signs how far the audit trail has come, if it is time to.
    fn checkpoint_in_time(&self) {
        if let Some(mut manager) = self.manager() {
            manager.checkpoint_in_time();
        }
    }

    fn remember_absent(&self, wanted: (KeyId, Option<KeyVersion>)) {
        let mut absent = lock(&self.absent);
        if absent.len() >= MAX_ABSENT {
            absent.clear();
        }
        absent.insert(wanted);
    }

    fn forget_absent(&self) {
        lock(&self.absent).clear();
    }
}

/// Locks even after a panic elsewhere: every change behind these mutexes is made in one step.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
