//! Keystore and data put back on a machine whose server has made a keystore of its own.

use test_kit::{Result, ensure, files, seen};
use test_mysql::{Keyring, Site};

#[test]
fn the_two_files_are_put_back_where_another_keystore_was_made() -> Result<()> {
    let (old, new) =
        (Site::new("restore-old", Keyring::Ours)?, Site::new("restore-new", Keyring::Ours)?);
    let server = old.start()?;
    server.sql(
        "CREATE DATABASE d; CREATE TABLE d.t (a INT) ENCRYPTION = 'Y'; INSERT INTO d.t VALUES (7);
         ALTER INSTANCE ROTATE INNODB MASTER KEY",
    )?;
    server.stop()?;
    let server = new.start()?;
    server.sql("CREATE DATABASE mine; CREATE TABLE mine.t (a INT) ENCRYPTION = 'Y'")?;
    server.stop()?;
    std::fs::remove_dir_all(new.data())?;
    files::copy(&old.data(), &new.data())?;
    put_back(&old, &new)?;
    let server = new.start()?;
    let log = server.log();
    ensure!(
        server.component("Component_status")? == "Disabled",
        "it took the other keystore: {log}"
    );
    let refusal = log.lines().find(|line| line.contains("was here before")).ok_or("no refusal")?;
    seen!("{refusal}");
    server.stop()?;
    // The advice of that line.
    new.keyward(&["keystore", "accept-rollback", "--reason", "restored"])?.ok()?;
    reads_on(&new)?;

    // What the page says: into an empty folder.
    std::fs::remove_dir_all(new.path("keys"))?;
    std::fs::create_dir(new.path("keys"))?;
    files::chmod(&new.path("keys"), 0o700)?;
    std::fs::remove_dir_all(new.data())?;
    files::copy(&old.data(), &new.data())?;
    put_back(&old, &new)?;
    reads_on(&new)
}

/// The keystore and its key alone, as a backup has them.
fn put_back(old: &Site, new: &Site) -> Result<()> {
    for file in [old.keyring(Keyring::Ours), old.wrapping_key()] {
        let name = file.file_name().ok_or("no name")?;
        std::fs::copy(&file, new.path("keys").join(name))?;
    }
    Ok(())
}

/// The server reads the row, and makes another key.
fn reads_on(site: &Site) -> Result<()> {
    let server = site.start()?;
    ensure!(server.sql("SELECT a FROM d.t")? == "7", "the row is gone:\n{}", server.log());
    server.sql("ALTER INSTANCE ROTATE INNODB MASTER KEY")?;
    server.stop().map(drop)
}

/// MySQL names its master keys by the server's UUID, which a copy of the data directory has, too: on one
/// keystore the first server removes the binary log's key that the second's logs need.
#[test]
fn a_copy_of_a_server_wants_a_keystore_of_its_own() -> Result<()> {
    let (one, copy) =
        (Site::new("uuid-one", Keyring::Ours)?, Site::new("uuid-copy", Keyring::Ours)?);
    let server = one.start()?;
    server.sql(
        "CREATE DATABASE d; CREATE TABLE d.t (a INT) ENCRYPTION = 'Y'; INSERT INTO d.t VALUES (7)",
    )?;
    server.stop()?;
    for shared in [false, true] {
        for folder in ["data", "keys"] {
            std::fs::remove_dir_all(copy.path(folder))?;
            files::copy(&one.path(folder), &copy.path(folder))?;
        }
        configure(&one, &one)?;
        configure(&copy, if shared { &one } else { &copy })?;
        let servers = [one.start()?, copy.start()?];
        let mut rotated = Vec::new();
        for server in &servers {
            server.sql("SET GLOBAL binlog_encryption = ON")?;
        }
        for server in &servers {
            server.sql("ALTER INSTANCE ROTATE INNODB MASTER KEY")?;
            rotated.push(server.sql("ALTER INSTANCE ROTATE BINLOG MASTER KEY").is_ok());
        }
        ensure!(rotated == [true, !shared], "shared {shared}: rotated {rotated:?}");
        for server in servers {
            ensure!(server.sql("SELECT a FROM d.t")? == "7", "the row is gone:\n{}", server.log());
            server.stop()?;
        }
    }
    Ok(())
}

/// Has `site` use the keystore of `whose`.
fn configure(site: &Site, whose: &Site) -> Result<()> {
    let config = whose.path("keys/keyward.toml");
    let toml = format!(
        "[keystore]\npath = {:?}\n[[provider]]\ntype = \"local\"\nkey_file = {:?}\n",
        whose.keyring(Keyring::Ours),
        whose.wrapping_key()
    );
    files::write(&config, toml)?;
    site.configure(Keyring::Ours, &format!("{{\"config\": {config:?}}}"))
}
