//! Rotation, by SQL and by the command.

use std::time::{Duration, Instant};

use test_kit::{Result, ensure, seen};
use test_mariadb::rows::{check, create, key_of, wait_for_version};

use crate::{TABLES, site};

#[test]
fn all_keys_by_sql() -> Result<()> {
    let site = site("rotate-sql")?;
    site.keyward(&["keys", "create", "5"])?.ok()?;
    let server = site.start()?;
    create(&server, TABLES)?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    wait_for_version(&server, "%", 3)?;
    check(&server, TABLES)?;
    ensure!(server.status("Keyward_rotations")? == "1", "one rotation was to be counted");
    // What turns within a second is one line.
    let since = Instant::now();
    while !server.log().contains("keyward: rotated: ") && since.elapsed() < Duration::from_secs(20)
    {
        std::thread::sleep(Duration::from_millis(100));
    }
    site.keyward(&["rotate", "3"])?.ok()?;
    wait_for_version(&server, "test/key\\_three", 5)?;
    let log = server.stop()?;
    let told: Vec<_> =
        log.lines().filter_map(|line| line.split_once("keyward: rotated: ")).collect();
    let told: Vec<_> = told.into_iter().map(|(_, words)| words).collect();
    let many = "5 keys, the first of them key 1 from version 1 to 3";
    ensure!(told == [many, "key 3 from version 3 to 5"], "{told:?}");
    let server = site.start()?;
    check(&server, TABLES)?;
    server.stop()?;
    Ok(())
}

#[test]
fn one_key_by_sql_leaves_the_others() -> Result<()> {
    let site = site("rotate-one")?;
    let server = site.start()?;
    create(&server, TABLES)?;
    server.sql("SET GLOBAL keyward_rotate_key = 3")?;
    wait_for_version(&server, "test/key\\_three", 3)?;
    ensure!(key_of(&server, "test/key_three")? == (3, 3, 3), "key 3 was to be at version 3");
    ensure!(key_of(&server, "test/key_four")? == (4, 1, 1), "key 4 was to stay at version 1");
    ensure!(key_of(&server, "test/plain_key")? == (1, 1, 1), "key 1 was to stay at version 1");
    check(&server, TABLES)?;
    server.stop()?;
    Ok(())
}

#[test]
fn a_version_that_no_page_needs_may_be_destroyed() -> Result<()> {
    let site = site("rotate-destroy")?;
    let server = site.start()?;
    create(&server, TABLES)?;
    for version in [3, 5] {
        site.keyward(&["rotate", "3"])?.ok()?;
        wait_for_version(&server, "test/key\\_three", version)?;
    }
    let doctor = site.keyward(&["doctor", "--socket", &server.socket().to_string_lossy()])?;
    ensure!(doctor.code == 3 && !doctor.out.contains("warn  server"), "{}", doctor.text());
    server.stop()?;
    let data = site.data();
    let datadir = data.to_string_lossy();
    for (version, why) in [("5", "active"), ("3", "one of the newest 2 versions")] {
        let refused =
            site.keyward(&["keys", "destroy", "3", version, "--datadir", &datadir])?.text();
        ensure!(refused.contains(why), "{refused}");
    }
    let planned = site.keyward(&["keys", "destroy", "3", "1", "--datadir", &datadir])?.ok()?;
    ensure!(planned.contains("key 3 version 1"), "{planned}");
    let server = site.start()?;
    check(&server, TABLES)?;
    server.stop()?;
    Ok(())
}

#[test]
fn an_unknown_key_is_refused_and_changes_nothing() -> Result<()> {
    let site = site("rotate-unknown")?;
    let server = site.start()?;
    let generation = server.status("Keyward_generation")?;
    for id in ["77", "-2", "4294967297"] {
        let said = server.sql_refused(&format!("SET GLOBAL keyward_rotate_key = {id}"))?;
        seen!("SET GLOBAL keyward_rotate_key = {id}: {said}");
    }
    ensure!(server.status("Keyward_generation")? == generation, "the generation has changed");
    server.stop()?;
    Ok(())
}

#[test]
fn the_value_at_start_up_rotates_nothing() -> Result<()> {
    let mut site = site("rotate-at-start")?;
    site.set("keyward_rotate_key = 1");
    let before = site.keyward(&["keys", "list"])?.ok()?;
    site.start()?.stop()?;
    let after = site.keyward(&["keys", "list"])?.ok()?;
    ensure!(versions(&before) == versions(&after), "before:\n{before}\nafter:\n{after}");
    Ok(())
}

#[test]
fn the_command_s_rotation_is_in_force_within_a_second() -> Result<()> {
    let site = site("rotate-command")?;
    let server = site.start()?;
    create(&server, TABLES)?;
    // A busy machine may hold up one of them.
    let mut quickest = Duration::MAX;
    for _ in 0..3 {
        let generation = server.status("Keyward_generation")?;
        site.keyward(&["rotate", "--all"])?.ok()?;
        let since = Instant::now();
        server.wait_for(
            "SHOW GLOBAL STATUS LIKE 'Keyward_generation'",
            Duration::from_secs(5),
            |row| !row.ends_with(&format!("\t{generation}")),
        )?;
        quickest = quickest.min(since.elapsed());
    }
    seen!("a rotation by the command was in force in the server after {} ms", quickest.as_millis());
    ensure!(quickest < Duration::from_secs(1), "it took {quickest:?}");
    wait_for_version(&server, "%", 7)?;
    check(&server, TABLES)?;
    server.stop()?;
    let server = site.start()?;
    check(&server, TABLES)?;
    server.stop()?;
    Ok(())
}

#[test]
fn a_key_made_by_the_command_can_be_used_at_once() -> Result<()> {
    let site = site("new-key")?;
    let server = site.start()?;
    let nine = test_mariadb::rows::Table {
        name: "nine",
        options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=9",
        rows: 10,
    };
    let said = nine.create(&server).map_or_else(|error| error.to_string(), |()| "made".into());
    ensure!(said.contains("ERROR"), "key 9 was not to be there yet: {said}");
    site.keyward(&["keys", "create", "9"])?.ok()?;
    std::thread::sleep(Duration::from_secs(1));
    nine.create(&server)?;
    nine.check(&server)?;
    server.stop()?;
    Ok(())
}

#[test]
fn many_rotations_in_a_row_keep_every_version() -> Result<()> {
    let site = site("rotate-often")?;
    let server = site.start()?;
    create(&server, TABLES)?;
    for _ in 0..20 {
        server.sql("SET GLOBAL keyward_rotate_key = -1")?;
        site.keyward(&["rotate", "--all"])?.ok()?;
    }
    check(&server, TABLES)?;
    server.stop()?;
    let list = site.keyward(&["keys", "list"])?.ok()?;
    // Keys 1 to 4, each with its first version and 40 more.
    ensure!(versions(&list).len() == 4 * 41, "{list}");
    let server = site.start()?;
    check(&server, TABLES)?;
    server.stop()?;
    Ok(())
}

/// Key and version of each line of `keyward keys list`.
fn versions(list: &str) -> Vec<(String, String)> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    };
    list.lines().skip(1).filter_map(entry).collect()
}
