//! Other Debians without touching the machine: each in a root folder of its own, kept in the user's
//! cache because it takes half a gigabyte or more and does not change from run to run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::Uid;
use test_kit::{Result, scratch};

use crate::{job, setup};

const SOURCES: &str = "/etc/apt/sources.list.d/debian.sources";

/// A root folder: its name in the cache, the release and what is installed in it.
struct Root {
    name: &'static str,
    release: &'static str,
    packages: &'static str,
}

/// The next Debian, with MariaDB 11.8 and its suites.
const NEXT: Root = Root {
    name: "mariadb-11.8",
    release: "trixie",
    packages: "mariadb-server,mariadb-test,mariadb-backup,netbase,procps,util-linux",
};

/// Debian 12 with MariaDB and nothing else, to install packages of ours in.
const FRESH: Root = Root { name: "debian-12", release: "bookworm", packages: "mariadb-server" };

/// The root folder with MariaDB 11.8, made if it is not there.
pub(crate) fn root() -> Result<PathBuf> {
    NEXT.find()
}

/// The root folder with a fresh Debian 12, made if it is not there.
pub(crate) fn debian12() -> Result<PathBuf> {
    FRESH.find()
}

impl Root {
    fn find(&self) -> Result<PathBuf> {
        if !Uid::effective().is_root() {
            return Err("only root can enter a root folder of its own: sudo cargo xtask ...".into());
        }
        let root = cache()?.join(self.name);
        if !root.exists() {
            setup::need(&["mmdebstrap"])?;
            self.make(&root)?;
        }
        Ok(root)
    }

    /// Makes it beside its place, so that half of one is never taken for the whole.
    fn make(&self, root: &Path) -> Result<()> {
        let part = root.with_extension("part");
        let _ = fs::remove_dir_all(&part);
        fs::create_dir_all(&part)?;
        let mut command = Command::new("mmdebstrap");
        command.arg("--variant=apt").arg(format!("--include={}", self.packages));
        command.arg(self.release).arg(&part);
        command.arg(format!("deb {} {} main", mirror()?, self.release));
        let log = scratch::root().join("mmdebstrap.log");
        let done = job::logged(&mut command, &log, Duration::from_secs(1200))?;
        if !done.ok {
            return Err(format!("mmdebstrap\n{}", done.text).into());
        }
        fs::write(part.join("etc/hosts"), "127.0.0.1 localhost\n")?;
        Ok(fs::rename(&part, root)?)
    }
}

/// Where this machine gets its own packages from.
pub(crate) fn mirror() -> Result<String> {
    let text = test_kit::files::text(Path::new(SOURCES))?;
    let uri = text.lines().find_map(|line| line.strip_prefix("URIs:"));
    Ok(uri.ok_or_else(|| format!("{SOURCES} names no mirror"))?.trim().to_owned())
}

/// The user's cache, made where it is missing.
pub(crate) fn cache() -> Result<PathBuf> {
    let folder = test_kit::cache::folder().ok_or("neither XDG_CACHE_HOME nor HOME is set")?;
    fs::create_dir_all(&folder)?;
    Ok(folder)
}
