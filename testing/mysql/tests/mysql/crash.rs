//! SIGKILL while master keys are rotated under load: afterwards every table opens.

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use test_kit::{Result, ensure, seen};
use test_mysql::{Keyring, Server, Site};

const ROUNDS: u32 = 50;
const TABLES: u32 = 5;

#[test]
fn killed_in_rotations() -> Result<()> {
    let site = Site::new("crash", Keyring::Ours)?;
    let server = site.start()?;
    server.sql("CREATE DATABASE d")?;
    for table in 0..TABLES {
        server.sql(&format!("CREATE TABLE d.t{table} (a INT PRIMARY KEY) ENCRYPTION = 'Y'"))?;
    }
    server.stop()?;
    let (mut rows, mut rotations) = (0, 0);
    for round in 0..ROUNDS {
        let (written, rotated) =
            one_round(&site, rows).map_err(|error| error.within(format!("round {round}")))?;
        rows = written;
        rotations += rotated;
    }
    let server = site.start()?;
    check(&server, rows)?;
    server.stop()?;
    seen!("{ROUNDS} kills, {rotations} rotations and {rows} rows acknowledged: none lost");
    ensure!(rotations > ROUNDS / 2 && rows > ROUNDS, "{rotations} rotations, {rows} rows");
    Ok(())
}

/// Starts, checks, loads, kills; gives the rows acknowledged so far and this round's rotations.
fn one_round(site: &Site, rows: u32) -> Result<(u32, u32)> {
    let mut server = site.start()?;
    check(&server, rows)?;
    let running = &server;
    let (written, rotated) = thread::scope(|scope| {
        let writer = scope.spawn(move || {
            // A row that was written and not acknowledged is written once more.
            let mut row = rows;
            while insert(running, row + 1) {
                row += 1;
            }
            row
        });
        let rotator = scope.spawn(move || {
            let rotate = || running.sql("ALTER INSTANCE ROTATE INNODB MASTER KEY").is_ok();
            std::iter::repeat_with(rotate).take_while(|done| *done).fold(0, |count, _| count + 1)
        });
        thread::sleep(random_delay());
        let pid = nix::unistd::Pid::from_raw(running.pid()?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)
            .map_err(|error| error.to_string())?;
        let written = writer.join().map_err(|_| "the writer panicked")?;
        let rotated = rotator.join().map_err(|_| "the rotator panicked")?;
        Ok::<_, test_kit::Trouble>((written, rotated))
    })?;
    // It is dead by now; this waits for its end.
    let _ = server.kill();
    Ok((written, rotated))
}

fn insert(server: &Server, row: u32) -> bool {
    let all: String = (0..TABLES).map(|t| format!("REPLACE INTO d.t{t} VALUES ({row});")).collect();
    server.sql(&all).is_ok()
}

/// Every table opens and has every acknowledged row.
fn check(server: &Server, rows: u32) -> Result<()> {
    for table in 0..TABLES {
        let count = server.sql(&format!("SELECT COUNT(*) FROM d.t{table} WHERE a <= {rows}"))?;
        ensure!(count == rows.to_string(), "t{table} has {count} of {rows} rows");
    }
    Ok(())
}

/// Between 0.2 and 1.2 seconds.
fn random_delay() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis(200 + u64::from(now.subsec_micros() % 1000))
}
