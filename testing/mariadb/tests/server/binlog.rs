//! `keyward binlog` on the logs of real servers: next to those that a server without encryption wrote of
//! the same statements, read by `mariadb-binlog` and replayed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use test_kit::account::give_to_server;
use test_kit::binlog::{Event, FORMAT, IGNORABLE, events};
use test_kit::command::{answer, answer_to};
use test_kit::{Answer, Result, Scratch, artefacts, ensure, files, free_port, seen};
use test_mariadb::{Backup, Server, Site};

/// Each part has a log of its own, of which an encrypting server has a key version of its own.
const PARTS: [&str; 5] = [
    "SET SESSION binlog_format = STATEMENT;
     CREATE TABLE d.t (id INT PRIMARY KEY AUTO_INCREMENT, body LONGTEXT, f DOUBLE);
     CREATE TABLE d.nt (id INT) ENGINE = MyISAM;
     SET @word = 'of a variable'; INSERT INTO d.t (body) VALUES (@word), ('two'), ('three');
     INSERT INTO d.t (body, f) VALUES (LAST_INSERT_ID(), RAND());
     LOAD DATA INFILE 'LOADED' INTO TABLE d.t (body);
     BEGIN; INSERT INTO d.nt VALUES (1); INSERT INTO d.t (body) VALUES ('gone'); ROLLBACK;",
    "SET SESSION binlog_format = ROW; SET GLOBAL binlog_row_metadata = FULL;
     INSERT INTO d.t (body) SELECT REPEAT(MD5(seq), 40) FROM seq_1_to_3000;
     UPDATE d.t SET body = CONCAT(body, '!') WHERE id % 3 = 0; DELETE FROM d.t WHERE id % 7 = 0;
     INSERT INTO d.t (body) VALUES (REPEAT('large ', 600000));
     XA START 'x'; INSERT INTO d.t (body) VALUES ('xa'); XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x';
     BEGIN; INSERT INTO d.t (body) VALUES ('a'); SAVEPOINT s; INSERT INTO d.t (body) VALUES ('b');
     ROLLBACK TO s; COMMIT;",
    "SET SESSION binlog_format = ROW; SET GLOBAL log_bin_compress = ON; SET GLOBAL log_bin_compress_min_len = 20;
     INSERT INTO d.t (body) SELECT REPEAT('compressed ', seq) FROM seq_1_to_200;
     UPDATE d.t SET body = REPEAT('x', 5000) WHERE id % 100 = 1; DELETE FROM d.t WHERE id % 50 = 2;
     SET SESSION binlog_format = STATEMENT; UPDATE d.t SET f = id * 0.5 WHERE id < 100 AND f IS NULL;
     CREATE VIEW d.v AS SELECT id FROM d.t; SET GLOBAL log_bin_compress = OFF;",
    "SET GLOBAL binlog_checksum = NONE;
     SET SESSION binlog_format = ROW; INSERT INTO d.t (body) VALUES ('without a checksum');
     INSERT INTO d.t (body) VALUES (REPEAT('z', 400000)); TRUNCATE TABLE d.nt;",
    "SET GLOBAL binlog_checksum = CRC32; INSERT INTO d.t (body) VALUES ('last');",
];

/// An event that names the oldest log that a crash may need.
const CHECKPOINT: u8 = 161;

/// What every session begins with, so that two servers write the same.
const SAME: &str = "CREATE DATABASE IF NOT EXISTS d; USE d; SET timestamp = 1700000000; SET pseudo_thread_id = 77; SET rand_seed1 = 1, rand_seed2 = 2;\
    SET NAMES utf8mb4;";

#[test]
fn each_event_is_what_a_server_without_encryption_writes() -> Result<()> {
    let (plain, loaded) = (site("binlog-plain", None)?, loaded()?);
    let server = plain.start()?;
    PARTS.iter().try_for_each(|part| write(&server, &loaded, part, "DO 1"))?;
    let wanted = server.checksums(&["d.t", "d.nt"])?;
    server.stop()?;
    for cipher in ["aes-256-ctr", "aes-128-cbc"] {
        let site = site("binlog", Some(cipher))?;
        let server = site.start()?;
        PARTS.iter().try_for_each(|part| {
            write(&server, &loaded, part, "SET GLOBAL keyward_rotate_key = 1")
        })?;
        let found = server.checksums(&["d.t", "d.nt"])?;
        ensure!(found == wanted, "the servers have other rows:\n{found}\n{wanted}");
        server.stop()?;
        let compared = compare(&site, &plain)?;
        let versions = versions(&site)?;
        ensure!(versions.len() >= 5, "the logs have only versions {versions:?}");
        replay(&site, &wanted)?;
        seen!(
            "binlog, {cipher}: {compared} events under versions {versions:?} equal those of a plain server; \
             replayed, all checksums of tables are equal"
        );
        trail(&site)?;
    }
    Ok(())
}

/// A server's site with a binary log, encrypted by key 1 of this cipher.
fn site(name: &str, cipher: Option<&str>) -> Result<Site> {
    let mut site = Site::new(name)?;
    if let Some(cipher) = cipher {
        let folder = site.path("keyward").display().to_string();
        site.keyward(&["init", "--dir", &folder, "--cipher", cipher])?.ok()?;
        site.load_keyward();
        site.set("encrypt_binlog = ON");
    }
    for line in ["log_bin = log", "server_id = 1", "max_allowed_packet = 64M"] {
        site.set(line);
    }
    Ok(site)
}

/// A file to load, the same for all servers: its name is in their logs.
fn loaded() -> Result<Scratch> {
    let scratch = Scratch::new("binlog-loaded")?;
    let lines: String = (0..20_000).map(|n| format!("loaded {n}\n")).collect();
    files::write(&scratch.path().join("loaded"), lines)?;
    Ok(scratch)
}

/// Has `server` do a part, and begin a new log after `rotate`.
fn write(server: &Server, loaded: &Scratch, part: &str, rotate: &str) -> Result<()> {
    let part = part.replace("LOADED", &loaded.path().join("loaded").display().to_string());
    server.sql(&format!("{SAME} {part} {rotate}; FLUSH BINARY LOGS"))?;
    Ok(())
}

/// Compares each event of all logs of `site` with that of `plain`; how many there are.
fn compare(site: &Site, plain: &Site) -> Result<usize> {
    let (ours, theirs) = (logs(site), logs(plain));
    ensure!(ours.len() == theirs.len(), "{ours:?} and {theirs:?}");
    let mut kinds = std::collections::BTreeSet::new();
    let mut compared = 0;
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let log = decrypted(site, &[ours])?;
        let length = files::read(ours)?.len();
        ensure!(log.len() == length, "{} bytes of {length}", log.len());
        let (ours, theirs) = (events(&log)?, events(&files::read(theirs)?)?);
        ensure!(ours.iter().all(|one| one.next == one.at + one.len), "positions have moved");
        ensure!(ours.get(1).is_some_and(|one| one.kind == IGNORABLE), "{:?}", ours.get(1));
        let (ours, theirs) = (of_statements(&ours), of_statements(&theirs));
        ensure!(ours.len() == theirs.len(), "{} events, not {}", ours.len(), theirs.len());
        for (one, other) in ours.into_iter().zip(theirs) {
            let same = one.kind == other.kind && one.len == other.len && body(one) == body(other);
            ensure!(same, "{one:?}\n{other:?}");
            kinds.insert(one.kind);
            compared += 1;
        }
    }
    ensure!(kinds.len() >= 23, "only events of the types {kinds:?}");
    Ok(compared)
}

/// All events but the one in the place of how the log was encrypted, and those that a thread in the background
/// writes when it comes to it: which logs are still needed after a crash.
fn of_statements(events: &[Event]) -> Vec<&Event> {
    events.iter().filter(|one| ![IGNORABLE, CHECKPOINT].contains(&one.kind)).collect()
}

/// The body, without what a server's own clock and counters say: when it started, how long a statement took.
fn body(event: &Event) -> Vec<u8> {
    let mut body = event.body.clone();
    let vague = match event.kind {
        FORMAT => 52..56,
        // A query, one that loads a file or a compressed one: its execution time.
        2 | 18 | 165 => 4..8,
        _ => 0..0,
    };
    body[vague].fill(0);
    body
}

/// The binary logs of a site, in order.
fn logs(site: &Site) -> Vec<PathBuf> {
    named(site, "log.0")
}

/// The files of its data whose names begin so.
fn named(site: &Site, beginning: &str) -> Vec<PathBuf> {
    let mut logs = files::list(&site.data());
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    logs.retain(|path| name(path).is_some_and(|name| name.starts_with(beginning)));
    logs
}

/// What the command makes of logs.
fn decrypted(site: &Site, logs: &[&PathBuf]) -> Result<Vec<u8>> {
    let out = site.path("tmp/plain");
    let said = decrypt_to(site, logs, &out)?;
    ensure!(said.code == 0 && said.err.is_empty(), "{}", said.text());
    files::read(&out)
}

/// The same, to a file, whatever comes of it.
fn decrypt_to(site: &Site, logs: &[&PathBuf], out: &Path) -> Result<Answer> {
    let mut command = site.keyward_command(&["binlog"]);
    let output = command.args(logs).stdout(File::create(out)?).stderr(Stdio::piped()).output()?;
    Ok(output.into())
}

/// The versions that `inspect` finds in the logs.
fn versions(site: &Site) -> Result<Vec<String>> {
    let mut command = site.keyward_command(&["inspect"]);
    let said = answer(command.args(logs(site)))?.ok()?;
    let rows = said.lines().skip(1).take_while(|line| !line.is_empty());
    let rows = rows.filter_map(|line| line.split_whitespace().nth(2));
    let mut versions: Vec<_> = rows.map(str::to_owned).collect();
    versions.sort();
    versions.dedup();
    Ok(versions)
}

/// All logs at once, checked and replayed on a server that has never run.
fn replay(site: &Site, wanted: &str) -> Result<()> {
    let logs = logs(site);
    let plain = site.path("tmp/all");
    let said = decrypt_to(site, &logs.iter().collect::<Vec<_>>(), &plain)?;
    ensure!(said.code == 0, "{}", said.text());
    let mut reader = Command::new("mariadb-binlog");
    reader.args(["--no-defaults", "--verify-binlog-checksum", "-"]).stdin(File::open(&plain)?);
    let output = reader.output()?;
    let text = Answer::from(output).ok()?;
    let mut fresh = Site::new("binlog-replay")?;
    fresh.set("max_allowed_packet = 64M");
    let server = fresh.start()?;
    let mut client = Command::new("mariadb");
    client.args(["--no-defaults", "--user=root", "--binary-mode", "--max-allowed-packet=64M"]);
    client.arg(format!("--socket={}", fresh.path("run/sock").display()));
    answer_to(&mut client, &text)?.ok()?;
    let found = server.checksums(&["d.t", "d.nt"])?;
    ensure!(found == wanted, "replayed:\n{found}\nnot\n{wanted}");
    server.stop().map(drop)
}

/// Each call has left a line, with the versions and the files.
fn trail(site: &Site) -> Result<()> {
    let said = site.keyward(&["--json", "audit", "show", "--event", "binary-log-read"])?.ok()?;
    let first = logs(site).first().map(|path| path.display().to_string()).unwrap_or_default();
    ensure!(said.contains(&format!("keyward binlog: {first}")), "{said}");
    ensure!(said.contains("\"version\": 1") || said.contains("\"version\":1"), "{said}");
    site.keyward(&["audit", "verify"])?.ok().map(drop)
}

#[test]
fn what_cannot_be_decrypted_is_told_in_one_line() -> Result<()> {
    let (site, loaded) = (site("binlog-bad", Some("aes-256-ctr"))?, loaded()?);
    let server = site.start()?;
    write(&server, &loaded, PARTS[0], "SET GLOBAL keyward_rotate_key = 1")?;
    write(&server, &loaded, PARTS[1], "DO 1")?;
    server.stop()?;
    let logs = logs(&site);
    let out = site.path("tmp/plain");
    let whole = decrypted(&site, &[&logs[1]])?;
    // Cut off within its large event, and within a header.
    for cut in [whole.len() - 500_000, events(&whole)?[5].at + 7] {
        let torn = site.path("tmp/torn");
        files::write(&torn, &files::read(&logs[1])?[..cut])?;
        readable(&site, &torn)?;
        let said = decrypt_to(&site, &[&torn], &out)?;
        let plain = files::read(&out)?;
        ensure!(said.code == 0 && whole.starts_with(&plain), "{}", said.text());
        ensure!(said.err.contains("are no whole event and are left off"), "{}", said.text());
        ensure!(
            events(&plain)?.last().is_some_and(|last| last.at + last.len == plain.len()),
            "torn"
        );
        let mut reader = Command::new("mariadb-binlog");
        answer(reader.args(["--no-defaults", "--verify-binlog-checksum"]).arg(&out))?.ok()?;
    }
    seen!("binlog, cut off: the whole events, and a warning that says where");
    // One bit.
    let damaged = site.path("tmp/damaged");
    let at = events(&whole)?[9].clone();
    let mut bytes = files::read(&logs[1])?;
    bytes[at.at + 25] ^= 1;
    files::write(&damaged, bytes)?;
    readable(&site, &damaged)?;
    let said = decrypt_to(&site, &[&damaged], &out)?;
    let wanted = format!("the event at byte {} is damaged: it has a wrong checksum", at.at);
    ensure!(said.code == 1 && said.err.contains(&wanted), "{}", said.text());
    ensure!(files::read(&out)? == whole[..at.at], "other than the events before it");
    seen!("binlog: {}", said.err.trim());
    others_key(&site, &logs)?;
    refusals(&site, &logs)
}

/// A keystore that lacks the version, and one that has another key of its number.
fn others_key(site: &Site, logs: &[PathBuf]) -> Result<()> {
    let other = self::site("binlog-other", Some("aes-256-ctr"))?;
    let last = logs.last().ok_or("no log")?;
    for (log, wanted) in [
        (&logs[0], "the keystore's key of that name does not open it: it is another"),
        (last, "it is encrypted with key 1 version 3, which the keystore does not have"),
    ] {
        let copy = other.path("tmp/log");
        std::fs::copy(log, &copy)?;
        readable(&other, &copy)?;
        let (out, before) = (other.path("tmp/plain"), files::read(&other.keystore())?);
        let said = decrypt_to(&other, &[&copy], &out)?;
        ensure!(said.code == 1 && said.err.contains(wanted), "{}", said.text());
        ensure!(said.err.lines().count() == 1 && said.err.contains("--config"), "{}", said.text());
        ensure!(files::read(&out)?.len() < 400, "something came out");
        ensure!(files::read(&other.keystore())? == before, "the keystore has changed");
        seen!("binlog: {}", said.err.trim());
        // The way out that the line names.
        decrypt_to(site, &[log], &out)?.ok()?;
    }
    Ok(())
}

/// A terminal gets nothing, and a file is made with `--to` alone, never over another.
fn refusals(site: &Site, logs: &[PathBuf]) -> Result<()> {
    let log = logs[0].display().to_string();
    let command = site.keyward_command(&["binlog", &log]);
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let line =
        words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
    let said = answer(Command::new("script").args([
        "--quiet",
        "--return",
        "--command",
        &line,
        "/dev/null",
    ]))?;
    let wanted = "a plain log is for a program, and standard output is a terminal";
    ensure!(said.code == 1 && said.text().contains(wanted), "{}", said.text());
    let to = site.path("to");
    let words = ["binlog", &log, "--to", &to.display().to_string()];
    site.keyward(&words)?.ok()?;
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&to)?) & 0o777;
    ensure!(mode == 0o600 && files::read(&to)? == decrypted(site, &[&logs[0]])?, "mode {mode:o}");
    let again = site.keyward(&words)?;
    ensure!(again.code == 1 && again.err.contains("nothing is overwritten"), "{}", again.text());
    let none = site.path("none").display().to_string();
    let refused = site.keyward(&["binlog", &site.my_cnf().display().to_string(), "--to", &none])?;
    ensure!(
        refused.code == 1 && refused.err.contains("is no binary or relay log"),
        "{}",
        refused.text()
    );
    ensure!(!site.path("none").exists(), "a file is left of a call that failed");
    Ok(())
}

fn readable(site: &Site, path: &Path) -> Result<()> {
    site.only_for_server(path)
}

/// `docs/binary-logs.md`, word for word but for places and times.
#[test]
fn back_to_a_point_in_time_by_the_page() -> Result<()> {
    let mut site = site("binlog-point", Some("aes-256-ctr"))?;
    site.set("innodb_encrypt_tables = ON");
    let server = site.start()?;
    server.sql(
        "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1)",
    )?;
    let base = site.path("backup/base");
    std::fs::create_dir(site.path("backup"))?;
    Backup::of(&site).make(&server, &base, None)?;
    server
        .sql("INSERT INTO d.t VALUES (2); SET GLOBAL keyward_rotate_key = 1; FLUSH BINARY LOGS")?;
    server.sql("USE d; INSERT INTO t SELECT seq FROM seq_3_to_1000")?;
    std::thread::sleep(Duration::from_millis(1100));
    let accident = server.sql("SELECT SYSDATE(); DROP TABLE d.t; FLUSH BINARY LOGS")?;
    server.stop()?;
    let saved = site.path("backup/logs");
    std::fs::create_dir(&saved)?;
    for log in logs(&site) {
        std::fs::copy(&log, saved.join(log.file_name().ok_or("no name")?))?;
        give_to_server(&saved)?;
    }
    Backup::of(&site).restore(&base, &[])?;
    let noted = files::text(&base.join("xtrabackup_binlog_info"))?;
    let (log, position) = noted.trim().split_once('\t').ok_or("no position")?;
    let position = position.split('\t').next().unwrap_or_default();
    ensure!(log == "log.000001", "the backup ends in {log}");
    let page = files::text(&artefacts::repository().join("docs/binary-logs.md"))?;
    let line =
        page.lines().find(|line| line.starts_with("# keyward binlog /backup/logs/log.000002"));
    let line = line.ok_or("the page has no such line")?.trim_start_matches("# ");
    let server = site.start()?;
    let keyward =
        format!("{} --config {}", artefacts::command().display(), site.config().display());
    let client =
        format!("mariadb --no-defaults --user=root --socket={}", site.path("run/sock").display());
    let line = line
        .replace("log.000002", "log.000001")
        .replace("log.000003", "log.000002")
        .replace("/backup/", &format!("{}/", site.path("backup").display()))
        .replace("1415", position)
        .replace("2026-12-01 14:03:00", &accident)
        .replace("keyward binlog", &format!("{keyward} binlog"))
        .replace("| mariadb --binary-mode", &format!("| {client} --binary-mode"));
    answer(Command::new("bash").args(["-c", &format!("set -o pipefail; {line}")]))?.ok()?;
    let rows = server.sql("SELECT COUNT(*), SUM(id) FROM d.t")?;
    ensure!(rows == "1000\t500500", "restored: {rows}");
    server.stop()?;
    seen!(
        "binlog: by the page, from {log} position {position} up to {accident}: all rows are there"
    );
    Ok(())
}

#[test]
fn relay_logs_of_an_encrypting_replica() -> Result<()> {
    let mut primary = site("binlog-primary", Some("aes-256-ctr"))?;
    let (port, loaded) = (free_port()?, loaded()?);
    for line in ["skip_networking = 0", "bind_address = 127.0.0.1", &format!("port = {port}")] {
        primary.set(line);
    }
    let mut replica = site("binlog-replica", Some("aes-256-cbc"))?;
    for line in
        ["server_id = 2", "relay_log = relay", "relay_log_purge = OFF", "log_slave_updates = ON"]
    {
        replica.set(line);
    }
    let (first, second) = (primary.start()?, replica.start()?);
    first.sql("CREATE USER r@'127.0.0.1' IDENTIFIED BY 'x'; GRANT REPLICATION SLAVE ON *.* TO r@'127.0.0.1'")?;
    second.sql(&format!(
        "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {port}, MASTER_USER = 'r',
         MASTER_PASSWORD = 'x', MASTER_LOG_FILE = 'log.000001', MASTER_LOG_POS = 4; START SLAVE"
    ))?;
    for part in PARTS {
        write(&first, &loaded, part, "SET GLOBAL keyward_rotate_key = 1")?;
        second.sql("SET GLOBAL keyward_rotate_key = 1; FLUSH RELAY LOGS")?;
    }
    let at = first.sql("SELECT @@gtid_binlog_pos")?;
    let reached = second.sql(&format!("SELECT MASTER_GTID_WAIT('{at}', 60)"))?;
    ensure!(
        reached == "0",
        "the replica has not caught up: {}",
        second.sql("SHOW SLAVE STATUS\\G")?
    );
    let tables = ["d.t", "d.nt"];
    ensure!(first.checksums(&tables)? == second.checksums(&tables)?, "the replica has other rows");
    second.stop()?;
    first.stop()?;
    let all = named(&replica, "relay.0");
    ensure!(all.len() > PARTS.len(), "{all:?}");
    let mut found = 0;
    for log in &all {
        let plain = decrypted(&replica, &[log])?;
        found += events(&plain)?.len();
        let out = replica.path("tmp/one");
        files::write(&out, plain)?;
        let mut reader = Command::new("mariadb-binlog");
        answer(reader.args(["--no-defaults", "--verify-binlog-checksum"]).arg(&out))?.ok()?;
    }
    ensure!(found > 150, "{found} events");
    seen!(
        "binlog: {found} events of {} encrypted relay logs, as mariadb-binlog reads them",
        all.len()
    );
    Ok(())
}
