//! `cargo xtask bench server`: what encryption costs a whole server.
//!
//! One server an arm, all of them up at the same time, and sysbench at one after the other in
//! rotating order, so that whatever else the machine does hits all arms alike. What counts is the
//! server's own CPU time for a transaction; throughput has the client and the scheduler in it.

use std::path::PathBuf;
use std::process::Command;

use mariadb_test::command::answer;
use mariadb_test::{Result, Server, Site, files};

use crate::{build, setup};

/// Rounds, and seconds of load for an arm in each, where the command line names none.
const ROUNDS: u64 = 5;
const SECONDS: u64 = 15;

const TABLES: u32 = 4;
const ROWS: u32 = 60_000;
const CLIENTS: u32 = 4;

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
    laps: Vec<Lap>,
}

/// One arm in one round.
struct Lap {
    /// Microseconds of the server's CPU time for a transaction.
    cpu: f64,
    /// Transactions a second.
    rate: f64,
}

/// `cargo xtask bench server [ROUNDS [SECONDS]]`.
pub(crate) fn task(words: &[String]) -> Result<()> {
    setup::need(&[setup::BUILD, setup::SERVER, setup::BENCH].concat())?;
    let number = |at: usize| words.get(at).map(|word| word.parse::<u64>()).transpose();
    let rounds = number(0)?.unwrap_or(ROUNDS);
    let seconds = number(1)?.unwrap_or(SECONDS);
    build::release()?;
    let mut arms = ARMS.iter().map(Arm::start).collect::<Result<Vec<_>>>()?;
    println!("{}", arms[0].server.sql("SELECT CONCAT('MariaDB ', VERSION())")?);
    println!(
        "sysbench oltp_read_write, {CLIENTS} clients, {TABLES} tables of {ROWS} rows, data in memory"
    );
    println!("{rounds} rounds of {seconds} s an arm; the first round is not counted\n");
    for round in 0..=rounds {
        for turn in 0..arms.len() {
            let at = (turn + round as usize) % arms.len();
            let lap = arms[at].lap(seconds)?;
            if round > 0 {
                arms[at].laps.push(lap);
            }
        }
    }
    report(&arms);
    for arm in arms {
        arm.server.stop()?;
    }
    Ok(())
}

impl Arm {
    /// A server with its tables filled.
    fn start(&self) -> Result<Running> {
        let mut site = Site::new(&format!("bench-{}", self.name))?;
        // What is written soon leaves the pool, and is read again.
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
        let running = Running { name: self.name, server, _site: site, laps: Vec::new() };
        running.sysbench("prepare", 0)?;
        running.is_encrypted_as(self.plugin.is_some())?;
        Ok(running)
    }
}

impl Running {
    fn sysbench(&self, command: &str, seconds: u64) -> Result<String> {
        let mut sysbench = Command::new("sysbench");
        sysbench.arg("oltp_read_write").args(["--mysql-user=root", "--mysql-db=sbtest"]);
        sysbench.arg(format!("--mysql-socket={}", self.server.socket().display()));
        sysbench.args([format!("--tables={TABLES}"), format!("--table-size={ROWS}")]);
        sysbench.args([format!("--threads={CLIENTS}"), format!("--time={seconds}")]);
        answer(sysbench.arg(command))?.ok().map_err(|error| error.within("sysbench"))
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

    fn lap(&self, seconds: u64) -> Result<Lap> {
        let before = cpu_ticks(self.server.pid()?)?;
        let said = self.sysbench("run", seconds)?;
        let ticks = cpu_ticks(self.server.pid()?)? - before;
        let line = said.lines().find_map(|line| line.trim().strip_prefix("transactions:"));
        let words: Vec<_> = line.unwrap_or_default().split([' ', '(']).collect();
        let mut numbers = words.iter().filter_map(|word| word.parse::<f64>().ok());
        let (Some(count), Some(rate)) = (numbers.next(), numbers.next()) else {
            return Err(format!("sysbench counted no transactions\n{said}").into());
        };
        Ok(Lap { cpu: ticks as f64 * 1e6 / ticks_a_second()? / count, rate })
    }
}

/// User and system time of all threads of a process, in clock ticks (proc(5), fields 14 and 15).
fn cpu_ticks(pid: i32) -> Result<u64> {
    let stat = files::text(&PathBuf::from(format!("/proc/{pid}/stat")))?;
    // The name before it may have spaces.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    match (times.next(), times.next()) {
        (Some(Ok(user)), Some(Ok(system))) => Ok(user + system),
        _ => Err(format!("/proc/{pid}/stat has no times: {stat}").into()),
    }
}

fn ticks_a_second() -> Result<f64> {
    use nix::unistd::{SysconfVar, sysconf};
    match sysconf(SysconfVar::CLK_TCK) {
        Ok(Some(ticks)) => Ok(ticks as f64),
        _ => Err("the system does not say how long a clock tick is".into()),
    }
}

fn report(arms: &[Running]) {
    println!("| arm | CPU us a transaction | transactions a second |\n|---|---|---|");
    for arm in arms {
        let cpu = Spread::of(arm.laps.iter().map(|lap| lap.cpu).collect());
        let rate = Spread::of(arm.laps.iter().map(|lap| lap.rate).collect());
        println!("| {} | {} | {} |", arm.name, cpu.shown(0), rate.shown(0));
    }
    println!(
        "\n| ratio, median of the rounds' | CPU a transaction | transactions a second |\n|---|---|---|"
    );
    let mut lines = Vec::new();
    for (name, base) in PAIRS {
        let of = |name: &str| arms.iter().find(|arm| arm.name == name);
        let (Some(arm), Some(base)) = (of(name), of(base)) else { continue };
        let ratio = |what: fn(&Lap) -> f64| {
            let laps = arm.laps.iter().zip(&base.laps);
            Spread::of(laps.map(|(lap, base)| what(lap) / what(base)).collect())
        };
        let (cpu, rate) = (ratio(|lap| lap.cpu), ratio(|lap| lap.rate));
        println!("| {name} / {} | {} | {} |", base.name, cpu.shown(3), rate.shown(3));
        lines.push(format!("ratio server/cpu/{name}/{} {:.3}", base.name, cpu.median));
        lines.push(format!("ratio server/rate/{name}/{} {:.3}", base.name, rate.median));
    }
    println!("\n{}", lines.join("\n"));
}

/// The middle of some values, and how far they lie apart.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
        Self {
            median: at(values.len() / 2),
            least: at(0),
            most: at(values.len().saturating_sub(1)),
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
    fn reads_the_times_of_a_process() {
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        let before = cpu_ticks(own).unwrap_or(u64::MAX);
        let since = std::time::Instant::now();
        while since.elapsed().as_millis() < 100 && cpu_ticks(own).is_ok() {}
        let used = cpu_ticks(own).unwrap_or_default() - before;
        assert!((1..=200).contains(&used), "{used} ticks");
    }

    #[test]
    fn a_spread_has_a_middle() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0]);
        assert_eq!(spread.shown(1), "2.0 (1.0-3.0)");
    }
}
