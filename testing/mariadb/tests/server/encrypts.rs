//! Everything the server encrypts, and nothing in the clear.

use test_kit::files::{all, holding};
use test_kit::{Result, ensure, seen};
use test_mariadb::Site;
use test_mariadb::rows::{PLAINTEXT, check, create};

use crate::{TABLES, site};

/// Work whose traces stay in the tables, the logs and the temporary files.
const WORK: &str = "
    SET sort_buffer_size = 32768, tmp_table_size = 16384, max_heap_table_size = 16384;
    CREATE TABLE test.aria (id INT, body TEXT) ENGINE=Aria;
    INSERT INTO test.aria SELECT id, body FROM test.plain_key;
    CREATE TEMPORARY TABLE test.fleeting ENGINE=InnoDB SELECT * FROM test.plain_key;
    CREATE TEMPORARY TABLE test.fleeting_aria ENGINE=Aria SELECT * FROM test.plain_key;
    UPDATE test.plain_key SET body = CONCAT(body, ' ') WHERE id % 2;
    UPDATE test.plain_key SET body = TRIM(body);
    SELECT COUNT(*) FROM (SELECT DISTINCT body, id FROM test.plain_key ORDER BY MD5(body)) AS d;
    SELECT COUNT(*) FROM test.fleeting JOIN test.fleeting_aria USING (id);
    FLUSH TABLES;
";

#[test]
fn no_file_holds_plain_text() -> Result<()> {
    let clear = traces(Site::new("clear")?, "")?;
    ensure!(clear.len() > 3, "the search is blind: without encryption it found only {clear:?}");
    seen!("without encryption the text stands in {} files: {}", clear.len(), clear.join(" "));
    let secret = traces(site("encrypted")?, "ENCRYPTED=YES")?;
    ensure!(secret.is_empty(), "in the clear: {secret:?}");
    seen!("with keyward it stands in none");
    Ok(())
}

/// Loads a server and gives the names of its files in which the plain text stands.
fn traces(mut site: Site, options: &'static str) -> Result<Vec<String>> {
    if options.is_empty() {
        site.set("log_bin");
        site.set("server_id = 1");
    }
    let server = site.start()?;
    let table = test_mariadb::rows::Table { name: "plain_key", options, rows: 3000 };
    table.create(&server)?;
    server.sql(WORK)?;
    server.write_pages()?;
    // The temporary tables are gone with their session; what is on disk now is what stays.
    server.kill()?;
    let mut files = all(&site.data());
    files.extend(all(&site.path("tmp")));
    let holding = holding(&files, PLAINTEXT)?;
    let name = |path: &std::path::PathBuf| {
        path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    };
    Ok(holding.iter().map(name).collect())
}

#[test]
fn aria_and_temporary_tables_through_rotation_and_restart() -> Result<()> {
    let site = site("aria")?;
    let server = site.start()?;
    create(&server, TABLES)?;
    let count = "
        CREATE TEMPORARY TABLE test.fleeting ENGINE=InnoDB SELECT * FROM test.plain_key;
        CREATE TEMPORARY TABLE test.fleeting_aria ENGINE=Aria SELECT * FROM test.plain_key;
        SET GLOBAL keyward_rotate_key = -1;
        INSERT INTO test.fleeting SELECT id + 10000, body FROM test.plain_key;
        INSERT INTO test.fleeting_aria SELECT id + 10000, body FROM test.plain_key;
        SELECT COUNT(*), SUM(f.body = a.body)
        FROM test.fleeting f JOIN test.fleeting_aria a USING (id);";
    ensure!(server.sql(count)? == "4000\t4000", "temporary tables lost rows");
    server.sql(
        "CREATE TABLE test.aria (id INT PRIMARY KEY, body TEXT) ENGINE=Aria;
         INSERT INTO test.aria SELECT * FROM test.plain_key;
         SET GLOBAL keyward_rotate_key = -1;
         UPDATE test.aria SET body = CONCAT(body, '!') WHERE id > 1000",
    )?;
    server.stop()?;
    let server = site.start()?;
    let kept = server.sql("SELECT COUNT(*), SUM(body LIKE '%!') FROM test.aria")?;
    ensure!(kept == "2000\t1000", "Aria: {kept}");
    let sound = server.sql("CHECK TABLE test.aria EXTENDED")?;
    ensure!(sound.ends_with("OK"), "{sound}");
    server.stop()?;
    Ok(())
}

#[test]
fn the_binary_log_is_read_after_rotation_and_restart() -> Result<()> {
    let site = site("binlog")?;
    let server = site.start()?;
    create(&server, &TABLES[..1])?;
    server.sql("FLUSH BINARY LOGS; SET GLOBAL keyward_rotate_key = -1")?;
    server.sql("INSERT INTO test.plain_key VALUES (9999, 'after the rotation')")?;
    server.sql("DELETE FROM test.plain_key WHERE id = 9999")?;
    server.stop()?;
    let server = site.start()?;
    let logs = server.sql("SHOW BINARY LOGS")?;
    for log in logs.lines().filter_map(|line| line.split('\t').next()) {
        server.sql(&format!("SHOW BINLOG EVENTS IN '{log}'"))?;
    }
    let replayed = test_kit::run(
        "mariadb-binlog",
        [
            "--no-defaults",
            "--read-from-remote-server",
            "--user=root",
            &format!("--socket={}", server.socket().display()),
            "--to-last-log",
            logs.split(['\t', '\n']).next().unwrap_or_default(),
        ],
    )?;
    ensure!(replayed.contains("after the rotation"), "the event is not in the log");
    check(&server, &TABLES[..1])?;
    server.stop()?;
    Ok(())
}

#[test]
fn encryption_can_be_switched_on_and_off_again() -> Result<()> {
    let site = site("on-off")?;
    let server = site.start()?;
    let table = test_mariadb::rows::Table { name: "t", options: "ENCRYPTED=NO", rows: 2000 };
    table.create(&server)?;
    for change in ["ENCRYPTED=YES ENCRYPTION_KEY_ID=4", "ENCRYPTION_KEY_ID=3", "ENCRYPTED=NO"] {
        server.sql(&format!("ALTER TABLE test.t {change}"))?;
        table.check(&server)?;
    }
    server.stop()?;
    let server = site.start()?;
    table.check(&server)?;
    server.stop()?;
    Ok(())
}
