//! `cargo xtask bench server`: what encryption costs a whole server.
//!
//! One server an arm, all of them up at the same time. Whatever else the machine and its host do
//! should hit all arms alike, and so there are two loads:
//!
//! - a fixed number of transactions a second on all of them at once, for the server's CPU time
//!   for a transaction: nothing then differs between the arms but what they do;
//! - as many as there can be on one after the other, in rotating order, for transactions a second.
//!
//! Slices are short, and many. All CPU time counts, also what a server does between its slices.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::time::ClockId;
use nix::unistd::Pid;
use test_kit::Result;
use test_kit::command::{Answer, answer};
use test_mariadb::{Server, Site};

use crate::{build, setup};

/// Rounds of each load, where the command line names no number.
const ROUNDS: usize = 60;

/// A slice under the fixed load, and its transactions a second: all arms together are to need
/// less than the machine has.
const STEADY_SECONDS: u64 = 4;
const STEADY_RATE: u64 = 50;

/// A slice under full load.
const FULL_SECONDS: u64 = 1;

const TABLES: u32 = 4;
const ROWS: u32 = 60_000;
const CLIENTS: u32 = 4;

/// Buffer pools: one that holds all of the tables, so that pages are only written, and one that holds
/// half of them, so that they are read, too.
const POOLS: &[&str] = &["128M", "32M"];

/// The arm that the others are compared with.
const CLEAR: &str = "none";

/// What distinguishes a server: whose plugin under the name `file_key_management`, which cipher.
struct Arm {
    name: &'static str,
    plugin: Option<(bool, &'static str)>,
}

/// In the order of the report. The same key file, settings and cipher for both plugins.
const ARMS: &[Arm] = &[
    Arm { name: CLEAR, plugin: None },
    Arm { name: "file_key_management-cbc", plugin: Some((false, "aes_cbc")) },
    Arm { name: "keyward-cbc", plugin: Some((true, "aes_cbc")) },
    Arm { name: "file_key_management-ctr", plugin: Some((false, "aes_ctr")) },
    Arm { name: "keyward-ctr", plugin: Some((true, "aes_ctr")) },
];

/// What is compared: an arm and the one it is measured against.
const PAIRS: &[(&str, &str)] = &[
    ("file_key_management-cbc", CLEAR),
    ("keyward-cbc", CLEAR),
    ("file_key_management-ctr", CLEAR),
    ("keyward-ctr", CLEAR),
    ("keyward-cbc", "file_key_management-cbc"),
    ("keyward-ctr", "file_key_management-ctr"),
];

/// An arm at work. The server goes before its folder.
struct Running {
    name: &'static str,
    server: Server,
    _site: Site,
}

/// What an arm did in the rounds that count, one number for each.
#[derive(Default)]
struct Laps {
    /// Microseconds of the server's CPU time for a transaction under the fixed load.
    steady_cpu: Vec<f64>,
    /// The same under full load.
    full_cpu: Vec<f64>,
    /// Transactions a second under full load.
    rate: Vec<f64>,
}

/// `cargo xtask bench server [ROUNDS]`.
pub(crate) fn task(words: &[String]) -> Result<()> {
    setup::need(&[setup::BUILD, setup::SERVER, setup::BENCH].concat())?;
    let rounds = words.first().map(|word| word.parse()).transpose()?.unwrap_or(ROUNDS);
    build::release()?;
    println!(
        "sysbench oltp_read_write, {CLIENTS} clients, {TABLES} tables of {ROWS} rows, data in memory\n\
         {rounds} rounds: {STEADY_SECONDS} s of {STEADY_RATE} transactions a second on all servers, \
         {FULL_SECONDS} s of full load on each\n\
         medians of the rounds, and where the true ones are with 95% confidence"
    );
    let mut lines = Vec::new();
    for pool in POOLS {
        let arms = ARMS.iter().map(|arm| arm.start(pool)).collect::<Result<Vec<_>>>()?;
        println!(
            "\n{}, buffer pool of {pool}\n",
            arms[0].server.sql("SELECT CONCAT('MariaDB ', VERSION())")?
        );
        let laps = measure(&arms, rounds)?;
        lines.extend(report(pool, &laps));
        for arm in arms {
            arm.server.stop()?;
        }
    }
    println!("\n{}", lines.join("\n"));
    Ok(())
}

/// Both loads; of each the first round is not counted.
fn measure(arms: &[Running], rounds: usize) -> Result<Vec<Laps>> {
    let mut steady = arms.iter().map(|_| Series::default()).collect::<Vec<_>>();
    for _ in 0..=rounds {
        let mut loads = Vec::new();
        for (arm, series) in arms.iter().zip(&mut steady) {
            series.spent.push(cpu_time(&arm.server)?);
            loads.push(arm.load(STEADY_SECONDS, Some(STEADY_RATE))?);
        }
        for (load, series) in loads.into_iter().zip(&mut steady) {
            series.done.push(done(load)?);
        }
    }
    end(arms, &mut steady)?;
    let mut full = arms.iter().map(|_| Series::default()).collect::<Vec<_>>();
    for round in 0..=rounds {
        for turn in 0..arms.len() {
            let at = (turn + round) % arms.len();
            full[at].spent.push(cpu_time(&arms[at].server)?);
            full[at].done.push(done(arms[at].load(FULL_SECONDS, None)?)?);
        }
    }
    end(arms, &mut full)?;
    let laps = steady.iter().zip(&full).map(|(steady, full)| {
        let rate = full.done[1..].iter().map(|done| done.rate).collect();
        Laps { steady_cpu: steady.cpu(), full_cpu: full.cpu(), rate }
    });
    Ok(laps.collect())
}

fn end(arms: &[Running], series: &mut [Series]) -> Result<()> {
    for (arm, series) in arms.iter().zip(series) {
        series.spent.push(cpu_time(&arm.server)?);
    }
    Ok(())
}

/// An arm under one load.
#[derive(Default)]
struct Series {
    /// The server's CPU time at the start of each slice, and at the end of it all.
    spent: Vec<Duration>,
    done: Vec<Done>,
}

impl Series {
    /// Microseconds of CPU time for a transaction from each slice but the first to the next.
    fn cpu(&self) -> Vec<f64> {
        let spent = self.spent.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e6);
        spent.zip(&self.done).skip(1).map(|(spent, done)| spent / done.count).collect()
    }
}

/// The transactions of a slice, and how many a second.
struct Done {
    count: f64,
    rate: f64,
}

/// Waits for a slice to end.
fn done(load: Child) -> Result<Done> {
    let said = Answer::from(load.wait_with_output()?).ok();
    let said = said.map_err(|error| error.within("sysbench"))?;
    let line = said.lines().find_map(|line| line.trim().strip_prefix("transactions:"));
    let words: Vec<_> = line.unwrap_or_default().split([' ', '(']).collect();
    let mut numbers = words.iter().filter_map(|word| word.parse::<f64>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(count), Some(rate)) if count > 0.0 => Ok(Done { count, rate }),
        _ => Err(format!("sysbench counted no transactions\n{said}").into()),
    }
}

impl Arm {
    /// A server with its tables filled.
    fn start(&self, pool: &str) -> Result<Running> {
        let mut site = Site::new(&format!("bench-{}", self.name))?;
        site.unset("innodb_buffer_pool_size");
        site.set(&format!("innodb_buffer_pool_size = {pool}"));
        site.set(&format!("loose_innodb_buffer_pool_size_max = {pool}"));
        for line in
            ["innodb_log_file_size = 96M", "max_connections = 20", "log_bin", "server_id = 1"]
        {
            site.set(line);
        }
        if let Some((ours, cipher)) = self.plugin {
            site.load_file_keys(ours, cipher)?;
            site.encrypt_everything();
        }
        let server = site.start()?;
        server.sql("CREATE DATABASE sbtest")?;
        let running = Running { name: self.name, server, _site: site };
        answer(running.sysbench().arg("prepare"))?
            .ok()
            .map_err(|error| error.within("sysbench"))?;
        running.is_encrypted_as(self.plugin.is_some())?;
        Ok(running)
    }
}

impl Running {
    fn sysbench(&self) -> Command {
        let mut sysbench = Command::new("sysbench");
        sysbench.arg("oltp_read_write").args(["--mysql-user=root", "--mysql-db=sbtest"]);
        sysbench.arg(format!("--mysql-socket={}", self.server.socket().display()));
        sysbench.args([format!("--tables={TABLES}"), format!("--table-size={ROWS}")]);
        sysbench
    }

    /// Starts a slice.
    fn load(&self, seconds: u64, rate: Option<u64>) -> Result<Child> {
        let mut sysbench = self.sysbench();
        sysbench.args([format!("--threads={CLIENTS}"), format!("--time={seconds}")]);
        sysbench.args(rate.map(|rate| format!("--rate={rate}")));
        sysbench.arg("run").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(sysbench.spawn()?)
    }

    /// An arm that does not encrypt would be a fine result.
    fn is_encrypted_as(&self, encrypted: bool) -> Result<()> {
        let count = self.server.sql(
            "SELECT COUNT(*) FROM information_schema.INNODB_TABLESPACES_ENCRYPTION
             WHERE NAME LIKE 'sbtest/%' AND ENCRYPTION_SCHEME = 1 AND CURRENT_KEY_VERSION > 0",
        )?;
        let wanted = if encrypted { TABLES } else { 0 };
        if count == wanted.to_string() {
            return Ok(());
        }
        Err(format!("{}: {count} encrypted tables, {wanted} were expected", self.name).into())
    }
}

/// The CPU time of all threads of a process, those that ended too.
fn cpu_time(server: &Server) -> Result<Duration> {
    cpu_time_of(Pid::from_raw(server.pid()?))
}

fn cpu_time_of(process: Pid) -> Result<Duration> {
    let now = ClockId::pid_cpu_clock_id(process).and_then(ClockId::now);
    Ok(now.map_err(|error| format!("the CPU time of process {process}: {error}"))?.into())
}

/// Prints both tables; returns the lines for machines.
fn report(pool: &str, laps: &[Laps]) -> Vec<String> {
    println!("| arm | CPU us a transaction | at full load | transactions a second |");
    println!("|---|---|---|---|");
    for (arm, laps) in ARMS.iter().zip(laps) {
        let shown = Laps::EACH.map(|of| Middle::of(of(laps).clone()).shown(0));
        println!("| {} | {} |", arm.name, shown.join(" | "));
    }
    println!("\n| ratio | CPU a transaction | at full load | transactions a second |");
    println!("|---|---|---|---|");
    let mut lines = Vec::new();
    for (name, base) in PAIRS {
        let laps_of = |name: &str| ARMS.iter().position(|arm| arm.name == name).map(|at| &laps[at]);
        let (Some(ours), Some(theirs)) = (laps_of(name), laps_of(base)) else { continue };
        let ratios = Laps::EACH.map(|of| {
            Middle::of(
                of(ours).iter().zip(of(theirs)).map(|(ours, theirs)| ours / theirs).collect(),
            )
        });
        println!(
            "| {name} / {base} | {} |",
            ratios.each_ref().map(|ratio| ratio.shown(3)).join(" | ")
        );
        for (what, ratio) in ["cpu", "cpu-full", "rate"].iter().zip(ratios) {
            lines.push(format!("ratio server/{what}/{pool}/{name}/{base} {:.3}", ratio.median));
        }
    }
    lines
}

impl Laps {
    /// In the order of the report.
    const EACH: [fn(&Self) -> &Vec<f64>; 3] =
        [|laps| &laps.steady_cpu, |laps| &laps.full_cpu, |laps| &laps.rate];
}

/// The median of some values, and the interval that has the median of all there could be with 95%
/// confidence, whatever their distribution: by ranks, with the normal approximation of the binomial.
struct Middle {
    median: f64,
    least: f64,
    most: f64,
}

impl Middle {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
        let last = values.len().saturating_sub(1);
        let count = values.len() as f64;
        let away = (1.96 * count.sqrt() / 2.0).ceil() as usize;
        let middle = values.len() / 2;
        Self {
            median: at(middle),
            least: at(middle.saturating_sub(away)),
            most: at((middle + away).min(last)),
        }
    }

    fn shown(&self, digits: usize) -> String {
        format!("{:.digits$} ({:.digits$}-{:.digits$})", self.median, self.least, self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_time_of_a_process() {
        let own = || cpu_time_of(Pid::this()).unwrap_or_default();
        let before = own();
        while own() < before + Duration::from_millis(20) {}
        assert!(own() - before < Duration::from_secs(20));
    }

    #[test]
    fn a_middle_has_its_interval() {
        assert_eq!(Middle::of(vec![3.0, 1.0, 2.0]).shown(1), "2.0 (1.0-3.0)");
        // Of 101 values the 41st to the 61st, or one more on each side (binomial, p = 0.5).
        let middle = Middle::of((0..101).rev().map(f64::from).collect());
        assert_eq!(middle.shown(0), "50 (40-60)");
    }

    #[test]
    fn what_a_server_does_between_its_slices_counts() {
        let done = [4.0, 2.0, 2.0].map(|count| Done { count, rate: 1.0 }).into();
        let spent = [0, 50, 70, 110].map(Duration::from_micros).into();
        let cpu: Vec<_> = Series { spent, done }.cpu().into_iter().map(f64::round).collect();
        assert_eq!(cpu, [10.0, 20.0]);
    }
}
