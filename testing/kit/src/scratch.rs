//! Temporary folders that are gone when their value is.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Result;

/// Where `cargo xtask` tells its tests to put their folders, so that it can sweep up after them.
pub const ROOT_VARIABLE: &str = "KEYWARD_TEST_ROOT";

/// The same for folders that are to be on a disk.
pub const DISK_ROOT_VARIABLE: &str = "KEYWARD_TEST_DISK_ROOT";

/// Room for a handful of servers: below this the folders go to the disk.
const ENOUGH_MEMORY: u64 = 2 << 30;

/// The roots that this process was given by [`set_roots`].
static ROOTS: OnceLock<[PathBuf; 2]> = OnceLock::new();

/// A folder that is removed with everything in it when this value is dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new folder under [`root`], which others may enter but not list.
    pub fn new(name: &str) -> Result<Self> {
        Self::within(&root(), name)
    }

    /// A new folder under [`disk_root`].
    pub fn on_disk(name: &str) -> Result<Self> {
        Self::within(&disk_root(), name)
    }

    fn within(root: &Path, name: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = root.join(format!("keyward-{}-{count}-{name}", std::process::id()));
        // Servers run as another user and must be able to pass through.
        fs::DirBuilder::new()
            .mode(0o755)
            .create(&path)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::env::var_os("KEYWARD_TEST_KEEP").is_some() {
            eprintln!("kept: {}", self.0.display());
        } else if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

/// The folder all scratch folders are made in: memory where there is room, because a test server
/// syncs its files hundreds of times, else the usual temporary folder.
#[must_use]
pub fn root() -> PathBuf {
    if let Some([root, _]) = ROOTS.get() {
        return root.clone();
    }
    if let Some(root) = std::env::var_os(ROOT_VARIABLE) {
        return root.into();
    }
    let memory = Path::new("/dev/shm");
    match nix::sys::statvfs::statvfs(memory) {
        Ok(room) if room.blocks_available() * room.fragment_size() > ENOUGH_MEMORY => memory.into(),
        _ => std::env::temp_dir(),
    }
}

/// The folder for what must be on a disk. `/tmp` is in memory on many systems; `/var/tmp` outlives
/// a restart and so cannot be.
#[must_use]
pub fn disk_root() -> PathBuf {
    match ROOTS.get() {
        Some([_, root]) => root.clone(),
        None => std::env::var_os(DISK_ROOT_VARIABLE).unwrap_or("/var/tmp".into()).into(),
    }
}

/// Has this process make its folders in `root`, those on a disk in `disk_root`.
pub fn set_roots(root: &Path, disk_root: &Path) {
    // The first to say so is the task itself; nobody asks twice.
    let _ = ROOTS.set([root.into(), disk_root.into()]);
}
