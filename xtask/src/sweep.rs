//! Leaves nothing behind: no folder and no process, on Ctrl-C neither.

use std::path::{Path, PathBuf};
use std::process::exit;
use std::time::Duration;
use std::{fs, thread};

use mariadb_test::{Result, scratch};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::job;

/// What our roots are called, before the number of the process that owns them.
const PREFIX: &str = "keyward-xtask-";

/// The folder that all tests of this run make their folders in; it goes with this value.
pub(crate) struct Root(PathBuf);

/// Makes this run's root folder and removes those of runs that were killed.
pub(crate) fn guard() -> Result<Root> {
    let parent = scratch::root();
    sweep(&parent);
    let root = parent.join(format!("{PREFIX}{}", std::process::id()));
    fs::create_dir(&root).map_err(|error| format!("cannot make {}: {error}", root.display()))?;
    nix::sys::stat::fchmodat(
        nix::fcntl::AT_FDCWD,
        &root,
        nix::sys::stat::Mode::from_bits_truncate(0o755),
        nix::sys::stat::FchmodatFlags::FollowSymlink,
    )
    .map_err(|error| error.to_string())?;
    scratch::set_root(&root);
    on_signal(root.clone())?;
    Ok(Root(root))
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes the roots whose process is no more.
fn sweep(parent: &Path) {
    for path in mariadb_test::files::list(parent) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(owner) = name.strip_prefix(PREFIX) else { continue };
        if !Path::new("/proc").join(owner).exists() {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Ends the running job and removes the root before a signal ends us.
fn on_signal(root: PathBuf) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            eprintln!("\nstopping");
            job::end_running();
            // What the job's own children still write would outlive the first attempt.
            for _ in 0..20 {
                if fs::remove_dir_all(&root).is_ok() {
                    break;
                }
                thread::sleep(Duration::from_millis(100));
            }
            exit(128 + signal);
        }
    });
    Ok(())
}
