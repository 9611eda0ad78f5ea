//! An older copy of the keystore's folder, put back next to a running server, in which somebody then
//! goes on: the server never encrypts with what it has already replaced.

use std::fs;
use std::time::Duration;

use test_kit::files::copy;
use test_kit::{Result, ensure, seen};
use test_mariadb::rows::{check, create, key_of, wait_for_version};
use test_mariadb::{Server, Site};

use crate::{TABLES, site};

#[test]
fn an_older_folder_that_went_on_is_refused_until_the_newest_is_back() -> Result<()> {
    let site = site("went-on")?;
    let server = site.start()?;
    create(&server, TABLES)?;
    copy(&site.keys(), &site.path("older"))?;
    server.sql("SET GLOBAL keyward_rotate_key = 1")?;
    wait_for_version(&server, "test/plain_key", 3)?;
    copy(&site.keys(), &site.path("newest"))?;

    put_back(&site, "older")?;
    degraded_by(&server, "went back from generation")?;
    site.keyward(&["keys", "create", "5"])?.ok()?;
    degraded_by(&server, "has other contents than before")?;
    site.keyward(&["keys", "create", "6"])?.ok()?;
    degraded_by(&server, "key 1 version 3 is gone")?;
    encrypts_with_version_3(&server, "first")?;

    // The keystore alone, and somebody who accepts it while the server runs.
    fs::remove_file(site.keystore())?;
    copy(&site.path("older/keystore.json"), &site.keystore())?;
    site.keyward(&["keystore", "accept-rollback", "--reason", "there is no newer one"])?.ok()?;
    for _ in 0..2 {
        site.keyward(&["rotate", "1"])?.ok()?;
    }
    degraded_by(&server, "key 1 version 3 is ")?;
    encrypts_with_version_3(&server, "second")?;

    put_back(&site, "newest")?;
    server.wait_for("SHOW GLOBAL STATUS LIKE 'Keyward_state'", PATIENCE, |row| {
        row.ends_with("\tok")
    })?;
    server.sql("SET GLOBAL keyward_rotate_key = 1")?;
    server.stop()?;
    let server = site.start()?;
    check(&server, TABLES)?;
    for table in ["first", "second"] {
        ensure!(server.sql(&format!("SELECT COUNT(*) FROM test.{table}"))? == "1000", "{table}");
    }
    server.stop()?;
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(10);

/// The line that the server shows has these words, and it refuses to rotate.
fn degraded_by(server: &Server, words: &str) -> Result<()> {
    let row =
        server.wait_for("SHOW GLOBAL STATUS LIKE 'Keyward_degraded_reason'", PATIENCE, |row| {
            row.contains(words)
        });
    row.map_err(|error| error.within(words))?;
    seen!("{}", server.status("Keyward_degraded_reason")?);
    ensure!(server.status("Keyward_state")? == "degraded", "it is not degraded");
    let said = server.sql_refused("SET GLOBAL keyward_rotate_key = 1")?;
    ensure!(said.contains("newe"), "no way out is named: {said}");
    Ok(())
}

fn encrypts_with_version_3(server: &Server, table: &str) -> Result<()> {
    server.sql(&format!(
        "USE test; CREATE TABLE {table} (id INT PRIMARY KEY) ENCRYPTED=YES;
         INSERT INTO {table} SELECT seq FROM seq_1_to_1000;"
    ))?;
    let (_, current, oldest) = key_of(server, &format!("test/{table}"))?;
    ensure!((current, oldest) == (3, 3), "{table}: versions {current} and {oldest}");
    check(server, TABLES)
}

/// Puts the files of a copy in the place of the keystore's.
fn put_back(site: &Site, copied: &str) -> Result<()> {
    fs::remove_dir_all(site.keys())?;
    copy(&site.path(copied), &site.keys())
}
