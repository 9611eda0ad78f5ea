//! In the place of the original `file_key_management`: the same data, both ways.

use test_kit::{Result, ensure, seen};
use test_mariadb::Site;
use test_mariadb::rows::{Table, check, create};

const TABLES: &[Table] = &[
    Table { name: "one", options: "ENCRYPTED=YES", rows: 1000 },
    Table { name: "two", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=2", rows: 1000 },
    Table {
        name: "three",
        options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=3 ROW_FORMAT=COMPRESSED",
        rows: 500,
    },
    Table {
        name: "four",
        options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=4 PAGE_COMPRESSED=1",
        rows: 1000,
    },
];

const LATER: Table =
    Table { name: "later", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=100", rows: 1000 };

const ARIA: &str = "
    CREATE TABLE test.aria (id INT PRIMARY KEY, body TEXT) ENGINE=Aria;
    INSERT INTO test.aria SELECT * FROM test.one; FLUSH TABLES;";

#[test]
fn cbc_from_the_original_to_ours_and_back() -> Result<()> {
    there_and_back("aes_cbc", false)
}

#[test]
fn ctr_from_the_original_to_ours_and_back() -> Result<()> {
    there_and_back("aes_ctr", false)
}

#[test]
fn cbc_from_ours_to_the_original_and_back() -> Result<()> {
    there_and_back("aes_cbc", true)
}

#[test]
fn ctr_from_ours_to_the_original_and_back() -> Result<()> {
    there_and_back("aes_ctr", true)
}

/// Writes under one library, reads and writes under the other, reads all under the first again.
/// Each is killed, so that the other has to recover from its logs.
fn there_and_back(cipher: &str, ours_first: bool) -> Result<()> {
    let mut site = Site::new("dropin")?;
    site.encrypt_everything();
    site.load_file_keys(ours_first, cipher)?;
    let server = site.start()?;
    expect_library(&server, ours_first)?;
    create(&server, TABLES)?;
    server.sql(ARIA)?;
    server.kill()?;

    site.link_file_keys(!ours_first)?;
    let server = site.start()?;
    expect_library(&server, !ours_first)?;
    check(&server, TABLES)?;
    read_logs(&server)?;
    LATER.create(&server)?;
    server.sql("UPDATE test.one SET body = CONCAT(body, 'x'); UPDATE test.one SET body = TRIM('x' FROM body)")?;
    server.kill()?;

    site.link_file_keys(ours_first)?;
    let server = site.start()?;
    check(&server, TABLES)?;
    LATER.check(&server)?;
    read_logs(&server)?;
    server.stop()?;
    seen!("{cipher}: written by {}, then by {}, read by both", name(ours_first), name(!ours_first));
    Ok(())
}

/// Reads the Aria table and every binary log.
fn read_logs(server: &test_mariadb::Server) -> Result<()> {
    let aria = server
        .sql("SELECT COUNT(*) FROM test.aria a JOIN test.one o USING (id) WHERE a.id = o.id")?;
    ensure!(aria == "1000", "Aria: {aria}");
    for log in server.sql("SHOW BINARY LOGS")?.lines().filter_map(|line| line.split('\t').next()) {
        server.sql(&format!("SHOW BINLOG EVENTS IN '{log}'"))?;
    }
    Ok(())
}

/// An error unless the process has the library mapped that it should.
fn expect_library(server: &test_mariadb::Server, ours: bool) -> Result<()> {
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", server.pid()?))?;
    ensure!(maps.contains("keyward.so") == ours, "the other library is loaded");
    ensure!(
        maps.contains(test_mariadb::PLUGINS) != ours || !maps.contains("file_key_management.so"),
        "the other library is loaded"
    );
    Ok(())
}

fn name(ours: bool) -> &'static str {
    if ours { "keyward" } else { "the original" }
}
