//! The KMIP server killed and restarted while rows are written.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use test_kit::{Answer, Process, Result, ensure, seen};
use test_mariadb::Server;

use crate::life::Room;

const ROWS: u32 = 5000;
const SECONDS: u64 = 20;

#[test]
fn killed_and_restarted_under_load_no_transaction_fails() -> Result<()> {
    let mut room = Room::new("kmip-load")?;
    room.init(&["--set", "key=kek", "--create-key"])?;
    room.site.set("innodb_encrypt_tables = ON");
    let server = room.site.start()?;
    server.sql("CREATE DATABASE sb")?;
    Answer::from(sysbench(&server).arg("prepare").output()?).ok()?;
    let running =
        sysbench(&server).arg("run").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut rotations = 0;
    for _ in 0..2 {
        sleep(Duration::from_secs(2));
        room.kmip.kill()?;
        // Rows go on, since the keys are in memory; a new key that no start could read is not made.
        let said = server.sql_refused("SET GLOBAL keyward_rotate_key = -1")?;
        ensure!(said.contains("no new key is made"), "{said}");
        sleep(Duration::from_secs(3));
        room.kmip.run("server")?;
        server.sql("SET GLOBAL keyward_rotate_key = -1")?;
        rotations += 1;
    }
    let said = Answer::from(running.wait_with_output()?).ok()?;
    ensure!(number(&said, "reconnects:")? == 0, "{said}");
    let transactions = number(&said, "transactions:")?;
    ensure!(transactions > 100, "{said}");
    let log = server.log();
    ensure!(!log.contains("[ERROR]"), "{log}");
    for table in 1..=2 {
        let rows = server.sql(&format!("SELECT COUNT(*) FROM sb.sbtest{table}"))?;
        ensure!(rows == ROWS.to_string(), "sbtest{table} has {rows} rows");
        let checked = server.sql(&format!("CHECK TABLE sb.sbtest{table}"))?;
        ensure!(checked.ends_with("\tOK"), "{checked}");
    }
    server.stop()?;
    room.site.start()?.stop()?;
    seen!(
        "{SECONDS} s of load, the KMIP server killed twice, {rotations} rotations: {transactions} \
         transactions, none failed, {} deadlocks retried",
        number(&said, "ignored errors:")?
    );
    Ok(())
}

/// sysbench on two tables, without the word that says what to do. It ends at the first error that is
/// no deadlock.
fn sysbench(server: &Server) -> Command {
    let mut command = Process::command("sysbench");
    command.args(["oltp_write_only", "--db-driver=mysql"]);
    command.arg(format!("--mysql-socket={}", server.socket().display()));
    command.args(["--mysql-user=root", "--mysql-db=sb", "--threads=2", "--tables=2"]);
    command.arg(format!("--table-size={ROWS}")).arg(format!("--time={SECONDS}"));
    command.stdin(Stdio::null());
    command
}

/// The number behind `label` in what sysbench printed.
fn number(text: &str, label: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(label));
    let word = line.and_then(|line| line.split_whitespace().next());
    Ok(word.ok_or_else(|| format!("no {label} in\n{text}"))?.parse()?)
}
