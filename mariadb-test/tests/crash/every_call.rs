//! SIGKILL before each system call of a commit, one run for each call; after each, the disk as the
//! kill left it and as a power cut at the same moment would have.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use mariadb_test::rows::{check, create};
use mariadb_test::site::copy;
use mariadb_test::strace::{self, Call};
use mariadb_test::{Result, Server, Session, Site, Versions, ensure, files, power, seen};

use crate::{TABLES, site};

const ROTATE: &str = "SET GLOBAL keyward_rotate_key = -1";

#[test]
fn the_command() -> Result<()> {
    let site = site("crash-command")?;
    let server = site.start()?;
    create(&server, TABLES)?;
    let log = site.path("strace");
    let commit = commit_of(&command_traced(&site, &log, None)?, &site)?;
    let mut tally = Tally::default();
    for call in &commit {
        let case = Case::begin(&site)?;
        let calls = command_traced(&site, &log, Some(call))?;
        case.verify(&site, &calls, call, &mut tally)?;
        check(&server, TABLES)?;
        // Whatever the kill left behind is in nobody's way.
        site.keyward(&["rotate", "--all"])?.ok().map_err(|error| error.within(&call.text))?;
    }
    tally.report("keyward rotate", commit.len())?;
    server.stop()?;
    let server = site.start()?;
    check(&server, TABLES)?;
    server.stop()?;
    Ok(())
}

#[test]
fn the_server() -> Result<()> {
    let site = site("crash-server")?;
    let server = site.start()?;
    create(&server, TABLES)?;
    let log = site.path("strace");
    let commit = commit_of(&rotation_traced(&server, &log, None)?, &site)?;
    server.stop()?;
    let mut tally = Tally::default();
    for call in &commit {
        let mut server = site.start()?;
        let case = Case::begin(&site)?;
        let calls = rotation_traced(&server, &log, Some(call))?;
        server.wait().map_err(|error| error.within(&call.text))?;
        case.verify(&site, &calls, call, &mut tally)?;
        let server = site.start().map_err(|error| error.within(&call.text))?;
        check(&server, TABLES)?;
        server.sql(ROTATE)?;
        server.stop()?;
    }
    tally.report("the server's rotation", commit.len())
}

/// The state before a kill.
struct Case {
    versions: Versions,
    before: PathBuf,
}

impl Case {
    fn begin(site: &Site) -> Result<Self> {
        let before = site.path("before");
        let _ = fs::remove_dir_all(&before);
        copy(&site.keys(), &before)?;
        Ok(Self { versions: site.versions()?, before })
    }

    /// An error unless every key is there now, and would be after a power cut.
    fn verify(&self, site: &Site, calls: &[Call], at: &Call, tally: &mut Tally) -> Result<()> {
        let within = |state: &str| format!("{state} before {}", at.text);
        let last = calls.last().map_or("", |call| call.name.as_str());
        ensure!(last == at.name, "not killed at {}, the trace ends with {last}", at.text);
        let now = site.versions().map_err(|error| error.within(within("killed")))?;
        self.whole(&now).map_err(|error| error.within(within("killed")))?;
        tally.kill(&at.name, now.count() > self.versions.count());

        let states = site.path("states");
        let _ = fs::remove_dir_all(&states);
        fs::create_dir(&states)?;
        for state in power::cut(calls, &self.before, &site.keys(), &states)? {
            let versions = versions_in(site, &state)
                .and_then(|versions| self.whole(&versions).map(|()| versions))
                .map_err(|error| {
                    error.within(within(&format!("power cut, {}", state.display())))
                })?;
            tally.cut(versions.count() > self.versions.count());
        }
        Ok(())
    }

    /// An error unless all earlier versions are there, and of the new ones all or none.
    fn whole(&self, now: &Versions) -> Result<()> {
        now.keep(&self.versions)?;
        let new = now.count() - self.versions.count();
        ensure!(new == 0 || new == now.keys(), "{new} new versions of {} keys", now.keys());
        Ok(())
    }
}

/// What was killed where, and how it came out.
#[derive(Default)]
struct Tally {
    calls: BTreeMap<String, usize>,
    old: usize,
    new: usize,
    cut_old: usize,
    cut_new: usize,
}

impl Tally {
    fn kill(&mut self, name: &str, new: bool) {
        *self.calls.entry(name.to_owned()).or_default() += 1;
        if new { self.new += 1 } else { self.old += 1 }
    }

    fn cut(&mut self, new: bool) {
        if new { self.cut_new += 1 } else { self.cut_old += 1 }
    }

    fn report(&self, what: &str, calls: usize) -> Result<()> {
        ensure!(self.old + self.new == calls, "{} of {calls} calls", self.old + self.new);
        ensure!(
            self.old > 0 && self.new > 0,
            "no kill on one side of the commit: {:?}",
            self.calls
        );
        for name in ["openat", "write", "fsync", "rename"] {
            ensure!(self.calls.contains_key(name), "no {name} in the commit: {:?}", self.calls);
        }
        let names: Vec<_> = self.calls.iter().map(|(name, n)| format!("{name} {n}")).collect();
        seen!("{what}: killed before each of {calls} calls: {}", names.join(", "));
        seen!("  {} times the old generation was there, {} times the new", self.old, self.new);
        seen!(
            "  with unsynced writes dropped: {} times the old, {} times the new",
            self.cut_old,
            self.cut_new
        );
        Ok(())
    }
}

/// Runs `keyward rotate --all` under strace; with `kill`, up to that call.
fn command_traced(site: &Site, log: &Path, kill: Option<&Call>) -> Result<Vec<Call>> {
    let inner = site.keyward_command(&["rotate", "--all"]);
    let mut command = Command::new("strace");
    command.args(strace::options(log)).args(kill.map(Call::kill_option));
    command.arg(inner.get_program()).args(inner.get_args());
    let answer = mariadb_test::command::answer(&mut command)?;
    ensure!((answer.code == 0) == kill.is_none(), "{kill:?}: {}", answer.text());
    strace::read(log)
}

/// Has `server` rotate in a session under strace; with `kill`, up to that call.
fn rotation_traced(server: &Server, log: &Path, kill: Option<&Call>) -> Result<Vec<Call>> {
    let mut session = Session::open(server)?;
    let mut tracer = attach(session.thread()?, log, kill)?;
    let answer = session.ask(&format!("{ROTATE}; SELECT 'rotated'"));
    ensure!(answer.is_ok() == kill.is_none(), "{kill:?}: {answer:?}");
    if kill.is_none() {
        // Asked to end, it lets the server go; SIGKILL would leave the thread stopped.
        let pid = nix::unistd::Pid::from_raw(tracer.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT)
            .map_err(|error| error.to_string())?;
    }
    tracer.wait()?;
    strace::read(log)
}

/// Attaches strace to one thread and waits until it is in place.
fn attach(thread: i32, log: &Path, kill: Option<&Call>) -> Result<Child> {
    let mut tracer = Command::new("strace")
        .args(strace::options(log))
        .args(kill.map(Call::kill_option))
        .arg(format!("--attach={thread}"))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let said = tracer.stderr.take().ok_or("strace has no standard error")?;
    let mut line = String::new();
    BufReader::new(said).read_line(&mut line)?;
    ensure!(line.contains("attached"), "strace: {line}");
    Ok(tracer)
}

/// The calls from taking the keystore's lock to giving it back.
fn commit_of(calls: &[Call], site: &Site) -> Result<Vec<Call>> {
    let keys = site.keys().display().to_string();
    let is_lock = |call: &Call| call.text.contains(&keys) && call.text.contains(".lock");
    let first = calls.iter().position(is_lock).ok_or("the trace shows no lock")?;
    let last = calls.iter().rposition(is_lock).ok_or("the trace shows no lock")?;
    ensure!(last > first + 10, "the lock is held for {} calls only", last - first);
    Ok(calls[first..=last].to_vec())
}

/// The versions in a copy of the keystore's folder.
fn versions_in(site: &Site, folder: &Path) -> Result<Versions> {
    let config = files::text(&site.config())?
        .replace(&site.keys().display().to_string(), &folder.display().to_string());
    let copy = site.path("keyward/copy.toml");
    files::write(&copy, config)?;
    let mut list = Command::new(mariadb_test::artefacts::command());
    Versions::read(list.arg("--config").arg(copy).args(["keys", "list"]))
}
