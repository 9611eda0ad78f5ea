//! mariadb-backup beside a server with keyward.

use test_kit::files::{Snapshot, all, holding};
use test_kit::{Result, ensure, run};
use test_mariadb::Backup;
use test_mariadb::rows::{PLAINTEXT, check, create};

use crate::{TABLES, site};

#[test]
fn backup_prepare_restore() -> Result<()> {
    let site = site("backup")?;
    let server = site.start()?;
    create(&server, TABLES)?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    let before = Snapshot::of(&site.path("keyward"))?;
    let target = site.path("backup");
    let said = Backup::of(&site).make(&server, &target, None)?;
    ensure!(Snapshot::of(&site.path("keyward"))? == before, "the backup changed the keystore");
    ensure!(!said.contains("local.key"), "the backup's log names the wrapping key");
    let clear = holding(&all(&target), PLAINTEXT)?;
    ensure!(clear.is_empty(), "in the clear: {clear:?}");
    server.stop()?;
    Backup::of(&site).restore(&target, &[])?;
    ensure!(Snapshot::of(&site.path("keyward"))? == before, "the restore changed the keystore");
    let server = site.start()?;
    check(&server, TABLES)?;
    server.stop()?;
    Ok(())
}

#[test]
fn incremental_backup_across_a_rotation() -> Result<()> {
    let site = site("incremental")?;
    let server = site.start()?;
    create(&server, &TABLES[..2])?;
    let full = site.path("full");
    Backup::of(&site).make(&server, &full, None)?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    create(&server, &TABLES[2..])?;
    site.keyward(&["rotate", "--all"])?.ok()?;
    server.sql("DELETE FROM test.plain_key WHERE id = 1")?;
    let step = site.path("step");
    Backup::of(&site).make(&server, &step, Some(&full))?;
    server.stop()?;
    Backup::of(&site).restore(&full, &[&step])?;
    let server = site.start()?;
    check(&server, &TABLES[1..])?;
    let left = server.sql("SELECT COUNT(*) FROM test.plain_key")?;
    ensure!(left == "1999", "plain_key has {left} rows");
    server.stop()?;
    Ok(())
}

#[test]
fn a_prepare_with_an_older_keystore_names_the_version_that_it_lacks() -> Result<()> {
    let site = site("older-keys")?;
    let server = site.start()?;
    let copy = |from: &str, to: &str| run("cp", ["-a", "-T", from, to]);
    let at = |name: &str| site.path(name).display().to_string();
    copy(&at("keyward"), &at("older"))?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    create(&server, TABLES)?;
    server.stop()?;
    // From here on the redo log needs pages that are on the disk.
    let server = site.start()?;
    server.sql("DELETE FROM test.plain_key WHERE id = 1")?;
    let target = site.path("backup");
    Backup::of(&site).make(&server, &target, None)?;
    server.stop()?;
    copy(&at("keyward"), &at("newest"))?;
    copy(&at("older"), &at("keyward"))?;
    let refused = Backup::of(&site).prepare(&target, None).expect_err("it has no such key");
    let lines = refused.to_string();
    let named = lines.lines().any(|line| {
        line.contains("keyward: key 1 version ")
            && line.contains(" is asked for and is not there: use the keystore")
    });
    ensure!(named, "{lines}");
    Ok(())
}
