//! The key store out of reach: at the start, and while the server runs.

use std::fs;

use mariadb_test::{Result, ensure};
use mysql_test::{Keyring, Server, Site};

#[test]
fn disabled_at_the_start_and_back_by_reload() -> Result<()> {
    let site = Site::new("disabled", Keyring::Ours)?;
    let server = site.start()?;
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT) ENCRYPTION = 'Y'")?;
    server.sql("INSERT INTO d.t VALUES (1)")?;
    server.stop()?;
    let (key, away) = (site.wrapping_key(), site.path("away"));
    fs::rename(&key, &away)?;
    let server = site.start()?;
    ensure!(server.component("Component_status")? == "Disabled", "the keyring is not disabled");
    let cause = server.component("Last_error")?;
    ensure!(cause.contains("keystore.json.key"), "the cause is {cause:?}");
    let refused = server.sql_refused("CREATE TABLE d.u (a INT) ENCRYPTION = 'Y'")?;
    ensure!(refused.contains("ERROR 3185"), "{refused}");
    let log = server.log();
    ensure!(log.contains("keyward: cannot load") && log.contains("keystore.json.key"), "{log}");
    let refused = server.sql_refused("ALTER INSTANCE RELOAD KEYRING")?;
    ensure!(refused.contains("Keyring reload failed"), "{refused}");
    fs::rename(&away, &key)?;
    server.sql("ALTER INSTANCE RELOAD KEYRING")?;
    ensure!(server.component("Component_status")? == "Active", "still disabled");
    server.sql(
        "CREATE TABLE d.u (a INT) ENCRYPTION = 'Y'; ALTER INSTANCE ROTATE INNODB MASTER KEY",
    )?;
    server.stop()?;
    let server = site.start()?;
    ensure!(server.sql("SELECT a FROM d.t")? == "1", "the row is gone");
    server.stop().map(drop)
}

#[test]
fn a_rotation_that_cannot_be_kept_fails_and_changes_nothing() -> Result<()> {
    let site = Site::new("outage", Keyring::Ours)?;
    let server = site.start()?;
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT) ENCRYPTION = 'Y'")?;
    server.sql("INSERT INTO d.t VALUES (1)")?;
    let before = keys(&server)?;
    let (folder, away) = (site.path("keys"), site.path("keys-away"));
    fs::rename(&folder, &away)?;
    server.sql_refused("ALTER INSTANCE ROTATE INNODB MASTER KEY")?;
    let log = server.log();
    ensure!(log.contains("keyward: cannot generate key INNODBKey-"), "{log}");
    server.sql("INSERT INTO d.t VALUES (2)")?;
    ensure!(server.sql("SELECT SUM(a) FROM d.t")? == "3", "reads do not go on");
    ensure!(keys(&server)? == before, "the keys changed");
    fs::rename(&away, &folder)?;
    server.sql("ALTER INSTANCE ROTATE INNODB MASTER KEY")?;
    ensure!(keys(&server)?.lines().count() == before.lines().count() + 1, "no new key");
    server.stop()?;
    let server = site.start()?;
    ensure!(server.sql("SELECT SUM(a) FROM d.t")? == "3", "the rows are gone");
    server.stop().map(drop)
}

fn keys(server: &Server) -> Result<String> {
    server.sql("SELECT KEY_ID FROM performance_schema.keyring_keys ORDER BY KEY_ID")
}
