//! What the command tells of a MySQL's keyring, to somebody who has just set it up and uses it.

use std::fs;

use test_kit::command::answer;
use test_kit::{Answer, Result, ensure, files};
use test_mysql::{Keyring, Site, root};

#[test]
fn shows_and_manages_mysqls_keys() -> Result<()> {
    let site = Site::new("command", Keyring::Ours)?;
    client(&site, "--no-defaults --user=root")?;
    before_the_first_start(&site)?;
    let server = site.start()?;
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT) ENCRYPTION = 'Y'")?;
    server.sql("ALTER INSTANCE ROTATE INNODB MASTER KEY")?;
    says(
        &doctor(&site)?,
        3,
        &[
            "ok    server: component_keyring_keyward is active",
            "warn  server: innodb_redo_log_encrypt = OFF",
            "-> set innodb_redo_log_encrypt = ON, or",
            "2 in 2 versions, all check values right",
        ],
    )?;
    let name = server.sql(
        "SELECT KEY_ID FROM performance_schema.keyring_keys WHERE KEY_ID LIKE 'INNODBKey%-2'",
    )?;
    says(&site.keyward(&["keys", "list"])?, 0, &[&name, "keyring:AES:32"])?;
    says(&site.keyward(&["keys", "show", &name])?, 0, &["active", "generated (root@localhost)"])?;
    says(&site.keyward(&["keys", "show", "nobody"])?, 1, &["the keystore has no key nobody"])?;
    says(&site.keyward(&["rotate", &name])?, 2, &["ALTER INSTANCE ROTATE INNODB MASTER KEY"])?;
    says(&site.keyward(&["rotate", "--all"])?, 0, &["ALTER INSTANCE ROTATE INNODB MASTER KEY"])?;
    let counts = ["\nkeys                 2\n", "\nkey versions         2\n"];
    says(&site.keyward(&["status"])?, 0, &counts)?;
    says(&site.keyward(&["status"])?, 0, &["\nprovider             local\n"])?;
    // What wraps MySQL's keys is turned by the command, under the running server.
    says(&site.keyward(&["keystore", "rewrap", "--new-store-key"])?, 0, &["renewed"])?;
    server.sql("ALTER INSTANCE ROTATE INNODB MASTER KEY; INSERT INTO d.t VALUES (1)")?;
    let log = server.stop()?;
    let noted = |words: &str| log.matches(&format!("keyward: {words}")).count();
    ensure!(
        noted("started with 0 keys in 0 versions, opened by \"local\", generation 1") > 0,
        "{log}"
    );
    for number in 2..4 {
        let words = format!("rotated: InnoDB master key from number {} to {number}", number - 1);
        ensure!(noted(&words) == 1, "{words}: {log}");
    }
    trouble(&site)
}

/// Before there is a keystore, and before the server can be asked.
fn before_the_first_start(site: &Site) -> Result<()> {
    let keystore = site.keyring(Keyring::Ours);
    let not_yet = format!("warn  keystore: {} is not there", keystore.display());
    says(&doctor(site)?, 3, &[&not_yet, "ok    library: ", "ok    manifest: ", "skip  server: "])?;
    site.use_keyring(Keyring::Stock)?;
    says(&doctor(site)?, 1, &["mysqld.my names no component_keyring_keyward"])?;
    site.use_keyring(Keyring::Ours)?;
    files::write(&site.configuration(Keyring::Ours), "{\"pth\": \"/k\"}")?;
    says(&doctor(site)?, 1, &["FAIL  configuration: config file", "unknown field `pth`"])?;
    site.use_keyring(Keyring::Ours)
}

/// A running server that has another component, or ours without its keys.
fn trouble(site: &Site) -> Result<()> {
    site.use_keyring(Keyring::Stock)?;
    let server = site.start()?;
    let other = "FAIL  server: it has component_keyring_file, not component_keyring_keyward";
    says(&doctor(site)?, 1, &[other, "FAIL  manifest: "])?;
    server.stop()?;
    site.use_keyring(Keyring::Ours)?;
    fs::rename(site.wrapping_key(), site.path("away"))?;
    let server = site.start()?;
    let disabled = "FAIL  server: component_keyring_keyward is disabled: ";
    says(&doctor(site)?, 1, &[disabled, "keystore.json.key", "ALTER INSTANCE RELOAD KEYRING"])?;
    fs::rename(site.path("away"), site.wrapping_key())?;
    server.sql("ALTER INSTANCE RELOAD KEYRING")?;
    says(&doctor(site)?, 3, &["ok    server: component_keyring_keyward is active"])?;
    let library = site.path("plugin/component_keyring_keyward.so");
    fs::copy(&library, site.path("plugin/new"))?;
    fs::rename(site.path("plugin/new"), library)?;
    says(&doctor(site)?, 3, &["the file of its library was replaced or removed"])?;
    server.stop().map(drop)
}

/// `doctor` with the server's folder first in its path, where client and manifest are.
fn doctor(site: &Site) -> Result<Answer> {
    let socket = site.path("sock").display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = site.keyward_command(&["doctor", "--socket", &socket]);
    command.env("PATH", format!("{}:{path}", site.path("bin").display()));
    answer(&mut command)
}

/// The client of the server's own release, as a program that can be called by its name; `first` comes
/// before what it is called with.
pub(crate) fn client(site: &Site, first: &str) -> Result<()> {
    let client = root::program("usr/bin/mysql");
    let words = std::iter::once(client.get_program()).chain(client.get_args());
    let words: Vec<_> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
    let script = site.path("bin/mysql");
    let text = format!("#!/bin/sh\nexec {} {first} \"$@\"\n", words.join(" "));
    files::write(&script, text)?;
    files::chmod(&script, 0o755)
}

pub(crate) fn says(answer: &Answer, code: i32, words: &[&str]) -> Result<()> {
    let text = answer.text();
    ensure!(answer.code == code, "ended with {}, not {code}:\n{text}", answer.code);
    for word in words {
        ensure!(text.contains(word), "{word:?} was to be in:\n{text}");
    }
    Ok(())
}
