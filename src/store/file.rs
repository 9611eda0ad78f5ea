//! The keystore file on disk: read, lock, and the commit that replaces it in one step or not at all.

#![forbid(unsafe_code)]

mod aside;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::disk::{Disk, DiskLock, OsDisk, Stamp};
use super::witness::{self, Proof, Witness};
use super::{Keystore, Revision, Sealed, lines};
use crate::env::{Deadline, Rng};
use crate::error::{Error, Kind, Result, io_cause};
use crate::trust;

/// No keystore is longer, in bytes: 100,000 keys with ten versions each have a third of it.
const MAX_LEN: usize = 1 << 30;

/// How much of its beginning and its end is read to see which it is, in bytes: five short lines, and one
/// with a change of some keys, or with a change of many.
const ENDS_LEN: [usize; 2] = [16 << 10, 1 << 20];

/// From which length on, in bytes, a commit adds a line to a keystore: that of some 300 keys. A shorter
/// one is rewritten as fast, and stays one JSON document.
const LINES_FROM: usize = 128 << 10;

/// How often a lock is asked for again while somebody else has it. Nobody is next in line: whoever asks
/// more often waits less.
const LOCK_POLL: Duration = Duration::from_millis(5);

/// How the witness's name goes on after the keystore's.
const WITNESS: &str = ".witness";

/// The permissions of a new keystore.
const MODE: u32 = 0o600;

/// A keystore file, there or not yet.
#[derive(Clone)]
pub struct StoreFile {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    lines_from: usize,
}

/// A keystore's file before a commit.
struct Before {
    stamp: Stamp,
    /// Its last bytes.
    end: Vec<u8>,
}

/// The right to commit: nobody else, in this process or another, has it at the same time.
pub struct StoreLock {
    path: PathBuf,
    held: Box<dyn DiskLock>,
}

/// What the rollback guard next to a keystore says. A commit writes it after the keystore: read before
/// the keystore, it is never newer than that.
pub struct Guard(Result<Option<Witness>>);

impl Guard {
    /// The highest epoch that lost generations of `keystore` may have used. A guard that is missing or
    /// proves nothing cannot tell; then it is the keystore's epoch plus a random number, so that two
    /// losses rarely come to the same one.
    pub fn epoch_to_pass(&self, keystore: &Keystore, rng: &dyn Rng) -> Result<u64> {
        let witness = self.0.as_ref().ok().and_then(Option::as_ref);
        if let Some(epoch) = witness.and_then(|witness| witness.proven_epoch(keystore)) {
            return Ok(epoch);
        }
        let mut random = [0; 2];
        rng.fill(&mut random)?;
        let jump = 1 + u64::from(u16::from_le_bytes(random));
        Ok(keystore.contents().epoch().saturating_add(jump))
    }
}

/// The result of a check by a rollback guard that found no rollback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarding {
    /// It is of this generation.
    Current,
    /// It is of an earlier generation, or of a keystore that was here in between.
    Behind,
    /// It was made in format 1, by a store key that is gone: nobody can verify it.
    Unverifiable,
    /// There is none.
    Missing,
}

impl StoreFile {
    /// The keystore at `path`.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self::on(path, Arc::new(OsDisk))
    }

    /// The keystore at `path` of another file system than the machine's.
    #[must_use]
    pub fn on(path: impl Into<PathBuf>, disk: Arc<dyn Disk>) -> Self {
        Self { path: path.into(), disk, lines_from: LINES_FROM }
    }

    /// The same, where commits add lines from that length on, in bytes.
    #[must_use]
    pub fn with_lines_from(self, len: usize) -> Self {
        Self { lines_from: len, ..self }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where its rollback guard is.
    #[must_use]
    pub fn guard_path(&self) -> PathBuf {
        self.beside(WITNESS)
    }

    /// What tells whether the file is still the one that was read; `NotFound` where there is none.
    pub fn stamp(&self) -> Result<Stamp> {
        self.disk.stamp(&self.path).map_err(|cause| self.failed("cannot look at", &cause))
    }

    /// Reads the file as it is, and makes sure that it stays: a generation whose writer died before
    /// it synced them must not be used, and then be gone after a power cut.
    pub fn read(&self) -> Result<(Sealed, Stamp)> {
        self.check_folder()?;
        let (bytes, stamp) = self.read_bytes()?;
        let sealed = Sealed::parse(&bytes).map_err(|bad| bad.within(self.path.display()))?;
        let synced = match sealed.has_lines() {
            true => self.disk.sync_file(&self.path),
            false => Ok(()),
        };
        match synced.and_then(|()| self.disk.sync_folder(self.folder())) {
            // Whoever may not sync, or on a disk that cannot, has only others' commits to trust.
            Err(cause) if !is_refusal(&cause) => Err(self.failed("cannot sync", &cause)),
            _ => Ok((sealed, stamp)),
        }
    }

    /// Waits for the lock until `by`.
    pub fn lock(&self, by: Deadline) -> Result<StoreLock> {
        let folder = self.check_folder()?;
        let path = self.beside(".lock");
        loop {
            let held = self
                .disk
                .try_lock(&path, (folder.owner, folder.group))
                .map_err(|cause| Error::io("cannot lock", &path, &cause))?;
            if let Some(held) = held {
                return Ok(StoreLock { path: self.path.clone(), held });
            }
            let left = by.left(format!("{} is locked by another process", path.display()))?;
            std::thread::sleep(left.min(LOCK_POLL));
        }
    }

    /// Writes `changed` as the next generation; returns it, and its file's stamp. `Conflict` where the
    /// file is not of the generation that `changed` was made from (0: where there is a file).
    /// `Unknown` where it was written, or may have been, and a power cut may undo it. After any other
    /// error nothing was changed.
    pub fn commit(
        &self,
        lock: &StoreLock,
        changed: &Keystore,
        rng: &dyn Rng,
    ) -> Result<(Keystore, Stamp)> {
        if lock.path != self.path {
            return Err(Error::new(Kind::Internal, "the lock is another keystore's"));
        }
        let folder = self.check_folder()?;
        self.remove_leftovers()?;
        let before = self.check_base(changed)?;
        let next = changed.upgraded(rng)?.next_generation();
        let added = self.add_line(lock, before.as_ref(), &next)?;
        let (next, stamp) = match added {
            Some(added) => added,
            None => {
                let mode = before.map_or(MODE, |before| before.stamp.mode & 0o640);
                self.replace(lock, next, mode, &folder, rng)?
            }
        };
        match lock.held.sync_folder() {
            Ok(()) => Ok((next, stamp)),
            Err(cause) => {
                Err(self.unknown(&next, "was written, but a power cut may undo it", &cause))
            }
        }
    }

    /// Writes the next generation as a line behind the file, where that does. None where the file has to
    /// be written whole, be it that the disk did not take the line.
    fn add_line(
        &self,
        lock: &StoreLock,
        before: Option<&Before>,
        next: &Keystore,
    ) -> Result<Option<(Keystore, Stamp)>> {
        let is_there = |before: &&Before| next.is_in(before.stamp.len, &before.end);
        let Some(Before { stamp, .. }) = before.filter(is_there) else { return Ok(None) };
        let Some((line, next)) = next.as_line(self.lines_from)? else { return Ok(None) };
        self.check_held(lock)?;
        let Ok(mut file) = self.disk.open_end(&self.path, stamp) else { return Ok(None) };
        let written = file.write_all(&line).and_then(|()| file.sync());
        match written.and_then(|()| self.disk.stamp(&self.path)) {
            Ok(now) if (now.device, now.inode) == (stamp.device, stamp.inode) => {
                Ok(Some((next, now)))
            }
            Ok(_) => {
                let what = format!("{} was replaced meanwhile", self.path.display());
                Err(Error::new(Kind::Conflict, what).advise("nothing was changed: try again"))
            }
            // What is not there for certain must not be gone on from.
            Err(cause) => match file.cut(stamp.len) {
                Ok(()) => Ok(None),
                Err(_) => Err(self.unknown(&next, "may have been written", &cause)),
            },
        }
    }

    /// Writes the next generation as a file of its own in the place of the former one.
    fn replace(
        &self,
        lock: &StoreLock,
        next: Keystore,
        mode: u32,
        folder: &Stamp,
        rng: &dyn Rng,
    ) -> Result<(Keystore, Stamp)> {
        let (bytes, next) = next.into_document()?;
        let temporary = self.temporary(rng)?;
        let prepared = self
            .write(&temporary, &bytes, mode, (folder.owner, folder.group))
            .and_then(|()| self.disk.stamp(&temporary))
            .map_err(|cause| self.failed("cannot write", &cause).advise("nothing was changed"))
            .and_then(|stamp| self.check_held(lock).map(|()| stamp));
        let stamp = prepared.inspect_err(|_| {
            // It goes with the next commit if it does not go now.
            let _ = self.disk.remove(&temporary);
        })?;
        self.put_in_place(&temporary, &stamp, &next)?;
        Ok((next, stamp))
    }

    /// The rename. On a file system of another machine it may have happened though it failed.
    fn put_in_place(&self, temporary: &Path, stamp: &Stamp, next: &Keystore) -> Result<()> {
        let Err(cause) = self.disk.rename(temporary, &self.path) else { return Ok(()) };
        let is_new = |now: &Stamp| (now.device, now.inode) == (stamp.device, stamp.inode);
        match self.disk.stamp(&self.path) {
            Ok(now) if is_new(&now) => return Ok(()),
            Err(unseen) if unseen.kind() != io::ErrorKind::NotFound => {
                return Err(self.unknown(next, "may have been written", &cause));
            }
            _ => {}
        }
        let _ = self.disk.remove(temporary);
        Err(self.failed("cannot write", &cause).advise("nothing was changed"))
    }

    fn check_held(&self, lock: &StoreLock) -> Result<()> {
        let path = self.beside(".lock");
        match lock.held.still_holds() {
            Ok(true) => Ok(()),
            Ok(false) => {
                let what =
                    format!("{} was removed or replaced while it was locked", path.display());
                Err(Error::new(Kind::Conflict, what).advise("nothing was changed: try again"))
            }
            Err(cause) => {
                Err(Error::io("cannot look at", &path, &cause).advise("nothing was changed"))
            }
        }
    }

    /// The third outcome of a commit, neither done for certain nor undone.
    fn unknown(&self, next: &Keystore, outcome: &str, cause: &io::Error) -> Error {
        let revision = next.contents().revision();
        let path = self.path.display();
        let what = format!("{path}: {revision} {outcome}: {}", io_cause(cause));
        Error::new(Kind::Unknown, what).advise(format!(
            "check the disk, then run `keyward status`: if it shows {revision} or later, \
             do not repeat the change"
        ))
    }

    /// Removes the keystore's file after its keys were moved elsewhere: the next commit is a first one.
    pub fn discard(&self, lock: &StoreLock) -> Result<()> {
        if lock.path != self.path {
            return Err(Error::new(Kind::Internal, "the lock is another keystore's"));
        }
        self.check_folder()?;
        self.disk
            .remove(&self.path)
            .and_then(|()| self.disk.sync_folder(self.folder()))
            .map_err(|cause| self.failed("cannot remove", &cause))
    }

    /// What the rollback guard says. To be read before the keystore that it guards, or under the lock.
    #[must_use]
    pub fn guard(&self) -> Guard {
        Guard(self.read_witness(&self.guard_path()))
    }

    /// Checks by `guard` that nothing newer than `keystore`, and no other, was in force here before.
    /// `State` or `Corrupt` where it speaks against the keystore. A replaced keystore may be put
    /// back: its own guard was set aside when it was replaced.
    pub fn check_guard(&self, guard: Guard, keystore: &Keystore) -> Result<Guarding> {
        let Some(witness) = guard.0? else { return Ok(Guarding::Missing) };
        let id = keystore.contents().id();
        if witness.keystore != id
            && let Some(aside) = self.aside(id)
            && let Some(own) = self.read_witness(&aside)?
        {
            own.check(keystore).map_err(|error| error.within(aside.display()))?;
            return Ok(Guarding::Behind);
        }
        let path = self.guard_path();
        let proof = witness.check(keystore).map_err(|error| error.within(path.display()))?;
        Ok(match (proof, witness.is_behind(keystore)) {
            (Proof::Unverifiable, _) => Guarding::Unverifiable,
            (Proof::Verified, true) => Guarding::Behind,
            (Proof::Verified, false) => Guarding::Current,
        })
    }

    /// Writes the witness of `keystore`, whatever it said before; one of another keystore is set
    /// aside. Under the lock only.
    pub fn write_witness(&self, keystore: &Keystore, rng: &dyn Rng) -> Result<()> {
        let folder = self.check_folder()?;
        let path = self.guard_path();
        let bytes = Witness::of(keystore)?.to_bytes()?;
        let temporary = self.temporary(rng)?;
        self.write(&temporary, &bytes, MODE, (folder.owner, folder.group))
            .and_then(|()| match self.read_witness(&path) {
                Ok(Some(other)) if other.keystore != keystore.contents().id() => {
                    self.aside(&other.keystore).map_or(Ok(()), |to| self.disk.rename(&path, &to))
                }
                _ => Ok(()),
            })
            .and_then(|()| self.disk.rename(&temporary, &path))
            .and_then(|()| self.disk.sync_folder(self.folder()))
            .map_err(|cause| {
                // It goes with the next commit if it does not go now.
                let _ = self.disk.remove(&temporary);
                Error::io("cannot write", &path, &cause)
            })
    }

    /// The witness at `path`, if there is one.
    fn read_witness(&self, path: &Path) -> Result<Option<Witness>> {
        let bytes = match self.disk.read(path, witness::MAX_LEN) {
            Ok((bytes, stamp)) => {
                self.check_owner(path, &stamp)?;
                bytes
            }
            Err(none) if none.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(Error::io("cannot read", path, &cause)),
        };
        Witness::parse(&bytes).map(Some).map_err(|error| error.within(path.display()))
    }

    /// Where the witness of keystore `id` is while another is in its place; nowhere for what is no
    /// id, since it becomes part of a path.
    fn aside(&self, id: &str) -> Option<PathBuf> {
        let is_id = id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        (is_id && !id.is_empty()).then(|| self.beside(&format!("{WITNESS}.{id}")))
    }

    /// The file beside the keystore with `ending` after its name.
    fn beside(&self, ending: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(ending);
        path.into()
    }

    fn write(&self, path: &Path, bytes: &[u8], mode: u32, owner: (u32, u32)) -> io::Result<()> {
        let mut file = self.disk.create(path, mode, owner)?;
        file.write_all(bytes)?;
        file.sync()
    }

    /// Checks that the file is what `changed` was made from; for a first commit, that there is none.
    fn check_base(&self, changed: &Keystore) -> Result<Option<Before>> {
        let base = changed.contents();
        let conflict = |what: String| {
            let advice = "somebody else changed it: read it again";
            Err(Error::new(Kind::Conflict, format!("{}: {what}", self.path.display()))
                .advise(advice))
        };
        let (found, before) = match self.peek() {
            Ok(read) => read,
            Err(none) if none.kind() == Kind::NotFound && base.generation() == 0 => {
                return Ok(None);
            }
            Err(bad) => return Err(bad),
        };
        if base.generation() == 0 {
            return conflict("there is a keystore already".to_owned());
        }
        let (id, is) = found.map_err(|bad| bad.within(self.path.display()))?;
        if id != base.id() {
            return conflict(format!("it is keystore {id} now, not {}", base.id()));
        }
        if is != changed.base() {
            return conflict(format!("it is of {is} now, not {}", changed.base()));
        }
        Ok(Some(before))
    }

    /// The id and revision of the file as it is.
    fn peek(&self) -> Result<(Result<(String, Revision)>, Before)> {
        let failed = |cause| self.failed("cannot read", &cause);
        for len in ENDS_LEN {
            let (ends, stamp) = self.disk.read_ends(&self.path, len).map_err(failed)?;
            self.check_stamp(&stamp)?;
            if let Some(found) = lines::peek_ends(&ends.beginning, &ends.end) {
                return Ok((found, Before { stamp, end: ends.end }));
            }
        }
        let (bytes, stamp) = self.read_bytes()?;
        Ok((lines::peek(&bytes), Before { stamp, end: bytes }))
    }

    fn read_bytes(&self) -> Result<(Vec<u8>, Stamp)> {
        let (bytes, stamp) = self
            .disk
            .read(&self.path, MAX_LEN)
            .map_err(|cause| self.failed("cannot read", &cause))?;
        self.check_stamp(&stamp)?;
        Ok((bytes, stamp))
    }

    fn check_stamp(&self, stamp: &Stamp) -> Result<()> {
        self.check_owner(&self.path, stamp)?;
        self.check_closed(stamp)
    }

    /// Whoever may write the folder can replace the keystore.
    fn check_folder(&self) -> Result<Stamp> {
        let folder = self.folder();
        let stamp = self
            .disk
            .stamp(folder)
            .map_err(|cause| trust::unread("cannot look at the folder", folder, &cause))?;
        self.check_owner(folder, &stamp)?;
        Ok(stamp)
    }

    /// Checks that not everybody reads it: a group may, for backups, or its folder is closed to others.
    fn check_closed(&self, stamp: &Stamp) -> Result<()> {
        let folder = self.disk.stamp(self.folder());
        if !stamp.is_open() || folder.is_ok_and(|folder| !folder.is_open()) {
            return Ok(());
        }
        let what = format!("{} can be read by everybody", self.path.display());
        let advice = format!("run chmod o-r {}; its group may read it", self.path.display());
        Err(Error::new(Kind::Config, what).advise(advice))
    }

    /// Trusts what belongs to root or the account that we work for, and to nobody else to write.
    fn check_owner(&self, path: &Path, stamp: &Stamp) -> Result<()> {
        let refused = |what: &str, advice: String| {
            let what = format!("{} {what}", path.display());
            Err(Error::new(Kind::Config, what).advise(advice))
        };
        if stamp.others_write() {
            let advice = format!("run chmod go-w {}", path.display());
            return refused("can be written by others than its owner", advice);
        }
        let user = self.disk.user();
        if stamp.owner != 0 && stamp.owner != user {
            let advice = match user {
                0 => "run the command as that user, or name its account with --user".to_owned(),
                _ => format!(
                    "run the command as root, or as user {}; if the server itself runs as user {user}, \
                     run chown {user} on it",
                    stamp.owner
                ),
            };
            return refused(&format!("belongs to user {}", stamp.owner), advice);
        }
        Ok(())
    }

    /// Temporary files that a crash left: under the lock, they are nobody's.
    fn remove_leftovers(&self) -> Result<()> {
        let prefix = self.temporary_prefix();
        let names = self
            .disk
            .list(self.folder())
            .map_err(|cause| Error::io("cannot list", self.folder(), &cause))?;
        for name in names.iter().filter(|name| name.starts_with(&prefix)) {
            let path = self.folder().join(name);
            self.disk.remove(&path).map_err(|cause| Error::io("cannot remove", &path, &cause))?;
        }
        Ok(())
    }

    fn temporary(&self, rng: &dyn Rng) -> Result<PathBuf> {
        let mut random = [0; 8];
        rng.fill(&mut random)?;
        let suffix = u64::from_ne_bytes(random);
        Ok(self.folder().join(format!("{}{suffix:016x}", self.temporary_prefix())))
    }

    fn temporary_prefix(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        format!("{}.tmp-", name.to_string_lossy())
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    fn failed(&self, doing: &str, cause: &io::Error) -> Error {
        match cause.kind() {
            io::ErrorKind::NotFound => {
                let what = format!("there is no keystore at {}", self.path.display());
                let advice = match self.beside(WITNESS).exists() {
                    true => "put it back from a backup: only it has the keys",
                    false => {
                        "put it back from a backup: only it has the keys; where there never \
                              was one, keyward init makes it, or the first start of a MySQL \
                              server whose component names its `path`"
                    }
                };
                Error::new(Kind::NotFound, what).advise(advice)
            }
            _ if cause.raw_os_error() == Some(libc::ELOOP) => {
                let what = format!("{} is a symbolic link", self.path.display());
                Error::new(Kind::Config, what).advise("name the file that it stands for")
            }
            _ => trust::unread(doing, &self.path, cause),
        }
    }
}

/// Whether the file system does not support sync.
fn is_refusal(cause: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    matches!(cause.kind(), PermissionDenied | ReadOnlyFilesystem | InvalidInput | Unsupported)
}
