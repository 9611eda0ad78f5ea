//! MariaDB 11.8 without touching the machine: the next Debian release in a root folder of its own,
//! kept in the user's cache because it takes a gigabyte and does not change from run to run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::Uid;
use test_kit::{Result, scratch};

use crate::{job, setup};

const RELEASE: &str = "trixie";
const PACKAGES: &str = "mariadb-server,mariadb-test,mariadb-backup,netbase,procps,util-linux";
const SOURCES: &str = "/etc/apt/sources.list.d/debian.sources";

/// The root folder, made if it is not there.
pub(crate) fn root() -> Result<PathBuf> {
    if !Uid::effective().is_root() {
        return Err("only root can enter a root folder of its own: sudo cargo xtask ...".into());
    }
    let root = cache()?.join("mariadb-11.8");
    if !root.exists() {
        setup::need(&["mmdebstrap"])?;
        make(&root)?;
    }
    Ok(root)
}

/// Makes it beside its place, so that half of one is never taken for the whole.
fn make(root: &Path) -> Result<()> {
    let part = root.with_extension("part");
    let _ = fs::remove_dir_all(&part);
    fs::create_dir_all(&part)?;
    let mut command = Command::new("mmdebstrap");
    command.arg("--variant=apt").arg(format!("--include={PACKAGES}"));
    command.arg(RELEASE).arg(&part).arg(format!("deb {} {RELEASE} main", mirror()?));
    let log = scratch::root().join("mmdebstrap.log");
    let done = job::logged(&mut command, &log, Duration::from_secs(1200))?;
    if !done.ok {
        return Err(format!("mmdebstrap\n{}", done.text).into());
    }
    fs::write(part.join("etc/hosts"), "127.0.0.1 localhost\n")?;
    Ok(fs::rename(&part, root)?)
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
