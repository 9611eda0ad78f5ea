//! The rows of each table, counted by the server through its own client.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use super::copy::TableName;
use super::{Counted, Counts};
use crate::cli::helpers::server::find_client;
use crate::error::{Error, Kind, Result};

/// Where tables are that have no file.
const LIST: &str = "select hex(table_schema), hex(table_name) from information_schema.tables \
    where table_type in ('BASE TABLE', 'SYSTEM VERSIONED') \
        and table_schema not in ('information_schema', 'performance_schema') order by 1, 2";
/// For how many tables that cannot be read the server is asked why.
const MOST_ASKED: usize = 20;

/// What the client answers: its output and its complaints.
struct Answer {
    out: String,
    err: String,
}

/// Counts the rows of `tables`, or of all where none is named, on the server at `socket`; each row is read, none
/// is known from an index or from notes. `end` says how the server ended, once it has.
pub(super) fn count(
    socket: &Path,
    tables: &[TableName],
    counts: &mut Counts,
    mut end: impl FnMut() -> Option<String>,
) -> Result<()> {
    counts.version = ask(socket, "select version()")?.out.trim().to_owned();
    let listed = ask(socket, LIST)?;
    let mut names: Vec<_> = listed.out.lines().filter_map(name).collect();
    if names.is_empty() {
        let words = end().unwrap_or(listed.err);
        counts.faults.push(format!("the server lists no table: {words}"));
        return Ok(());
    }
    if !tables.is_empty() {
        names.retain(|name| tables.contains(name));
    }
    let rows = counted(socket, &names)?;
    for (n, (name, rows)) in names.iter().zip(rows).enumerate() {
        let table = format!("{}.{}", name.database, name.table);
        match rows {
            Some(rows) => counts.tables.push(Counted { table, rows }),
            None if counts.faults.len() < MOST_ASKED => {
                let words = ask(socket, &statement(n, name))?.err;
                let why = end().map(|words| format!("the server ended: {words}"));
                let first = words.lines().next().unwrap_or("it says nothing of why").to_owned();
                counts.faults.push(format!("{table}: {}", why.unwrap_or(first)));
            }
            None => counts.faults.push(format!("{table}: it cannot be read either")),
        }
    }
    let missing = tables.iter().filter(|table| !names.contains(table));
    counts.faults.extend(missing.map(|TableName { database, table }| {
        format!("{database}.{table}: the server does not list it")
    }));
    Ok(())
}

/// The rows of each of `names`; none where the server cannot read it.
fn counted(socket: &Path, names: &[TableName]) -> Result<Vec<Option<u64>>> {
    let statements: String =
        names.iter().enumerate().map(|(n, name)| format!("{};\n", statement(n, name))).collect();
    let answer = ask(socket, &statements)?;
    let mut rows = vec![None; names.len()];
    for line in answer.out.lines() {
        let Some((n, count)) = line.split_once('\t') else { continue };
        if let Some(place) = n.parse().ok().and_then(|n: usize| rows.get_mut(n)) {
            *place = count.parse().ok();
        }
    }
    Ok(rows)
}

/// Reads every row: a condition that holds for each, but that nothing is known of before.
fn statement(n: usize, TableName { database, table }: &TableName) -> String {
    let quoted = |name: &str| format!("`{}`", name.replace('`', "``"));
    format!(
        "select {n}, count(*) from {}.{} use index () where rand() >= 0",
        quoted(database),
        quoted(table)
    )
}

fn name(line: &str) -> Option<TableName> {
    let text = |digits: &str| {
        let byte = |n| u8::from_str_radix(digits.get(n..n + 2)?, 16).ok();
        let bytes = (0..digits.len()).step_by(2).map(byte).collect::<Option<Vec<_>>>()?;
        String::from_utf8(bytes).ok()
    };
    let (database, table) = line.split_once('\t')?;
    Some(TableName { database: text(database)?, table: text(table)? })
}

/// What the server answers to `statements`: those that fail are passed over.
fn ask(socket: &Path, statements: &str) -> Result<Answer> {
    let failed = |cause: std::io::Error| {
        Error::new(Kind::Internal, format!("the mariadb client cannot be run: {cause}"))
    };
    let path = find_client("mariadb").ok_or_else(|| {
        let what = "there is no mariadb client in a folder of PATH that only root can change";
        Error::new(Kind::NotFound, what).advise("install it")
    })?;
    let mut client = Command::new(path)
        .args(["--no-defaults", "--user=root", "--batch", "--skip-column-names", "--force"])
        // No command of the client's own is obeyed, and no name of a table breaks the line.
        .args(["--binary-mode", "--local-infile=0", "--default-character-set=utf8mb4"])
        .arg(format!("--socket={}", socket.display()))
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (input, statements) = (client.stdin.take(), statements.to_owned());
    let writer = thread::spawn(move || {
        // A client that ends early says why.
        input.map(|mut input| input.write_all(statements.as_bytes()))
    });
    let answer = client.wait_with_output().map_err(failed)?;
    let _ = writer.join();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Answer { out: text(answer.stdout), err: text(answer.stderr) })
}
