//! A machine that is lost: its data come from mariadb-backup, its keys from `keyward keystore backup`.

use std::time::Instant;

use test_kit::account::give_to_server;
use test_kit::{Result, ensure, seen};
use test_mariadb::rows::{check, create};
use test_mariadb::{Backup, Site};

use crate::{TABLES, site};

#[test]
fn a_lost_machine_comes_back_from_two_backups() -> Result<()> {
    let lost = site("recovery")?;
    let server = lost.start()?;
    create(&server, TABLES)?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    let identity = lost.path("identity.txt").display().to_string();
    let said = lost.keyward(&["keystore", "backup", "--identity", &identity])?;
    ensure!(said.code == 0, "{}", said.text());
    let last =
        |line: Option<&str>| line.and_then(|line| line.rsplit(' ').next()).map(str::to_owned);
    let mut lines = said.err.lines();
    let fingerprint = last(lines.next()).ok_or("no fingerprint")?;
    let recipient = last(lines.next()).ok_or("no recipient")?;
    lost.keyward(&["keystore", "backup", "--add-recipient", &recipient])?.ok()?;
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
