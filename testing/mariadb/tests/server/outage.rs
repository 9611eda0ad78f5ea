//! Keys missing, wrong, damaged or out of reach: what the server does, and that mending helps.

use std::fs;
use std::time::Duration;

use test_kit::account::give_to_server;
use test_kit::files::copy;
use test_kit::{Result, ensure, files, seen};
use test_mariadb::Site;
use test_mariadb::rows::{check, create};

use crate::{TABLES, site};

/// What is done to a site so that its keys can no longer be had.
type Harm = fn(&Site) -> Result<()>;

/// Each harm, and a word that the server's log must say about it.
const HARMS: &[(&str, Harm, &str)] = &[
    ("keystore missing", |site| Ok(fs::remove_file(site.keystore())?), "keystore.json"),
    ("wrapping key missing", |site| Ok(fs::remove_file(site.key_file())?), "local.key"),
    ("another wrapping key", other_key_file, "local"),
    ("another server's keystore", other_keystore, "keystore.json"),
    ("keystore cut short", cut_keystore, "keystore.json"),
    ("a check value changed", change_check_value, "keystore.json"),
    ("a version removed", change_version, "keystore.json"),
];

#[test]
fn a_server_without_its_keys_refuses_and_says_why() -> Result<()> {
    let site = site("harm")?;
    let server = site.start()?;
    create(&server, TABLES)?;
    server.stop()?;
    let kept = site.path("kept");
    copy(&site.path("keyward"), &kept)?;
    for (what, harm, word) in HARMS {
        harm(&site)?;
        let before = files::Snapshot::of(&site.path("keyward"))?;
        let log = site.refusal().map_err(|error| error.within(what))?;
        let line = log.lines().find(|line| line.contains("ERROR") && line.contains(word));
        ensure!(line.is_some(), "{what}: no line names {word:?}:\n{log}");
        seen!("{what}: {}", message(line.unwrap_or_default(), &site));
        let after = files::Snapshot::of(&site.path("keyward"))?;
        ensure!(before == after, "{what}: the refused start changed something");
        fs::remove_dir_all(site.path("keyward"))?;
        copy(&kept, &site.path("keyward"))?;
    }
    let server = site.start()?;
    check(&server, TABLES)?;
    server.stop()?;
    Ok(())
}

#[test]
fn a_running_server_keeps_serving_while_the_keystore_is_away() -> Result<()> {
    let site = site("away")?;
    let server = site.start()?;
    create(&server, TABLES)?;
    degraded(&server, false)?;
    let away = site.path("keyward/away");
    fs::rename(site.keystore(), &away)?;
    degraded(&server, true)?;
    check(&server, TABLES)?;
    server.sql("INSERT INTO test.key_three VALUES (100000, 'while degraded')")?;
    server.sql("DELETE FROM test.key_three WHERE id = 100000")?;
    let said = server.sql_refused("SET GLOBAL keyward_rotate_key = 1")?;
    seen!(
        "rotation without a keystore: {}",
        said.replace(&site.path("").display().to_string(), "")
    );
    fs::rename(&away, site.keystore())?;
    degraded(&server, false)?;
    server.sql("SET GLOBAL keyward_rotate_key = 1")?;
    check(&server, TABLES)?;
    server.stop()?;
    Ok(())
}

#[test]
fn a_running_server_refuses_a_keystore_that_is_not_its_own() -> Result<()> {
    let site = site("swapped")?;
    let server = site.start()?;
    create(&server, TABLES)?;
    let kept = site.path("kept");
    copy(&site.path("keyward"), &kept)?;
    for harm in [other_keystore, change_version, cut_keystore] as [Harm; 3] {
        harm(&site)?;
        degraded(&server, true)?;
        seen!(
            "{}",
            server
                .status("Keyward_degraded_reason")?
                .replace(&site.path("").display().to_string(), "")
        );
        check(&server, TABLES)?;
        fs::remove_file(site.keystore())?;
        copy(&kept.join("keystore/keystore.json"), &site.keystore())?;
        degraded(&server, false)?;
    }
    server.stop()?;
    Ok(())
}

#[test]
fn a_read_only_keystore_serves_and_is_not_rotated() -> Result<()> {
    let site = site("read-only")?;
    let server = site.start()?;
    create(&server, TABLES)?;
    server.stop()?;
    files::chmod(&site.keys(), 0o500)?;
    let (names, content) = (files::list(&site.keys()), files::read(&site.keystore())?);
    let server = site.start()?;
    check(&server, TABLES)?;
    let said = server.sql_refused("SET GLOBAL keyward_rotate_key = -1")?;
    seen!(
        "rotation of a read-only keystore: {}",
        said.replace(&site.path("").display().to_string(), "")
    );
    check(&server, TABLES)?;
    server.stop()?;
    ensure!(files::list(&site.keys()) == names, "a file was left behind");
    ensure!(files::read(&site.keystore())? == content, "the keystore was written all the same");
    files::chmod(&site.keys(), 0o700)
}

#[test]
fn a_version_that_is_not_there_is_an_error_and_no_crash() -> Result<()> {
    let site = site("older")?;
    let server = site.start()?;
    create(&server, TABLES)?;
    server.stop()?;
    // The keystore as it was before the rotation that the pages have seen.
    copy(&site.keys(), &site.path("older-keys"))?;
    let server = site.start()?;
    server.sql("SET GLOBAL keyward_rotate_key = 3")?;
    test_mariadb::rows::wait_for_version(&server, "test/key_three", 3)?;
    server.stop()?;
    copy(&site.keys(), &site.path("newer-keys"))?;
    swap(&site, "older-keys")?;
    let log = site.refusal()?;
    let line = log.lines().find(|line| line.contains("needs key 3 version 3"));
    seen!("a start without that version: {}", message(line.unwrap_or_default(), &site));
    ensure!(line.is_some(), "the start does not name the version:\n{log}");
    // Started all the same, as the line says.
    let config = files::text(&site.config())?;
    let unchecked = config.replace("[keystore]\n", "[keystore]\ncheck_data = false\n");
    ensure!(unchecked != config, "{config}");
    files::write(&site.config(), unchecked)?;
    let server = site.start()?;
    let said = server.sql_refused("SELECT COUNT(*) FROM test.key_three")?;
    seen!("a table whose key version is missing: {said}");
    TABLES
        .iter()
        .filter(|table| table.name != "key_three")
        .try_for_each(|table| table.check(&server))?;
    server.stop()?;
    files::write(&site.config(), config)?;
    swap(&site, "newer-keys")?;
    let server = site.start()?;
    check(&server, TABLES)?;
    server.stop()?;
    Ok(())
}

#[test]
fn a_table_cannot_name_a_key_that_is_not_there() -> Result<()> {
    let site = site("no-key")?;
    let server = site.start()?;
    let said = server.sql_refused(
        "CREATE DATABASE test; CREATE TABLE test.t (i INT) ENCRYPTED=YES ENCRYPTION_KEY_ID=55",
    )?;
    ensure!(said.contains("ERROR"), "{said}");
    server.stop()?;
    Ok(())
}

fn degraded(server: &test_mariadb::Server, wanted: bool) -> Result<()> {
    server.wait_for(
        "SHOW GLOBAL STATUS LIKE 'Keyward_degraded_since'",
        Duration::from_secs(5),
        |row| row.split_once('\t').is_some_and(|(_, since)| (since != "0") == wanted),
    )?;
    Ok(())
}

fn swap(site: &Site, with: &str) -> Result<()> {
    fs::remove_dir_all(site.keys())?;
    copy(&site.path(with), &site.keys())
}

fn other_site() -> Result<Site> {
    Site::with_keyward("other")
}

fn other_key_file(site: &Site) -> Result<()> {
    fs::remove_file(site.key_file())?;
    copy(&other_site()?.key_file(), &site.key_file())
}

fn other_keystore(site: &Site) -> Result<()> {
    replace(site, &files::read(&other_site()?.keystore())?)
}

fn cut_keystore(site: &Site) -> Result<()> {
    let whole = files::read(&site.keystore())?;
    replace(site, &whole[..whole.len() / 2])
}

/// Another digit in the first check value of a data key.
fn change_check_value(site: &Site) -> Result<()> {
    let text = files::text(&site.keystore())?;
    let at = text.rfind("\"check\"").ok_or("no check value in the keystore")?;
    let digit = text[at + 7..].find(|c: char| c.is_ascii_digit()).ok_or("no digit")? + at + 7;
    let mut bytes = text.into_bytes();
    bytes[digit] = if bytes[digit] == b'7' { b'8' } else { b'7' };
    replace(site, &bytes)
}

/// A key's active version renumbered, as somebody would who wants an older one used.
fn change_version(site: &Site) -> Result<()> {
    let text = files::text(&site.keystore())?;
    let at = text.rfind("\"version\"").ok_or("no version in the keystore")?;
    let digit = text[at + 9..].find(|c: char| c.is_ascii_digit()).ok_or("no digit")? + at + 9;
    let mut bytes = text.into_bytes();
    bytes[digit] = b'8';
    replace(site, &bytes)
}

/// Puts another file in the keystore's place, in one step.
fn replace(site: &Site, content: &[u8]) -> Result<()> {
    let new = site.path("keyward/new");
    files::write(&new, content)?;
    files::chmod(&new, 0o600)?;
    give_to_server(&new)?;
    Ok(fs::rename(new, site.keystore())?)
}

/// A log line without its time and without our temporary folder.
fn message<'a>(line: &'a str, site: &Site) -> String {
    let text = line.split_once("[ERROR] ").map_or(line, |(_, text): (&'a str, &'a str)| text);
    text.replace(&format!("{}/", site.path("").display()).replace("//", "/"), "")
}
