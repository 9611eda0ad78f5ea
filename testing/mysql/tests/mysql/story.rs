//! All that the server does with a keyring, before and after a restart and on the way to the stock
//! component and back: the same story with each kind of key store.

use std::path::Path;

use test_kit::files::{all, holding};
use test_kit::{Result, ensure, seen};
use test_mysql::{Keyring, Server, Site, complaints};

use crate::stores::KeyStore;

/// A text that stands in the clear in none of the server's files, if all is well.
const SECRET: &str = "Quarterly salaries of the whole board";

/// A text in a table that is not encrypted: it stands there, and not in the logs.
const OPEN: &str = "Menu of the canteen for this week";

const FUNCTIONS: &str = "
    INSTALL PLUGIN keyring_udf SONAME 'keyring_udf.so';
    CREATE FUNCTION keyring_key_generate RETURNS INTEGER SONAME 'keyring_udf.so';
    CREATE FUNCTION keyring_key_store RETURNS INTEGER SONAME 'keyring_udf.so';
    CREATE FUNCTION keyring_key_fetch RETURNS STRING SONAME 'keyring_udf.so';
    CREATE FUNCTION keyring_key_length_fetch RETURNS INTEGER SONAME 'keyring_udf.so';
    CREATE FUNCTION keyring_key_type_fetch RETURNS STRING SONAME 'keyring_udf.so';
    CREATE FUNCTION keyring_key_remove RETURNS INTEGER SONAME 'keyring_udf.so';";

#[test]
fn everything_with_a_key_file() -> Result<()> {
    story(&KeyStore::File)
}

#[test]
fn everything_with_vault() -> Result<()> {
    story(&KeyStore::vault()?)
}

fn story(store: &KeyStore) -> Result<()> {
    let mut site = store.site("story")?;
    site.set("--log-bin=binlog");
    site.set("--binlog-encryption=ON");
    let server = site.start()?;
    server.sql("CREATE DATABASE d; CREATE TABLE d.open (body TEXT)")?;
    server.sql(FUNCTIONS)?;
    everything(&server, 1)?;
    component(&server, store, &site)?;
    let known = keys(&server)?;
    server.stop()?;
    nothing_in_the_clear(&site)?;
    headers(&site, 1)?;

    let server = site.start()?;
    ensure!(keys(&server)? == known, "other keys after the restart");
    check(&server, 1)?;
    // What wraps its keys, turned by the command under the running server.
    store.turn()?;
    for how in ["--to-latest", "--new-store-key"] {
        let said = site.keyward(&["keystore", "rewrap", how])?.ok()?;
        ensure!(said.contains(": renewed"), "rewrap {how}: {said}");
    }
    store.forget_what_was()?;
    everything(&server, 2)?;
    component(&server, store, &site)?;
    let known = keys(&server)?;
    let log = server.stop()?;
    ensure!(complaints(&log).is_empty(), "{log}");
    nothing_in_the_clear(&site)?;
    headers(&site, 2)?;
    listed_by_the_command(&site, &known)?;

    to_the_stock_component_and_back(&site, store, &known)?;
    seen!(
        "{}: {} keys, each use before and after restarts and moves",
        store.provider(),
        known.len()
    );
    Ok(())
}

/// Each use of the keyring once; what earlier rounds left is there all the while.
fn everything(server: &Server, round: usize) -> Result<()> {
    // What the logs take in while they are not encrypted, they keep.
    logs(server)?;
    tables(server, round)?;
    master_keys(server)?;
    functions(server, round)?;
    server.sql("ALTER INSTANCE RELOAD KEYRING")?;
    check(server, round)
}

/// Tables and tablespaces of every kind; the server's own is decrypted and encrypted again.
fn tables(server: &Server, round: usize) -> Result<()> {
    server.sql(&format!(
        "ALTER TABLESPACE mysql ENCRYPTION = 'N'; ALTER TABLESPACE mysql ENCRYPTION = 'Y';
         CREATE TABLE d.own{round} (id INT PRIMARY KEY, body TEXT) ENCRYPTION = 'Y';
         CREATE TABLESPACE shared{round} ADD DATAFILE 'shared{round}.ibd' ENCRYPTION = 'Y';
         CREATE TABLE d.shared{round} (id INT PRIMARY KEY, body TEXT)
             TABLESPACE shared{round} ENCRYPTION = 'Y';
         INSERT INTO d.own{round} VALUES (1, '{SECRET}');"
    ))?;
    Ok(())
}

/// Redo, undo and binary logs: off and on where the server can, and written to afterwards.
fn logs(server: &Server) -> Result<()> {
    server.sql(
        "SET GLOBAL innodb_redo_log_encrypt = OFF; SET PERSIST innodb_redo_log_encrypt = ON;
         SET GLOBAL innodb_undo_log_encrypt = OFF; SET PERSIST innodb_undo_log_encrypt = ON;
         SET GLOBAL binlog_encryption = OFF; SET GLOBAL binlog_encryption = ON",
    )?;
    server.sql(&format!("INSERT INTO d.open VALUES ('{OPEN}')"))?;
    let on = server
        .sql("SELECT @@innodb_redo_log_encrypt, @@innodb_undo_log_encrypt, @@binlog_encryption")?;
    ensure!(on == "1\t1\t1", "not every log is encrypted: {on}");
    Ok(())
}

/// Both kinds of master keys, turned while tables and logs are in use.
fn master_keys(server: &Server) -> Result<()> {
    let of = |kind: &str| -> Result<Vec<String>> {
        Ok(keys(server)?.into_iter().filter(|key| key.starts_with(kind)).collect())
    };
    let (innodb, binlog) = (of("INNODBKey-")?, of("MySQLReplicationKey_")?);
    server.sql("ALTER INSTANCE ROTATE INNODB MASTER KEY")?;
    ensure!(of("INNODBKey-")?.len() == innodb.len() + 1, "no new master key: {:?}", keys(server)?);
    server.sql("ALTER INSTANCE ROTATE BINLOG MASTER KEY")?;
    let now = of("MySQLReplicationKey_")?;
    // The server removes the key that no binary log needs any more.
    ensure!(!now.is_empty() && now != binlog, "no new key for binary logs: {now:?}");
    let logs = server.sql("SHOW BINARY LOGS")?;
    let newest = logs.lines().last().unwrap_or_default();
    ensure!(newest.ends_with("\tYes"), "the newest binary log is not encrypted:\n{logs}");
    for line in logs.lines() {
        let name = line.split('\t').next().unwrap_or_default();
        ensure!(
            !server.sql(&format!("SHOW BINLOG EVENTS IN '{name}'"))?.is_empty(),
            "{name} cannot be read"
        );
    }
    Ok(())
}

/// Every function of `keyring_udf`, with a name that is stored once more after it was removed.
fn functions(server: &Server, round: usize) -> Result<()> {
    let (made, given, long) =
        (format!("made{round}"), format!("given{round}"), format!("long{round}"));
    let said = server.sql(&format!(
        "SELECT keyring_key_generate('{made}', 'AES', 32), keyring_key_length_fetch('{made}');
         SELECT keyring_key_store('{given}', 'SECRET', 'first'), keyring_key_fetch('{given}');
         SELECT keyring_key_remove('{given}');
         SELECT keyring_key_fetch('{given}') IS NULL;
         SELECT keyring_key_store('{given}', 'RSA', 'second{round}'), keyring_key_fetch('{given}'),
             keyring_key_type_fetch('{given}');
         SELECT keyring_key_generate('{long}', 'SECRET', 16384), keyring_key_length_fetch('{long}')",
    ))?;
    let wanted = format!("1\t32\n1\tfirst\n1\n1\n1\tsecond{round}\tRSA\n1\t16384");
    ensure!(said == wanted, "the functions said {said}");
    let taken =
        server.sql(&format!("SELECT keyring_key_store('{given}', 'RSA', 'third') <=> 1"))?;
    ensure!(taken == "0", "a name could be stored twice");
    Ok(())
}

/// All that the rounds so far have left.
fn check(server: &Server, rounds: usize) -> Result<()> {
    for round in 1..=rounds {
        let rows = server.sql(&format!(
            "REPLACE INTO d.shared{round} VALUES (1, '{SECRET}');
             SELECT body FROM d.own{round}; SELECT body FROM d.shared{round};
             SELECT keyring_key_fetch('given{round}'), keyring_key_length_fetch('long{round}');
             SELECT COUNT(*) FROM information_schema.INNODB_TABLESPACES
                 WHERE ENCRYPTION = 'Y' AND NAME IN ('mysql', 'd/own{round}', 'shared{round}')"
        ))?;
        let wanted = format!("{SECRET}\n{SECRET}\nsecond{round}\t16384\n3");
        ensure!(rows == wanted, "round {round}: found {rows}");
    }
    Ok(())
}

/// What the component says of itself.
fn component(server: &Server, store: &KeyStore, site: &Site) -> Result<()> {
    let keystore = site.path("keyward/keystore/keystore.json").display().to_string();
    for (row, value) in [
        ("Component_name", Keyring::Ours.name()),
        ("Component_status", "Active"),
        ("Data_file", &keystore),
        ("Read_only", "No"),
        ("Provider", store.provider()),
        ("Last_error", ""),
        ("Degraded", "0"),
        ("Degraded_reason", ""),
    ] {
        let found = server.component(row)?;
        ensure!(found == value, "{row} is {found:?}, not {value:?}");
    }
    Ok(())
}

/// The clear text stands where it may and nowhere else: in its own table, and in the doublewrite
/// buffer that has pages of it. Where it did not, the search would be blind.
fn nothing_in_the_clear(site: &Site) -> Result<()> {
    let files = all(&site.data());
    let clear = holding(&files, SECRET)?;
    ensure!(clear.is_empty(), "in the clear: {clear:?}");
    let (tables, others): (Vec<_>, Vec<_>) =
        holding(&files, OPEN)?.into_iter().partition(|file| file.ends_with("d/open.ibd"));
    ensure!(tables.len() == 1, "the search is blind");
    let leaks = |file: &&std::path::PathBuf| {
        file.extension() != Some("dblwr".as_ref()) && file.extension() != Some("bdblwr".as_ref())
    };
    let leaks: Vec<&Path> = others.iter().filter(leaks).map(AsRef::as_ref).collect();
    ensure!(leaks.is_empty(), "logs in the clear: {leaks:?}");
    Ok(())
}

/// The files themselves, undo tablespaces among them: after a restart the server shows those as not
/// encrypted, with any component.
fn headers(site: &Site, rounds: usize) -> Result<()> {
    let own = ["mysql.ibd", "undo_001", "undo_002"].map(str::to_owned).into_iter();
    let of_round = |round| [format!("d/own{round}.ibd"), format!("shared{round}.ibd")];
    let files = own.chain((1..=rounds).flat_map(of_round));
    let paths: Vec<String> =
        files.map(|file| site.data().join(file).display().to_string()).collect();
    let words: Vec<&str> = std::iter::once("inspect").chain(paths.iter().map(|p| &**p)).collect();
    let said = site.keyward(&words)?.ok()?;
    ensure!(said.matches(" opens ").count() == paths.len(), "{said}");
    Ok(())
}

/// By MySQL's own tool; the way back ends in a new keystore, where no name is taken.
fn to_the_stock_component_and_back(site: &Site, store: &KeyStore, known: &[String]) -> Result<()> {
    site.use_keyring(Keyring::Stock)?;
    site.migrate(Keyring::Ours, Keyring::Stock)?;
    let server = site.start()?;
    ensure!(keys(&server)? == known, "other keys in the stock component");
    check(&server, 2)?;
    server.sql("ALTER INSTANCE ROTATE INNODB MASTER KEY")?;
    let known = keys(&server)?;
    server.stop()?;

    site.use_keyring(Keyring::Ours)?;
    store.set_up(site, "keyward-again")?;
    site.migrate(Keyring::Stock, Keyring::Ours)?;
    let server = site.start()?;
    ensure!(keys(&server)? == known, "other keys after the way back");
    check(&server, 2)?;
    everything(&server, 3)?;
    server.stop().map(drop)
}

fn keys(server: &Server) -> Result<Vec<String>> {
    let sql = "SELECT KEY_ID FROM performance_schema.keyring_keys ORDER BY KEY_ID";
    Ok(server.sql(sql)?.lines().map(str::to_owned).collect())
}

fn listed_by_the_command(site: &Site, keys: &[String]) -> Result<()> {
    let listed = site.keyward(&["keys", "list"])?.ok()?;
    for key in keys {
        ensure!(listed.contains(key.as_str()), "{key} is not listed:\n{listed}");
    }
    ensure!(listed.contains("destroyed"), "no tombstone:\n{listed}");
    ensure!(listed.contains("keyring:SECRET:16384"), "no type:\n{listed}");
    Ok(())
}
