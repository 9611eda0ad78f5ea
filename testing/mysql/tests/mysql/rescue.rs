//! The keys of a running server, written into a new keystore after theirs was lost.

use std::fs;

use test_kit::files::copy;
use test_kit::{Result, ensure, files, seen};
use test_mysql::{Keyring, Site};

#[test]
fn the_keys_in_memory_outlive_their_keystore() -> Result<()> {
    let site = Site::new("rescue", Keyring::Ours)?;
    let server = site.start()?;
    server.sql(
        "CREATE FUNCTION keyward_rescue RETURNS INTEGER SONAME 'component_keyring_keyward.so';
         CREATE DATABASE d; CREATE TABLE d.t (a INT) ENCRYPTION = 'Y'; INSERT INTO d.t VALUES (7)",
    )?;
    ensure!(server.sql("SELECT keyward_rescue()")? == "0", "a whole keystore was rescued");
    let older = site.path("older");
    copy(&site.path("keys"), &older)?;
    server.sql("ALTER INSTANCE ROTATE INNODB MASTER KEY")?;

    // Keystore and wrapping key are gone; without a configuration both are keyward's own to make.
    for file in files::list(&site.path("keys")) {
        fs::remove_file(file)?;
    }
    let rescued = server.sql("SELECT keyward_rescue()")?;
    ensure!(rescued == "2", "{rescued} versions\n{}", server.log());
    let log = server.log();
    let line = log.lines().rfind(|line| line.contains("rescued into")).unwrap_or_default();
    seen!("{}", line.replace(&site.path("").display().to_string(), ""));
    server.stop()?;
    let server = site.start()?;
    ensure!(server.sql("SELECT a FROM d.t")? == "7", "the table does not open");

    // The older copy, with its own wrapping key, is put back under the running server.
    server.sql("ALTER INSTANCE ROTATE INNODB MASTER KEY")?;
    fs::remove_dir_all(site.path("keys"))?;
    copy(&older, &site.path("keys"))?;
    ensure!(server.sql("SELECT keyward_rescue()")? == "3", "{}", server.log());
    ensure!(server.sql("SELECT keyward_rescue()")? == "0", "rescued again");
    server.sql("ALTER INSTANCE ROTATE INNODB MASTER KEY")?;
    server.stop()?;
    let server = site.start()?;
    ensure!(server.sql("SELECT a FROM d.t")? == "7", "the table does not open");
    let refused = server.sql_refused("SELECT keyward_rescue(1)")?;
    ensure!(refused.contains("takes no arguments"), "{refused}");
    server.stop().map(drop)
}
