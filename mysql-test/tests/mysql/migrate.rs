//! From the stock component to ours and back, by MySQL's own tool.

use mariadb_test::{Result, ensure};
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
