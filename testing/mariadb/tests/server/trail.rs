//! What a running server adds to the audit trail by itself.

use std::thread::sleep;
use std::time::{Duration, Instant};

use test_kit::{Result, ensure, files, seen};
use test_mariadb::rows::create;

use crate::{TABLES, site};

/// A server tells nothing in its first minute; then the worker looks once a minute.
const SOON: Duration = Duration::from_secs(150);

#[test]
fn a_server_tells_its_start_its_keys_and_a_trail_that_was_changed() -> Result<()> {
    let site = site("trail")?;
    let server = site.start()?;
    let began = Instant::now();
    create(&server, TABLES)?;
    let trail = site.keys().join("audit.jsonl");
    let told = |event: &str| site.keyward(&["audit", "export", "--event", event])?.ok();
    let wait_for = |event: &str| -> Result<String> {
        let since = Instant::now();
        while since.elapsed() < SOON {
            let lines = told(event)?;
            if !lines.is_empty() {
                return Ok(lines);
            }
            sleep(Duration::from_millis(200));
        }
        Err(format!("no line {event}: {}", server.log()).into())
    };
    let used = wait_for("first-used")?;
    ensure!(began.elapsed() > Duration::from_secs(55), "after {:?}", began.elapsed());
    ensure!(used.contains("\"actor\":\"server\"") && used.contains("\"keys\":[{"), "{used}");
    let started = told("server-started")?;
    let data = site.data().display().to_string();
    ensure!(started.contains(&data) && started.contains("SHA-256"), "{started}");
    site.keyward(&["audit", "verify"])?.ok()?;
    seen!("after {:?}: {}", began.elapsed(), used.trim());

    // Somebody changes the line that the keystore knows: whether the server has looked at it or not, it compares.
    server.sql("SET GLOBAL keyward_rotate_key = 3")?;
    let text = files::text(&trail)?;
    let at = text.rfind("\"event\":\"intended\"").ok_or("no intention")?;
    let changed = format!("{}{}", &text[..at], text[at..].replacen("intended", "prepared", 1));
    files::write(&trail, changed)?;
    site.only_for_server(&trail)?;
    server.sql("SET GLOBAL keyward_rotate_key = 3")?;
    let damaged = wait_for("trail-damaged");
    let log = server.log();
    server.stop()?;
    ensure!(damaged.is_ok() && log.contains("the audit trail is not whole"), "{damaged:?}: {log}");
    Ok(())
}
