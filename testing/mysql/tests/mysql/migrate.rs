//! From the stock component to ours and back, by MySQL's own tool and by the command; from one key
//! store to another.

use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt as _;

use test_kit::{Result, ensure, files, seen};
use test_mysql::{Keyring, Server, Site};

use crate::stores::{Away, KeyStore};

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

/// Who runs the server, if not root, and whether the tools as well.
#[derive(Clone, Copy)]
enum RunBy {
    Root,
    /// A server that is not root, whose administrator is.
    AccountAndRoot,
    Account,
}

#[test]
fn names_of_any_bytes_go_both_ways() -> Result<()> {
    both_ways(RunBy::Root)
}

#[test]
fn names_go_both_ways_where_root_migrates_for_another_account() -> Result<()> {
    both_ways(RunBy::AccountAndRoot)
}

#[test]
fn names_go_both_ways_without_root() -> Result<()> {
    both_ways(RunBy::Account)
}

/// Every byte that a C string can have, in two names; `keyring_udf` of a stock server stores them.
fn both_ways(by: RunBy) -> Result<()> {
    let mut site = Site::new("bytes", Keyring::Stock)?;
    match by {
        RunBy::Root => {}
        RunBy::AccountAndRoot => site.run_as_mysql(false),
        RunBy::Account => site.run_as_mysql(true),
    }
    let server = site.start()?;
    server.sql(
        "INSTALL PLUGIN keyring_udf SONAME 'keyring_udf.so';
         CREATE FUNCTION keyring_key_store RETURNS INTEGER SONAME 'keyring_udf.so';
         CREATE FUNCTION keyring_key_remove RETURNS INTEGER SONAME 'keyring_udf.so';
         CREATE FUNCTION keyring_key_fetch RETURNS STRING SONAME 'keyring_udf.so'",
    )?;
    let hex =
        |bytes: RangeInclusive<u8>| bytes.map(|byte| format!("{byte:02x}")).collect::<String>();
    let names = [hex(1..=127), hex(128..=255), hex(233..=233)];
    for name in &names {
        server.sql(&format!("SELECT keyring_key_store(_binary x'{name}', 'SECRET', '{name}')"))?;
    }
    let kept = |server: &Server, with: Keyring| {
        for name in &names {
            let found = server.sql(&format!("SELECT keyring_key_fetch(_binary x'{name}')"))?;
            ensure!(&found == name, "with {}: {found} is not {name}", with.name());
        }
        Ok(())
    };
    kept(&server, Keyring::Stock)?;
    server.stop()?;
    site.use_keyring(Keyring::Ours)?;
    let file = site.keyring(Keyring::Stock).display().to_string();
    let said = site.keyward(&["migrate", "--from-keyring-file", &file])?.ok()?;
    ensure!(said.contains("3 key versions arrived, 3 of them new"), "{said}");
    let server = site.start()?;
    kept(&server, Keyring::Ours)?;
    let listed = site.keyward(&["keys", "list"])?.ok()?;
    ensure!(listed.contains("\n\\xe9@root@localhost "), "{listed}");
    let json = site.keyward(&["--json", "keys", "list"])?.ok()?;
    ensure!(json.contains(r#"{"hex":"e9"}"#) || json.contains("\"hex\": \"e9\""), "{json}");
    let shown = site.keyward(&["keys", "show", "\\xe9@root@localhost"])?.ok()?;
    ensure!(shown.contains("active"), "{shown}");
    server.stop()?;
    std::fs::remove_file(site.keyring(Keyring::Stock))?;
    site.use_keyring(Keyring::Stock)?;
    site.migrate(Keyring::Ours, Keyring::Stock)?;
    let server = site.start()?;
    kept(&server, Keyring::Stock)?;
    server.stop()?;
    std::fs::remove_file(site.keyring(Keyring::Ours))?;
    std::fs::remove_file(site.wrapping_key())?;
    site.use_keyring(Keyring::Ours)?;
    site.migrate(Keyring::Stock, Keyring::Ours)?;
    let server = site.start()?;
    kept(&server, Keyring::Ours)?;
    let removed = server.sql("SELECT keyring_key_remove(_binary x'e9')")?;
    ensure!(removed == "1", "it cannot be removed: {removed}");
    server.stop()?;
    let owner = std::fs::metadata(site.path("keys"))?.uid();
    ensure!(matches!(by, RunBy::Root) == (owner == 0), "the server ran as user {owner}");
    for file in files::list(&site.path("keys")) {
        let is = std::fs::metadata(&file)?.uid();
        ensure!(is == owner, "{} is user {is}'s", file.display());
    }
    Ok(())
}

/// The keystore of a `path` moves to Vault and back; no table is touched, and what it left opens
/// nothing any more.
#[test]
fn from_a_key_file_to_vault_and_back() -> Result<()> {
    let mut vault = KeyStore::vault()?;
    let site = Site::new("to-vault", Keyring::Ours)?;
    let server = site.start()?;
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT) ENCRYPTION = 'Y'")?;
    server.sql("INSERT INTO d.t VALUES (1)")?;
    server.stop()?;
    let table = files::read(&site.data().join("d/t.ibd"))?;
    vault.set_up(&site, "keyward")?;
    let toml = site.path("keyward/keyward.toml");
    let both = files::text(&toml)?;
    let (_, in_vault) = both.split_once("[[provider]]").ok_or("no provider")?;
    let both = format!(
        "[keystore]\npath = {:?}\n[[provider]]\ntype = \"local\"\nkey_file = {:?}\n[[provider]]{in_vault}",
        site.keyring(Keyring::Ours),
        site.wrapping_key()
    );
    files::write(&toml, both)?;

    let said = site.keyward(&["migrate", "--from", "local", "--to", vault.provider()])?.ok()?;
    ensure!(said.contains("\"vault-transit\": added\n"), "{said}");
    std::fs::rename(site.wrapping_key(), site.path("away"))?;
    ensure!(files::read(&site.data().join("d/t.ibd"))? == table, "a table was touched");
    let server = site.start()?;
    ensure!(server.component("Provider")? == vault.provider(), "Vault does not open it");
    ensure!(server.sql("SELECT a FROM d.t")? == "1", "the row is gone");
    server.sql("ALTER INSTANCE ROTATE INNODB MASTER KEY")?;
    server.stop()?;

    std::fs::rename(site.path("away"), site.wrapping_key())?;
    site.keyward(&["migrate", "--from", vault.provider(), "--to", "local"])?.ok()?;
    vault.leave(&site, Away::Gone)?;
    let server = site.start()?;
    ensure!(server.component("Provider")? == "local", "the key file does not open it");
    ensure!(server.sql("SELECT a FROM d.t")? == "1", "the row is gone");
    server.stop().map(drop)
}
