//! What may not outlive a call: folders that go with it, and programs that die with it, however it ends.
//!
//! Nobody cleans up after a SIGKILL. So a second process of ours waits, apart from the call's terminal and
//! session, until the call is gone, and removes its folders; and each program is started by way of us once
//! more, which has the kernel end it with its parent and takes away all rights but those to the folders.

#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, id};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{geteuid, getppid, setsid};

use super::confine;
use super::exit::Exit;
use crate::error::{Error, Kind, Result};

/// The first word of a call of ours that waits for the end of its caller.
const KEEPER: &str = "@keeper";
/// The first word of a call of ours that becomes another program.
const PROGRAM: &str = "@program";
/// How the folders are called that a keeper removes: nothing else is.
const PREFIX: &str = "keyward-drill-";
/// How long a program that was just killed may keep files open or make new ones.
const PATIENCE: Duration = Duration::from_secs(20);

/// Folders of a call, for us alone, which go when this value goes or the process ends.
pub(in crate::cli) struct Kept {
    folders: Vec<PathBuf>,
    keeper: Child,
}

/// Does what a call of ours to ourselves is for; nothing where `call` is none.
pub(in crate::cli) fn enter(call: &[OsString]) -> Option<Exit> {
    let does: fn(&[OsString]) -> Exit = match call.get(1)?.to_str()? {
        KEEPER => keep,
        PROGRAM => become_program,
        _ => return None,
    };
    // A drill is done by the server's account. Who may run keyward as root, and no other program, is not to run
    // others by it.
    if geteuid().is_root() {
        eprintln!("keyward: {:?} is a call of keyward's own, and never root's", call[1]);
        return Some(Exit::Failure);
    }
    Some(does(&call[2..]))
}

impl Kept {
    /// A new folder in each of `places`, called by `name` and of mode 0700.
    pub(in crate::cli) fn new(places: &[&Path], name: &str) -> Result<Self> {
        let folders: Vec<_> =
            places.iter().map(|place| place.join(format!("{PREFIX}{name}"))).collect();
        // It is there before the first folder is.
        let keeper = Command::new("/proc/self/exe")
            .arg(KEEPER)
            .args(&folders)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|cause| {
                Error::new(Kind::Internal, format!("cannot start the keeper: {cause}"))
            })?;
        let kept = Self { folders, keeper };
        for folder in &kept.folders {
            use std::os::unix::fs::DirBuilderExt as _;
            let made = fs::DirBuilder::new().mode(0o700).create(folder);
            made.map_err(|cause| Error::io("cannot make the folder", folder, &cause))?;
        }
        Ok(kept)
    }

    /// The folder in the place of that number.
    pub(in crate::cli) fn folder(&self, n: usize) -> &Path {
        &self.folders[n]
    }

    /// `program`, to be started: it ends with us, may write nowhere but in the folders, and has no network.
    pub(in crate::cli) fn program(&self, program: &Path) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg(PROGRAM).arg(id().to_string()).arg(self.folders.len().to_string());
        command.args(&self.folders).arg(program);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
        command.current_dir("/").stdin(Stdio::null());
        command
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        for folder in &self.folders {
            // What is left is the keeper's.
            let _ = fs::remove_dir_all(folder);
        }
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Waits until the caller's end of our input is closed, and removes the folders.
fn keep(folders: &[OsString]) -> Exit {
    // Out of reach of the keyboard; it is none where we lead a group already.
    let _ = setsid();
    let _ = io::stdin().read_to_end(&mut Vec::new());
    let since = Instant::now();
    let folders: Vec<_> = folders.iter().map(Path::new).filter(|path| is_ours(path)).collect();
    while folders.iter().any(|folder| !is_gone(folder)) && since.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(50));
    }
    Exit::Success
}

fn is_ours(folder: &Path) -> bool {
    folder.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(PREFIX))
}

fn is_gone(folder: &Path) -> bool {
    let _ = fs::remove_dir_all(folder);
    matches!(folder.symlink_metadata(), Err(cause) if cause.kind() == io::ErrorKind::NotFound)
}

/// Becomes the program that `words` name, behind the caller's id, how many folders there are, and these.
fn become_program(words: &[OsString]) -> Exit {
    let failed = |what: &str| {
        eprintln!("keyward: cannot start the program: {what}");
        Exit::Failure
    };
    let number = |n: usize| words.get(n).and_then(|word| word.to_str()?.parse::<usize>().ok());
    let (Some(parent), Some(count)) = (number(0), number(1)) else { return failed("no numbers") };
    let rest = words.get(2..).unwrap_or_default();
    let Some((folders, [program, arguments @ ..])) = rest.split_at_checked(count) else {
        return failed("no program");
    };
    // Its terminal's signals are the caller's; that one ends, and so does this.
    let _ = setsid();
    umask(Mode::from_bits_truncate(0o077));
    let _ = prctl::set_no_new_privs();
    if prctl::set_pdeathsig(Signal::SIGKILL).is_err() || getppid().as_raw() as usize != parent {
        return failed("the caller is gone");
    }
    let folders: Vec<_> = folders.iter().map(Path::new).collect();
    // A kernel without it is no reason not to try.
    let _ = confine::writing_below(&folders);
    failed(&Command::new(program).args(arguments).exec().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_ours_are_removed() {
        for (path, ours) in [
            ("/tmp/keyward-drill-1", true),
            ("/dev/shm/keyward-drill-aa/", true),
            ("/tmp", false),
            ("/", false),
            ("/tmp/keyward-drill-1/..", false),
            ("", false),
        ] {
            assert_eq!(is_ours(Path::new(path)), ours, "{path}");
        }
    }

    #[test]
    fn a_call_of_a_person_is_none_of_ours() {
        for words in [&["keyward"][..], &["keyward", "status"], &["keyward", "keeper"]] {
            let call: Vec<OsString> = words.iter().map(Into::into).collect();
            assert!(enter(&call).is_none(), "{words:?}");
        }
        let cut = ["keyward", PROGRAM, "1"].map(OsString::from);
        assert!(matches!(enter(&cut), Some(Exit::Failure)));
    }
}
