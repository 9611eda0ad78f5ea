//! Root is never lent: the command as root, and files that somebody else prepared. What needs two
//! users runs where the tests are root's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod account;
mod files;
mod metrics;
mod output;
mod surroundings;
mod table;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;

/// The account that stands for the server's.
const NOBODY: u32 = 65_534;
/// Somebody else.
const STRANGER: u32 = 65_533;
/// No call takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder with a keystore, and where root keeps its own; the account that root works for.
struct Site(TempDir, &'static str);

impl Site {
    /// Set up by `keyward init`; as root for the account `nobody`.
    fn new() -> Self {
        Self::of("nobody")
    }

    /// The same for another account.
    fn of(account: &'static str) -> Self {
        let site = Self(Self::empty().0, account);
        let made = site.keyward(&["init", "--dir", &site.text("keyward")]);
        assert!(made.status.success(), "{}", said(&made));
        site
    }

    fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        chmod(folder.path(), 0o755);
        Self(folder, "nobody")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn config(&self) -> PathBuf {
        self.path("keyward/keyward.toml")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.arg(PATIENCE.as_secs().to_string()).arg(env!("CARGO_BIN_EXE_keyward"));
        if !words.contains(&"--config") {
            command.arg("--config").arg(self.config());
        }
        command.args(words);
        if geteuid().is_root() {
            command.args(["--user", self.1]);
        }
        command
    }

    /// The process that is the account's part of a call that runs.
    fn part(&self) -> Pid {
        let config = self.config().display().to_string();
        let words = |id: &String| fs::read_to_string(format!("/proc/{id}/cmdline"));
        let is_it = |text: String| text.contains("@account") && text.contains(&config);
        loop {
            let all = fs::read_dir("/proc").unwrap().flatten();
            let mut ids = all.filter_map(|entry| entry.file_name().into_string().ok());
            match ids.find(|id| words(id).is_ok_and(is_it)) {
                Some(id) => return Pid::from_raw(id.parse().unwrap()),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    fn keyward(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// That the command refuses at once, with these words.
    fn refused(&self, call: &[&str], words: &[&str]) -> String {
        let start = Instant::now();
        let output = self.keyward(call);
        let text = said(&output);
        assert!(start.elapsed() < PATIENCE, "{call:?} hangs");
        assert!(!output.status.success(), "{call:?}: {text}");
        words.iter().for_each(|word| assert!(text.contains(word), "{call:?}, {word}: {text}"));
        text
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn pipe(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
}

/// A module whose constructor writes `uid euid suid` and whether root can be had again.
fn module(path: &Path, report: &Path) {
    let source = path.with_extension("c");
    let text = format!(
        "#define _GNU_SOURCE\n#include <stdio.h>\n#include <unistd.h>\n\
         __attribute__((constructor)) static void loaded(void) {{\n\
         uid_t r, e, s; getresuid(&r, &e, &s);\n\
         FILE *f = fopen(\"{}\", \"w\"); if (!f) return;\n\
         fprintf(f, \"%u %u %u %d\\n\", r, e, s, setresuid(0, 0, 0)); fclose(f); }}\n",
        report.display()
    );
    fs::write(&source, text).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(path).arg(source).status();
    assert!(built.unwrap().success());
    chmod(path, 0o755);
}

/// Adds a provider that loads `module`.
fn load_module(site: &Site, module: &Path) {
    let pin = site.path("keyward/pin");
    fs::write(&pin, "1234\n").unwrap();
    chmod(&pin, 0o640);
    if geteuid().is_root() {
        chown(&pin, None, Some(NOBODY)).unwrap();
    }
    let more = format!(
        "\n[[provider]]\nname = \"hsm\"\ntype = \"pkcs11\"\nmodule = {module:?}\n\
         token = \"t\"\nkey = \"k\"\npin_file = {pin:?}\n"
    );
    fs::write(site.config(), fs::read_to_string(site.config()).unwrap() + &more).unwrap();
}
