//! One server's data under one key store after the other, and no page rewritten on the way.

use std::time::{Duration, Instant};

use test_kit::account::give_to_server;
use test_kit::files::{self, Snapshot};
use test_kit::{Answer, Result, ensure, seen};
use test_mariadb::{Server, Site};

use crate::text;

/// Tables under each key of the key file, in the formats that are encrypted differently.
const TABLES: [(&str, &str); 4] = [
    ("one", "ENCRYPTED=YES"),
    ("two", "ENCRYPTED=YES ENCRYPTION_KEY_ID=2"),
    ("three", "ENCRYPTED=YES ENCRYPTION_KEY_ID=3 ROW_FORMAT=COMPRESSED"),
    ("four", "ENCRYPTED=YES ENCRYPTION_KEY_ID=4 PAGE_COMPRESSED=1"),
];

#[test]
fn from_the_original_through_every_key_store_and_back() -> Result<()> {
    let mut site = Site::new("life-moves")?;
    site.encrypt_everything();
    // A clean end leaves nothing to be done to the pages by the next server.
    site.set("innodb_fast_shutdown = 0");
    site.load_file_keys(false, "aes_cbc")?;
    let server = site.start()?;
    create(&server)?;
    let mut journey = Journey::begin(site, server)?;

    journey.go("keyward, wrapped by a key file", to_keyward)?;
    journey.go("a passphrase in the key file's place", to_passphrase)?;
    journey.go("a key file that serves", to_key_file)?;
    journey.go("a keystore again, wrapped by a key file", to_keystore)?;
    journey.go("the original file_key_management", to_original)?;
    let rows = journey.server()?.sql("SELECT COUNT(*), SUM(LENGTH(body)) FROM test.one")?;
    ensure!(rows == "2005\t513280", "test.one has {rows}");
    journey.end()
}

/// The server between two moves.
struct Journey {
    site: Site,
    server: Option<Server>,
}

impl Journey {
    fn begin(site: Site, server: Server) -> Result<Self> {
        Ok(Self { site, server: Some(server) })
    }

    fn server(&self) -> Result<&Server> {
        self.server.as_ref().ok_or_else(|| "no server runs".into())
    }

    /// Stops the server, moves, starts it; every checksum is as before and no page was written.
    fn go(&mut self, to: &str, how: fn(&mut Site) -> Result<()>) -> Result<()> {
        self.step(how).map_err(|error| error.within(to)).map(|(all, command, rows)| {
            seen!(
                "to {to}: {} ms from stop to start, {} ms of them the command; {rows} rows and \
                 every page as before",
                all.as_millis(),
                command.as_millis()
            );
        })
    }

    fn step(&mut self, how: fn(&mut Site) -> Result<()>) -> Result<(Duration, Duration, u64)> {
        let server = self.server.take().ok_or("no server runs")?;
        let (sums, rows) = checksums(&server)?;
        let since = Instant::now();
        server.stop()?;
        let pages = Snapshot::of(&self.site.data().join("test"))?;
        let command = Instant::now();
        how(&mut self.site)?;
        let command = command.elapsed();
        let server = self.site.start()?;
        let all = since.elapsed();
        ensure!(checksums(&server)? == (sums, rows), "other rows");
        server.stop()?;
        ensure!(Snapshot::of(&self.site.data().join("test"))? == pages, "pages were rewritten");
        // What is written here has to be read after the next move.
        let server = self.site.start()?;
        for (table, _) in TABLES {
            server.sql(&format!(
                "INSERT INTO test.{table} SELECT MAX(id) + 1, REPEAT(MD5(MAX(id)), 8)
                 FROM test.{table}"
            ))?;
        }
        self.server = Some(server);
        Ok((all, command, rows))
    }

    fn end(self) -> Result<()> {
        self.server.ok_or("no server runs")?.stop().map(drop)
    }
}

fn create(server: &Server) -> Result<()> {
    server.sql("CREATE DATABASE test")?;
    for (table, options) in TABLES {
        server.sql(&format!(
            "USE test; CREATE TABLE {table} (id INT PRIMARY KEY, body TEXT) STATS_PERSISTENT=0 {options};
             INSERT INTO {table} SELECT seq, REPEAT(MD5(seq), 8) FROM seq_1_to_2000"
        ))?;
    }
    Ok(())
}

/// The checksum of every table, and the rows of all; every binary log and the Aria table are read.
fn checksums(server: &Server) -> Result<(String, u64)> {
    let tables: Vec<String> = TABLES.iter().map(|(name, _)| format!("test.{name}")).collect();
    let names: Vec<&str> = tables.iter().map(String::as_str).collect();
    let sums = server.checksums(&names)?;
    let mut rows = 0;
    for table in &tables {
        rows += server.sql(&format!("SELECT COUNT(*) FROM {table}"))?.parse::<u64>()?;
    }
    for log in server.sql("SHOW BINARY LOGS")?.lines().filter_map(|line| line.split('\t').next()) {
        server.sql(&format!("SHOW BINLOG EVENTS IN '{log}'"))?;
    }
    ensure!(!sums.contains("NULL"), "{sums}");
    Ok((sums, rows))
}

/// From the original plugin and its my.cnf.
fn to_keyward(site: &mut Site) -> Result<()> {
    let my_cnf = text(&site.write_my_cnf()?);
    let folder = text(&site.path("keyward"));
    site.keyward(&["init", "--empty", "--dir", &folder])?.ok()?;
    moved(site.keyward(&["import", "--from-mycnf", &my_cnf])?, 5)?;
    site.unset("file_key_management");
    site.load_keyward();
    // Nothing is to be re-encrypted behind our back.
    site.unset("innodb_encryption_threads");
    Ok(())
}

fn to_passphrase(site: &mut Site) -> Result<()> {
    let passphrase = site.path("etc/passphrase");
    files::write(&passphrase, "correct horse battery staple\n")?;
    site.only_for_server(&passphrase)?;
    let provider = format!(
        "[[provider]]\nname = \"phrase\"\ntype = \"local\"\npassphrase_file = {passphrase:?}\n"
    );
    let before = files::text(&site.config())?;
    files::write(&site.config(), format!("{before}\n{provider}"))?;
    let said = site.keyward(&["migrate", "--from", "local", "--to", "phrase"])?.ok()?;
    ensure!(said.contains("wrapping by provider \"local\": removed"), "{said}");
    let keystore = format!("[keystore]\npath = {:?}\n", site.keystore());
    files::write(&site.config(), keystore + &provider)
}

fn to_key_file(site: &mut Site) -> Result<()> {
    let file = site.path("keyward/keystore/served.txt");
    moved(site.keyward(&["migrate", "--from", "phrase", "--to-file", &text(&file)])?, 5)?;
    files::write(&site.config(), provider_file(&file))
}

fn to_keystore(site: &mut Site) -> Result<()> {
    let keystore = site.path("keyward/second/keystore.json");
    std::fs::create_dir(site.path("keyward/second"))?;
    files::chmod(&site.path("keyward/second"), 0o700)?;
    give_to_server(&site.path("keyward/second"))?;
    let local = format!(
        "[keystore]\npath = {keystore:?}\n[[provider]]\nname = \"local\"\ntype = \"local\"\n\
         key_file = {:?}\n",
        site.key_file()
    );
    let served = provider_file(&site.path("keyward/keystore/served.txt"));
    files::write(&site.config(), format!("{local}{served}"))?;
    moved(site.keyward(&["migrate", "--from", "served", "--to", "local"])?, 5)?;
    files::write(&site.config(), local)
}

/// Back to the original, on a key file that keyward wrote.
fn to_original(site: &mut Site) -> Result<()> {
    let file = site.path("keyward/second/back.txt");
    moved(site.keyward(&["migrate", "--from", "local", "--to-file", &text(&file)])?, 5)?;
    let original = site.path("etc/keys.txt");
    std::fs::remove_file(&original)?;
    std::fs::copy(&file, &original)?;
    site.only_for_server(&original)?;
    site.unset("keyward");
    site.unset("innodb_encryption_rotate_key_age");
    site.load_file_keys(false, "aes_cbc")
}

fn provider_file(path: &std::path::Path) -> String {
    format!("[[provider]]\nname = \"served\"\ntype = \"file\"\nmode = \"cbc\"\npath = {path:?}\n")
}

/// An error unless so many key versions arrived.
fn moved(said: Answer, versions: usize) -> Result<()> {
    let said = said.ok()?;
    let wanted = format!("{versions} key versions arrived, {versions} of them new");
    ensure!(said.contains(&wanted), "{said}");
    Ok(())
}
