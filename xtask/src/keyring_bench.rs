//! `cargo xtask bench keyring`: what many keys cost a MySQL server, with its stock component and with ours.
//!
//! Two servers, up at the same time. At each number of keys every step is done on the one and the other in
//! turn, some rounds long, by SQL that takes the time itself; the median is told.

use std::time::{Duration, Instant};

use test_kit::{Result, files};
use test_mysql::{Keyring, Server, Site};

use crate::{build, mysql};

/// How many keys the keyrings have when a step is measured.
const SIZES: &[usize] = &[10, 1_000, 10_000];

/// How often each step is done.
const ROUNDS: usize = 15;

const PREPARE: &str = "
    INSTALL PLUGIN keyring_udf SONAME 'keyring_udf.so';
    CREATE FUNCTION keyring_key_store RETURNS INTEGER SONAME 'keyring_udf.so';
    CREATE FUNCTION keyring_key_remove RETURNS INTEGER SONAME 'keyring_udf.so';
    CREATE DATABASE d;
    CREATE TABLE d.t (a INT) ENCRYPTION = 'Y';
    DELIMITER //
    CREATE PROCEDURE d.fill(first INT, last INT) BEGIN
        WHILE first <= last DO
            DO keyring_key_store(CONCAT('key', first), 'AES', REPEAT('k', 32));
            SET first = first + 1;
        END WHILE;
    END //
    CREATE PROCEDURE d.churn(count INT) BEGIN
        WHILE count > 0 DO
            DO keyring_key_store(CONCAT('churn', count), 'SECRET', REPEAT('s', 32));
            DO keyring_key_remove(CONCAT('churn', count));
            SET count = count - 1;
        END WHILE;
    END //
    CREATE PROCEDURE d.attempt(store BOOL) BEGIN
        DECLARE CONTINUE HANDLER FOR SQLEXCEPTION DO 0;
        IF store THEN DO keyring_key_store('one', 'AES', REPEAT('k', 32));
        ELSE DO keyring_key_remove('one'); END IF;
    END //
    DELIMITER ;";

/// What is measured: its SQL, and what has to be done before each time.
struct Step {
    name: &'static str,
    before: &'static str,
    sql: &'static str,
}

const STORE: &str = "DO keyring_key_store('one', 'AES', REPEAT('k', 32))";
const REMOVE: &str = "DO keyring_key_remove('one')";
/// So that there is none to store over, and one to remove; a failure of theirs is none of the step's.
const MAYBE_REMOVE: &str = "CALL d.attempt(FALSE)";
const MAYBE_STORE: &str = "CALL d.attempt(TRUE)";

const STEPS: &[Step] = &[
    Step { name: "store a key", before: MAYBE_REMOVE, sql: STORE },
    Step { name: "remove it", before: MAYBE_STORE, sql: REMOVE },
    Step {
        name: "ROTATE INNODB MASTER KEY",
        before: "DO 0",
        sql: "ALTER INSTANCE ROTATE INNODB MASTER KEY",
    },
    Step { name: "RELOAD KEYRING", before: "DO 0", sql: "ALTER INSTANCE RELOAD KEYRING" },
];

/// A server and its folder. The server goes first.
struct Running {
    server: Option<Server>,
    site: Site,
    keyring: Keyring,
}

/// Measures, and prints a table.
pub(crate) fn task() -> Result<()> {
    build::release()?;
    let root = mysql::server_root()?;
    println!("on {}; milliseconds, the median of {ROUNDS}\n", mysql::version(&root)?);
    let mut both = [Running::new(Keyring::Stock)?, Running::new(Keyring::Ours)?];
    println!("| keys | step | stock | keyward | keyward / stock |\n|---|---|---|---|---|");
    let mut filled = 0;
    for size in SIZES {
        let fill = format!("CALL d.fill({}, {size})", filled + 1);
        let more = u32::try_from(size - filled).unwrap_or(1);
        let times = each(&mut both, |one| Ok(one.timed(&fill)? / more))?;
        row(*size, "store each up to here", times);
        filled = *size;
        for step in STEPS {
            row(*size, step.name, step.median(&mut both)?);
        }
        row(*size, "start", each(&mut both, Running::restarted)?);
    }
    for one in &mut both {
        one.sql("CALL d.churn(10000)")?;
        let bytes = files::read(&one.site.keyring(one.keyring))?.len();
        println!("\n{}: {bytes} bytes after 10,000 stores and removes besides", one.keyring.name());
    }
    Ok(())
}

impl Step {
    fn median(&self, both: &mut [Running; 2]) -> Result<[Duration; 2]> {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (one, times) in both.iter_mut().zip(&mut times) {
                one.sql(self.before)?;
                times.push(one.timed(self.sql)?);
            }
        }
        Ok(times.map(|mut times| {
            times.sort();
            times[times.len() / 2]
        }))
    }
}

/// What comes of both.
fn each(
    both: &mut [Running; 2],
    measure: impl Fn(&mut Running) -> Result<Duration>,
) -> Result<[Duration; 2]> {
    let [stock, ours] = both;
    Ok([measure(stock)?, measure(ours)?])
}

impl Running {
    fn new(keyring: Keyring) -> Result<Self> {
        let site = Site::new(keyring.name(), keyring)?;
        let one = Self { server: Some(site.start()?), site, keyring };
        one.sql(PREPARE)?;
        Ok(one)
    }

    fn sql(&self, sql: &str) -> Result<String> {
        self.server.as_ref().ok_or("the server is down")?.sql(sql)
    }

    /// How long `sql` takes, by the server's clock.
    fn timed(&self, sql: &str) -> Result<Duration> {
        let said = self.sql(&format!(
            "SET @since = SYSDATE(6); {sql}; SELECT TIMESTAMPDIFF(MICROSECOND, @since, SYSDATE(6))"
        ))?;
        let micros = said.lines().last().and_then(|line| line.trim().parse().ok());
        Ok(Duration::from_micros(micros.ok_or_else(|| format!("no time in {said:?}"))?))
    }

    /// How long it takes to start again, until it answers.
    fn restarted(&mut self) -> Result<Duration> {
        if let Some(server) = self.server.take() {
            server.stop()?;
        }
        let since = Instant::now();
        self.server = Some(self.site.start()?);
        Ok(since.elapsed())
    }
}

fn row(size: usize, step: &str, [stock, ours]: [Duration; 2]) {
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let ratio = ms(ours) / ms(stock).max(0.001);
    println!("| {size} | {step} | {:.2} | {:.2} | {ratio:.2} |", ms(stock), ms(ours));
}
