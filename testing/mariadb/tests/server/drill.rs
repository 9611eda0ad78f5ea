//! `keyward keystore drill --with-server`: a server of its own reads a backup with the backup's keys alone.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use keyward::assemble;
use keyward::config::Config;
use keyward::env::Env;
use keyward::env::fake::FakeLog;
use keyward::key::KeyId;
use keyward::source::Role;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use test_kit::account::give_to_server;
use test_kit::command::answer;
use test_kit::files::{Snapshot, all, holding};
use test_kit::{Result, Trouble, ensure, files, seen};
use test_mariadb::rows::{PLAINTEXT, create, wait_for_version};
use test_mariadb::{Backup, Server, Site};

use crate::recovery::identity;
use crate::{TABLES, site};

/// What is in every table, in order.
const LISTED: &str = "SELECT CONCAT(table_schema, '.', table_name) FROM information_schema.tables
    WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')
        AND table_schema NOT IN ('information_schema', 'performance_schema') ORDER BY 1";

#[test]
fn a_server_reads_a_backup_as_it_comes_and_a_prepared_one() -> Result<()> {
    let (site, server) = filled("drill-server")?;
    let drill = Drill::of(&site)?;
    let base = site.path("base");
    Backup::of(&site).make(&server, &base, None)?;
    readable(&base)?;
    let before = Snapshot::of(&base)?;
    let expected = counts(&server)?;
    let unprepared = drill.run(&[&text(&base)], 0)?;
    ensure!(unprepared["server"]["prepared"] == true, "{unprepared}");
    counted(&unprepared, &expected)?;
    ensure!(Snapshot::of(&base)? == before, "the backup was changed");

    let some = drill.run(&[&text(&base), "--tables", "test.plain_key,odd@-.a b"], 0)?;
    let names: Vec<_> = rows_of(&some).into_iter().map(|(name, _)| name).collect();
    ensure!(names == ["odd@-.a b", "test.plain_key"], "{names:?}");
    ensure!(some["server"]["mib"].as_u64() < unprepared["server"]["mib"].as_u64(), "{some}");

    Backup::of(&site).prepare(&base, None)?;
    readable(&base)?;
    let before = Snapshot::of(&base)?;
    let prepared = drill.run(&[&text(&base), "--option", "innodb_buffer_pool_size=16M"], 0)?;
    ensure!(prepared["server"]["prepared"] == false, "{prepared}");
    counted(&prepared, &expected)?;
    ensure!(Snapshot::of(&base)? == before, "the backup was changed");

    // A running server's files are of no moment; a stopped one's are.
    let refused = drill.refused(&[&text(&site.data())])?;
    ensure!(
        refused.contains("a server works on ") && refused.contains("stop the server"),
        "{refused}"
    );
    server.stop()?;
    let before = Snapshot::of(&site.data())?;
    counted(&drill.run(&[&text(&site.data())], 0)?, &expected)?;
    ensure!(Snapshot::of(&site.data())? == before, "the data were changed");
    let trail = site.keyward(&["audit", "show"])?.ok()?;
    let line = trail.lines().rfind(|line| line.contains("a server counted ")).unwrap_or_default();
    ensure!(line.contains("passed: ") && line.contains(", 0 faults"), "{trail}");
    seen!("{}", line.split("passed: ").nth(1).unwrap_or(line));
    drill.left_nothing()
}

#[test]
fn a_version_that_the_backup_lacks_is_named() -> Result<()> {
    let (site, server) = filled("drill-lacks")?;
    let drill = Drill::of(&site)?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    wait_for_version(&server, "test/%", 3)?;
    let base = site.path("base");
    Backup::of(&site).make(&server, &base, None)?;
    readable(&base)?;
    let unprepared = drill.run(&[&text(&base)], 1)?;
    ensure!(
        unprepared["data"]["faults"].to_string().contains("it needs key 1 version 3"),
        "{unprepared}"
    );
    let faults = unprepared["server"]["faults"].to_string();
    ensure!(
        faults.contains("--prepare fails: ") && faults.contains("key_version=3"),
        "{unprepared}"
    );
    server.stop()?;
    let stopped = drill.run(&[&text(&site.data())], 1)?;
    let faults = stopped["server"]["faults"].to_string();
    ensure!(stopped["passed"] == false && faults.contains("key 1 version 3"), "{stopped}");
    ensure!(stopped["server"]["tables"].as_array().is_some_and(Vec::is_empty), "{stopped}");
    seen!("{faults}");
    drill.left_nothing()
}

#[test]
fn what_keeps_it_from_trying_is_said() -> Result<()> {
    let (site, server) = filled("drill-refused")?;
    let drill = Drill::of(&site)?;
    server.stop()?;
    let data = text(&site.data());
    for (words, what) in [
        (&["--max-copy", "1MiB"][..], "MiB were to be copied, and at most 1 may be"),
        (&["--tables", "test.nobody"], "has no table test.nobody"),
        (&["--server", "/no/such/mariadbd"], "/no/such/mariadbd"),
        (&["--datadir", "/tmp"], "a server has one data directory"),
    ] {
        let refused = drill.refused(&[&[&*data], words].concat())?;
        ensure!(refused.contains(what), "{words:?}: {refused}");
        seen!("{}", refused.trim());
    }
    // On a disk of 8 MiB, in a namespace of the call's own.
    let full = format!("mount -t tmpfs -o size=8M full {} && exec \"$@\"", text(&drill.scratch));
    let inner = site.keyward_command(&drill.words(&[&data]));
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &full, "sh"]).arg(inner.get_program());
    let said = answer(command.args(inner.get_args()))?;
    ensure!(
        said.code == 1 && said.err.contains("has 8 MiB left, and the copy needs "),
        "{}",
        said.text()
    );
    seen!("{}", said.err.trim());
    let elsewhere = site.path("elsewhere.ibd");
    fs::copy(site.data().join("test/plain_key.ibd"), &elsewhere)?;
    give_to_server(&elsewhere)?;
    files::write(&site.data().join("test/plain_key.isl"), text(&elsewhere))?;
    let refused = drill.refused(&[&data])?;
    ensure!(refused.contains("says that its table is in another folder"), "{refused}");
    let others = drill.run(&[&data, "--tables", "test.key_three"], 0)?;
    ensure!(rows_of(&others).len() == 1, "{others}");
    drill.left_nothing()
}

#[test]
fn nothing_outlives_the_call_however_it_ends() -> Result<()> {
    let (site, server) = filled("drill-killed")?;
    let drill = Drill::of(&site)?;
    server.stop()?;
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT] {
        let mut call = Call(drill.start(&[&text(&site.data())])?);
        let server = drill.server_of()?;
        let secrets = secrets(&site)?;
        drill.has_nothing_in_the_clear(server, &secrets)?;
        // As the keyboard does it, to the whole group; and as anybody does, to the command alone.
        let id = Pid::from_raw(call.0.id().cast_signed());
        let sent = if signal == Signal::SIGINT { killpg(id, signal) } else { kill(id, signal) };
        sent.map_err(|error| error.to_string())?;
        call.0.wait()?;
        let since = Instant::now();
        while Path::new(&format!("/proc/{server}")).exists() || !drill.folders()?.is_empty() {
            ensure!(since.elapsed() < Duration::from_secs(30), "{signal}: it is still there");
            sleep(Duration::from_millis(20));
        }
        seen!("{signal}: server and folders are gone {} ms later", since.elapsed().as_millis());
    }
    drill.left_nothing()
}

/// A site whose server has tables of every kind.
fn filled(name: &str) -> Result<(Site, Server)> {
    let site = site(name)?;
    let server = site.start()?;
    create(&server, TABLES)?;
    server.sql(
        "USE test; CREATE TABLE test.parts (id INT PRIMARY KEY) ENCRYPTED=YES PARTITION BY HASH (id) PARTITIONS 3;
         INSERT INTO test.parts SELECT seq FROM seq_1_to_777;
         CREATE TABLE test.aria (id INT PRIMARY KEY, body TEXT) ENGINE=Aria;
         INSERT INTO test.aria SELECT seq, MD5(seq) FROM seq_1_to_333;
         CREATE TABLE test.words (id INT PRIMARY KEY, body TEXT, FULLTEXT (body)) ENCRYPTED=YES;
         INSERT INTO test.words SELECT seq, CONCAT('word', seq) FROM seq_1_to_55;
         CREATE DATABASE `odd@-`;
         CREATE TABLE `odd@-`.`a b` (id INT PRIMARY KEY) ENCRYPTED=YES;
         INSERT INTO `odd@-`.`a b` VALUES (1), (2);
         CREATE TABLE test.empty (id INT PRIMARY KEY) ENCRYPTED=YES",
    )?;
    Ok((site, server))
}

/// A call under way, which goes with the test.
struct Call(Child);

impl Drop for Call {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// A drill of a site's keys.
struct Drill<'a> {
    site: &'a Site,
    words: Vec<String>,
    scratch: PathBuf,
    /// What there was of drills before.
    before: Vec<PathBuf>,
    /// One at a time: all have folders in one place.
    _alone: MutexGuard<'static, ()>,
}

impl<'a> Drill<'a> {
    /// With a backup of the keys as they are now.
    fn of(site: &'a Site) -> Result<Self> {
        let (identity, _) = identity(site)?;
        let keys = text(&site.path("keys.age"));
        site.keyward(&["keystore", "backup", "--to", &keys])?.ok()?;
        for path in [&identity, &keys] {
            give_to_server(path.as_ref())?;
        }
        let scratch = site.path("scratch");
        fs::create_dir(&scratch)?;
        give_to_server(&scratch)?;
        let plugins = text(&site.path("plugin"));
        let words = ["keystore", "drill", &keys, "--identity", &identity, "--with-server"];
        let more = ["--plugin-dir", &plugins, "--scratch", &text(&scratch), "--json", "--datadir"];
        let words = words.iter().chain(&more).map(|word| (*word).to_owned()).collect();
        static ALONE: Mutex<()> = Mutex::new(());
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut drill = Self { site, words, scratch, before: Vec::new(), _alone };
        drill.before = drill.folders()?;
        Ok(drill)
    }

    fn words<'b>(&'b self, more: &[&'b str]) -> Vec<&'b str> {
        self.words.iter().map(String::as_str).chain(more.iter().copied()).collect()
    }

    /// What it says, in JSON, and that it ends so.
    fn run(&self, more: &[&str], code: i32) -> Result<serde_json::Value> {
        let said = self.site.keyward(&self.words(more))?;
        ensure!(said.code == code, "{more:?}: {}", said.text());
        Ok(serde_json::from_str(&said.out).map_err(|error| format!("{error}: {}", said.text()))?)
    }

    fn refused(&self, more: &[&str]) -> Result<String> {
        let said = self.site.keyward(&self.words(more))?;
        ensure!(said.code == 1 && said.out.is_empty(), "{more:?}: {}", said.text());
        Ok(said.err)
    }

    fn start(&self, more: &[&str]) -> Result<Child> {
        let mut command = self.site.keyward_command(&self.words(more));
        Ok(command.process_group(0).stdout(Stdio::null()).spawn()?)
    }

    /// The folders of drills that are there now and were not before.
    fn folders(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for place in [&self.scratch, Path::new("/dev/shm")] {
            for entry in fs::read_dir(place)? {
                let path = entry?.path();
                if text(&path).contains("/keyward-drill-") && !self.before.contains(&path) {
                    found.push(path);
                }
            }
        }
        Ok(found)
    }

    fn left_nothing(&self) -> Result<()> {
        let left = self.folders()?;
        ensure!(left.is_empty() && files::list(&self.scratch).is_empty(), "left behind: {left:?}");
        Ok(())
    }

    /// The process of the server, once it is there; stopped.
    fn server_of(&self) -> Result<i32> {
        let since = Instant::now();
        loop {
            let pids = self.folders()?.into_iter().map(|folder| folder.join("pid"));
            let pid =
                pids.filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok()).next();
            if let Some(pid) = pid {
                // So that it is there for as long as it takes us to look.
                let stopped = kill(Pid::from_raw(pid), Signal::SIGSTOP);
                return stopped.map(|()| pid).map_err(|error| error.to_string().into());
            }
            ensure!(since.elapsed() < Duration::from_secs(60), "the server did not start");
            sleep(Duration::from_millis(5));
        }
    }

    /// Neither files nor arguments nor environments have a key, and no file has a row.
    fn has_nothing_in_the_clear(&self, server: i32, secrets: &[String]) -> Result<()> {
        let data = all(&self.scratch);
        ensure!(!data.is_empty(), "there is no copy");
        let rows = holding(&data, PLAINTEXT)?;
        ensure!(rows.is_empty(), "rows in the clear: {rows:?}");
        let mut seen = all(&self.scratch);
        self.folders()?.iter().for_each(|folder| seen.extend(all(folder)));
        for what in ["cmdline", "environ"] {
            let path = PathBuf::from(format!("/proc/{server}/{what}"));
            let bytes = fs::read(&path)?;
            for secret in secrets {
                ensure!(
                    !String::from_utf8_lossy(&bytes).contains(secret),
                    "a key in {}",
                    path.display()
                );
            }
        }
        seen.retain(|path| path.is_file());
        for secret in secrets {
            let found = holding(&seen, secret)?;
            ensure!(found.is_empty(), "a key in {found:?}");
        }
        let status = fs::read_to_string(format!("/proc/{server}/status"))?;
        ensure!(status.contains("NoNewPrivs:\t1"), "{status}");
        Ok(())
    }
}

/// The keystore's keys in hexadecimal digits.
fn secrets(site: &Site) -> Result<Vec<String>> {
    let told = |error: keyward::Error| Trouble::from(error.to_string());
    keyward::trust::work_for_owner_of(&site.keys());
    let env = Env::system(Arc::new(FakeLog::default()));
    let config = Config::load(&site.config()).map_err(told)?;
    let custodian = assemble::start(&config, Role::Reader, env).map_err(told)?;
    let version = 1.try_into().map_err(|_| "no version")?;
    let key = custodian.key(KeyId::SYSTEM, version).ok_or("no key 1")?;
    let hex: String = key.key().expose().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(vec![hex.to_uppercase(), hex])
}

/// What the server itself counts in each of its tables.
fn counts(server: &Server) -> Result<Vec<(String, u64)>> {
    let mut counts = Vec::new();
    for name in server.sql(LISTED)?.lines() {
        let (database, table) = name.split_once('.').ok_or("no database")?;
        let count = server.sql(&format!("SELECT COUNT(*) FROM `{database}`.`{table}`"))?;
        counts.push((name.to_owned(), count.trim().parse()?));
    }
    Ok(counts)
}

fn rows_of(said: &serde_json::Value) -> Vec<(String, u64)> {
    let tables = said["server"]["tables"].as_array().cloned().unwrap_or_default();
    let mut rows: Vec<_> = tables
        .iter()
        .map(|one| {
            (
                one["table"].as_str().unwrap_or_default().to_owned(),
                one["rows"].as_u64().unwrap_or(u64::MAX),
            )
        })
        .collect();
    rows.sort();
    rows
}

fn counted(said: &serde_json::Value, expected: &[(String, u64)]) -> Result<()> {
    let mut expected = expected.to_vec();
    expected.sort();
    let found = rows_of(said);
    let differ: Vec<_> = expected.iter().filter(|one| !found.contains(one)).collect();
    ensure!(
        found == expected && said["passed"] == true,
        "the server counts {differ:?} otherwise\n{said}"
    );
    let rows: u64 = found.iter().map(|(_, rows)| rows).sum();
    seen!(
        "{} tables, {rows} rows, as SQL counts them; {} s",
        found.len(),
        said["server"]["seconds"]
    );
    Ok(())
}

/// A backup that root made, for the server's account.
fn readable(folder: &Path) -> Result<()> {
    test_kit::run("chmod", ["-R", "a+rX", &text(folder)]).map(drop)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
