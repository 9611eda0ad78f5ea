//! Load by sysbench on tables with key 3, and what it says of it.

use std::process::{Child, Command, Stdio};

use test_kit::{Answer, Process, Result, ensure};

use crate::Server;

/// The tables, and the rows of each.
const TABLES: u32 = 2;
const ROWS: u32 = 2000;

/// sysbench at work.
pub struct Load(Child);

/// What it counted.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// All that were committed.
    pub transactions: u64,
    /// Deadlocks between its own threads, which it tries again.
    pub deadlocks: u64,
    /// The longest transaction, in milliseconds.
    pub longest: f64,
}

/// Makes the tables.
pub fn prepare(server: &Server) -> Result<()> {
    server.sql("SET GLOBAL innodb_default_encryption_key_id = 3; CREATE DATABASE sb")?;
    Answer::from(sysbench(server, 1).arg("prepare").output()?).ok().map(drop)
}

/// Checks that every row is there and can be read.
pub fn complete(server: &Server) -> Result<()> {
    for table in 1..=TABLES {
        let rows = server.sql(&format!("SELECT COUNT(*), SUM(c = '') FROM sb.sbtest{table}"))?;
        ensure!(rows == format!("{ROWS}\t0"), "sbtest{table}: {rows}");
    }
    Ok(())
}

impl Load {
    /// Begins, for so many seconds.
    pub fn start(server: &Server, seconds: u64) -> Result<Self> {
        let mut command = sysbench(server, seconds);
        Ok(Self(command.arg("run").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?))
    }

    /// Waits for its end; an error where a transaction failed or the server went away.
    pub fn finish(self) -> Result<Figures> {
        let said = Answer::from(self.0.wait_with_output()?).ok()?;
        ensure!(number(&said, "reconnects:")? == 0.0, "{said}");
        ensure!(!said.contains("FATAL"), "{said}");
        let figures = Figures {
            transactions: number(&said, "transactions:")? as u64,
            deadlocks: number(&said, "ignored errors:")? as u64,
            longest: number(&said, "max:")?,
        };
        ensure!(figures.transactions > 0, "{said}");
        Ok(figures)
    }
}

fn sysbench(server: &Server, seconds: u64) -> Command {
    let mut command = Process::command("sysbench");
    command.args(["oltp_read_write", "--db-driver=mysql"]);
    command.arg(format!("--mysql-socket={}", server.socket().display()));
    command.args(["--mysql-user=root", "--mysql-db=sb", "--threads=2", "--percentile=99"]);
    command.arg(format!("--tables={TABLES}")).arg(format!("--table-size={ROWS}"));
    command.arg(format!("--time={seconds}")).stdin(Stdio::null());
    if std::env::var_os("KEYWARD_EXTENDED").is_some() {
        // For many minutes: a load, and not all that the machine can do.
        command.arg("--rate=100");
    }
    command
}

/// The number behind `label` in what sysbench printed.
fn number(text: &str, label: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(label));
    let word = line.and_then(|line| line.split_whitespace().next());
    let number = word.and_then(|word| word.parse().ok());
    number.ok_or_else(|| format!("no {label} in\n{text}").into())
}
