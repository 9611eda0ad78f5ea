//! The stage: a simulated disk that all processes of a sequence share, with something to happen at one
//! of the calls, and key stores that cannot fail.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward::env::Deadline;
use keyward::provider::{KekInfo, KeyWrapper, Probe, WrapContext, WrappedKey};
use keyward::secret::DataKey;
use keyward::source::NamedWrapper;
use keyward::store::{Disk, DiskFile, DiskLock, Stamp};
use keyward::{Error, Kind, Result};

use crate::sim_disk::SimDisk;

/// The folder on the simulated disk.
const THERE: &str = "/store";

/// The locks of all processes. A lock file that somebody removes is one that nobody holds.
pub(crate) type Locks = Arc<Mutex<BTreeSet<u64>>>;

/// What happens at the n-th call of the disk, counted from 0.
type Hook = Option<(usize, Box<dyn FnOnce() + Send>)>;

/// The disk as one process has it: the simulated one in the place of `folder`.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) disk: SimDisk,
    folder: PathBuf,
    locks: Locks,
    hook: Arc<Mutex<Hook>>,
}

impl Stage {
    pub(crate) fn new(disk: SimDisk, folder: &Path, locks: &Locks) -> Self {
        let (folder, locks) = (folder.to_owned(), Arc::clone(locks));
        Self { disk, folder, locks, hook: Arc::default() }
    }

    /// Has `what` happen at call `at` of this process from now on.
    pub(crate) fn at(&self, at: usize, what: impl FnOnce() + Send + 'static) {
        *self.hook.lock().unwrap() = Some((at, Box::new(what)));
    }

    /// Takes out what has not happened.
    pub(crate) fn calm(&self) {
        *self.hook.lock().unwrap() = None;
    }

    fn step(&self) {
        let mut hook = self.hook.lock().unwrap();
        let happens = match hook.as_mut() {
            Some((0, _)) => hook.take(),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        // Not under the lock: what happens calls the disk itself.
        drop(hook);
        if let Some((_, what)) = happens {
            what();
        }
    }

    fn there(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.folder) {
            Ok(rest) if rest.as_os_str().is_empty() => THERE.into(),
            Ok(rest) => Path::new(THERE).join(rest),
            Err(_) => path.to_owned(),
        }
    }
}

impl Disk for Stage {
    fn read(&self, path: &Path, max: usize) -> io::Result<(Vec<u8>, Stamp)> {
        self.step();
        self.disk.read(&self.there(path), max)
    }

    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        self.step();
        self.disk.stamp(&self.there(path))
    }

    fn create(&self, path: &Path, mode: u32, owner: (u32, u32)) -> io::Result<Box<dyn DiskFile>> {
        self.step();
        self.disk.create(&self.there(path), mode, owner)
    }

    fn open_end(&self, path: &Path, stamp: &Stamp) -> io::Result<Box<dyn DiskFile>> {
        self.step();
        self.disk.open_end(&self.there(path), stamp)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.step();
        self.disk.sync_file(&self.there(path))
    }

    /// Nothing happens at it: what keeps a lock looks at it right before.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(&self.there(from), &self.there(to))
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.step();
        self.disk.sync_folder(&self.there(folder))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.step();
        self.disk.list(&self.there(folder))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step();
        self.disk.remove(&self.there(path))
    }

    fn try_lock(&self, _: &Path, _: (u32, u32)) -> io::Result<Option<Box<dyn DiskLock>>> {
        self.step();
        let mut locks = self.locks.lock().unwrap();
        if !locks.is_empty() {
            return Ok(None);
        }
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        locks.insert(number);
        drop(locks);
        Ok(Some(Box::new(Lock { stage: self.clone(), number })))
    }

    fn user(&self) -> u32 {
        self.disk.user()
    }
}

/// Each lock is one of its own, though all are of one file.
static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

struct Lock {
    stage: Stage,
    number: u64,
}

impl DiskLock for Lock {
    fn still_holds(&self) -> io::Result<bool> {
        self.stage.step();
        Ok(self.stage.locks.lock().unwrap().contains(&self.number))
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.stage.disk.sync_folder(Path::new(THERE))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.stage.locks.lock().unwrap().remove(&self.number);
    }
}

/// "Wraps" by putting the context before the key.
pub(crate) struct Plain;

pub(crate) fn wrapper() -> NamedWrapper {
    let (name, timeout) = ("plain".to_owned(), Duration::from_secs(60));
    NamedWrapper { name, timeout, wrapper: Box::new(Plain) }
}

impl KeyWrapper for Plain {
    fn wrap(&self, data: &DataKey, context: &WrapContext, _: Deadline) -> Result<WrappedKey> {
        let mut blob = context.to_bytes();
        blob.extend(data.expose());
        let (kek, algorithm) = ("plain".to_owned(), "none".to_owned());
        Ok(WrappedKey { kek, algorithm, parameters: Default::default(), blob })
    }

    fn unwrap(&self, wrapped: &WrappedKey, context: &WrapContext, _: Deadline) -> Result<DataKey> {
        match wrapped.blob.strip_prefix(context.to_bytes().as_slice()) {
            Some(data) => DataKey::copy_of(data),
            None => Err(Error::new(Kind::Corrupt, "another context")),
        }
    }

    fn rewrap(
        &self,
        wrapped: &WrappedKey,
        context: &WrapContext,
        by: Deadline,
    ) -> Result<WrappedKey> {
        self.wrap(&self.unwrap(wrapped, context, by)?, context, by)
    }

    fn describe(&self, _: Deadline) -> Result<KekInfo> {
        Err(Error::new(Kind::Unsupported, "nothing to tell"))
    }

    fn probe(&self, _: Deadline) -> Result<Probe> {
        Ok(Probe::default())
    }
}
