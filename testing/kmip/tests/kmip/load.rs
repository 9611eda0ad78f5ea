//! The KMIP server killed and restarted while rows are written.

use std::thread::sleep;
use std::time::Duration;

use test_kit::{Result, ensure, seen};
use test_mariadb::load::MIXED;

use crate::life::Room;

const SECONDS: u64 = 20;

#[test]
fn killed_and_restarted_under_load_no_transaction_fails() -> Result<()> {
    let mut room = Room::new("kmip-load")?;
    room.init(&["--set", "key=kek", "--create-key"])?;
    room.site.set("innodb_encrypt_tables = ON");
    let server = room.site.start()?;
    MIXED.prepare(&server)?;
    let load = MIXED.start(&server, SECONDS)?;
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
    let figures = load.finish()?;
    let log = server.log();
    ensure!(!log.contains("[ERROR]"), "{log}");
    MIXED.complete(&server)?;
    seen!(
        "{SECONDS} s of load, the KMIP server killed twice, {rotations} rotations: 0 of {} transactions \
         failed, {} deadlocks retried, the longest took {:.0} ms",
        figures.transactions,
        figures.deadlocks,
        figures.longest
    );
    MIXED.killed(&room.site, server)
}
