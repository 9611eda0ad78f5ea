//! The source of this process's keys, which one thread has at a time.

#![forbid(unsafe_code)]

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use super::status::Summary;
use super::{Shared, lock};
use crate::manager::Manager;
use crate::policy::NextRotation;
use crate::source::{KeySource, LookupOptions, LookupSource, ServedSource};
use crate::store::Contents;

/// Where the keys of this process come from.
pub enum Source {
    /// A keystore of ours.
    Keystore(Mutex<Manager>),
    /// A key store that lists and serves them.
    Served(Mutex<ServedSource>),
    /// A key store that is asked for each of them.
    LookedUp(Mutex<LookupSource>),
}

impl From<Manager> for Source {
    fn from(manager: Manager) -> Self {
        Self::Keystore(Mutex::new(manager))
    }
}

impl From<ServedSource> for Source {
    fn from(source: ServedSource) -> Self {
        Self::Served(Mutex::new(source))
    }
}

impl From<LookupSource> for Source {
    fn from(source: LookupSource) -> Self {
        Self::LookedUp(Mutex::new(source))
    }
}

/// The source while one thread has it.
pub(super) enum Guard<'a> {
    Keystore(MutexGuard<'a, Manager>),
    Served(MutexGuard<'a, ServedSource>),
    LookedUp(MutexGuard<'a, LookupSource>),
}

impl Source {
    pub(super) fn lock(&self) -> Guard<'_> {
        match self {
            Self::Keystore(manager) => Guard::Keystore(lock(manager)),
            Self::Served(source) => Guard::Served(lock(source)),
            Self::LookedUp(source) => Guard::LookedUp(lock(source)),
        }
    }

    /// The same if no other thread has it just now.
    fn try_lock(&self) -> Option<Guard<'_>> {
        Some(match self {
            Self::Keystore(manager) => Guard::Keystore(try_lock(manager)?),
            Self::Served(source) => Guard::Served(try_lock(source)?),
            Self::LookedUp(source) => Guard::LookedUp(try_lock(source)?),
        })
    }
}

impl Guard<'_> {
    /// What our own keystore holds; nothing where a key store serves the keys.
    pub(super) fn contents(&self) -> Option<&Contents> {
        match self {
            Self::Keystore(manager) => manager.contents(),
            Self::Served(_) | Self::LookedUp(_) => None,
        }
    }

    /// How keys are asked for one at a time; nothing where all are read together.
    pub(super) fn lookup_options(&self) -> Option<Arc<LookupOptions>> {
        match self {
            Self::LookedUp(source) => Some(source.options()),
            Self::Keystore(_) | Self::Served(_) => None,
        }
    }

    /// The next rotation that the policy brings.
    pub(super) fn next_rotation(&self) -> Option<NextRotation> {
        match self {
            Self::Keystore(manager) => manager.next_rotation(),
            Self::Served(_) | Self::LookedUp(_) => None,
        }
    }
}

impl<'a> Deref for Guard<'a> {
    type Target = dyn KeySource + 'a;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Keystore(manager) => &**manager,
            Self::Served(source) => &**source,
            Self::LookedUp(source) => &**source,
        }
    }
}

impl DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::Keystore(manager) => &mut **manager,
            Self::Served(source) => &mut **source,
            Self::LookedUp(source) => &mut **source,
        }
    }
}

/// The source while one thread has it. When that lets go, the status is as the source is.
pub(super) struct Held<'a> {
    guard: Guard<'a>,
    summary: &'a Mutex<Summary>,
}

impl Shared {
    pub(super) fn source(&self) -> Held<'_> {
        Held { guard: self.source.lock(), summary: &self.summary }
    }

    /// The same if no other thread has it just now.
    pub(super) fn try_source(&self) -> Option<Held<'_>> {
        Some(Held { guard: self.source.try_lock()?, summary: &self.summary })
    }
}

impl<'a> Deref for Held<'a> {
    type Target = Guard<'a>;

    fn deref(&self) -> &Self::Target {
        &self.guard
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.guard
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        lock(self.summary).follow(&*self.guard, || self.guard.next_rotation());
    }
}

/// The manager of our own keystore while one thread has it.
pub struct ManagerGuard<'a> {
    manager: MutexGuard<'a, Manager>,
    shared: &'a Shared,
}

impl Shared {
    /// The manager of our own keystore, if the keys come from one.
    pub(super) fn manager(&self) -> Option<ManagerGuard<'_>> {
        match &self.source {
            Source::Keystore(manager) => {
                Some(ManagerGuard { manager: lock(manager), shared: self })
            }
            Source::Served(_) | Source::LookedUp(_) => None,
        }
    }
}

impl Deref for ManagerGuard<'_> {
    type Target = Manager;

    fn deref(&self) -> &Self::Target {
        &self.manager
    }
}

impl DerefMut for ManagerGuard<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.manager
    }
}

impl Drop for ManagerGuard<'_> {
    fn drop(&mut self) {
        let next_rotation = || self.manager.next_rotation();
        if lock(&self.shared.summary).follow(&*self.manager, next_rotation) {
            self.shared.forget_absent();
        }
    }
}

fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poison)) => Some(poison.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}
