//! From the stock component to ours and back, by MySQL's own tool and by the command.

use mariadb_test::{Result, ensure, seen};
use mysql_test::{Keyring, Site};

#[test]
fn there_and_back() -> Result<()> {
    let site = Site::new("migrate", Keyring::Stock)?;
    let server = site.start()?;
    server.sql(
        "CREATE DATABASE d; CREATE TABLE d.t (a INT) ENCRYPTION = 'Y'; INSERT INTO d.t VALUES (1);
         ALTER INSTANCE ROTATE INNODB MASTER KEY",
    )?;
    server.stop()?;
    site.use_keyring(Keyring::Ours)?;
    site.migrate(Keyring::Stock, Keyring::Ours)?;
    let server = site.start()?;
    ensure!(server.sql("SELECT a FROM d.t")? == "1", "the row is gone");
    server.sql("INSERT INTO d.t VALUES (2); ALTER INSTANCE ROTATE INNODB MASTER KEY")?;
    server.stop()?;
    std::fs::remove_file(site.keyring(Keyring::Stock))?;
    site.use_keyring(Keyring::Stock)?;
    site.migrate(Keyring::Ours, Keyring::Stock)?;
    let server = site.start()?;
    ensure!(server.sql("SELECT SUM(a) FROM d.t")? == "3", "the rows are gone");
    server.sql("ALTER INSTANCE ROTATE INNODB MASTER KEY")?;
    server.stop().map(drop)
}

/// What clients stored, and how long the server says that it is.
const FETCH: &str = "
    SELECT keyring_key_fetch('mine'), keyring_key_fetch('none'), keyring_key_length_fetch('none')";

#[test]
fn by_the_command_and_back_by_the_servers_tool() -> Result<()> {
    let site = Site::new("by-command", Keyring::Stock)?;
    let server = site.start()?;
    server.sql(
        "INSTALL PLUGIN keyring_udf SONAME 'keyring_udf.so';
         CREATE FUNCTION keyring_key_store RETURNS INTEGER SONAME 'keyring_udf.so';
         CREATE FUNCTION keyring_key_fetch RETURNS STRING SONAME 'keyring_udf.so';
         CREATE FUNCTION keyring_key_length_fetch RETURNS INTEGER SONAME 'keyring_udf.so';
         CREATE DATABASE d; CREATE TABLE d.t (a INT) ENCRYPTION = 'Y'; INSERT INTO d.t VALUES (1);
         ALTER INSTANCE ROTATE INNODB MASTER KEY; CREATE TABLE d.u (a INT) ENCRYPTION = 'Y';
         CREATE TABLE d.v (v VARCHAR(9)); INSERT INTO d.v VALUES ('');
         SELECT keyring_key_store('mine', 'SECRET', 'of a user');
         SELECT keyring_key_store('none', 'AES', v) FROM d.v",
    )?;
    let fetched = server.sql(FETCH)?;
    ensure!(fetched.starts_with("of a user\t"), "fetched {fetched}");
    server.stop()?;
    site.use_keyring(Keyring::Ours)?;
    let file = site.keyring(Keyring::Stock);
    let cnf = site.configuration(Keyring::Stock).display().to_string();
    let words = ["migrate", "--from-keyring-file", &cnf];
    let whole = std::fs::read(&file)?;
    std::fs::write(&file, "{")?;
    let refused = site.keyward(&words)?;
    ensure!(refused.code == 1 && refused.err.contains("not a keyring file"), "{}", refused.text());
    ensure!(!site.keyring(Keyring::Ours).exists(), "what failed made a keystore");
    std::fs::write(&file, whole)?;
    let dry = site.keyward(&[&words[..], &["--dry-run"]].concat())?.ok()?;
    ensure!(dry.ends_with("dry run: nothing was changed\n"), "{dry}");
    ensure!(!site.keyring(Keyring::Ours).exists(), "a dry run made a keystore");
    let said = site.keyward(&words)?.ok()?;
    ensure!(
        said.contains("4 key versions arrived, 4 of them new, all check values right"),
        "{said}"
    );
    let again = site.keyward(&words)?.ok()?;
    ensure!(again.contains("4 key versions arrived, 0 of them new"), "{again}");
    std::fs::remove_file(&file)?;

    let server = site.start()?;
    ensure!(server.sql("SELECT a FROM d.t")? == "1", "the row is gone");
    ensure!(server.sql(FETCH)? == fetched, "other keys than with the stock component");
    server.sql("INSERT INTO d.t VALUES (2); ALTER INSTANCE ROTATE INNODB MASTER KEY")?;
    server.stop()?;
    site.use_keyring(Keyring::Stock)?;
    site.migrate(Keyring::Ours, Keyring::Stock)?;
    let server = site.start()?;
    ensure!(server.sql("SELECT SUM(a) FROM d.t")? == "3", "the rows are gone");
    ensure!(server.sql(FETCH)? == fetched, "other keys than before");
    seen!("4 keys of component_keyring_file taken by the command, used, and migrated back");
    server.stop().map(drop)
}
