//! The report of a MySQL that runs: what it says of data files is what the server says of its tablespaces.

use std::collections::BTreeSet;

use serde_json::Value;
use test_kit::{Result, ensure, seen};
use test_mysql::{Keyring, Server, Site};

/// Tables, of which every third is in the clear.
const TABLES: u32 = 30;

#[test]
fn says_of_tables_what_the_server_says() -> Result<()> {
    let site = Site::new("report", Keyring::Ours)?;
    let server = site.start()?;
    server.sql("CREATE DATABASE d")?;
    for n in 0..TABLES {
        let encrypted = if n % 3 == 0 { 'N' } else { 'Y' };
        server.sql(&format!(
            "CREATE TABLE d.t{n} (a INT, b VARCHAR(100)) ENCRYPTION = '{encrypted}'; INSERT INTO d.t{n} VALUES (1, 'x')"
        ))?;
    }
    server.sql("ALTER INSTANCE ROTATE INNODB MASTER KEY")?;
    // A running server writes the pages of new tables when it likes to.
    server.stop()?;
    let server = site.start()?;
    let report = report(&site)?;
    let server_of_it = &report["servers"][0];
    let data = &server_of_it["data"];
    ensure!(data["unclear"] == serde_json::json!([]), "{}", data["unclear"]);
    let plain = plain(data);
    let theirs = plain_by_sql(&server)?;
    ensure!(plain == theirs && plain.len() == 10, "the report: {plain:?}; the server: {theirs:?}");
    let needs = data["needs"].as_array().into_iter().flatten();
    let master = needs.filter(|need| need["tablespaces"].as_u64() >= Some(20)).count();
    ensure!(master == 1, "no master key that 20 tablespaces need: {}", data["needs"]);
    let store = &server_of_it["key_stores"][0];
    ensure!(store["kind"] == "local" && store["in_use"] == true, "{store}");
    seen!("of {TABLES} tables, by the report and by the server: {} in the clear", plain.len());
    server.stop().map(drop)
}

fn report(site: &Site) -> Result<Value> {
    let data = site.data().display().to_string();
    let said = site.keyward(&["report", "--json", "--datadir", &data])?.ok()?;
    let file = site.path("report.json");
    std::fs::write(&file, &said)?;
    site.keyward(&["report", "verify", &file.display().to_string()])?.ok()?;
    serde_json::from_str(&said).map_err(|cause| cause.to_string().into())
}

/// The tables that lie in the clear, as the report has them.
fn plain(data: &Value) -> BTreeSet<String> {
    let files = data["unencrypted"].as_array().into_iter().flatten();
    let name = |one: &Value| Some(one["file"].as_str()?.split_once("/d/")?.1.to_owned());
    files.filter_map(name).map(|file| file.replace(".ibd", "")).collect()
}

fn plain_by_sql(server: &Server) -> Result<BTreeSet<String>> {
    let rows = server.sql(
        "SELECT REPLACE(NAME, 'd/', '') FROM information_schema.INNODB_TABLESPACES
         WHERE NAME LIKE 'd/%' AND ENCRYPTION = 'N'",
    )?;
    Ok(rows.lines().map(str::to_owned).collect())
}
