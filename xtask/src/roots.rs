//! Other Debians without touching the machine: each in a root folder of its own, kept in the user's
//! cache because it takes half a gigabyte or more each and does not change from run to run.

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

/// Two Debians with MariaDB and nothing else, to install packages of ours in, two with what
/// MariaDB's suites need, and three with no server, for images. Sid is as new as its folder; the tests say which server they ran on.
const ROOTS: &[Root] = &[
    Root { name: "debian-12", release: "bookworm", packages: "mariadb-server" },
    Root { name: "debian-13", release: "trixie", packages: "mariadb-server" },
    Root { name: "mariadb-11.8", release: "trixie", packages: SUITES },
    Root { name: "mariadb-sid", release: "sid", packages: SUITES },
    Root { name: "slim-12", release: "bookworm", packages: SLIM },
    Root { name: "slim-13", release: "trixie", packages: SLIM },
    Root { name: "slim-sid", release: "sid", packages: SLIM },
];

/// Hardly more than apt: what the images `debian:*-slim` are.
const SLIM: &str = "netbase";

/// The server, its suites, and what Galera's state transfers call.
const SUITES: &str = "mariadb-server,mariadb-test,mariadb-backup,galera-4,apparmor,ca-certificates,\
                      iproute2,lsof,netbase,openssl,procps,rsync,socat,stunnel4,util-linux";

/// The root folder `name`, made if it is not there.
pub(crate) fn find(name: &str) -> Result<PathBuf> {
    let root = ROOTS.iter().find(|root| root.name == name);
    root.ok_or_else(|| format!("no root folder {name:?}"))?.find()
}

impl Root {
    fn find(&self) -> Result<PathBuf> {
        if !Uid::effective().is_root() {
            return Err("only root can enter a root folder of its own: sudo cargo xtask ...".into());
        }
        let root = cache()?.join(self.name);
        if !self.is_whole(&root) {
            setup::need(&["mmdebstrap"])?;
            self.make(&root)?;
        }
        Ok(root)
    }

    /// Whether it is there with all its packages: the list may have grown since it was made.
    fn is_whole(&self, root: &Path) -> bool {
        let info = root.join("var/lib/dpkg/info");
        self.packages.split(',').all(|package| info.join(format!("{package}.list")).exists())
    }

    /// Makes it beside its place, so that half of one is never taken for the whole.
    fn make(&self, root: &Path) -> Result<()> {
        let part = root.with_extension("part");
        let _ = fs::remove_dir_all(&part);
        fs::create_dir_all(&part)?;
        let mut command = Command::new("mmdebstrap");
        command.arg("--variant=apt").arg(format!("--include={}", self.packages));
        // A mirror's copy of sid is not always as fresh as it promises to be.
        command.arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
        command.arg(self.release).arg(&part);
        command.arg(format!("deb {} {} main", mirror()?, self.release));
        let log = scratch::root().join("mmdebstrap.log");
        let done = job::logged(&mut command, &log, Duration::from_secs(1200))?;
        if !done.ok {
            return Err(format!("mmdebstrap\n{}", done.text).into());
        }
        fs::write(part.join("etc/hosts"), "127.0.0.1 localhost\n")?;
        let _ = fs::remove_dir_all(root);
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
