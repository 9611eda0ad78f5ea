//! A keystore file that is written where another one may be: that one is set aside, never
//! overwritten.

#![forbid(unsafe_code)]

use std::io;
use std::path::{Path, PathBuf};

use super::{MAX_LEN, MODE, StoreFile, StoreLock};
use crate::env::Rng;
use crate::error::{Error, Kind, Result};
use crate::store::witness::Witness;
use crate::store::{Keystore, Sealed};

/// How many files can be set aside on one day.
const MOST_A_DAY: u32 = 1000;

impl StoreFile {
    /// Writes `keystore` as the next generation, though the file is another or none. Before it takes its
    /// place, what was written is read back, and `prove` must agree. A file that is there gets
    /// the name `NAME.before-rescue-DAY-N`, which no file had: where it is now, if there was one. On
    /// failure all is as it was, except that `Unknown` is a change that a power cut may undo.
    pub fn write_aside(
        &self,
        lock: &StoreLock,
        keystore: &Keystore,
        day: &str,
        prove: impl FnOnce(Sealed) -> Result<()>,
        rng: &dyn Rng,
    ) -> Result<Option<PathBuf>> {
        if lock.path != self.path {
            return Err(Error::new(Kind::Internal, "the lock is another keystore's"));
        }
        let folder = self.check_folder()?;
        self.remove_leftovers()?;
        let next = keystore.next_generation();
        let bytes = next.to_bytes()?;
        let temporary = self.temporary(rng)?;
        let written = self
            .write(&temporary, &bytes, MODE, (folder.owner, folder.group))
            .and_then(|()| self.disk.read(&temporary, MAX_LEN))
            .map_err(|cause| self.failed("cannot write", &cause))
            .and_then(|(read, _)| prove(Sealed::parse(&read)?))
            .and_then(|()| self.set_aside(day));
        let placed = written.and_then(|former| {
            let placed = match &former {
                // It is still there as well: at no moment is there nothing.
                Some(Former::Linked(_)) => self.disk.rename(&temporary, &self.path),
                Some(Former::Renamed(_)) | None => self.disk.rename_new(&temporary, &self.path),
            };
            match placed {
                Ok(()) => Ok(former.map(Former::name)),
                Err(cause) => Err(self.put_back(former, &cause)),
            }
        });
        let aside = placed.inspect_err(|_| {
            // It goes with the next commit if it does not go now.
            let _ = self.disk.remove(&temporary);
        })?;
        match self.disk.sync_folder(self.folder()) {
            Ok(()) => Ok(aside),
            Err(cause) => {
                Err(self.unknown(&next, "was written, but a power cut may undo it", &cause))
            }
        }
    }

    /// Lets `keystore` be the next here though the rollback guard is another's: leaves its own guard beside that
    /// one. So a crash before [`Self::take_over`] leaves none that is refused. Under the lock only.
    pub fn announce(&self, keystore: &Keystore, rng: &dyn Rng) -> Result<()> {
        let id = keystore.contents().id();
        let others = self.read_witness(&self.guard_path()).ok().flatten();
        let Some(own) = self.aside(id).filter(|_| others.is_some_and(|one| one.keystore != id))
        else {
            return Ok(());
        };
        let folder = self.check_folder()?;
        let bytes = Witness::of(keystore)?.to_bytes()?;
        let temporary = self.temporary(rng)?;
        self.write(&temporary, &bytes, MODE, (folder.owner, folder.group))
            .and_then(|()| self.disk.rename(&temporary, &own))
            .and_then(|()| self.disk.sync_folder(self.folder()))
            .map_err(|cause| {
                // It goes with the next commit if it does not go now.
                let _ = self.disk.remove(&temporary);
                Error::io("cannot write", &own, &cause)
            })
    }

    /// Writes the witness of `keystore`, which has taken its place. Under the lock only.
    pub fn take_over(&self, keystore: &Keystore, rng: &dyn Rng) -> Result<()> {
        self.write_witness(keystore, rng)?;
        match self.aside(keystore.contents().id()).map(|own| self.disk.remove(&own)) {
            Some(Err(cause)) if cause.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("cannot remove the former guard beside", &self.path, &cause))
            }
            _ => Ok(()),
        }
    }

    /// Gives what is at the keystore's path a name that nothing has; nothing where there is nothing.
    fn set_aside(&self, day: &str) -> Result<Option<Former>> {
        for n in 1..=MOST_A_DAY {
            let aside = self.beside(&format!(".before-rescue-{day}-{n}"));
            let named = match self.disk.link(&self.path, &aside) {
                Err(none) if none.kind() == io::ErrorKind::Unsupported => {
                    self.disk.rename_new(&self.path, &aside).map(|()| Former::Renamed(aside))
                }
                linked => linked.map(|()| Former::Linked(aside)),
            };
            match named {
                Ok(former) => return Ok(Some(former)),
                Err(none) if none.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => {}
                Err(cause) => return Err(Error::io("cannot set aside", &self.path, &cause)),
            }
        }
        let what = format!("{} was set aside {MOST_A_DAY} times today", self.path.display());
        Err(Error::new(Kind::State, what).advise("move those files away"))
    }

    /// The error that the new file could not take its place; the former one is back if it can be.
    fn put_back(&self, former: Option<Former>, cause: &io::Error) -> Error {
        let failed = self.failed("cannot write", cause);
        match former {
            Some(Former::Linked(aside)) if self.is_one(&aside) => {
                let _ = self.disk.remove(&aside);
                failed
            }
            Some(Former::Renamed(aside)) if self.disk.rename_new(&aside, &self.path).is_ok() => {
                failed
            }
            Some(former) => {
                failed.advise(format!("the file that was there is {} now", former.name().display()))
            }
            None => failed,
        }
    }

    /// Whether what is at the keystore's path and at `aside` is one file.
    fn is_one(&self, aside: &Path) -> bool {
        let [here, there] = [&self.path, aside].map(|path| self.disk.stamp(path).ok());
        here.is_some() && here == there
    }
}

/// What was at the keystore's path.
enum Former {
    /// It has another name besides.
    Linked(PathBuf),
    /// It has another name instead.
    Renamed(PathBuf),
}

impl Former {
    fn name(self) -> PathBuf {
        match self {
            Self::Linked(name) | Self::Renamed(name) => name,
        }
    }
}
