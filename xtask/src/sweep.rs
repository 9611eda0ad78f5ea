//! Leaves nothing behind: no folder and no process, on Ctrl-C neither.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::exit;
use std::time::Duration;
use std::{fs, thread};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use test_kit::{Result, scratch};

use crate::job;

/// What our roots are called, before the number of the process that owns them.
const PREFIX: &str = "keyward-xtask-";

/// The folders that all tests of this run make their folders in, in memory and on disk; they go with
/// this value.
pub(crate) struct Roots([PathBuf; 2]);

/// Makes this run's root folders and removes those of runs that were killed.
pub(crate) fn guard() -> Result<Roots> {
    let roots = [root_in(&scratch::root())?, root_in(&scratch::disk_root())?];
    scratch::set_roots(&roots[0], &roots[1]);
    on_signal(roots.clone())?;
    Ok(Roots(roots))
}

impl Drop for Roots {
    fn drop(&mut self) {
        for root in &self.0 {
            let _ = fs::remove_dir_all(root);
        }
    }
}

fn root_in(parent: &Path) -> Result<PathBuf> {
    sweep(parent);
    let root = parent.join(format!("{PREFIX}{}", std::process::id()));
    // Without room in memory, both are on disk.
    fs::create_dir_all(&root)
        .map_err(|error| format!("cannot make {}: {error}", root.display()))?;
    // Servers run as another user and must be able to pass through.
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755))?;
    Ok(root)
}

/// Removes the roots whose process is no more.
fn sweep(parent: &Path) {
    for path in test_kit::files::list(parent) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(owner) = name.strip_prefix(PREFIX) else { continue };
        if !Path::new("/proc").join(owner).exists() {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Ends the running job and removes the roots before a signal ends us.
fn on_signal(roots: [PathBuf; 2]) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            eprintln!("\nstopping");
            job::end_running();
            // What the job's own children still write would outlive the first attempt.
            for _ in 0..20 {
                roots.iter().for_each(|root| drop(fs::remove_dir_all(root)));
                if !roots.iter().any(|root| root.exists()) {
                    break;
                }
                thread::sleep(Duration::from_millis(100));
            }
            exit(128 + signal);
        }
    });
    Ok(())
}
