//! Copies of a real server's audit trail, by a webhook, syslog and journald: real receivers, which are away for a
//! while under a load of changes. Nothing waits for them, and afterwards each line has come, once and in order.

mod journald;
mod syslog;
mod webhook;

use std::time::{Duration, Instant};

use test_kit::{Result, ensure, files};
use test_mariadb::{Server, Site};

/// How long lines may take to arrive once the receiver is there: the longest pause, and the way.
const PATIENCE: Duration = Duration::from_secs(150);

/// A server whose configuration has these sections.
fn server(name: &str, sinks: &str) -> Result<(Site, Server)> {
    let mut site = Site::new(name)?;
    site.init_keyward()?;
    let config = files::text(&site.config())? + sinks;
    files::write(&site.config(), config)?;
    let server = site.start()?;
    // A new sink gets what happens from then on.
    until("the sink's first look at the trail", || {
        let cursors = files::list(&site.keys());
        Ok(cursors.iter().any(|path| path.to_string_lossy().contains("audit.sink-")))
    })?;
    Ok((site, server))
}

fn rotate(server: &Server) -> Result<Duration> {
    let since = Instant::now();
    server.sql("SET GLOBAL keyward_rotate_key = 1")?;
    Ok(since.elapsed())
}

/// The numbers of all lines of the trail after `line`.
fn numbers_after(site: &Site, line: u64) -> Result<Vec<u64>> {
    let trail = files::text(&site.keys().join("audit.jsonl"))?;
    let numbers = trail.lines().map(number).collect::<Result<Vec<_>>>()?;
    Ok(numbers.into_iter().filter(|number| *number > line).collect())
}

fn number(line: &str) -> Result<u64> {
    let value: serde_json::Value =
        serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
    value["number"].as_u64().ok_or_else(|| format!("no number: {line}").into())
}

fn last(site: &Site) -> Result<u64> {
    numbers_after(site, 0).map(|all| all.last().copied().unwrap_or_default())
}

/// Waits until `come` has all lines after `line`, each once and in order.
fn arrive(site: &Site, line: u64, come: impl Fn() -> Result<Vec<u64>>) -> Result<usize> {
    let wanted = numbers_after(site, line)?;
    until("all lines to arrive", || Ok(come()?.len() >= wanted.len()))?;
    let come = come()?;
    ensure!(come == wanted, "wanted {wanted:?}\nand got {come:?}");
    Ok(come.len())
}

fn until(what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
    let since = Instant::now();
    while !holds()? {
        ensure!(since.elapsed() < PATIENCE, "waiting for {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}
