//! All that the server does with a keyring, before and after a restart.

use mariadb_test::files::{self, all, holding};
use mariadb_test::{Result, ensure, seen};
use mysql_test::{Keyring, Server, Site};

/// A text that stands in the clear in none of the server's files, if all is well.
const PLAINTEXT: &str = "Quarterly salaries of the whole board";

const FUNCTIONS: &str = "
    INSTALL PLUGIN keyring_udf SONAME 'keyring_udf.so';
    CREATE FUNCTION keyring_key_generate RETURNS INTEGER SONAME 'keyring_udf.so';
    CREATE FUNCTION keyring_key_store RETURNS INTEGER SONAME 'keyring_udf.so';
    CREATE FUNCTION keyring_key_fetch RETURNS STRING SONAME 'keyring_udf.so';
    CREATE FUNCTION keyring_key_length_fetch RETURNS INTEGER SONAME 'keyring_udf.so';
    CREATE FUNCTION keyring_key_type_fetch RETURNS STRING SONAME 'keyring_udf.so';
    CREATE FUNCTION keyring_key_remove RETURNS INTEGER SONAME 'keyring_udf.so';";

#[test]
fn everything_is_encrypted_and_survives_a_restart() -> Result<()> {
    let mut site = Site::new("features", Keyring::Ours)?;
    site.set("--log-bin=binlog");
    site.set("--binlog-encryption=ON");
    let server = site.start()?;
    ensure!(server.component("Component_status")? == "Active", "{}", server.log());
    encrypt_everything(&server)?;
    functions(&server)?;
    check(&server)?;
    server.sql("ALTER INSTANCE RELOAD KEYRING")?;
    check(&server)?;
    let keys = keys(&server)?;
    server.stop()?;
    let clear = holding(&all(&site.data()), PLAINTEXT)?;
    ensure!(clear.is_empty(), "in the clear: {clear:?}");
    let server = site.start()?;
    check(&server)?;
    ensure!(self::keys(&server)? == keys, "other keys after the restart");
    server
        .sql("ALTER INSTANCE ROTATE INNODB MASTER KEY; ALTER INSTANCE ROTATE BINLOG MASTER KEY")?;
    check(&server)?;
    let log = server.stop()?;
    ensure!(!log.contains("keyward: cannot"), "{log}");
    listed_by_the_command(&site, &keys)?;
    seen!("{} keys; tables, undo, redo, binlog and the mysql tablespace encrypted", keys.len());
    Ok(())
}

#[test]
fn a_daemon_rotates_and_follows_the_keystore() -> Result<()> {
    let mut site = Site::new("daemon", Keyring::Ours)?;
    // The keystore that the first start makes, from then on with a configuration of keyward's own.
    site.start()?.stop()?;
    let config = site.path("keys/keyward.toml");
    let (keystore, key) = (site.keyring(Keyring::Ours), site.wrapping_key());
    let toml = format!(
        "[keystore]\npath = {keystore:?}\n[[provider]]\ntype = \"local\"\nkey_file = {key:?}\n"
    );
    files::write(&config, toml)?;
    site.configure(Keyring::Ours, &format!("{{\"config\": {config:?}}}"))?;
    site.set("--daemonize");
    let server = site.start()?;
    server.sql(
        "CREATE DATABASE d; CREATE TABLE d.t (a INT) ENCRYPTION = 'Y'; INSERT INTO d.t VALUES (1);
         ALTER INSTANCE ROTATE INNODB MASTER KEY",
    )?;
    ensure!(server.component("Provider")? == "local", "no provider is named");
    ensure!(server.our_threads()? == 1, "{} threads of ours", server.our_threads()?);
    let log = server.stop()?;
    ensure!(!log.contains("keyward:"), "{log}");
    let server = site.start()?;
    ensure!(server.sql("SELECT a FROM d.t")? == "1", "the row is gone");
    server.stop().map(drop)
}

#[test]
fn the_configuration_of_the_instance_counts_where_the_global_says_so() -> Result<()> {
    let site = Site::new("local", Keyring::Ours)?;
    let config = site.configuration(Keyring::Ours);
    std::fs::copy(&config, site.data().join("component_keyring_keyward.cnf"))?;
    site.configure(Keyring::Ours, "{\"read_local_config\": true}")?;
    let server = site.start()?;
    ensure!(server.component("Component_status")? == "Active", "{}", server.log());
    let file = server.component("Data_file")?;
    ensure!(file == site.keyring(Keyring::Ours).display().to_string(), "Data_file is {file}");
    server.stop().map(drop)
}

fn encrypt_everything(server: &Server) -> Result<()> {
    server.sql(&format!(
        "SET PERSIST innodb_redo_log_encrypt = ON;
         SET PERSIST innodb_undo_log_encrypt = ON;
         ALTER TABLESPACE mysql ENCRYPTION = 'Y';
         CREATE DATABASE d;
         CREATE TABLE d.own (id INT PRIMARY KEY, body TEXT) ENCRYPTION = 'Y';
         CREATE TABLESPACE shared ADD DATAFILE 'shared.ibd' ENCRYPTION = 'Y';
         CREATE TABLE d.shared (id INT PRIMARY KEY, body TEXT) TABLESPACE shared ENCRYPTION = 'Y';
         INSERT INTO d.own VALUES (1, '{PLAINTEXT}');
         ALTER INSTANCE ROTATE INNODB MASTER KEY;
         INSERT INTO d.shared VALUES (1, '{PLAINTEXT}');
         ALTER INSTANCE ROTATE BINLOG MASTER KEY;
         ALTER INSTANCE ROTATE INNODB MASTER KEY"
    ))?;
    Ok(())
}

/// Every function of `keyring_udf`, with a name that is stored once more after it was removed.
fn functions(server: &Server) -> Result<()> {
    server.sql(FUNCTIONS)?;
    let said = server.sql(
        "SELECT keyring_key_generate('made', 'AES', 32), keyring_key_length_fetch('made');
         SELECT keyring_key_store('given', 'SECRET', 'first'), keyring_key_fetch('given');
         SELECT keyring_key_remove('given');
         SELECT keyring_key_fetch('given') IS NULL;
         SELECT keyring_key_store('given', 'RSA', 'second'), keyring_key_fetch('given'),
             keyring_key_type_fetch('given');
         SELECT keyring_key_generate('long', 'SECRET', 16384), keyring_key_length_fetch('long')",
    )?;
    let wanted = "1\t32\n1\tfirst\n1\n1\n1\tsecond\tRSA\n1\t16384";
    ensure!(said == wanted, "the functions said {said}");
    let taken = server.sql("SELECT keyring_key_store('given', 'RSA', 'third') <=> 1")?;
    ensure!(taken == "0", "a name could be stored twice");
    Ok(())
}

fn check(server: &Server) -> Result<()> {
    let rows = server.sql(
        "SELECT body FROM d.own; SELECT body FROM d.shared; SELECT keyring_key_fetch('given');
         SELECT COUNT(*) FROM information_schema.INNODB_TABLESPACES
             WHERE ENCRYPTION = 'Y' AND NAME IN ('mysql', 'd/own', 'shared')",
    )?;
    ensure!(rows == format!("{PLAINTEXT}\n{PLAINTEXT}\nsecond\n3"), "found {rows}");
    Ok(())
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
