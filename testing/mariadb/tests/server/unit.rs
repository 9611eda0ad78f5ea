//! Started as Debian's unit starts it: user mysql, system folders read-only, UMask 007.

use std::fs;
use std::os::unix::fs::MetadataExt;

use test_kit::account::server_user;
use test_kit::{Result, ensure};
use test_mariadb::Launch;
use test_mariadb::rows::{check, create, wait_for_version};

use crate::{TABLES, site};

#[test]
fn rotations_by_the_server_and_by_a_root_run_command() -> Result<()> {
    let site = site("unit")?;
    let as_unit = Launch { as_unit: true, ..Launch::default() };
    let server = site.launch(&as_unit)?;
    create(&server, TABLES)?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    owned_by_server(&site)?;
    site.keyward(&["rotate", "--all"])?.ok()?;
    owned_by_server(&site)?;
    wait_for_version(&server, "%", 5)?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    owned_by_server(&site)?;
    wait_for_version(&server, "%", 7)?;
    check(&server, TABLES)?;
    server.stop()?;
    let server = site.launch(&as_unit)?;
    check(&server, TABLES)?;
    server.stop()?;
    Ok(())
}

/// Every file of the keystore belongs to the server's user and is closed to all others.
fn owned_by_server(site: &test_mariadb::Site) -> Result<()> {
    let owner =
        server_user().map_or_else(|| nix::unistd::getuid().as_raw(), |user| user.uid.as_raw());
    for path in test_kit::files::all(&site.keys()) {
        let data = fs::metadata(&path)?;
        ensure!(data.uid() == owner, "{} belongs to {}", path.display(), data.uid());
        ensure!(data.mode() & 0o077 == 0, "{} has mode {:o}", path.display(), data.mode());
    }
    Ok(())
}

#[test]
fn memory_that_cannot_be_locked_is_a_warning() -> Result<()> {
    let site = site("unlocked")?;
    let launch = Launch {
        under: ["prlimit", "--memlock=0:0"].map(str::to_owned).to_vec(),
        ..Launch::default()
    };
    let server = site.launch(&launch)?;
    create(&server, TABLES)?;
    check(&server, TABLES)?;
    let warnings = server.log().lines().filter(|line| line.contains("lock")).count();
    ensure!(warnings >= 1, "nothing was said about memory that is not locked:\n{}", server.log());
    server.stop()?;
    Ok(())
}
