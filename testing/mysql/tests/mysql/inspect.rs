//! What `keyward inspect` says of the files that a real server wrote.

use std::fs;
use std::path::PathBuf;

use test_kit::files;
use test_kit::{Answer, Result, ensure, seen};
use test_mysql::{Keyring, Site};

const TABLES: &str = "
    CREATE DATABASE d;
    CREATE TABLE d.whole (a INT PRIMARY KEY, b TEXT) ENCRYPTION = 'Y';
    CREATE TABLE d.zipped (a INT PRIMARY KEY, b TEXT) ENCRYPTION = 'Y' ROW_FORMAT = COMPRESSED;
    CREATE TABLE d.zlib (a INT PRIMARY KEY, b TEXT) ENCRYPTION = 'Y' COMPRESSION = 'zlib';
    CREATE TABLE d.open (a INT PRIMARY KEY, b TEXT);
    CREATE TABLESPACE small ADD DATAFILE 'small.ibd' FILE_BLOCK_SIZE = 4096 ENCRYPTION = 'Y';
    INSERT INTO d.whole VALUES (1, REPEAT('x', 60000));
    SET PERSIST innodb_undo_log_encrypt = ON;
    ALTER TABLESPACE mysql ENCRYPTION = 'Y';
    ALTER INSTANCE ROTATE INNODB MASTER KEY";

/// What the server encrypted: files and, by their endings, how they are laid out.
const ENCRYPTED: [&str; 7] =
    ["mysql.ibd", "small.ibd", "undo_001", "undo_002", "d/whole.ibd", "d/zipped.ibd", "d/zlib.ibd"];

#[test]
fn names_the_master_key_and_tells_whether_it_opens_the_tablespace() -> Result<()> {
    let site = Site::new("inspect", Keyring::Ours)?;
    let server = site.start()?;
    server.sql(TABLES)?;
    let name = server.sql(
        "SELECT KEY_ID FROM performance_schema.keyring_keys WHERE KEY_ID LIKE 'INNODBKey%-2'",
    )?;
    server.stop()?;
    let opens = inspect(&site, &ENCRYPTED)?.ok()?;
    let rows: Vec<_> = opens.lines().skip(1).take_while(|line| !line.is_empty()).collect();
    ensure!(rows.len() == ENCRYPTED.len(), "{opens}");
    for row in rows {
        let words: Vec<_> = row.split_whitespace().collect();
        ensure!(words.get(1) == Some(&name.as_str()) && words.get(3) == Some(&"opens"), "{opens}");
    }
    let open = inspect(&site, &["d/open.ibd", "sys/sys_config.ibd"])?.ok()?;
    ensure!(open.contains("2 files are MySQL, pages of 16 KiB, not encrypted"), "{open}");
    whole_directory(&site)?;
    cut_off(&site)?;
    of_another_server(&site, &name)?;
    damaged(&site)?;
    seen!("inspect: {} encrypted files of MySQL name {name}, which opens them", ENCRYPTED.len());
    Ok(())
}

/// Of all the files that a server has, tables, logs and what lies next to them, none is unclear.
fn whole_directory(site: &Site) -> Result<()> {
    let server = site.start()?;
    server.sql("SET GLOBAL innodb_redo_log_encrypt = ON; SET GLOBAL binlog_encryption = ON")?;
    let live = inspect(site, &[""])?.ok()?;
    for name in ["#innodb_redo/#ib_redo", "binlog.0"] {
        ensure!(live.lines().any(|line| line.contains(name)), "no {name} in\n{live}");
    }
    ensure!(!live.contains("unclear"), "{live}");
    server.stop()?;
    let stopped = inspect(site, &[""])?.ok()?;
    let held = stopped.lines().filter(|line| line.contains(" held ")).count();
    let redo =
        stopped.lines().filter(|line| line.contains("/#ib_redo") && line.contains(" opens "));
    let redo = redo.count();
    ensure!(held > 0 && redo > 0 && !stopped.contains("unclear"), "{stopped}");
    seen!(
        "inspect of a whole directory: nothing unclear, {redo} redo logs open, {held} binary logs' keys held"
    );
    Ok(())
}

/// A table that ends before its last page is said to, though its page 0 names a key that opens it.
fn cut_off(site: &Site) -> Result<()> {
    let file = site.data().join("d/zlib.ibd");
    let whole = files::read(&file)?;
    files::write(&file, &whole[..50_000])?;
    let said = inspect(site, &["d/zlib.ibd"])?;
    files::write(&file, whole)?;
    let is_said = said.out.contains("d/zlib.ibd: is cut off: 3 of ");
    ensure!(said.code == 1 && is_said, "{}", said.text());
    Ok(())
}

/// A keystore with other keys of the same names opens nothing, and one without says so.
fn of_another_server(site: &Site, name: &str) -> Result<()> {
    let elsewhere = |elements: &str| {
        let file = site.path("keys/other");
        files::write(&file, format!("{{\"version\":\"1.0\",\"elements\":[{elements}]}}"))?;
        files::chmod(&file, 0o600)?;
        for path in [site.keyring(Keyring::Ours), site.wrapping_key()] {
            fs::remove_file(path)?;
        }
        let _ = fs::remove_file(site.path("keys/keystore.json.witness"));
        site.keyward(&["import", "--from-keyring-file", &file.display().to_string()])?.ok()?;
        inspect(site, &["d/whole.ibd"])
    };
    let (data, file) = ("5E".repeat(32), site.data().join("d/whole.ibd"));
    let other = elsewhere(&format!(
        "{{\"user\":\"\",\"data_id\":\"{name}\",\"data_type\":\"AES\",\"data\":\"{data}\",\
         \"extension\":[]}}"
    ))?;
    let wanted = format!("wrong key: {}: the keystore's {name} does not open it", file.display());
    ensure!(other.code == 1 && other.out.contains(&wanted), "{}", other.text());
    seen!("{wanted}");
    let none = elsewhere("")?;
    let wanted = format!("missing: {}: the keystore has no {name}", file.display());
    ensure!(none.code == 1 && none.out.contains(&wanted), "{}", none.text());
    Ok(())
}

/// A header in which one bit is another is not believed.
fn damaged(site: &Site) -> Result<()> {
    let file = site.data().join("d/whole.ibd");
    let mut bytes = files::read(&file)?;
    bytes[10_390 + 60] ^= 1;
    files::write(&file, bytes)?;
    let said = inspect(site, &["d/whole.ibd"])?;
    ensure!(said.code == 1 && said.out.contains("page 0 has a wrong checksum"), "{}", said.text());
    Ok(())
}

fn inspect(site: &Site, names: &[&str]) -> Result<Answer> {
    let paths: Vec<PathBuf> = names.iter().map(|name| site.data().join(name)).collect();
    let mut words = vec!["inspect".to_owned()];
    words.extend(paths.iter().map(|path| path.display().to_string()));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    site.keyward(&words)
}
