//! How a server process is started: as whom, in which surroundings, under which tool.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::Uid;

use crate::SERVER;

/// The surroundings of a server to be started.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// Options after those of `my.cnf`.
    pub options: Vec<String>,
    /// Variables added to its environment.
    pub environment: Vec<(String, String)>,
    /// A tool that runs it, with its arguments: `valgrind`, `strace`.
    pub under: Vec<String>,
    /// As Debian's unit does: /etc, /usr and /boot read-only, files made for owner and group only.
    pub as_unit: bool,
    /// Folders of the test's own in the place of the machine's, for this process alone: what, where.
    pub binds: Vec<(PathBuf, PathBuf)>,
    /// The size of a core file in KiB, where one is wanted.
    pub core: Option<u64>,
}

impl Launch {
    /// With these options after those of `my.cnf`.
    #[must_use]
    pub fn with<S: Into<String>>(options: impl IntoIterator<Item = S>) -> Self {
        Self { options: options.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// The command line of a server that reads `my_cnf`.
    pub(crate) fn command(&self, my_cnf: &Path, home: &Path) -> Command {
        let mut words = Vec::new();
        words.extend(self.surroundings());
        words.extend(identity());
        words.extend(self.under.iter().cloned());
        words.push(SERVER.into());
        words.push(format!("--defaults-file={}", my_cnf.display()));
        words.extend(self.options.iter().cloned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(home).envs(self.environment.iter().cloned());
        command
    }

    /// The words before the tool: limits, and a mount namespace of its own.
    fn surroundings(&self) -> Vec<String> {
        let core = self.core.map(|size| format!("ulimit -c {size}"));
        let unit = self.as_unit.then(|| {
            "for at in /etc /usr /boot; do mount --bind $at $at && mount -o remount,ro,bind $at; done; \
             umask 007"
                .to_owned()
        });
        let bind = |(what, at): &(PathBuf, PathBuf)| {
            format!("mount --bind {} {}", what.display(), at.display())
        };
        let binds = (!self.binds.is_empty())
            .then(|| self.binds.iter().map(bind).collect::<Vec<_>>().join("; "));
        let steps: Vec<_> = [core, unit, binds].into_iter().flatten().collect();
        if steps.is_empty() {
            return Vec::new();
        }
        let script = format!("set -e; {}; exec \"$@\"", steps.join("; "));
        let own = self.as_unit || !self.binds.is_empty();
        let namespace: &[&str] = if own { &["unshare", "--mount"] } else { &[] };
        let shell = ["setpriv", "--pdeathsig", "KILL", "sh", "-c", script.as_str(), "sh"];
        namespace.iter().chain(&shell).map(|word| (*word).to_owned()).collect()
    }
}

/// As mysql where we are root, else as ourselves; and never longer than the thread that asked.
pub(crate) fn identity() -> Vec<String> {
    let mut words = vec!["setpriv", "--pdeathsig", "KILL"];
    if Uid::effective().is_root() {
        words.extend(["--reuid=mysql", "--regid=mysql", "--init-groups"]);
    }
    words.into_iter().map(str::to_owned).collect()
}
