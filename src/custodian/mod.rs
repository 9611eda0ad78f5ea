//! The custodian: the one object that owns ring, key source and worker, and answers the doors.
//!
//! The ring is read without a lock. Everything else, from a refresh to a rotation, goes through one
//! mutex around the key source, so that it happens once and in order; nobody who reads a key that
//! is in the ring ever waits for it.

mod backoff;
mod continuity;
mod degraded;
mod destroy;
mod keeper;
mod keystore;
mod lookup;
mod moving;
mod named;
mod opening;
mod pinned;
mod registered;
mod rescue;
mod restart;
mod rewrap;
mod served;
mod stash;
mod states;
mod summary;
mod upkeep;
mod witness;
mod worker;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use degraded::Degraded;
pub use destroy::Destruction;
pub use keystore::{KeystoreSource, NamedWrapper};
pub use lookup::{LookupSource, NamedLookup, Terms};
pub use moving::Moving;
pub use registered::{Home, Judged};
pub use rescue::Rescued;
pub use restart::{Answer, NextSource, NextStart, RestartSafe};
pub use rewrap::{Rewrap, Rewrapped, WrapChange};
pub use served::{NamedServer, ServedSource};
pub use stash::{Stash, StashState};
pub use states::Step;
pub use summary::Status;
pub use upkeep::Chore;
pub use witness::Rollback;

use crate::env::{Env, Level, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::key::{Cipher, KeyId, KeyInfo, KeyName, KeyRef, KeyVersion};
use crate::policy::Coming;
use crate::ring::{Ring, RingKey};
use crate::secret::DataKey;
use crate::store::Contents;
use backoff::BackOff;
use lookup::Lookups;
use named::no_keyring;
use summary::{Held, Summary};
use worker::Worker;

/// How many absent keys are remembered; a damaged page can ask for any number of them.
const MAX_ABSENT: usize = 4096;

/// How [`Custodian::identity`] begins where the keys are not in a keystore of ours.
pub const SERVED_BY: &str = "provider:";

/// What this process may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A database server: serves keys, follows the keystore, may rotate.
    Server,
    /// A database server that may yet fork before it serves (`--daemonize`): as `Server`, but
    /// without a thread until [`Custodian::wake`].
    Daemon,
    /// A process beside the server, such as `mariadb-backup`: serves keys, writes nothing at all.
    Reader,
    /// The command: reads and changes, then ends.
    Command,
}

/// Who changes a key, and why.
#[derive(Clone, Copy, Debug)]
pub struct Reason<'a> {
    /// Who.
    pub actor: &'a str,
    /// Why, in the actor's words.
    pub text: &'a str,
}

/// A key that is to be stored under a name of MySQL's.
#[derive(Clone, Copy)]
pub enum NewKey<'a> {
    /// It was given.
    Given(&'a DataKey),
    /// It was just made; another one would do as well.
    Random(&'a DataKey),
}

/// Where data keys come from: our own keystore, or key stores that serve them.
pub trait KeySource: Send {
    /// What this process may do, told before anything is read.
    fn begin(&mut self, _: Role) {}

    /// Whether there may be something new to read. Cheap: a file's stamp, a clock.
    fn has_changed(&self) -> bool;

    /// Whether a version that is not in memory may be there all the same: then it is worth a call.
    fn may_know_more(&self) -> bool {
        self.has_changed()
    }

    /// What the providers must do now and then though nobody asks for a key.
    fn chores(&self) -> Vec<Chore> {
        Vec::new()
    }

    /// Reads anew and brings the ring up to date. On failure the ring and the source stay as they
    /// were.
    fn load(&mut self, ring: &Ring) -> Result<()>;

    /// How keys are asked for one at a time; nothing where all are read together.
    fn terms(&self) -> Option<Arc<Terms>> {
        None
    }

    /// Asks for key `id` alone, or for that version of it, and puts it into the ring.
    fn look_up(&mut self, ring: &Ring, _: KeyId, _: Option<KeyVersion>) -> Result<()> {
        self.load(ring)
    }

    /// Gives each key of `which` a new version and makes that the active one: all or none.
    fn rotate(&mut self, ring: &Ring, which: Which, reason: Reason<'_>) -> Result<Vec<KeyRef>>;

    /// Makes key `id` with a first version.
    fn create(
        &mut self,
        ring: &Ring,
        id: KeyId,
        cipher: Option<Cipher>,
        reason: Reason<'_>,
    ) -> Result<KeyRef>;

    /// Makes key `id`, which somebody asked for and is not there, where that is how this source has
    /// it; whether it did.
    fn make_missing(&mut self, _: &Ring, _: KeyId) -> Result<bool> {
        Ok(false)
    }

    /// Takes a step towards the end of a version. `Unsupported` where the keys are not ours.
    fn destroy(&mut self, _: &Ring, step: &Destruction, _: &Judged, _: Reason<'_>) -> Result<()> {
        self.may_destroy(step.key())
    }

    /// Refuses what `destroy` would refuse to plan.
    fn may_destroy(&self, _: &KeyRef) -> Result<()> {
        Err(Error::new(Kind::Unsupported, "these keys are served by a key store")
            .advise("destroy the version there"))
    }

    /// The versions that are to be destroyed, and when.
    fn doomed(&self) -> Vec<(KeyRef, Timestamp)> {
        Vec::new()
    }

    /// Makes changes only from this generation of our own keystore.
    fn expect_generation(&mut self, _: u64) -> Result<()> {
        Err(no_keystore(self.provider(), "counts no generations of ours"))
    }

    /// Stores one of MySQL's keys: `data`, of the type `kind`, under a name that is free.
    fn store_named(
        &mut self,
        _ring: &Ring,
        name: &KeyName,
        _kind: &str,
        _data: NewKey<'_>,
        _reason: Reason<'_>,
    ) -> Result<()> {
        Err(no_keyring(name))
    }

    /// Removes one of MySQL's keys for ever.
    fn remove_named(&mut self, _ring: &Ring, name: &KeyName, _: Reason<'_>) -> Result<()> {
        Err(no_keyring(name))
    }

    /// All key versions, sorted by key and version.
    fn keys(&self) -> Vec<KeyInfo>;

    /// The generation of what was read last; 0 where the source counts none.
    fn generation(&self) -> u64;

    /// The provider that gave the keys, by name.
    fn provider(&self) -> &str;

    /// How the stash stands, where there is to be one.
    fn stash(&self) -> Option<StashState> {
        None
    }

    /// Why the key store could not be asked, while the keys came from a stash.
    fn outage(&self) -> Option<String> {
        None
    }

    /// The keys in use that the key store lost or changed, and what to do, where it serves them.
    fn losses(&self) -> Option<String> {
        None
    }

    /// This source, where it is our own keystore.
    fn as_keystore(&mut self) -> Option<&mut KeystoreSource> {
        None
    }

    /// This source, where a key store serves the keys.
    fn as_served(&mut self) -> Option<&mut ServedSource> {
        None
    }

    /// What stands in our own keystore; nothing where keys are served.
    fn contents(&self) -> Option<&Contents> {
        None
    }

    /// Takes a step in the life of keys; the versions that changed.
    fn step(&mut self, _: &Ring, _: &Step, _: Reason<'_>) -> Result<Vec<KeyRef>> {
        Err(no_keystore(self.provider(), "keeps no states of ours"))
    }

    /// Does now what the policy wants done; the versions that changed.
    fn keep_policy(&mut self, _: &Ring) -> Result<Vec<KeyRef>> {
        Err(no_keystore(self.provider(), "keeps no policy of ours"))
    }

    /// The same if it is time to look again; how many versions changed. Failures go to the log.
    fn keep_policy_in_time(&mut self, _: &Ring) -> usize {
        0
    }

    /// The next rotation that the policy brings.
    fn coming_rotation(&self) -> Option<Coming> {
        None
    }

    /// Changes how the store key is wrapped. `Unsupported` where there is none.
    fn rewrap(&mut self, _: &Ring, _: Rewrap<'_>, _: Reason<'_>) -> Result<Vec<Rewrapped>> {
        Err(no_keystore(self.provider(), "wraps no store key"))
    }

    /// What [`Rewrap::Move`] would do.
    fn plan_move(&self, _: &str, _: &str) -> Result<Vec<Rewrapped>> {
        Err(no_keystore(self.provider(), "wraps no store key"))
    }
}

/// Which keys to rotate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// This one.
    One(KeyId),
    /// Every key that has an active version.
    All,
}

/// Owns the keys of this process. Shared by all its threads.
pub struct Custodian {
    shared: Arc<Shared>,
    worker: Mutex<Option<Worker>>,
}

struct Shared {
    ring: Ring,
    source: Mutex<Box<dyn KeySource>>,
    /// What `status` shows, kept by whoever had the source last.
    summary: Mutex<Summary>,
    absent: Mutex<HashSet<(KeyId, Option<KeyVersion>)>>,
    /// Where keys are asked for one at a time.
    lookups: Option<Lookups>,
    degraded: Mutex<Option<Degraded>>,
    restart: restart::Watch,
    back_off: Mutex<BackOff>,
    rotations: AtomicU64,
    chores: Vec<Chore>,
    started: Timestamp,
    role: Role,
    env: Env,
}

impl Custodian {
    /// Reads all keys and begins to serve. On failure nothing is left behind.
    pub fn start(mut source: Box<dyn KeySource>, role: Role, env: Env) -> Result<Self> {
        let ring = Ring::new();
        source.begin(role);
        source.load(&ring)?;
        Self::serving(ring, source, role, env)
    }

    /// Serves what is in `ring`. Apart from `start`: what is built here takes much of a connection's
    /// stack, which reading the keys needs for itself.
    fn serving(ring: Ring, source: Box<dyn KeySource>, role: Role, env: Env) -> Result<Self> {
        let outage = source.outage();
        let back_off = outage.as_ref().map_or_else(BackOff::default, |_| BackOff::begun(&*env.rng));
        let losses = source.losses();
        let shared = Arc::new(Shared {
            ring,
            chores: source.chores(),
            lookups: source.terms().map(Lookups::new),
            summary: Mutex::new(Summary::of(&*source)),
            degraded: Mutex::new(outage.map(|cause| Degraded { since: env.clock.now(), cause })),
            restart: restart::Watch::new(role),
            back_off: Mutex::new(back_off),
            source: Mutex::new(source),
            absent: Mutex::default(),
            rotations: AtomicU64::new(0),
            started: env.clock.now(),
            role,
            env,
        });
        if let Some(cause) = losses {
            shared.note_state(Some(cause));
        }
        let worker = match role {
            Role::Server => Some(Worker::start(Arc::downgrade(&shared))?),
            Role::Daemon | Role::Reader | Role::Command => None,
        };
        Ok(Self { shared, worker: Mutex::new(worker) })
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
    }

    /// The version of `id` that encrypts. One atomic load where the key is known.
    #[inline]
    #[must_use]
    pub fn latest(&self, id: KeyId) -> Option<KeyVersion> {
        if let Some(lookups) = &self.shared.lookups {
            return self.shared.latest_of(lookups, id);
        }
        match self.shared.ring.latest(id) {
            None => self.shared.look_again(id, None).and_then(|()| self.shared.ring.latest(id)),
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
        match self.shared.ring.get(id, version) {
            None => {
                self.shared.look_again(id, Some(version))?;
                self.shared.ring.get(id, version)
            }
            known => known,
        }
    }

    /// The cipher of a key version that is in memory; never calls out.
    #[inline]
    #[must_use]
    pub fn cipher(&self, id: KeyId, version: KeyVersion) -> Option<Cipher> {
        self.shared.ring.get(id, version).map(RingKey::cipher)
    }

    /// Reads the key source again now.
    pub fn refresh(&self) -> Result<()> {
        self.shared.refresh()
    }

    /// Gives the keys a new active version. When this returns it is on disk and in use.
    pub fn rotate(&self, which: Which, reason: Reason<'_>) -> Result<Vec<KeyRef>> {
        self.shared.may_write()?;
        self.shared.prove_restart()?;
        let mut source = self.shared.source();
        let rotated = source.rotate(&self.shared.ring, which, reason);
        self.shared.note_losses(&*source);
        drop(source);
        let rotated = rotated?;
        self.shared.rotations.fetch_add(1, Ordering::Relaxed);
        self.shared.forget_absent();
        Ok(rotated)
    }

    /// From now on, a change is made only from this generation of our own keystore; `State` where another
    /// is in force. So a change whose outcome is unknown can be called for again.
    pub fn expect_generation(&self, generation: u64) -> Result<()> {
        self.shared.source().expect_generation(generation)
    }

    /// Makes key `id`.
    pub fn create(&self, id: KeyId, cipher: Option<Cipher>, reason: Reason<'_>) -> Result<KeyRef> {
        self.shared.may_write()?;
        self.shared.prove_restart()?;
        let made = self.shared.source().create(&self.shared.ring, id, cipher, reason)?;
        self.shared.forget_absent();
        Ok(made)
    }

    /// All key versions, sorted by key and version.
    #[must_use]
    pub fn keys(&self) -> Vec<KeyInfo> {
        self.shared.source().keys()
    }

    /// The keys in memory.
    #[must_use]
    pub fn ring(&self) -> &Ring {
        &self.shared.ring
    }

    /// Whose keys they are: the id of our own keystore, or the provider that serves them.
    #[must_use]
    pub fn identity(&self) -> String {
        let source = self.shared.source();
        let id = source.contents().map(|contents| contents.id().to_owned());
        id.unwrap_or_else(|| format!("{SERVED_BY}{}", source.provider()))
    }

    /// Ends the worker and waits for it: afterwards no thread of ours is left. May be called again.
    pub fn stop(&self) {
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
    fn source(&self) -> Held<'_> {
        Held::new(&self.source, &self.summary)
    }

    fn may_write(&self) -> Result<()> {
        match self.role {
            Role::Reader => Err(Error::new(Kind::Unsupported, "this process only reads keys")
                .advise("rotate in the server, or with `keyward rotate`")),
            Role::Server | Role::Daemon | Role::Command => Ok(()),
        }
    }

    /// The way of a key that is not in the ring: one thread reads again, the others wait for it,
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
            true => Held::try_new(&self.source, &self.summary)?,
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
        if source.may_know_more() {
            let outcome = source.load(&self.ring).and_then(|()| match version {
                None if found(&self.ring).is_none() && self.may_write().is_ok() => {
                    source.make_missing(&self.ring, id)
                }
                _ => Ok(false),
            });
            self.note_outcome(outcome.as_ref().err(), &*source);
            if outcome.ok()? {
                let line = format!("key {id} was made, because the server asked for it");
                self.env.log.log(Level::Note, &line);
            }
            self.forget_absent();
        }
        let found = found(&self.ring);
        if found.is_none() {
            self.remember_absent(wanted);
        }
        found
    }

    fn refresh(&self) -> Result<()> {
        let mut source = self.source();
        let outcome = source.load(&self.ring);
        self.note_outcome(outcome.as_ref().err(), &*source);
        if outcome.is_ok() {
            self.forget_absent();
        }
        outcome
    }

    /// What the worker does again and again.
    fn refresh_if_changed(&self) {
        // What went wrong is in the log and in the status by now.
        let _ = self.refresh_changed();
    }

    /// Reads again if there may be something new.
    fn refresh_changed(&self) -> Result<()> {
        if self.source().has_changed() { self.refresh() } else { Ok(()) }
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

/// What only our own keystore can do was asked of a provider that serves keys.
fn no_keystore(provider: &str, what: &str) -> Error {
    Error::new(Kind::Unsupported, format!("provider {provider:?} serves keys: it {what}"))
        .advise("`keyward migrate` moves its keys into a keystore")
}

/// Locks even after a panic elsewhere: every change behind these mutexes is made in one step.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
