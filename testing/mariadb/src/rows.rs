//! Tables whose rows can be told right from wrong, and how far their encryption has come.

use std::time::Duration;

use crate::Server;
use test_kit::Result;

/// A text that stands in the clear in none of the server's files, if all is well.
pub const PLAINTEXT: &str = "Quarterly salaries of the whole board";

/// How long re-encryption may take.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A table of rows that follow from their number.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its name in database `test`.
    pub name: &'static str,
    /// What follows the columns in `CREATE TABLE`.
    pub options: &'static str,
    /// How many rows it has.
    pub rows: u32,
}

impl Table {
    /// Makes and fills it.
    pub fn create(&self, server: &Server) -> Result<()> {
        let Self { name, options, rows } = self;
        server.sql(&format!(
            "CREATE DATABASE IF NOT EXISTS test; USE test;
             CREATE TABLE {name} (id INT PRIMARY KEY, body VARCHAR(400) NOT NULL) {options};
             INSERT INTO {name} SELECT seq, {BODY} FROM seq_1_to_{rows};"
        ))?;
        Ok(())
    }

    /// An error unless every row is there and right.
    pub fn check(&self, server: &Server) -> Result<()> {
        let Self { name, rows, .. } = self;
        let sql = format!(
            "SELECT COUNT(*), SUM(body <> {}) FROM test.{name};",
            BODY.replace("seq", "id")
        );
        let found = server.sql(&sql).map_err(|error| error.within(name))?;
        match found == format!("{rows}\t0") {
            true => Ok(()),
            false => Err(format!("{name}: {rows} right rows were expected, found {found}").into()),
        }
    }
}

/// A row's text, in which the plain text stands.
const BODY: &str = "CONCAT('Quarterly salaries of the whole board ', REPEAT(MD5(seq), 8))";

/// Makes and fills all of `tables`.
pub fn create(server: &Server, tables: &[Table]) -> Result<()> {
    tables.iter().try_for_each(|table| table.create(server))
}

/// An error unless every row of all `tables` is there and right.
pub fn check(server: &Server, tables: &[Table]) -> Result<()> {
    tables.iter().try_for_each(|table| table.check(server))
}

/// Waits until no page of the tablespaces named like `pattern` has a version below `version`.
pub fn wait_for_version(server: &Server, pattern: &str, version: u32) -> Result<()> {
    server.wait_for(
        &format!(
            "SELECT COUNT(*) FROM information_schema.INNODB_TABLESPACES_ENCRYPTION
             WHERE NAME LIKE '{pattern}' AND ENCRYPTION_SCHEME = 1 AND MIN_KEY_VERSION < {version}"
        ),
        PATIENCE,
        |count| count == "0",
    )?;
    Ok(())
}

/// The key id, the version and the oldest version in use of a tablespace.
pub fn key_of(server: &Server, name: &str) -> Result<(u32, u32, u32)> {
    let row = server.sql(&format!(
        "SELECT CURRENT_KEY_ID, CURRENT_KEY_VERSION, MIN_KEY_VERSION
         FROM information_schema.INNODB_TABLESPACES_ENCRYPTION WHERE NAME = '{name}'"
    ))?;
    let numbers: Vec<u32> =
        row.split('\t').map(str::parse).collect::<std::result::Result<_, _>>()?;
    match numbers[..] {
        [id, current, oldest] => Ok((id, current, oldest)),
        _ => Err(format!("{name}: no such tablespace, or not encrypted").into()),
    }
}
