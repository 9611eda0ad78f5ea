//! Load by sysbench on tables with key 3, and what it says of it.

use std::process::{Child, Command, Stdio};

use test_kit::{Answer, Process, Result, ensure, seen};

use crate::{Server, Site};

/// What sysbench does, and on which tables.
pub struct Work {
    script: &'static str,
    tables: u32,
    rows: u32,
    /// Transactions in a second where that goes on for many minutes: a load, and not all that the
    /// machine can do.
    paced: Option<u32>,
}

/// Transactions that read and write.
pub const MIXED: Work = Work { script: "oltp_read_write", tables: 2, rows: 2000, paced: Some(100) };

/// Transactions that only write, on larger tables.
pub const WRITES: Work = Work { script: "oltp_write_only", tables: 4, rows: 20_000, paced: None };

/// Rows that are written beside sysbench's until the server is killed.
const TOLD: u32 = 100;

/// More seconds than that takes.
const UNTIL_KILLED: u64 = 60;

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

impl Work {
    /// Makes the tables.
    pub fn prepare(&self, server: &Server) -> Result<()> {
        server.sql("SET GLOBAL innodb_default_encryption_key_id = 3; CREATE DATABASE sb")?;
        Answer::from(self.sysbench(server, 1).arg("prepare").output()?).ok().map(drop)
    }

    /// Begins, for so many seconds.
    pub fn start(&self, server: &Server, seconds: u64) -> Result<Load> {
        let mut command = self.sysbench(server, seconds);
        Ok(Load(command.arg("run").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?))
    }

    /// Checks that every row is there and can be read. sysbench deletes a row and inserts it again in
    /// one transaction, so that each table keeps its rows.
    pub fn complete(&self, server: &Server) -> Result<()> {
        let wanted = format!("{0}\t{0}\t1\t{0}\t0", self.rows);
        for table in 1..=self.tables {
            let rows = server.sql(&format!(
                "SELECT COUNT(*), COUNT(DISTINCT id), MIN(id), MAX(id), SUM(c = '') FROM sb.sbtest{table}"
            ))?;
            ensure!(rows == wanted, "sbtest{table}: {rows}");
            let check = server.sql(&format!("CHECK TABLE sb.sbtest{table}"))?;
            ensure!(check.ends_with("\tOK"), "{check}");
        }
        Ok(())
    }

    /// SIGKILL under load; each row whose insertion was acknowledged is there after the restart.
    pub fn killed(&self, site: &Site, server: Server) -> Result<()> {
        server.sql("CREATE TABLE sb.told (i INT PRIMARY KEY) ENCRYPTED=YES ENCRYPTION_KEY_ID=3")?;
        let load = self.start(&server, UNTIL_KILLED)?;
        for row in 0..TOLD {
            server.sql(&format!("INSERT INTO sb.told VALUES ({row})"))?;
        }
        server.kill()?;
        // It lost its server.
        drop(load.finish());
        let server = site.start()?;
        let rows = server.sql("SELECT COUNT(*) FROM sb.told")?;
        ensure!(rows == TOLD.to_string(), "{rows} of {TOLD} acknowledged rows are there");
        self.complete(&server)?;
        seen!("killed under load: {rows} of {TOLD} acknowledged rows are there");
        server.stop().map(drop)
    }

    /// sysbench on the tables, without the word that says what to do.
    fn sysbench(&self, server: &Server, seconds: u64) -> Command {
        let mut command = Process::command("sysbench");
        command.args([self.script, "--db-driver=mysql"]);
        command.arg(format!("--mysql-socket={}", server.socket().display()));
        command.args(["--mysql-user=root", "--mysql-db=sb", "--threads=2", "--percentile=99"]);
        command.arg(format!("--tables={}", self.tables)).arg(format!("--table-size={}", self.rows));
        command.arg(format!("--time={seconds}")).stdin(Stdio::null());
        let is_long = std::env::var_os("KEYWARD_EXTENDED").is_some();
        if let Some(rate) = self.paced.filter(|_| is_long) {
            command.arg(format!("--rate={rate}"));
        }
        command
    }
}

impl Load {
    /// Whether it is at work still.
    pub fn goes_on(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_none())
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

/// The number behind `label` in what sysbench printed.
fn number(text: &str, label: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(label));
    let word = line.and_then(|line| line.split_whitespace().next());
    let number = word.and_then(|word| word.parse().ok());
    number.ok_or_else(|| format!("no {label} in\n{text}").into())
}
