//! The keys of a running server, written into a new keystore after theirs was lost.

use std::fs;

use test_kit::files::copy;
use test_kit::{Result, ensure, files, seen};
use test_mariadb::approvers;
use test_mysql::{Keyring, Server, Site};

/// The function, and a table that only its key reads.
const TABLE: &str = "
    CREATE FUNCTION keyward_rescue RETURNS INTEGER SONAME 'component_keyring_keyward.so';
    CREATE DATABASE d; CREATE TABLE d.t (a INT) ENCRYPTION = 'Y'; INSERT INTO d.t VALUES (7)";

#[test]
fn the_keys_in_memory_outlive_their_keystore() -> Result<()> {
    let site = Site::new("rescue", Keyring::Ours)?;
    let server = site.start()?;
    server.sql(TABLE)?;
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

#[test]
fn a_rescue_waits_for_the_approvals_that_the_lost_keystore_wants() -> Result<()> {
    let site = Site::new("rescue-approved", Keyring::Ours)?;
    let (people, keystore) = (site.path("people"), site.path("keys"));
    fs::create_dir(&people)?;
    let server = site.start()?;
    server.sql(TABLE)?;
    approvers::set(&people, |words| site.keyward(words))?;
    ensure!(server.sql("SELECT keyward_rescue()")? == "0", "a whole keystore was rescued");
    for file in files::list(&keystore) {
        fs::remove_file(file)?;
    }
    let told = refused(&server)?;
    ensure!(told.contains("2 approvals are needed to rescue the keys in memory"), "{told}");
    ensure!(told.contains("give the same statement again"), "the end is cut off: {told}");
    approvers::sign_beside(&people, &keystore, |n| {
        let left = refused(&server)?;
        ensure!(left.contains(&format!("and there are {n}: request")), "{left}");
        Ok(())
    })?;
    let rescued = server.sql("SELECT keyward_rescue()")?;
    ensure!(rescued == "1", "{rescued} versions\n{}", server.log());
    let trail = site.keyward(&["audit", "show"])?.text();
    ensure!(trail.contains("approved by alice (SHA256:"), "{trail}");
    server.stop()?;
    let server = site.start()?;
    ensure!(server.sql("SELECT a FROM d.t")? == "7", "the table does not open");
    seen!("rescued after two approvals: {rescued} version");
    server.stop().map(drop)
}

/// What the error log says of a rescue that was refused.
fn refused(server: &Server) -> Result<String> {
    let answer = server.sql("SELECT keyward_rescue()")?;
    ensure!(answer == "NULL", "{answer}");
    let log = server.log();
    let line = log.lines().rfind(|line| line.contains("cannot rescue the keys"));
    Ok(line.ok_or("the log says nothing")?.to_owned())
}
