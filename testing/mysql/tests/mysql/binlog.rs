//! `keyward binlog` on MySQL's encrypted logs: byte for byte what the server itself sends of them, and what
//! a server without encryption writes of the same statements.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use test_kit::binlog::{Event, FORMAT, events};
use test_kit::command::{answer, answer_to};
use test_kit::{Answer, Result, ensure, files, seen};
use test_mysql::{Keyring, Server, Site, root};

/// Each part has a log of its own.
const PARTS: [&str; 4] = [
    "CREATE TABLE d.t (id INT PRIMARY KEY AUTO_INCREMENT, body LONGTEXT, f DOUBLE);
     SET SESSION binlog_format = STATEMENT; SET @word = 'of a variable';
     INSERT INTO d.t (body) VALUES (@word), ('two'); INSERT INTO d.t (body) VALUES (LAST_INSERT_ID());",
    "SET SESSION binlog_format = ROW; SET SESSION cte_max_recursion_depth = 5000;
     INSERT INTO d.t (body) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
         SELECT REPEAT(SHA2(i, 256), 20) FROM n;
     UPDATE d.t SET body = CONCAT(body, '!') WHERE id % 3 = 0; DELETE FROM d.t WHERE id % 7 = 0;
     INSERT INTO d.t (body) VALUES (REPEAT('large ', 600000));",
    "SET SESSION binlog_transaction_compression = ON;
     INSERT INTO d.t (body) SELECT REPEAT('compressed ', id) FROM d.t AS old WHERE id < 200;
     UPDATE d.t SET body = REPEAT('x', 5000) WHERE id % 100 = 1;",
    "SET GLOBAL binlog_checksum = NONE; INSERT INTO d.t (body) VALUES ('without a checksum');",
];

/// What every session begins with, so that two servers write the same.
const SAME: &str = "CREATE DATABASE IF NOT EXISTS d; USE d; SET timestamp = 1700000000; SET pseudo_thread_id = 77;";

#[test]
fn each_event_is_what_the_server_itself_reads() -> Result<()> {
    let (site, plain) = (site("binlog", true)?, site("binlog-plain", false)?);
    let server = plain.start()?;
    PARTS.iter().try_for_each(|part| write(&server, part, "DO 1"))?;
    let wanted = server.sql("CHECKSUM TABLE d.t")?;
    server.stop()?;
    let server = site.start()?;
    for part in PARTS {
        write(&server, part, "ALTER INSTANCE ROTATE BINLOG MASTER KEY")?;
    }
    ensure!(server.sql("CHECKSUM TABLE d.t")? == wanted, "the servers have other rows");
    let sent = sent(&site)?;
    server.stop()?;
    let (ours, theirs) = (logs(&site), logs(&plain));
    let mut bytes = 0;
    for (log, sent) in ours.iter().zip(&sent) {
        let (log, sent) = (decrypted(&site, &[log])?, files::read(sent)?);
        // It was still written to when the server sent it.
        ensure!(log.starts_with(&sent), "{} bytes, and {} were sent", log.len(), sent.len());
        bytes += sent.len();
    }
    ensure!(sent.len() > PARTS.len(), "only {sent:?}");
    let compared = compare(&site, &theirs)?;
    replay(&site, &wanted)?;
    let trail = site.keyward(&["audit", "show", "--event", "binary-log-read"])?.ok()?;
    ensure!(trail.contains("MySQLReplicationKey_"), "{trail}");
    seen!(
        "binlog: {bytes} bytes of {} logs are what the server sends; {compared} events of a plain server's; \
         replayed, the table's checksum is equal",
        ours.len()
    );
    refused(&site, &ours)
}

/// A server's site whose binary log is encrypted, or not.
fn site(name: &str, encrypted: bool) -> Result<Site> {
    let mut site = Site::new(name, Keyring::Ours)?;
    site.set("--max-allowed-packet=64M");
    site.set("--character-set-server=utf8mb4");
    if encrypted {
        site.set("--binlog-encryption=ON");
    }
    Ok(site)
}

/// Has `server` do a part, and begin a new log after `rotate`, which begins one, too, where it rotates.
fn write(server: &Server, part: &str, rotate: &str) -> Result<()> {
    server.sql(&format!("{SAME} {part} {rotate}; FLUSH BINARY LOGS"))?;
    Ok(())
}

/// The logs of a site, in order.
fn logs(site: &Site) -> Vec<PathBuf> {
    let mut logs = files::list(&site.data());
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    logs.retain(|path| name(path).is_some_and(|name| name.starts_with("binlog.0")));
    logs
}

/// The logs as the running server sends them.
fn sent(site: &Site) -> Result<Vec<PathBuf>> {
    let folder = site.path("sent");
    std::fs::create_dir(&folder)?;
    for log in logs(site) {
        let mut command = root::program("usr/bin/mysqlbinlog");
        command.args(["--no-defaults", "--user=root", "--read-from-remote-server", "--raw"]);
        command.arg(format!("--socket={}", site.path("sock").display()));
        command.arg(format!("--result-file={}/", folder.display()));
        answer(command.arg(log.file_name().ok_or("no name")?))?.ok()?;
    }
    Ok(files::list(&folder))
}

/// Compares the events of statements in all logs of `site` with those of a plain server's; how many there
/// are. An encrypting server begins a new log for each key, so that the logs are not the same.
fn compare(site: &Site, theirs: &[PathBuf]) -> Result<usize> {
    let mut ours = Vec::new();
    for log in logs(site) {
        ours.extend(events(&decrypted(site, &[&log])?)?);
    }
    let mut plain = Vec::new();
    for log in theirs {
        plain.extend(events(&files::read(log)?)?);
    }
    let (ours, plain) = (of_statements(&ours), of_statements(&plain));
    ensure!(ours.len() == plain.len(), "{} events, not {}", ours.len(), plain.len());
    for (one, other) in ours.iter().zip(&plain) {
        ensure!(one.kind == other.kind && body(one) == body(other), "{one:?}\n{other:?}");
    }
    Ok(ours.len())
}

/// All but what begins and ends a log, and what names transactions by server and time.
fn of_statements(events: &[Event]) -> Vec<&Event> {
    const STOP: u8 = 3;
    const ROTATE: u8 = 4;
    const GTIDS: [u8; 4] = [33, 34, 35, 42];
    let begins = [FORMAT, STOP, ROTATE];
    events.iter().filter(|one| !begins.contains(&one.kind) && !GTIDS.contains(&one.kind)).collect()
}

/// The body, without how long a statement took; of a compressed transaction only its length counts, for
/// within it stands the time.
fn body(event: &Event) -> Vec<u8> {
    let mut body = event.body.clone();
    match event.kind {
        2 => body[4..8].fill(0),
        40 => body.clear(),
        _ => {}
    }
    body
}

fn decrypted(site: &Site, logs: &[&PathBuf]) -> Result<Vec<u8>> {
    let out = site.path("plain");
    let said = decrypt_to(site, logs, &out)?;
    ensure!(said.code == 0 && said.err.is_empty(), "{}", said.text());
    files::read(&out)
}

fn decrypt_to(site: &Site, logs: &[&PathBuf], out: &Path) -> Result<Answer> {
    let mut command = site.keyward_command(&["binlog"]);
    Ok(command.args(logs).stdout(File::create(out)?).stderr(Stdio::piped()).output()?.into())
}

/// All logs at once, checked and replayed on a server that has never run.
fn replay(site: &Site, wanted: &str) -> Result<()> {
    let all = logs(site);
    decrypted(site, &all.iter().collect::<Vec<_>>())?;
    let mut reader = root::program("usr/bin/mysqlbinlog");
    reader.args(["--no-defaults", "--verify-binlog-checksum", "--skip-gtids", "-"]);
    let output = reader.stdin(File::open(site.path("plain"))?).output()?;
    let text = Answer::from(output).ok()?;
    let fresh = self::site("binlog-replay", false)?;
    let server = fresh.start()?;
    let mut client = root::program("usr/bin/mysql");
    client.args(["--no-defaults", "--user=root", "--binary-mode", "--max-allowed-packet=64M"]);
    client.arg(format!("--socket={}", fresh.path("sock").display()));
    answer_to(&mut client, &text)?.ok()?;
    let found = server.sql("CHECKSUM TABLE d.t")?;
    ensure!(found == wanted, "replayed:\n{found}\nnot\n{wanted}");
    server.stop().map(drop)
}

/// A log that is cut off, and one whose key the keystore does not have.
fn refused(site: &Site, logs: &[PathBuf]) -> Result<()> {
    let (torn, out) = (site.path("torn"), site.path("plain"));
    let (log, whole) = (files::read(&logs[1])?, decrypted(site, &[&logs[1]])?);
    files::write(&torn, &log[..log.len() - 20])?;
    let said = decrypt_to(site, &[&torn], &out)?;
    let plain = files::read(&out)?;
    ensure!(said.code == 0 && whole.starts_with(&plain), "{}", said.text());
    ensure!(said.err.contains("are no whole event and are left off"), "{}", said.text());
    events(&plain)?;
    let other = self::site("binlog-other", true)?;
    other.start()?.stop()?;
    let said = decrypt_to(&other, &[&logs[0]], &out)?;
    let told = said.err.contains("it is encrypted with key MySQLReplicationKey_")
        && said.err.contains("which the keystore does not have")
        && said.err.lines().count() == 1;
    ensure!(said.code == 1 && told && files::read(&out)?.is_empty(), "{}", said.text());
    seen!("binlog: {}", said.err.trim());
    Ok(())
}
