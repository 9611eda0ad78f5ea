//! What `init` makes, by what is open, and takes away again where it fails.

#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, geteuid, unlinkat};
use rustix::io::Errno;

use super::parent;
use crate::cli::helpers::open::no_folder;
use crate::env::Deadline;
use crate::error::{Error, Kind, Result};
use crate::trust::{self, Folder, Refusal};

/// How long to wait for another `init` that works in the same folder.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// How often to look whether it has ended.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// What failed and what to do, where the keystore is on disk all the same.
pub(super) type InPart = (String, String);

/// User and group of what is made.
#[derive(Clone, Copy)]
pub(super) struct Owner(pub(super) Uid, pub(super) Gid);

impl Owner {
    /// Only the group: root keeps what the server may read but not change.
    pub(super) fn group(group: Option<Gid>) -> Option<Self> {
        group.map(|group| Self(Uid::from_raw(0), group))
    }
}

/// What this process made so far: taken away again unless kept, so that a failed `init` leaves
/// nothing.
#[derive(Default)]
pub(super) struct Made {
    all: Vec<Item>,
    /// Released after all that is not kept was taken away.
    lock: Option<File>,
}

/// A name in a folder that is held open, and device and inode of what was made there.
struct Item {
    folder: OwnedFd,
    name: OsString,
    id: (u64, u64),
}

impl Made {
    /// Waits until no other `init` is at work in `folder`, and keeps the next ones waiting.
    pub(super) fn lock(&mut self, folder: &Path) -> Result<()> {
        let file = File::open(folder).map_err(|e| Error::io("cannot open", folder, &e))?;
        let by = Deadline::after(LOCK_WAIT);
        // Where a file system has no locks, each file is still made by one process only.
        while let Err(TryLockError::WouldBlock) = file.try_lock() {
            let what = format!("another `keyward init` is at work in {}", folder.display());
            std::thread::sleep(by.left(what)?.min(LOCK_POLL));
        }
        self.lock = Some(file);
        Ok(())
    }

    /// The folder at `path`, made with `mode` unless it is there. Its owner gets it while nobody
    /// else can enter it, by what is open and not by name; the umask has no say.
    pub(super) fn folder(
        &mut self,
        path: &Path,
        mode: u32,
        owner: Option<Owner>,
    ) -> Result<Folder> {
        let refused = |refusal: Refusal| refusal.of("cannot open the folder", path);
        match Folder::open(path) {
            Err(refusal) if refusal.is_missing() => {}
            found => return found.map_err(refused),
        }
        let failed = |e: nix::Error| Error::io("cannot make", path, &e.into());
        let name = path.file_name().ok_or_else(|| no_folder(path))?;
        let above = self.folder(parent(path)?, 0o755, None)?;
        match mkdirat(&above.handle, name, Mode::from_bits_truncate(0o700)) {
            // Another `init` was first.
            Err(nix::Error::EEXIST) => return Folder::open(path).map_err(refused),
            made => made.map_err(failed)?,
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made = openat(&above.handle, name, flags, Mode::empty()).map_err(failed)?;
        if fstat(&made).map_err(failed)?.st_uid != geteuid().as_raw() {
            let what = format!("{} was replaced by somebody else", path.display());
            return Err(Error::new(Kind::Config, what));
        }
        self.remember(above.handle, name, &made).map_err(failed)?;
        give(&made, mode, owner).map_err(failed)?;
        // Whoever owns it may put another in its place from now on: this one stays in hand.
        let found = fstat(&made).map_err(failed)?;
        Ok(Folder { handle: made, found })
    }

    /// Makes the file at `path` in `folder`, which must not be there. The server may read it, and
    /// only the server.
    pub(super) fn file(
        &mut self,
        path: &Path,
        bytes: &[u8],
        folder: &Folder,
        group: Option<Gid>,
    ) -> Result<()> {
        let mut file =
            trust::create(path, 0o600).map_err(|e| Error::io("cannot create", path, &e))?;
        self.note(path, folder, None)?;
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(|e| Error::io("cannot write", path, &e))?;
        give_file(path, &file.into(), group)
    }

    /// Has the configuration that this process made at `path` of `toml` name the only keystore that opens. The
    /// account's part, which tells it, is not trusted with root's configuration but for 64 digits.
    pub(super) fn pin(
        &self,
        path: &Path,
        toml: &str,
        fingerprint: &str,
        group: Option<Gid>,
    ) -> Result<()> {
        if fingerprint.len() != 64 || !fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Error::new(Kind::Internal, "the keystore's fingerprint is none"));
        }
        let lines = format!(
            "[keystore]\nfingerprint = \"{fingerprint}\" # the only one that opens: a public key \
             wraps it\n"
        );
        self.rewrite(path, toml.replacen("[keystore]\n", &lines, 1).as_bytes(), group)
    }

    /// Puts `bytes` in the place of a file that this process made at `path`.
    fn rewrite(&self, path: &Path, bytes: &[u8], group: Option<Gid>) -> Result<()> {
        let part = path.with_extension("part");
        let failed = |cause: std::io::Error| Error::io("cannot write", path, &cause);
        let mut file = trust::create(&part, 0o600).map_err(failed)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed);
        let whole = written.and_then(|()| give_file(path, &file.into(), group));
        whole.and_then(|()| std::fs::rename(&part, path).map_err(failed)).inspect_err(|_| {
            // The error that brought us here says more.
            let _ = std::fs::remove_file(&part);
        })
    }

    /// Takes note of what this process has just made at `path` in `folder`, and gives it to `group`.
    pub(super) fn note(&mut self, path: &Path, folder: &Folder, group: Option<Gid>) -> Result<()> {
        let failed = |e: nix::Error| Error::io("cannot open", path, &e.into());
        let name = path.file_name().ok_or_else(|| no_folder(path))?;
        let held = folder.handle.try_clone();
        let held = held.map_err(|e| Error::io("cannot hold the folder of", path, &e))?;
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = openat(&held, name, flags, Mode::empty()).map_err(failed)?;
        self.remember(held, name, &file).map_err(failed)?;
        give_file(path, &file, group)
    }

    fn remember(&mut self, folder: OwnedFd, name: &OsStr, made: &OwnedFd) -> nix::Result<()> {
        let found = fstat(made)?;
        self.all.push(Item { folder, name: name.to_owned(), id: (found.st_dev, found.st_ino) });
        Ok(())
    }

    pub(super) fn keep(&mut self) {
        self.all.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for Item { folder, name, id } in self.all.iter().rev() {
            let name = name.as_os_str();
            let Ok(found) = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
            let kind = match found.st_mode & libc::S_IFMT == libc::S_IFDIR {
                true => UnlinkatFlags::RemoveDir,
                false => UnlinkatFlags::NoRemoveDir,
            };
            if (found.st_dev, found.st_ino) == *id {
                // What cannot be taken away is named by the error that brought us here.
                let _ = unlinkat(folder, name, kind);
            }
        }
    }
}

/// Root's file that the server may read.
fn give_file(path: &Path, file: &OwnedFd, group: Option<Gid>) -> Result<()> {
    let mode = if group.is_some() { 0o640 } else { 0o600 };
    give(file, mode, Owner::group(group))
        .map_err(|e| Error::io("cannot give away", path, &e.into()))
}

/// The mode says all: a folder's default access control list (acl(5)) would let others in.
fn give(made: &OwnedFd, mode: u32, owner: Option<Owner>) -> nix::Result<()> {
    for list in ["system.posix_acl_access", "system.posix_acl_default"] {
        match rustix::fs::fremovexattr(made, list) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(cause) => return Err(nix::Error::from_raw(cause.raw_os_error())),
        }
    }
    if let Some(Owner(uid, gid)) = owner {
        fchown(made, Some(uid), Some(gid))?;
    }
    fchmod(made, Mode::from_bits_truncate(mode))
}
