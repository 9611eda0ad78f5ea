//! The report of a server that runs: what it says of data files is what the server says of its tables.

use test_kit::{Result, ensure, seen};
use test_mariadb::report::{by_sql, fill, report, tables_by_key};

use crate::site;

#[test]
fn says_of_tables_what_the_server_says() -> Result<()> {
    let mut site = site("report")?;
    // What is in the clear is to stay so.
    site.unset("innodb_encrypt_tables");
    site.set("innodb_encrypt_tables = OFF");
    let server = site.start()?;
    fill(&server, "test")?;
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
