//! The report of a server that runs: what it says of data files is what the server says of its tables.

use std::collections::BTreeMap;

use serde_json::Value;
use test_kit::account::give_to_server;
use test_kit::{Result, ensure, seen};
use test_mariadb::{Server, Site};

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

/// The report, which arrives through root's part of the command byte by byte.
fn report(site: &Site) -> Result<Value> {
    let data = site.data().display().to_string();
    let output = site.keyward_command(&["report", "--json", "--datadir", &data]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file = site.path("report.json");
    std::fs::write(&file, &output.stdout)?;
    give_to_server(&file)?;
    let verified = site.keyward(&["report", "verify", &file.display().to_string()])?.ok()?;
    ensure!(verified.contains("as the keystore "), "{verified}");
    Ok(serde_json::from_slice(&output.stdout).map_err(|cause| cause.to_string())?)
}

/// How many tablespaces need a version of each key.
fn tables_by_key(data: &Value) -> BTreeMap<String, u64> {
    let mut tables = BTreeMap::new();
    for need in data["needs"].as_array().into_iter().flatten() {
        let count = need["tablespaces"].as_u64().unwrap_or_default();
        if count > 0 {
            *tables.entry(need["key"].as_str().unwrap_or_default().to_owned()).or_default() +=
                count;
        }
    }
    tables
}

/// The same by the server's own table.
fn by_sql(server: &Server) -> Result<BTreeMap<String, u64>> {
    let rows = server.sql(
        "SELECT CURRENT_KEY_ID, COUNT(*) FROM information_schema.INNODB_TABLESPACES_ENCRYPTION \
         WHERE ENCRYPTION_SCHEME = 1 AND MIN_KEY_VERSION > 0 GROUP BY 1",
    )?;
    let row = |line: &str| {
        let (key, count) = line.split_once('\t')?;
        Some((key.to_owned(), count.trim().parse().ok()?))
    };
    Ok(rows.lines().filter_map(row).collect())
}
