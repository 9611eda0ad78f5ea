//! Files that somebody else might have prepared: a configuration, an option file, a secret, a
//! certificate, a module.
//!
//! A path is walked folder by folder, each one held open, and what is judged is what is open: no
//! name is looked up twice. Trusted is what belongs to root or to the account that we work for, and
//! what nobody else may write. Links are followed through such folders only. A sticky folder, such
//! as the one that Kubernetes mounts secrets in, is trusted with entries of root or the account.

#![forbid(unsafe_code)]

mod denied;

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{geteuid, setegid, seteuid};

use crate::error::{Error, Kind, Result};

/// How many links one path may lead through, as in the kernel.
const MAX_LINKS: u32 = 40;

/// Whom root works for in this process.
static ACCOUNT: AtomicU32 = AtomicU32::new(0);

/// The account whose files are trusted like root's: our own, and for root the one it works for.
#[must_use]
pub fn account() -> u32 {
    match geteuid().as_raw() {
        0 => ACCOUNT.load(Ordering::Relaxed),
        user => user,
    }
}

/// Has root work for the user `account`, whose files it trusts from now on.
pub fn work_for(account: u32) {
    ACCOUNT.store(account, Ordering::Relaxed);
}

/// Has root work for the owner of `folder`, which root's own configuration names; says who that is,
/// user and group. Root itself where the folder cannot be seen.
pub fn work_for_owner_of(folder: &Path) -> (u32, u32) {
    let owner = folder.symlink_metadata().map_or((0, 0), |found| (found.uid(), found.gid()));
    work_for(owner.0);
    owner
}

/// Has root do `work` with the rights of a user and group, then be root again. Its saved id stays
/// root's: `work` runs no code that the user could have chosen.
pub fn acting_as<T>(user: u32, group: u32, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let failed = |e| Error::new(Kind::Denied, format!("cannot act as user {user}: {e}"));
    setegid(group.into()).and_then(|()| seteuid(user.into())).map_err(failed)?;
    let outcome = work();
    seteuid(0.into()).and_then(|()| setegid(0.into())).map_err(failed)?;
    outcome
}

/// Whether others than its owner may write what is open as `file` and has `mode` and `group`. Root's own
/// group has no members but root; but where there is an access control list (acl(5)), the group's part
/// of the mode is the most that anybody whom it names may do.
#[must_use]
pub fn others_write(file: impl AsFd, mode: u32, group: u32) -> bool {
    mode & 0o002 != 0 || (mode & 0o020 != 0 && (group != 0 || has_list(file.as_fd())))
}

/// By its name in `/proc`: a folder is open as a path only. What cannot be told may have one.
fn has_list(file: BorrowedFd<'_>) -> bool {
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    let found = rustix::fs::getxattr(name, "system.posix_acl_access", &mut [0_u8; 0]);
    !matches!(found, Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP))
}

/// Why a file was not opened.
#[derive(Debug)]
pub enum Refusal {
    /// It cannot be had.
    Io(io::Error),
    /// It, or a folder that leads to it, is not trusted.
    Untrusted(Error),
}

impl Refusal {
    /// The error for whoever was `doing` something with the file at `path`.
    #[must_use]
    pub fn of(self, doing: &str, path: &Path) -> Error {
        match self {
            Self::Io(cause) => unread(doing, path, &cause),
            Self::Untrusted(error) => error,
        }
    }

    /// Whether there is no such file.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io(cause) if cause.kind() == io::ErrorKind::NotFound)
    }
}

/// The error of a file that could not be read; where we may not, it says who we are and what to change.
#[must_use]
pub fn unread(doing: &str, path: &Path, cause: &io::Error) -> Error {
    let error = Error::io(doing, path, cause);
    let denied = cause.kind() == io::ErrorKind::PermissionDenied;
    match denied.then(|| denied::advice(path)).flatten() {
        Some(advice) => error.advise(advice),
        None => error,
    }
}

impl From<nix::Error> for Refusal {
    fn from(cause: nix::Error) -> Self {
        Self::Io(cause.into())
    }
}

/// The file at `path`, to be read: a regular one, which nobody but root and the account may change
/// or replace.
pub fn open(path: &Path) -> Result<File, Refusal> {
    open_of(path, account())
}

/// The same for code, which runs with all the rights that we have: root runs root's alone.
pub fn open_code(path: &Path) -> Result<File, Refusal> {
    open_of(path, geteuid().as_raw())
}

fn open_of(path: &Path, account: u32) -> Result<File, Refusal> {
    let (walk, file, found) = Walk::to_file(path, account)?;
    walk.judge(file.as_fd(), &found, path, "change it")?;
    Ok(file)
}

/// Checks that [`open`] opens the file at `path`, of at most `max` bytes: for a library that opens it
/// by its name. Nobody else can put another file there meanwhile.
pub fn check(path: &Path, max: u64) -> Result<(), Refusal> {
    match open(path)?.metadata().map_err(Refusal::Io)?.len() > max {
        true => Err(too_long(path, max)),
        false => Ok(()),
    }
}

/// The same for a file whose own owner and mode the caller judges.
pub fn open_in_its_folder(path: &Path) -> Result<File, Refusal> {
    Walk::to_file(path, account()).map(|(_, file, _)| file)
}

/// All of the file at `path`, which [`open`] trusts; an error if it has more than `max` bytes.
pub fn read(path: &Path, max: u64) -> Result<Vec<u8>, Refusal> {
    read_whole(open(path)?, path, max)
}

/// The same as text.
pub fn read_text(path: &Path, max: u64) -> Result<String, Refusal> {
    String::from_utf8(read(path, max)?).map_err(|_| {
        untrusted(format!("{} is not a text in UTF-8", path.display()), "name another")
    })
}

/// The file at `path` whoever prepared it, as the plugins read theirs that we stand in for: a
/// regular one of at most `max` bytes.
pub fn read_untrusted(path: &Path, max: u64) -> Result<Vec<u8>, Refusal> {
    match open_if_regular(path).map_err(Refusal::Io)? {
        Some(file) => read_whole(file, path, max),
        None => Err(not_regular(path)),
    }
}

/// The file at `path` whoever prepared it, such as a server's data: a regular one, opened at once.
pub fn open_untrusted(path: &Path) -> io::Result<File> {
    let not_regular = || io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
    open_if_regular(path)?.ok_or_else(not_regular)
}

/// Without waiting, as opening a pipe would.
fn open_if_regular(path: &Path) -> io::Result<Option<File>> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    Ok(file.metadata()?.is_file().then_some(file))
}

fn read_whole(file: File, path: &Path, max: u64) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(Refusal::Io)?;
    if bytes.len() as u64 > max {
        return Err(too_long(path, max));
    }
    Ok(bytes)
}

/// A folder that is held open, and that nobody but root and the account may change.
pub struct Folder {
    /// The folder itself.
    pub handle: OwnedFd,
    /// What it was when it was opened.
    pub found: FileStat,
}

impl Folder {
    /// The folder at `path`.
    pub fn open(path: &Path) -> Result<Self, Refusal> {
        let mut walk = Walk::begin(path, account())?;
        while let Some(name) = walk.rest.pop() {
            match walk.look_at(&name)? {
                Entry::Link(target, owner) => walk.follow(&target, owner)?,
                Entry::Folder => walk.enter(&name)?,
                Entry::File | Entry::Other => {
                    return Err(Refusal::Io(io::ErrorKind::NotADirectory.into()));
                }
            }
        }
        let found = fstat(&walk.here)?;
        Ok(Self { handle: walk.here, found })
    }

    /// Whether others may make entries of their own in it; they cannot touch ours.
    #[must_use]
    pub fn is_sticky(&self) -> bool {
        self.found.st_mode & libc::S_ISVTX != 0
            && others_write(&self.handle, self.found.st_mode, self.found.st_gid)
    }
}

/// A new file at `path` of exactly `mode`, whatever the umask; `AlreadyExists` where anything is.
pub fn create(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(mode & 0o600);
    let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if let Err(cause) = file.set_permissions(std::fs::Permissions::from_mode(mode)) {
        // Ours alone so far, and of no use.
        let _ = std::fs::remove_file(path);
        return Err(cause);
    }
    Ok(file)
}

/// What a name in a folder stands for.
enum Entry {
    /// A link, its target and its owner.
    Link(PathBuf, u32),
    Folder,
    File,
    Other,
}

/// A path on the way to its end.
struct Walk {
    account: u32,
    /// The folder where we are, open, and how to come back from it.
    here: OwnedFd,
    at: PathBuf,
    above: Vec<(OwnedFd, PathBuf)>,
    /// Where others may make entries, each must be root's or the account's.
    sticky: bool,
    /// The names that are left, the next one last.
    rest: Vec<OsString>,
    links: u32,
    /// Root followed a link of the account's: what it leads to must be the account's own.
    bound: bool,
}

impl Walk {
    /// To the file at `path`, open but not judged, with what it is.
    fn to_file(path: &Path, account: u32) -> Result<(Self, File, FileStat), Refusal> {
        let mut walk = Self::begin(path, account)?;
        while let Some(name) = walk.rest.pop() {
            match walk.look_at(&name)? {
                Entry::Link(target, owner) => walk.follow(&target, owner)?,
                Entry::Folder => walk.enter(&name)?,
                Entry::File if walk.rest.is_empty() => {
                    let flags = OFlag::O_RDONLY
                        | OFlag::O_NOFOLLOW
                        | OFlag::O_NONBLOCK
                        | OFlag::O_NOCTTY
                        | OFlag::O_CLOEXEC;
                    let file = openat(&walk.here, name.as_os_str(), flags, Mode::empty())?;
                    let found = fstat(&file)?;
                    if kind(&found) != SFlag::S_IFREG {
                        return Err(not_regular(path));
                    }
                    if walk.sticky && found.st_nlink > 1 {
                        let what =
                            format!("{} may be somebody else's link to a file", path.display());
                        return Err(untrusted(what, "use a folder that others cannot write"));
                    }
                    return Ok((walk, file.into(), found));
                }
                Entry::File => return Err(Refusal::Io(io::ErrorKind::NotADirectory.into())),
                Entry::Other => return Err(not_regular(path)),
            }
        }
        Err(not_regular(path))
    }

    fn begin(path: &Path, account: u32) -> Result<Self, Refusal> {
        let absolute = std::path::absolute(path).map_err(Refusal::Io)?;
        let mut walk = Self {
            account,
            here: root()?,
            at: "/".into(),
            above: Vec::new(),
            sticky: false,
            rest: Vec::new(),
            links: 0,
            bound: false,
        };
        walk.judge_here()?;
        walk.expect(&absolute);
        Ok(walk)
    }

    /// Puts the names of `path` in front of those that are left.
    fn expect(&mut self, path: &Path) {
        let names = path.components().rev().filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        });
        self.rest.extend(names);
    }

    fn look_at(&self, name: &OsString) -> Result<Entry, Refusal> {
        if name == ".." {
            return Ok(Entry::Folder);
        }
        let found = fstatat(&self.here, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        Ok(match kind(&found) {
            SFlag::S_IFLNK => {
                if self.sticky {
                    self.judge_owner(&found, &self.at.join(name), "change it")?;
                }
                Entry::Link(readlinkat(&self.here, name.as_os_str())?.into(), found.st_uid)
            }
            SFlag::S_IFDIR => Entry::Folder,
            SFlag::S_IFREG => Entry::File,
            _ => Entry::Other,
        })
    }

    fn follow(&mut self, target: &Path, owner: u32) -> Result<(), Refusal> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(nix::Error::ELOOP.into());
        }
        self.bound |= geteuid().is_root() && owner != 0;
        if target.is_absolute() {
            (self.here, self.at) = (root()?, "/".into());
            self.above.clear();
            self.judge_here()?;
        }
        self.expect(target);
        Ok(())
    }

    fn enter(&mut self, name: &OsString) -> Result<(), Refusal> {
        if name == ".." {
            if let Some(above) = self.above.pop() {
                (self.here, self.at) = above;
            }
            return self.judge_here();
        }
        let next = openat(&self.here, name.as_os_str(), folder_flags(), Mode::empty())?;
        let at = self.at.join(name);
        let before = (std::mem::replace(&mut self.here, next), std::mem::replace(&mut self.at, at));
        self.above.push(before);
        self.judge_here()
    }

    fn judge_here(&mut self) -> Result<(), Refusal> {
        let found = fstat(&self.here)?;
        let sticky = found.st_mode & libc::S_ISVTX != 0;
        self.sticky = sticky && others_write(&self.here, found.st_mode, found.st_gid);
        let could = "replace what is in it";
        match self.sticky {
            true => self.judge_owner(&found, &self.at, could),
            false => self.judge(self.here.as_fd(), &found, &self.at, could),
        }
    }

    /// Checks that nobody but root and the account may write what is open as `file`, at `shown`.
    fn judge(
        &self,
        file: BorrowedFd<'_>,
        found: &FileStat,
        shown: &Path,
        could: &str,
    ) -> Result<(), Refusal> {
        self.judge_owner(found, shown, could)?;
        if others_write(file, found.st_mode, found.st_gid) {
            let name = shown.display();
            let what = format!("{name} can be written by others, who could {could}");
            return Err(untrusted(what, format!("run chmod go-w {name}")));
        }
        Ok(())
    }

    fn judge_owner(&self, found: &FileStat, shown: &Path, could: &str) -> Result<(), Refusal> {
        let (name, owner) = (shown.display(), found.st_uid);
        if owner == 0 && self.bound && kind(found) == SFlag::S_IFREG {
            let what = format!("{name} is root's, and a link of user {} leads there", self.account);
            return Err(untrusted(what, "name the file itself"));
        }
        if owner == 0 || owner == self.account {
            return Ok(());
        }
        let what = format!("{name} belongs to user {owner}, who could {could}");
        let (is_folder, account) = (kind(found) == SFlag::S_IFDIR, self.account);
        let advice = match (is_folder, account) {
            (true, 0) => "use a folder of root's".to_owned(),
            (true, _) => format!("use a folder of root's, or of user {account}'s"),
            (false, 0) => format!("run chown root {name}"),
            (false, _) => format!("run chown root {name}, or chown it to user {account}"),
        };
        Err(untrusted(what, advice))
    }
}

fn root() -> Result<OwnedFd, Refusal> {
    Ok(nix::fcntl::open("/", folder_flags(), Mode::empty())?)
}

fn folder_flags() -> OFlag {
    OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

fn kind(found: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits())
}

fn too_long(path: &Path, max: u64) -> Refusal {
    untrusted(format!("{} has more than {max} bytes", path.display()), "is it the right file?")
}

fn not_regular(path: &Path) -> Refusal {
    untrusted(format!("{} is not a regular file", path.display()), "name the file itself")
}

fn untrusted(what: impl Into<String>, advice: impl Display) -> Refusal {
    Refusal::Untrusted(Error::new(Kind::Config, what).advise(advice.to_string()))
}
