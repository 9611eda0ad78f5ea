//! Rotations by policy in the server while rows are written, and the end of the first versions.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use test_kit::account::give_to_server;
use test_kit::{Result, ensure, files, seen};
use test_mariadb::load::{Load, WRITES};
use test_mariadb::{Server, Session, Site};

use crate::{configure, text};

/// How often the policy rotates every key.
const PERIOD: Duration = Duration::from_secs(20);

/// How long rows are written.
fn duration() -> Duration {
    let extended = std::env::var_os("KEYWARD_EXTENDED").is_some();
    Duration::from_secs(if extended { 600 } else { 60 })
}

/// The versions of key 3 that the server's tablespaces have.
const VERSIONS: &str = "
    SELECT MIN(MIN_KEY_VERSION), MIN(CURRENT_KEY_VERSION), MAX(CURRENT_KEY_VERSION)
    FROM information_schema.INNODB_TABLESPACES_ENCRYPTION
    WHERE ENCRYPTION_SCHEME = 1 AND CURRENT_KEY_ID = 3";

#[test]
fn the_policy_rotates_under_load_and_old_versions_are_destroyed() -> Result<()> {
    let mut site = Site::with_keyward("life-load")?;
    site.keyward(&["keys", "create", "3"])?.ok()?;
    site.set("innodb_encrypt_tables = ON");
    site.set("innodb_encrypt_log = ON");
    let copy = prepare(&site)?;
    configure(&site, &format!("[policy]\nrotate_after = \"{}s\"", PERIOD.as_secs()))?;

    let server = site.start()?;
    let written = load(&server)?;
    let last = at_rest(&server)?;
    ensure!(server.status("Keyward_degraded").is_ok_and(|is| is == "0"), "it is degraded");
    complete(&server, written)?;
    let log = server.log();
    ensure!(!log.contains("[ERROR]"), "{log}");

    destroyed(&site, &server, &copy)?;
    server.stop()?;
    of_the_redo_log(&mut site)?;
    let server = site.start()?;
    complete(&server, written)?;
    server.stop()?;
    seen!("every tablespace ended on version {last}; every row is there after a restart");
    Ok(())
}

/// Makes the tables, all of them with the first version, and copies one of their files away.
fn prepare(site: &Site) -> Result<std::path::PathBuf> {
    let server = site.start()?;
    WRITES.prepare(&server)?;
    server.sql(
        "CREATE TABLE sb.ledger (id INT PRIMARY KEY, body TEXT NOT NULL)
             ENCRYPTED=YES ENCRYPTION_KEY_ID=3",
    )?;
    server.stop()?;
    let copy = site.path("copied");
    std::fs::create_dir(&copy)?;
    std::fs::copy(site.data().join("sb/sbtest1.ibd"), copy.join("sbtest1.ibd"))?;
    Ok(copy)
}

/// Writes rows by sysbench and beside it in a ledger; gives the rows of the ledger.
fn load(server: &Server) -> Result<u32> {
    let mut running = WRITES.start(server, duration().as_secs())?;
    let over = AtomicBool::new(false);
    let (written, watched) = thread::scope(|scope| {
        let writer = scope.spawn(|| write(server, &over));
        let watched = watch(server, &mut running);
        over.store(true, Ordering::Relaxed);
        (writer.join(), watched)
    });
    let written = written.map_err(|_| "the writer panicked")??;
    let (reached, used) = watched?;
    let figures = running.finish()?;
    // Each rotation raises the version by two; the first and the last may fall outside.
    let rotations = (1..).take_while(|n| PERIOD * *n < duration()).count();
    let least = (1..rotations).fold(1, |version: u32, _| version + 2);
    ensure!(used >= least, "the policy came to version {used} only");
    ensure!(reached + 4 >= least, "re-encryption came to version {reached} only, of {used}");
    ensure!(written > 100, "{written} rows in the ledger");
    seen!(
        "{} s of load, rotated every {} s by the policy: {} transactions, {} deadlocks retried, \
         {written} rows in a ledger; version {used} in use, none below {reached}",
        duration().as_secs(),
        PERIOD.as_secs(),
        figures.transactions,
        figures.deadlocks
    );
    Ok(written)
}

/// Follows the versions until sysbench is done: the highest that every tablespace reached, and the
/// highest that was in use.
fn watch(server: &Server, running: &mut Load) -> Result<(u32, u32)> {
    let (mut reached, mut used) = (0, 0);
    while running.goes_on()? {
        let [oldest, _, latest] = versions(server)?;
        ensure!(oldest >= reached, "a tablespace went back from version {reached} to {oldest}");
        (reached, used) = (oldest, latest);
        thread::sleep(Duration::from_millis(500));
    }
    Ok((reached, used))
}

/// Writes rows one by one until told to end; gives the last one acknowledged.
fn write(server: &Server, over: &AtomicBool) -> Result<u32> {
    let mut session = Session::open(server)?;
    let mut id = 0;
    while !over.load(Ordering::Relaxed) {
        let next = id + 1;
        let insert = format!(
            "INSERT INTO sb.ledger VALUES ({next}, REPEAT(MD5({next}), 30)); SELECT {next}"
        );
        let answer = session.ask(&insert)?;
        ensure!(answer == next.to_string(), "row {next}: {answer}");
        id = next;
    }
    Ok(id)
}

/// Waits until every tablespace of key 3 has one version, and gives it.
fn at_rest(server: &Server) -> Result<u32> {
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(120) {
        let [oldest, current, latest] = versions(server)?;
        if oldest == latest && current == latest {
            return Ok(latest);
        }
        thread::sleep(Duration::from_millis(100));
    }
    Err(format!("not all tablespaces came to one version: {:?}", versions(server)?).into())
}

fn versions(server: &Server) -> Result<[u32; 3]> {
    let row = server.sql(VERSIONS)?;
    let numbers: Vec<u32> =
        row.split('\t').map(str::parse).collect::<std::result::Result<_, _>>()?;
    numbers.try_into().map_err(|_| format!("the server said {row}").into())
}

/// An error unless no row is lost or wrong.
fn complete(server: &Server, written: u32) -> Result<()> {
    WRITES.complete(server)?;
    let ledger =
        server.sql("SELECT COUNT(*), MAX(id), SUM(body <> REPEAT(MD5(id), 30)) FROM sb.ledger")?;
    ensure!(ledger == format!("{written}\t{written}\t0"), "ledger: {written} rows, found {ledger}");
    Ok(())
}

/// The first versions of key 3 can go; not while a copied file needs one.
fn destroyed(site: &Site, server: &Server, copy: &std::path::Path) -> Result<()> {
    server.write_pages()?;
    // Read by the command as the server's user.
    give_to_server(copy)?;
    let (data, socket) = (text(&site.data()), text(server.socket()));
    let destroy = |version: &'static str| {
        ["keys", "destroy", "3", version, "--datadir", &data, "--socket", &socket]
            .map(str::to_owned)
    };
    let mut with_copy = destroy("1").to_vec();
    with_copy.extend(["--backup".to_owned(), text(copy)]);
    let words: Vec<&str> = with_copy.iter().map(String::as_str).collect();
    let refused = site.keyward(&words)?;
    let file = text(&copy.join("sbtest1.ibd"));
    let wanted = format!("1 file needs key 3 version 1: {file};");
    ensure!(refused.code == 1 && refused.err.contains(&wanted), "{}", refused.text());
    for version in ["1", "3"] {
        let words = destroy(version);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let planned = site.keyward(&words)?.ok()?;
        ensure!(planned.starts_with("nothing needs key 3 version"), "{planned}");
        seen!("destroy 3 {version}: {}", planned.lines().next().unwrap_or_default());
    }
    seen!("destroy 3 1 with a copied file: {}", refused.err.trim());
    Ok(())
}

/// Key 1's first version is in the header of the redo log until that is made again.
fn of_the_redo_log(site: &mut Site) -> Result<()> {
    let data = text(&site.data());
    let words = ["keys", "destroy", "1", "1", "--datadir", &data];
    let refused = site.keyward(&words)?;
    let log = text(&site.data().join("ib_logfile0"));
    ensure!(refused.code == 1 && refused.err.contains(&log), "{}", refused.text());
    site.set("innodb_log_file_size = 12M");
    site.start()?.stop()?;
    let planned = site.keyward(&words)?.ok()?;
    ensure!(planned.starts_with("nothing needs key 1 version 1;"), "{planned}");
    let trail = files::text(&site.keys().join("audit.jsonl"))?;
    let asked = trail.matches("destroy").count();
    ensure!(asked >= 3, "the audit trail has {asked} lines of it");
    Ok(())
}
