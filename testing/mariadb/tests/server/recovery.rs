//! A machine that is lost: its data come from mariadb-backup, its keys from `keyward keystore backup`.

use std::time::Instant;

use test_kit::account::give_to_server;
use test_kit::{Result, ensure, files, seen};
use test_mariadb::rows::{check, create, wait_for_version};
use test_mariadb::{Backup, Site};

use crate::{TABLES, site};

#[test]
fn a_drill_reads_every_page() -> Result<()> {
    let site = site("drill")?;
    let server = site.start()?;
    create(&server, TABLES)?;
    server.write_pages()?;
    let (identity, _) = identity(&site)?;
    let keys = site.path("keys.age").display().to_string();
    site.keyward(&["keystore", "backup", "--to", &keys])?.ok()?;
    for path in [&identity, &keys] {
        give_to_server(path.as_ref())?;
    }
    let data = site.data().display().to_string();
    let drill =
        || site.keyward(&["keystore", "drill", &keys, "--identity", &identity, "--datadir", &data]);
    let said = drill()?.ok()?;
    ensure!(said.contains("passed in "), "{said}");
    seen!("beside a running server: {}", said.trim().replace('\n', "; "));

    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    wait_for_version(&server, "test/%", 3)?;
    server.write_pages()?;
    server.stop()?;
    let said = drill()?;
    let lacks = "it lacks key 1 version 3, ";
    let needs = ".ibd: it needs key 1 version 3, which the backup lacks";
    ensure!(
        said.code == 1 && said.out.contains(lacks) && said.out.contains(needs),
        "{}",
        said.text()
    );

    std::fs::remove_file(&keys)?;
    site.keyward(&["keystore", "backup", "--to", &keys])?.ok()?;
    give_to_server(keys.as_ref())?;
    drill()?.ok()?;
    let table = site.data().join("test").join(format!("{}.ibd", TABLES[0].name));
    let mut bytes = files::read(&table)?;
    bytes[5 * 16_384 + 1_000] ^= 1;
    std::fs::write(&table, bytes)?;
    let said = drill()?;
    ensure!(
        said.code == 1 && said.out.contains(".ibd: page 5 has a wrong checksum"),
        "{}",
        said.text()
    );
    Ok(())
}

#[test]
fn a_lost_machine_comes_back_from_two_backups() -> Result<()> {
    let lost = site("recovery")?;
    let server = lost.start()?;
    create(&server, TABLES)?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    let (identity, fingerprint) = identity(&lost)?;
    let keys = lost.path("keys.age").display().to_string();
    lost.keyward(&["keystore", "backup", "--to", &keys])?.ok()?;
    let base = lost.path("base");
    Backup::of(&lost).make(&server, &base, None)?;
    server.stop()?;
    for path in [&identity, &keys] {
        give_to_server(path.as_ref())?;
    }

    let since = Instant::now();
    let mut new = Site::with_keyward("recovery-new")?;
    new.encrypt_everything();
    new.write_my_cnf()?;
    let words = [
        "keystore",
        "restore",
        &keys,
        "--identity",
        &identity,
        "--fingerprint",
        &fingerprint,
        "--replace",
        "--datadir",
    ];
    // Data of another server's are noticed before anything is done.
    let other = site("recovery-other")?;
    let server = other.start()?;
    create(&server, &TABLES[..1])?;
    server.stop()?;
    let theirs = other.data().display().to_string();
    let refused = new.keyward(&[&words[..], &[&*theirs]].concat())?;
    ensure!(
        refused.code == 1 && refused.err.contains("is encrypted with another key"),
        "{}",
        refused.text()
    );
    seen!("{}", refused.err.trim());
    let data = base.display().to_string();
    test_kit::run("chmod", ["-R", "a+rX", &data])?;
    let said = new.keyward(&[&words[..], &[&*data]].concat())?.ok()?;
    ensure!(said.contains("its keys open what was looked at"), "{said}");
    Backup::of(&new).restore(&base, &[])?;
    let server = new.start()?;
    check(&server, TABLES)?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    server.stop()?;
    seen!(
        "a lost machine: all rows are read {} ms after it was set up",
        since.elapsed().as_millis()
    );
    Ok(())
}

#[test]
fn a_registered_backup_stays_readable() -> Result<()> {
    let site = site("registered")?;
    let server = site.start()?;
    create(&server, TABLES)?;
    server.write_pages()?;
    let base = site.path("base");
    // As it comes, with a redo log that nobody has applied.
    Backup::of(&site).make(&server, &base, None)?;
    let base = base.display().to_string();
    test_kit::run("chmod", ["-R", "a+rX", &base])?;
    let listed =
        site.keyward(&["keystore", "backups", "add", &base, "--until", "2999-12-31"])?.ok()?;
    ensure!(listed.contains(&base) && listed.contains("2999-12-31"), "{listed}");
    seen!("{}", listed.lines().last().unwrap_or_default());
    for version in [3, 5, 7] {
        server.sql("SET GLOBAL keyward_rotate_key = -1")?;
        wait_for_version(&server, "test/%", version)?;
    }
    server.write_pages()?;
    let (data, socket) = (site.data().display().to_string(), server.socket().display().to_string());
    let destroy =
        |key| site.keyward(&["keys", "destroy", key, "1", "--datadir", &data, "--socket", &socket]);
    for key in ["1", "3", "4"] {
        let said = destroy(key)?;
        let why = format!("the backup {base} on ");
        ensure!(said.code == 1 && said.err.contains(&why), "{}", said.text());
    }
    // Versions that it does not need are none of its business.
    let said =
        site.keyward(&["keys", "destroy", "3", "3", "--datadir", &data, "--socket", &socket])?;
    ensure!(!said.text().contains(&base), "{}", said.text());
    site.keyward(&["keystore", "backups", "remove", &base])?.ok()?;
    destroy("3")?.ok()?;
    // The server reads a keystore that has a register.
    server.sql("SET GLOBAL keyward_refresh = ON")?;
    ensure!(server.status("Keyward_degraded")? == "0", "{}", server.log());
    server.stop()?;
    Ok(())
}

/// The file of an identity whose recipient is the keystore's, and the fingerprint that goes with it.
pub(crate) fn identity(site: &Site) -> Result<(String, String)> {
    let identity = site.path("identity.txt").display().to_string();
    let said = site.keyward(&["keystore", "backup", "--identity", &identity])?;
    ensure!(said.code == 0, "{}", said.text());
    let last =
        |line: Option<&str>| line.and_then(|line| line.rsplit(' ').next()).map(str::to_owned);
    let mut lines = said.err.lines();
    let fingerprint = last(lines.next()).ok_or("no fingerprint")?;
    let recipient = last(lines.next()).ok_or("no recipient")?;
    site.keyward(&["keystore", "backup", "--add-recipient", &recipient])?.ok()?;
    Ok((identity, fingerprint))
}
