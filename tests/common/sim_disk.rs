//! A disk in memory that loses what was not synced, and that fails or dies at any step.
//!
//! What is written and renamed is there at once for everybody, as on a real machine. A power cut
//! leaves of it what was synced for certain, and of the rest what `Survival` says.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use keyward::store::{Disk, DiskFile, DiskLock, Stamp};

/// What happens at a step, counted from 0.
#[allow(dead_code, reason = "each test program uses a part of it")]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// Nothing.
    None,
    /// The machine or the process dies before the step (a write: half way).
    DieAt(usize),
    /// The step fails with this error number, once.
    FailAt(usize, i32),
    /// The step and every later one fail with this error number.
    FailFrom(usize, i32),
    /// The step, if it is a rename, is carried out and fails all the same: the answer was lost.
    LoseAnswerAt(usize),
}

/// What a power cut leaves of that which was not synced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Survival {
    /// Whether files made, renamed and removed in an unsynced folder are so.
    pub(crate) names: bool,
    /// How much of unsynced bytes is there, in percent.
    pub(crate) bytes: usize,
}

impl Survival {
    /// Every combination. Names and all bytes: as if only the process had been killed.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let names = [false, true];
        names.into_iter().flat_map(|names| [0, 50, 100].map(|bytes| Self { names, bytes }))
    }
}

#[derive(Clone, Default)]
pub(crate) struct SimDisk(Arc<Mutex<World>>);

#[derive(Clone, Default)]
struct World {
    /// Every file ever made: its bytes, and how they were at the last sync.
    files: Vec<(Vec<u8>, Vec<u8>)>,
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    locks: BTreeSet<PathBuf>,
    fate: Option<Fate>,
    steps: usize,
    dead: bool,
}

impl SimDisk {
    /// From now on, steps are counted and meet `fate`.
    pub(crate) fn meet(&self, fate: Fate) {
        let mut world = self.world();
        world.fate = Some(fate);
        world.steps = 0;
    }

    /// As if somebody had removed the lock files.
    #[allow(dead_code, reason = "each test program uses a part of it")]
    pub(crate) fn lose_locks(&self) {
        self.world().locks.clear();
    }

    /// As if the file had been found like this after a power cut.
    #[allow(dead_code, reason = "each test program uses a part of it")]
    pub(crate) fn overwrite(&self, path: &str, bytes: &[u8]) {
        let mut world = self.world();
        let file = world.find(path.as_ref()).unwrap();
        world.files[file] = (bytes.to_vec(), bytes.to_vec());
    }

    /// How many steps there were since `meet`.
    pub(crate) fn steps(&self) -> usize {
        self.world().steps
    }

    /// The disk after the process was killed: what was not synced is there, and still not synced.
    pub(crate) fn after_kill(&self) -> Self {
        let mut world = self.world().clone();
        world.locks.clear();
        (world.fate, world.dead) = (None, false);
        Self(Arc::new(Mutex::new(world)))
    }

    /// The disk after a power cut now.
    pub(crate) fn after_power_cut(&self, survival: Survival) -> Self {
        let disk = self.after_kill();
        let mut world = disk.world();
        if !survival.names {
            world.names = world.synced_names.clone();
        }
        for (bytes, synced) in &mut world.files {
            let unsynced = bytes.len().saturating_sub(synced.len());
            bytes.truncate(synced.len() + unsynced * survival.bytes / 100);
            synced.clone_from(bytes);
        }
        world.synced_names = world.names.clone();
        drop(world);
        disk
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    fn step(&self) -> io::Result<MutexGuard<'_, World>> {
        let mut world = self.world();
        let step = world.steps;
        world.steps += 1;
        match world.fate {
            _ if world.dead => Err(io::Error::other("the machine is dead")),
            Some(Fate::DieAt(at)) if at == step => {
                world.dead = true;
                Err(io::Error::other("the machine dies"))
            }
            Some(Fate::FailAt(at, error)) if at == step => Err(io::Error::from_raw_os_error(error)),
            Some(Fate::FailFrom(at, error)) if at <= step => {
                Err(io::Error::from_raw_os_error(error))
            }
            _ => Ok(world),
        }
    }
}

impl World {
    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn stamp(&self, file: usize) -> Stamp {
        let len = self.files[file].0.len() as u64;
        let mode = libc::S_IFREG | 0o600;
        Stamp { device: 1, inode: file as u64, modified: 0, len, mode, owner: 27, group: 27 }
    }
}

impl Disk for SimDisk {
    fn read(&self, path: &Path, _max: usize) -> io::Result<(Vec<u8>, Stamp)> {
        let world = self.step()?;
        let file = world.find(path)?;
        Ok((world.files[file].0.clone(), world.stamp(file)))
    }

    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        let world = self.step()?;
        if path == Path::new("/store") {
            let mode = libc::S_IFDIR | 0o700;
            return Ok(Stamp {
                device: 1,
                inode: 0,
                modified: 0,
                len: 0,
                mode,
                owner: 27,
                group: 27,
            });
        }
        Ok(world.stamp(world.find(path)?))
    }

    fn create(&self, path: &Path, mode: u32, owner: (u32, u32)) -> io::Result<Box<dyn DiskFile>> {
        assert_eq!((mode & 0o137, owner), (0, (27, 27)));
        let mut world = self.step()?;
        if world.find(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        world.files.push(Default::default());
        let file = world.files.len() - 1;
        world.names.insert(path.to_owned(), file);
        Ok(Box::new(SimFile { disk: self.clone(), file }))
    }

    fn open_end(&self, path: &Path, stamp: &Stamp) -> io::Result<Box<dyn DiskFile>> {
        let world = self.step()?;
        let file = world.find(path)?;
        match world.stamp(file) == *stamp {
            true => Ok(Box::new(SimFile { disk: self.clone(), file })),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        let file = self.step()?.find(path)?;
        let mut world = self.world();
        let (bytes, synced) = &mut world.files[file];
        synced.clone_from(bytes);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.step()?;
        let file = world.find(from)?;
        world.names.remove(from);
        world.names.insert(to.to_owned(), file);
        match world.fate {
            Some(Fate::LoseAnswerAt(at)) if at + 1 == world.steps => {
                Err(io::Error::from_raw_os_error(libc::EIO))
            }
            _ => Ok(()),
        }
    }

    fn sync_folder(&self, _folder: &Path) -> io::Result<()> {
        let mut world = self.step()?;
        world.synced_names = world.names.clone();
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let world = self.step()?;
        let names = world.names.keys().filter_map(|path| path.strip_prefix(folder).ok());
        Ok(names.map(|name| name.display().to_string()).collect())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.step()?;
        world.find(path)?;
        world.names.remove(path);
        Ok(())
    }

    fn try_lock(&self, path: &Path, _owner: (u32, u32)) -> io::Result<Option<Box<dyn DiskLock>>> {
        let mut world = self.step()?;
        let lock = SimLock { disk: self.clone(), path: path.to_owned() };
        match world.locks.insert(path.to_owned()) {
            true => Ok(Some(Box::new(lock))),
            false => {
                drop(world);
                std::mem::forget(lock);
                Ok(None)
            }
        }
    }

    fn user(&self) -> u32 {
        27
    }
}

struct SimFile {
    disk: SimDisk,
    file: usize,
}

impl Write for SimFile {
    /// Takes a part of the bytes at a time, as a disk may.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = bytes.len().min(1000);
        let written = self.disk.step().map(drop);
        let taken = if written.is_ok() { part } else { part / 2 };
        self.disk.world().files[self.file].0.extend_from_slice(&bytes[..taken]);
        written.map(|()| taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn sync(&mut self) -> io::Result<()> {
        let mut world = self.disk.step()?;
        let (bytes, synced) = &mut world.files[self.file];
        synced.clone_from(bytes);
        Ok(())
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        let mut world = self.disk.step()?;
        world.files[self.file].0.truncate(len.try_into().unwrap());
        Ok(())
    }
}

struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl DiskLock for SimLock {
    fn still_holds(&self) -> io::Result<bool> {
        self.disk.step().map(|world| world.locks.contains(&self.path))
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.disk.sync_folder(Path::new("/store"))
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.world().locks.remove(&self.path);
    }
}
