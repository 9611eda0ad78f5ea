//! mariadb-backup beside a server with keyward.

use std::fs;
use std::path::Path;
use std::process::Command;

use mariadb_test::command::answer;
use mariadb_test::files::{Snapshot, all, holding};
use mariadb_test::launch::give_to_server;
use mariadb_test::rows::{PLAINTEXT, check, create};
use mariadb_test::{Result, Server, Site, ensure};

use crate::{TABLES, site};

#[test]
fn backup_prepare_restore() -> Result<()> {
    let site = site("backup")?;
    let server = site.start()?;
    create(&server, TABLES)?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    let before = Snapshot::of(&site.path("keyward"))?;
    let target = site.path("backup");
    let said = backup(&site, &server, &target, None)?;
    ensure!(Snapshot::of(&site.path("keyward"))? == before, "the backup changed the keystore");
    ensure!(!said.contains("local.key"), "the backup's log names the wrapping key");
    let clear = holding(&all(&target), PLAINTEXT)?;
    ensure!(clear.is_empty(), "in the clear: {clear:?}");
    server.stop()?;
    restore(&site, &target, &[])?;
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
    backup(&site, &server, &full, None)?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    create(&server, &TABLES[2..])?;
    site.keyward(&["rotate", "--all"])?.ok()?;
    server.sql("DELETE FROM test.plain_key WHERE id = 1")?;
    let step = site.path("step");
    backup(&site, &server, &step, Some(&full))?;
    server.stop()?;
    restore(&site, &full, &[&step])?;
    let server = site.start()?;
    check(&server, &TABLES[1..])?;
    let left = server.sql("SELECT COUNT(*) FROM test.plain_key")?;
    ensure!(left == "1999", "plain_key has {left} rows");
    server.stop()?;
    Ok(())
}

fn backup(site: &Site, server: &Server, target: &Path, base: Option<&Path>) -> Result<String> {
    let mut command = tool(site);
    command.arg("--backup").arg("--user=root");
    command.arg(format!("--socket={}", server.socket().display()));
    command.arg(format!("--target-dir={}", target.display()));
    if let Some(base) = base {
        command.arg(format!("--incremental-basedir={}", base.display()));
    }
    let answer = answer(&mut command)?;
    ensure!(answer.code == 0, "mariadb-backup --backup\n{}", answer.text());
    Ok(answer.text())
}

/// Prepares the backup and puts it in the place of the server's data.
fn restore(site: &Site, full: &Path, steps: &[&Path]) -> Result<()> {
    prepare(site, full, None)?;
    for step in steps {
        prepare(site, full, Some(step))?;
    }
    fs::rename(site.data(), site.path("data-before"))?;
    fs::create_dir(site.data())?;
    let mut command = tool(site);
    command.arg("--copy-back").arg(format!("--target-dir={}", full.display()));
    answer(&mut command)?.ok()?;
    give_to_server(&site.data())
}

fn prepare(site: &Site, full: &Path, step: Option<&Path>) -> Result<()> {
    let mut command = Command::new("mariadb-backup");
    command.arg("--prepare").arg(format!("--target-dir={}", full.display()));
    command.arg(format!("--plugin-dir={}", site.path("plugin").display()));
    if let Some(step) = step {
        command.arg(format!("--incremental-dir={}", step.display()));
    }
    answer(&mut command)?.ok().map(drop).map_err(|error| error.within("mariadb-backup --prepare"))
}

fn tool(site: &Site) -> Command {
    let mut command = Command::new("mariadb-backup");
    command.arg(format!("--defaults-file={}", site.my_cnf().display()));
    command
}
