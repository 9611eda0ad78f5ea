//! mariadb-backup beside a server with keyward.

use test_kit::files::{Snapshot, all, holding};
use test_kit::{Result, ensure};
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
