//! `keyward report` of a site, and what the server says of the same.

use std::collections::BTreeMap;

use serde_json::Value;
use test_kit::account::give_to_server;
use test_kit::{Result, ensure};

use crate::{Server, Site};

/// How many tables [`fill`] makes.
pub const TABLES: u32 = 60;

/// Makes tables under three keys in `schema`, and every sixth in the clear.
pub fn fill(server: &Server, schema: &str) -> Result<()> {
    server.sql(&format!("CREATE DATABASE {schema}"))?;
    for n in 0..TABLES {
        let options = match n % 6 {
            0 => "ENCRYPTED=NO",
            1 | 2 => "ENCRYPTED=YES ENCRYPTION_KEY_ID=3",
            3 => "ENCRYPTED=YES ENCRYPTION_KEY_ID=4",
            _ => "ENCRYPTED=YES",
        };
        server.sql(&format!(
            "CREATE TABLE {schema}.r{n} (a INT, b VARCHAR(100)) ENGINE=InnoDB {options}; \
             INSERT INTO {schema}.r{n} SELECT seq, REPEAT('x', 100) FROM {schema}.seq_1_to_500"
        ))?;
    }
    server.write_pages()
}

/// The report, which arrives through root's part of the command byte by byte.
pub fn report(site: &Site) -> Result<Value> {
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
#[must_use]
pub fn tables_by_key(data: &Value) -> BTreeMap<String, u64> {
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
pub fn by_sql(server: &Server) -> Result<BTreeMap<String, u64>> {
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
