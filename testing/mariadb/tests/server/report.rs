//! The report of a server that runs: what it says of data files is what the server says of its tables.

use test_kit::{Result, ensure, seen};
use test_mariadb::report::{by_sql, report, tables_by_key};

use crate::site;

/// Tables under three keys, and every sixth in the clear.
const TABLES: u32 = 60;

#[test]
fn says_of_tables_what_the_server_says() -> Result<()> {
    let mut site = site("report")?;
    // What is in the clear is to stay so.
    site.unset("innodb_encrypt_tables");
    site.set("innodb_encrypt_tables = OFF");
    let server = site.start()?;
    server.sql("CREATE DATABASE test")?;
    for n in 0..TABLES {
        let options = match n % 6 {
            0 => "ENCRYPTED=NO",
            1 | 2 => "ENCRYPTED=YES ENCRYPTION_KEY_ID=3",
            3 => "ENCRYPTED=YES ENCRYPTION_KEY_ID=4",
            _ => "ENCRYPTED=YES",
        };
        server.sql(&format!(
            "CREATE TABLE test.r{n} (a INT, b VARCHAR(100)) ENGINE=InnoDB {options}; \
             INSERT INTO test.r{n} SELECT seq, REPEAT('x', 100) FROM test.seq_1_to_500"
        ))?;
    }
    server.write_pages()?;
    let report = report(&site)?;
    let data = &report["servers"][0]["data"];
    ensure!(data["unclear"] == serde_json::json!([]), "{}", data["unclear"]);
    let ours = tables_by_key(data);
    let theirs = by_sql(&server)?;
    ensure!(ours == theirs, "the report: {ours:?}; the server: {theirs:?}");
    let plain = data["unencrypted"].as_array().into_iter().flatten();
    let plain =
        plain.filter(|one| one["file"].as_str().is_some_and(|file| file.contains("/test/r")));
    ensure!(plain.clone().count() == 10, "{data:#}");
    for (name, value) in [
        ("Keyward_keys", &report["totals"]["keys"]),
        ("Keyward_key_versions", &report["totals"]["key_versions"]),
    ] {
        let status = server.status(name)?;
        let status: u64 = status.parse()?;
        ensure!(*value == status, "{name} {status}: {}", report["totals"]);
    }
    seen!("of 60 tables, by the report and by the server: {ours:?} under keys, 10 in the clear");
    Ok(())
}
