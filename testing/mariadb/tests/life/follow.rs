//! `keyward rotate --wait` and `keyward keys undo` while the server runs.

use test_kit::{Result, ensure, seen};
use test_mariadb::Site;
use test_mariadb::rows::{Table, check, create, key_of};

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
    ensure!(done.text().contains("every page of InnoDB's tablespaces has it"), "{}", done.text());
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
        ensure!(stuck.err.starts_with("keyward: nothing was rotated: "), "{}", stuck.text());
        ensure!(newest(&site, 3)? == 3, "a version was made that nobody can wait for");
        server.sql(&format!("SET GLOBAL {variable} = {good}"))?;
    }
    // The server has yet to notice the new version when the time is over.
    let words = ["rotate", "3", "--wait", "--timeout", "0s", "--socket", &socket];
    let late = site.keyward(&words)?;
    ensure!(late.code == 3, "exit code {}: {}", late.code, late.text());
    ensure!(late.err.contains("pages are left to re-encrypt"), "{}", late.text());
    ensure!(late.err.contains("`keyward keys wait 3` follows"), "{}", late.text());
    follow(&site, &socket)?;
    ensure!(key_of(&server, "test/three")? == (3, 5, 5), "it came back too early");
    ensure!(newest(&site, 3)? == 5, "following made another version");
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
    let undone = site.keyward(&["keys", "undo", "4", "--socket", &socket])?.ok()?;
    ensure!(undone.contains("key 4 version 3 is pending"), "{undone}");
    ensure!(undone.contains("key 4 version 1 is active"), "{undone}");
    std::thread::sleep(std::time::Duration::from_secs(1));
    // What is written now is written with the first version again.
    server.sql(
        "UPDATE test.four SET body = REVERSE(body); UPDATE test.four SET body = REVERSE(body)",
    )?;
    server.write_pages()?;
    let four = text(&site.data().join("test/four.ibd"));
    let inspected = site.keyward(&["inspect", "--json", &four])?.ok()?;
    ensure!(inspected.contains("\"version\": 1,"), "{inspected}");
    ensure!(!inspected.contains("\"version\": 3,"), "{inspected}");
    seen!("keys undo 4: {}", undone.trim().replace('\n', "; "));

    site.keyward(&["rotate", "4"])?.ok()?;
    server.sql("SET GLOBAL innodb_encryption_threads = 4")?;
    test_mariadb::rows::wait_for_version(&server, "test/four", 5)?;
    let refused = site.keyward(&["keys", "undo", "4", "--socket", &socket])?;
    ensure!(refused.code == 1, "{}", refused.text());
    ensure!(refused.err.contains("key 4 version 5 is in use already"), "{}", refused.text());
    let running = site.keyward(&["keys", "undo", "4", "--offline", "--socket", &socket])?;
    ensure!(running.code == 1 && running.err.contains("the server runs"), "{}", running.text());
    check(&server, TABLES)?;
    server.stop()?;
    let server = site.start()?;
    check(&server, TABLES)?;
    server.stop().map(drop)
}

/// `keys wait` on a rotation that was made elsewhere: what is left, and its end.
fn follow(site: &Site, socket: &str) -> Result<()> {
    let wait = |more: &[&str]| {
        let words = ["keys", "wait", "3", "--json", "--socket", socket];
        site.keyward(&[&words, more].concat())
    };
    let left = wait(&["--timeout", "0s"])?;
    ensure!(left.code == 3 && left.out.contains("\"tablespaces_left\": 1"), "{}", left.text());
    let done = wait(&[])?;
    ensure!(done.code == 0 && done.out.contains("\"pages_left\": 0"), "{}", done.text());
    seen!("keys wait 3: {}", left.err.lines().last().unwrap_or_default());
    Ok(())
}

/// The newest version of a key.
fn newest(site: &Site, id: u32) -> Result<u32> {
    let list = site.keyward(&["keys", "list"])?.ok()?;
    let versions = list.lines().filter_map(|line| {
        let mut cells = line.split_whitespace();
        (cells.next()? == id.to_string()).then(|| cells.next()?.parse().ok())?
    });
    versions.max().ok_or_else(|| "the key is not listed".into())
}

fn site(name: &str) -> Result<Site> {
    let mut site = Site::with_keyward(name)?;
    // Where it is OFF no version ever changes, not even that of a table with ENCRYPTED=YES.
    site.set("innodb_encrypt_tables = ON");
    for key in ["3", "4"] {
        site.keyward(&["keys", "create", key])?.ok()?;
    }
    Ok(site)
}
