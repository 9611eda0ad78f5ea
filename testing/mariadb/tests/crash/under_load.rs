//! SIGKILL at random moments while rows are written and keys rotated.

use std::thread::{self, sleep};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use test_kit::{Result, ensure, seen};
use test_mariadb::rows::{check, create};
use test_mariadb::{Server, Session, Site};

use crate::{TABLES, site_on_disk};

/// The tables that are written to, under two keys.
const WRITTEN: [&str; 2] = ["w1", "w3"];

/// How often the server is killed.
fn rounds() -> u32 {
    if std::env::var_os("KEYWARD_EXTENDED").is_some() { 500 } else { 50 }
}

#[test]
fn random_kills() -> Result<()> {
    let site = site_on_disk("crash-load")?;
    let server = site.start()?;
    create(&server, TABLES)?;
    for (table, key) in WRITTEN.iter().zip([1, 3]) {
        server.sql(&format!(
            "CREATE TABLE test.{table} (id INT PRIMARY KEY, body TEXT NOT NULL)
             ENCRYPTED=YES ENCRYPTION_KEY_ID={key}"
        ))?;
    }
    server.stop()?;
    let mut written = [0; 2];
    let mut rotations = 0;
    for round in 0..rounds() {
        let by_command = round % 2 == 1;
        rotations += one_round(&site, &mut written, by_command)
            .map_err(|error| error.within(format!("round {round}")))?;
    }
    let server = site.start()?;
    check(&server, TABLES)?;
    server.stop()?;
    seen!(
        "{} kills, {rotations} rotations and {} rows acknowledged: none lost",
        rounds(),
        written[0] + written[1]
    );
    ensure!(rotations > rounds(), "hardly any rotation: {rotations}");
    ensure!(written.iter().all(|rows| *rows > rounds()), "hardly any row: {written:?}");
    Ok(())
}

/// Starts, checks what earlier rounds acknowledged, loads, kills; gives the rotations acknowledged.
fn one_round(site: &Site, written: &mut [u32; 2], by_command: bool) -> Result<u32> {
    let before = site.versions()?;
    let server = site.start()?;
    check(&server, TABLES)?;
    for (table, rows) in WRITTEN.iter().zip(written.iter_mut()) {
        *rows = readable(&server, table, *rows)?;
    }
    let running = &server;
    let (rotated, [one, three]) = thread::scope(|scope| {
        let writers: Vec<_> = WRITTEN
            .iter()
            .zip(*written)
            .map(|(table, rows)| scope.spawn(move || write(running, table, rows)))
            .collect();
        let rotator = scope.spawn(move || rotate(site, running, by_command));
        sleep(random_delay());
        let killed = running.signal(nix::sys::signal::Signal::SIGKILL);
        let mut ends = writers.into_iter().map(|writer| writer.join().unwrap_or(0));
        let ends = [ends.next().unwrap_or(0), ends.next().unwrap_or(0)];
        killed.map(|()| (rotator.join().unwrap_or(0), ends))
    })?;
    *written = [one, three];
    drop(server);
    let after = site.versions()?;
    after.keep(&before)?;
    let new = after.count() - before.count();
    let least = rotated as usize * after.keys();
    ensure!(new >= least, "{rotated} rotations acknowledged, {new} versions there");
    Ok(rotated)
}

/// The rows of `table`, all right and at least `acknowledged` of them.
fn readable(server: &Server, table: &str, acknowledged: u32) -> Result<u32> {
    let found = server.sql(&format!(
        "SELECT COUNT(*), COALESCE(SUM(body <> REPEAT(MD5(id), 30)), 0), COALESCE(MAX(id), 0)
         FROM test.{table}"
    ))?;
    let numbers: Vec<u32> =
        found.split('\t').map(str::parse).collect::<std::result::Result<_, _>>()?;
    let [rows, wrong, last] = numbers[..] else { return Err(format!("{table}: {found}").into()) };
    ensure!(wrong == 0, "{table}: {wrong} rows are wrong");
    ensure!(rows == last, "{table}: {rows} rows up to number {last}");
    ensure!(rows >= acknowledged, "{table}: {rows} rows, {acknowledged} were acknowledged");
    Ok(rows)
}

/// Writes rows until the server is gone; gives the last one acknowledged.
fn write(server: &Server, table: &str, from: u32) -> u32 {
    let Ok(mut session) = Session::open(server) else { return from };
    for id in from + 1.. {
        let insert =
            format!("INSERT INTO test.{table} VALUES ({id}, REPEAT(MD5({id}), 30)); SELECT {id}");
        if session.ask(&insert).is_err() {
            return id - 1;
        }
    }
    from
}

/// Rotates until the server is gone; gives the rotations acknowledged.
fn rotate(site: &Site, server: &Server, by_command: bool) -> u32 {
    let Ok(mut session) = Session::open(server) else { return 0 };
    for done in 0.. {
        if by_command && !site.keyward(&["rotate", "--all"]).is_ok_and(|answer| answer.code == 0) {
            return done;
        }
        let sql =
            if by_command { "SELECT 1" } else { "SET GLOBAL keyward_rotate_key = -1; SELECT 1" };
        if session.ask(sql).is_err() {
            return done + u32::from(by_command);
        }
    }
    0
}

/// From just started to well under way.
fn random_delay() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis(20 + u64::from(now.subsec_micros() % 700))
}
