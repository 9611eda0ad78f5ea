//! The few things a keystore asks of a file system, so that tests can fail each of them.

#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::trust;

/// How often a lock file is opened again that was removed before it was locked.
const LOCK_TRIES: usize = 10;

/// A file system as the keystore needs it. Every call may fail.
pub trait Disk: Send + Sync {
    /// The bytes of a file and its stamp, both from the same open file; `InvalidData` where it has
    /// more than `max` bytes.
    fn read(&self, path: &Path, max: usize) -> io::Result<(Vec<u8>, Stamp)>;

    /// The first and the last `len` bytes of a file, or twice all of a shorter one, and its stamp.
    fn read_ends(&self, path: &Path, len: usize) -> io::Result<(Ends, Stamp)> {
        let (bytes, stamp) = self.read(path, usize::MAX)?;
        let (first, last) = (len.min(bytes.len()), bytes.len().saturating_sub(len));
        let [beginning, end] = [&bytes[..first], &bytes[last..]].map(<[u8]>::to_vec);
        Ok((Ends { beginning, end }, stamp))
    }

    /// What tells a file or folder from a changed one.
    fn stamp(&self, path: &Path) -> io::Result<Stamp>;

    /// A new file; `AlreadyExists` where there is one. It has `mode` and belongs to `owner` (user,
    /// group) where we may give it away.
    fn create(&self, path: &Path, mode: u32, owner: (u32, u32)) -> io::Result<Box<dyn DiskFile>>;

    /// The file to be written to behind its end. `NotFound` where it is not the one of `stamp` any more, or
    /// goes by a second name: somebody may keep that as a copy.
    fn open_end(&self, path: &Path, stamp: &Stamp) -> io::Result<Box<dyn DiskFile>>;

    /// Makes what was written to a file, by whomever, survive a power cut.
    fn sync_file(&self, path: &Path) -> io::Result<()>;

    /// Puts `from` in the place of `to`, in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// The same where nothing is at `to`; `AlreadyExists` where something is.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self.stamp(to) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(none) if none.kind() == io::ErrorKind::NotFound => self.rename(from, to),
            Err(cause) => Err(cause),
        }
    }

    /// Gives a file a second name; `AlreadyExists` where something is at `to`, `Unsupported` where no file has two.
    fn link(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes what was created, renamed and removed in a folder survive a power cut.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// The names in a folder.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Takes the lock that the file at `path` and its folder stand for, until the result is dropped;
    /// none while somebody else has it. Creates the file as `create` does.
    fn try_lock(&self, path: &Path, owner: (u32, u32)) -> io::Result<Option<Box<dyn DiskLock>>>;

    /// The user we act as; for root, the one that it works for.
    fn user(&self) -> u32;
}

/// A file being written.
pub trait DiskFile: Write {
    /// Makes what was written survive a power cut.
    fn sync(&mut self) -> io::Result<()>;

    /// Takes away what is behind its first `len` bytes.
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

/// How a file begins and ends.
pub struct Ends {
    /// Its first bytes.
    pub beginning: Vec<u8>,
    /// Its last bytes.
    pub end: Vec<u8>,
}

/// A lock that is held until it is dropped.
pub trait DiskLock: Send {
    /// Whether the file that was locked is still the one at its path: a file that somebody removed
    /// keeps nobody out.
    fn still_holds(&self) -> io::Result<bool>;

    /// Makes what was created, renamed and removed in the lock's folder survive a power cut. It opens
    /// nothing, so it cannot fail for want of a file descriptor.
    fn sync_folder(&self) -> io::Result<()>;
}

/// What tells a file from a changed one: cheap to get, compared for equality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The file system.
    pub device: u64,
    /// The file on it; a commit makes a new one.
    pub inode: u64,
    /// When it was last written, in nanoseconds of Unix time.
    pub modified: i128,
    /// Its length in bytes.
    pub len: u64,
    /// Type and permissions, as `st_mode` has them.
    pub mode: u32,
    /// The user it belongs to.
    pub owner: u32,
    /// The group it belongs to.
    pub group: u32,
}

/// The machine's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

impl Disk for OsDisk {
    fn read(&self, path: &Path, max: usize) -> io::Result<(Vec<u8>, Stamp)> {
        let (mut file, stamp) = open(path)?;
        let Some(len) = usize::try_from(stamp.len).ok().filter(|len| *len <= max) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too long"));
        };
        // As long as it was when it was stamped: a commit may add a line to it meanwhile.
        let mut bytes = vec![0; len];
        file.read_exact(&mut bytes)?;
        Ok((bytes, stamp))
    }

    fn read_ends(&self, path: &Path, len: usize) -> io::Result<(Ends, Stamp)> {
        let (file, stamp) = open(path)?;
        let len = stamp.len.min(len as u64);
        let read = |at: u64| {
            let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
            file.read_exact_at(&mut bytes, at).map(|()| bytes)
        };
        Ok((Ends { beginning: read(0)?, end: read(stamp.len - len)? }, stamp))
    }

    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        fs::metadata(path).map(|found| Stamp::of(&found))
    }

    fn create(&self, path: &Path, mode: u32, owner: (u32, u32)) -> io::Result<Box<dyn DiskFile>> {
        let file = trust::create(path, mode)?;
        give(&file, owner)?;
        Ok(Box::new(file))
    }

    fn open_end(&self, path: &Path, stamp: &Stamp) -> io::Result<Box<dyn DiskFile>> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().append(true).custom_flags(flags).open(path)?;
        let found = file.metadata()?;
        match Stamp::of(&found) == *stamp && found.nlink() == 1 {
            true => Ok(Box::new(file)),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        open(path)?.0.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
        let flags = RenameFlags::RENAME_NOREPLACE;
        match renameat2(AT_FDCWD, from, AT_FDCWD, to, flags) {
            // Not every file system has it. Whoever comes between holds no lock of ours.
            Err(nix::Error::EINVAL | nix::Error::ENOSYS) if to.symlink_metadata().is_err() => {
                fs::rename(from, to)
            }
            Err(nix::Error::EINVAL | nix::Error::ENOSYS) => {
                Err(io::ErrorKind::AlreadyExists.into())
            }
            outcome => Ok(outcome?),
        }
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        use nix::libc::{EMLINK, ENOSYS, EOPNOTSUPP, EPERM};
        fs::hard_link(from, to).map_err(|cause| match cause.raw_os_error() {
            Some(EPERM | ENOSYS | EOPNOTSUPP | EMLINK) => io::ErrorKind::Unsupported.into(),
            _ => cause,
        })
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        Ok(names.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn try_lock(&self, path: &Path, owner: (u32, u32)) -> io::Result<Option<Box<dyn DiskLock>>> {
        let folder = File::open(folder_of(path))?;
        if !takes_folder_lock(&folder)? {
            return Ok(None);
        }
        for _ in 0..LOCK_TRIES {
            let file = open_lock(path)?;
            give(&file, owner)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(cause)) => return Err(cause),
            }
            let lock = OsLock { file, folder: folder.try_clone()?, path: path.to_owned() };
            // Somebody may have removed it between the opening and the locking.
            if lock.still_holds()? {
                return Ok(Some(Box::new(lock)));
            }
        }
        Ok(None)
    }

    fn user(&self) -> u32 {
        trust::account()
    }
}

/// A regular file, not through a link, whose target a rename would not replace, and without waiting, as
/// opening a pipe would; and its stamp.
fn open(path: &Path) -> io::Result<(File, Stamp)> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let stamp = Stamp::of(&file.metadata()?);
    match stamp.is_file() {
        true => Ok((file, stamp)),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

/// The lock file at `path`, made where there is none.
fn open_lock(path: &Path) -> io::Result<File> {
    match trust::create(path, 0o600) {
        Err(there) if there.kind() == io::ErrorKind::AlreadyExists => {
            let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
            let open = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
            match open {
                // Removed since.
                Err(gone) if gone.kind() == io::ErrorKind::NotFound => trust::create(path, 0o600),
                open => open,
            }
        }
        made => made,
    }
}

/// What root makes in somebody's folder is theirs: the server must be able to read it.
fn give(file: &File, (user, group): (u32, u32)) -> io::Result<()> {
    let is = file.metadata()?;
    if geteuid().is_root() && (is.uid(), is.gid()) != (user, group) {
        fchown(file, Some(user), Some(group))?;
    }
    Ok(())
}

impl DiskFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

/// The folder's own lock cannot be removed while it is held; the lock file is what earlier releases
/// and file systems without locks on folders go by.
struct OsLock {
    file: File,
    folder: File,
    path: PathBuf,
}

impl DiskLock for OsLock {
    fn still_holds(&self) -> io::Result<bool> {
        let held = self.file.metadata()?;
        match fs::symlink_metadata(&self.path) {
            Ok(there) => Ok((held.dev(), held.ino()) == (there.dev(), there.ino())),
            Err(none) if none.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(cause) => Err(cause),
        }
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.folder.sync_all()
    }
}

/// Whether the folder is locked now, or is on a file system (NFS) that locks no folders.
fn takes_folder_lock(folder: &File) -> io::Result<bool> {
    const UNSUPPORTED: [i32; 5] =
        [libc::EBADF, libc::EINVAL, libc::EISDIR, libc::EOPNOTSUPP, libc::ENOSYS];
    match folder.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(cause)) => {
            let unsupported = cause.raw_os_error().is_some_and(|code| UNSUPPORTED.contains(&code));
            if unsupported { Ok(true) } else { Err(cause) }
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

impl Stamp {
    fn of(found: &fs::Metadata) -> Self {
        let modified = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
        Self {
            device: found.dev(),
            inode: found.ino(),
            modified,
            len: found.len(),
            mode: found.mode(),
            owner: found.uid(),
            group: found.gid(),
        }
    }

    fn is_file(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFREG
    }

    /// Whether everybody may read it, or enter it where it is a folder.
    pub(super) fn is_open(&self) -> bool {
        self.mode & 0o005 != 0
    }

    /// Whether anybody but its owner may write it.
    pub(super) fn others_write(&self) -> bool {
        self.mode & 0o022 != 0
    }
}
