//! `keyward rotate --wait` and `--undo` beside a running server.

use mariadb_test::rows::{Table, check, create, key_of};
use mariadb_test::{Result, ensure, seen};

use crate::text;

const TABLES: &[Table] = &[
    Table { name: "three", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=3", rows: 60_000 },
    Table { name: "four", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=4", rows: 500 },
];

#[test]
fn waits_until_the_last_page_and_says_what_keeps_it() -> Result<()> {
    let site = site("life-wait")?;
    let server = site.start()?;
    create(&server, TABLES)?;
    let socket = text(server.socket());
    let done = site.keyward(&["rotate", "3", "--wait", "--socket", &socket])?;
    ensure!(done.code == 0, "{}", done.text());
    ensure!(key_of(&server, "test/three")? == (3, 3, 3), "it came back too early");
    ensure!(done.text().contains("every page of every tablespace has it"), "{}", done.text());
    ensure!(done.err.contains(" pages left, "), "no progress: {}", done.text());
    seen!("rotate 3 --wait: {}", done.err.lines().next().unwrap_or_default());

    for (variable, bad, good) in [
        ("innodb_encryption_threads", "0", "4"),
        ("innodb_encrypt_tables", "OFF", "ON"),
        ("innodb_encryption_rotate_key_age", "0", "1"),
    ] {
        server.sql(&format!("SET GLOBAL {variable} = {bad}"))?;
        let stuck = site.keyward(&["rotate", "3", "--wait", "--socket", &socket])?;
        let wanted = format!("{variable} = {bad};");
        ensure!(stuck.code == 1 && stuck.err.contains(&wanted), "{}", stuck.text());
        server.sql(&format!("SET GLOBAL {variable} = {good}"))?;
    }
    // The server has yet to notice the new version when the time is over.
    let words = ["rotate", "3", "--wait", "--timeout", "0s", "--socket", &socket];
    let late = site.keyward(&words)?;
    ensure!(late.code == 75, "exit code {}: {}", late.code, late.text());
    ensure!(late.err.contains("pages are left to re-encrypt"), "{}", late.text());
    check(&server, TABLES)?;
    server.stop().map(drop)
}

#[test]
fn undoes_a_rotation_while_no_page_has_it_and_not_afterwards() -> Result<()> {
    let mut site = site("life-undo")?;
    site.unset("innodb_encryption_threads");
    let server = site.start()?;
    create(&server, TABLES)?;
    let socket = text(server.socket());
    site.keyward(&["rotate", "4"])?.ok()?;
    let undone = site.keyward(&["rotate", "4", "--undo", "--socket", &socket])?.ok()?;
    ensure!(undone.contains("key 4 version 3 is pending"), "{undone}");
    ensure!(undone.contains("key 4 version 1 is active"), "{undone}");
    std::thread::sleep(std::time::Duration::from_secs(1));
    // What is written now is written with the first version again.
    server.sql(
        "UPDATE test.four SET body = REVERSE(body); UPDATE test.four SET body = REVERSE(body)",
    )?;
    server.write_pages()?;
    let inspected = site.keyward(&["inspect", &text(&site.data().join("test/four.ibd"))])?.ok()?;
    ensure!(!inspected.contains(" 3 "), "{inspected}");
    seen!("rotate 4 --undo: {}", undone.trim().replace('\n', "; "));

    site.keyward(&["rotate", "4"])?.ok()?;
    server.sql("SET GLOBAL innodb_encryption_threads = 4")?;
    mariadb_test::rows::wait_for_version(&server, "test/four", 5)?;
    let refused = site.keyward(&["rotate", "4", "--undo", "--socket", &socket])?;
    ensure!(refused.code == 1, "{}", refused.text());
    ensure!(refused.err.contains("key 4 version 5 is in use already"), "{}", refused.text());
    let running = site.keyward(&["rotate", "4", "--undo", "--offline", "--socket", &socket])?;
    ensure!(running.code == 1 && running.err.contains("the server runs"), "{}", running.text());
    check(&server, TABLES)?;
    server.stop()?;
    let server = site.start()?;
    check(&server, TABLES)?;
    server.stop().map(drop)
}

fn site(name: &str) -> Result<mariadb_test::Site> {
    let mut site = mariadb_test::Site::with_keyward(name)?;
    // Where it is OFF no version ever changes, not even that of a table with ENCRYPTED=YES.
    site.set("innodb_encrypt_tables = ON");
    for key in ["3", "4"] {
        site.keyward(&["keys", "create", key])?.ok()?;
    }
    Ok(site)
}
