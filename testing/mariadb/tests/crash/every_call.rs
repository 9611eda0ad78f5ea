//! SIGKILL before each system call of a commit, one run for each call; after each, the disk as the
//! kill left it and as a power cut at the same moment would have.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use test_kit::files::copy;
use test_kit::strace::{self, Call};
use test_kit::{Result, ensure, files, seen};
use test_mariadb::rows::{check, create};
use test_mariadb::{Server, Session, Site, Versions};

use crate::changes::cut;
use crate::{TABLES, site, site_on_disk};

const ROTATE: &str = "SET GLOBAL keyward_rotate_key = -1";

/// In how many cases of the command one also starts a server.
const STRIDE: usize = 10;

/// How often a case is tried whose kill hit another call: strace counts from its start, and how many
/// calls come before the commit is not the same each time.
const TRIES: usize = 5;

#[test]
fn the_command() -> Result<()> {
    let (site, pristine) = prepared(site("crash-command")?)?;
    // So that each commit ends with a checkpoint of the audit trail.
    let config = files::text(&site.config())? + "\n[audit]\ncheckpoint_lines = 1\n";
    files::write(&site.config(), config)?;
    let log = site.path("strace");
    let commit = commit_of(&command_traced(&site, &log, None)?, &site)?;
    let mut tally = Tally::default();
    for place in 0..commit.len() {
        let aimed = Aimed { commit: &commit, place };
        let case = aimed.hit(&site, &pristine, |call| command_traced(&site, &log, Some(call)))?;
        case.verify(&site, &mut tally).map_err(|error| error.within(&aimed))?;
        proven(&site).map_err(|error| error.within(&aimed))?;
        // Whatever the kill left behind is in nobody's way.
        site.keyward(&["rotate", "--all"])?.ok().map_err(|error| error.within(&aimed))?;
        if place % STRIDE == 0 {
            readable(&site).map_err(|error| error.within(&aimed))?;
        }
    }
    tally.report("keyward rotate", commit.len())
}

#[test]
fn the_server() -> Result<()> {
    let (site, pristine) = prepared(site_on_disk("crash-server")?)?;
    let log = site.path("strace");
    let server = site.start()?;
    let commit = commit_of(&traced(&server, ROTATE, &log, None)?, &site)?;
    server.stop()?;
    let mut tally = Tally::default();
    for place in 0..commit.len() {
        let aimed = Aimed { commit: &commit, place };
        let case = aimed.hit(&site, &pristine, |call| {
            let mut server = site.start()?;
            let calls = traced(&server, ROTATE, &log, Some(call))?;
            server.wait()?;
            Ok(calls)
        })?;
        case.verify(&site, &mut tally).map_err(|error| error.within(&aimed))?;
        readable(&site).map_err(|error| error.within(&aimed))?;
    }
    tally.report("the server's rotation", commit.len())
}

/// A site with rows that no server runs on, and a copy of it to begin each case with: the number of
/// calls depends on what is in the keystore.
pub(crate) fn prepared(site: Site) -> Result<(Site, PathBuf)> {
    let server = site.start()?;
    create(&server, TABLES)?;
    server.stop()?;
    let pristine = site.path("pristine");
    fs::create_dir(&pristine)?;
    copy(&site.keys(), &pristine)?;
    copy(&site.data(), &pristine)?;
    Ok((site, pristine))
}

/// The audit trail is whole, and its newest checkpoint, if there is one, is of it.
fn proven(site: &Site) -> Result<()> {
    let newest = site.keys().join("audit.checkpoint");
    let mut words = vec!["audit", "verify"];
    if newest.exists() {
        words.extend(["--checkpoint", newest.to_str().ok_or("a path that is no text")?]);
    }
    site.keyward(&words)?.ok().map(drop)
}

/// A server starts, reads every row, and can rotate again.
fn readable(site: &Site) -> Result<()> {
    let server = site.start()?;
    check(&server, TABLES)?;
    server.sql(ROTATE)?;
    server.stop()?;
    Ok(())
}

/// A call of the commit to be killed at.
pub(crate) struct Aimed<'a> {
    pub(crate) commit: &'a [Call],
    pub(crate) place: usize,
}

impl Aimed<'_> {
    /// Begins from `pristine` and kills by `kill`, again and better aimed if that hit another call.
    pub(crate) fn hit(
        &self,
        site: &Site,
        pristine: &Path,
        kill: impl Fn(&Call) -> Result<Vec<Call>>,
    ) -> Result<Case> {
        let mut call = self.commit[self.place].clone();
        let mut last = String::new();
        for _ in 0..TRIES {
            for (is, was) in [(site.keys(), "keystore"), (site.data(), "data")] {
                fs::remove_dir_all(&is)?;
                copy(&pristine.join(was), &is)?;
            }
            let versions = site.versions()?;
            let calls = match kill(&call) {
                Ok(calls) => calls,
                Err(error) => {
                    last = error.to_string();
                    continue;
                }
            };
            let first = calls.iter().position(|call| is_lock(call, site)).unwrap_or(calls.len());
            if self.is_end_of(&calls[first..]) {
                return Ok(Case { versions, before: pristine.join("keystore"), calls });
            }
            last = self.difference(&calls[first..]);
            let of_name =
                |calls: &[Call]| calls.iter().filter(|other| other.name == call.name).count();
            call.nth += of_name(&self.commit[..=self.place]);
            call.nth -= of_name(&calls[first..]);
        }
        Err(format!("{self}: not hit in {TRIES} tries, {last}").into())
    }

    /// Where a commit first went another way.
    fn difference(&self, made: &[Call]) -> String {
        let pairs = made.iter().zip(self.commit).take(self.place + 1);
        let text =
            |(made, planned): (&Call, &Call)| format!("{} instead of {}", made.text, planned.text);
        let other = pairs.clone().find(|(made, planned)| made.name != planned.name).map(text);
        other.unwrap_or_else(|| format!("killed after {} calls of the commit", made.len()))
    }

    /// Whether a commit that was cut off had come to this call, and no further.
    fn is_end_of(&self, made: &[Call]) -> bool {
        let name = |call: Option<&Call>| call.map(|call| call.name.clone());
        made.len() == self.place + 1 && name(made.last()) == name(self.commit.get(self.place))
    }
}

impl std::fmt::Display for Aimed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let call = &self.commit[self.place];
        write!(f, "before call {} of the commit, {}", self.place + 1, call.text)
    }
}

/// A kill that hit the call it was meant for.
pub(crate) struct Case {
    /// The versions before it.
    pub(crate) versions: Versions,
    /// The keystore's folder before it.
    before: PathBuf,
    /// The calls that were made, the last of them not carried out.
    pub(crate) calls: Vec<Call>,
}

impl Case {
    /// An error unless every key is there now, and would be after a power cut.
    fn verify(&self, site: &Site, tally: &mut Tally) -> Result<()> {
        let cuts = cut(site, &self.calls, &self.before)?;
        let now = site.versions()?;
        self.whole(&now)?;
        let name = self.calls.last().map_or("", |call| call.name.as_str());
        tally.kill(name, now.count() > self.versions.count());
        for state in cuts {
            let versions = versions_in(site, &state)
                .and_then(|versions| self.whole(&versions).map(|()| versions))
                .map_err(|error| error.within(format!("power cut, {}", state.display())))?;
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
    command.args(strace::as_server()).arg(inner.get_program()).args(inner.get_args());
    let answer = test_kit::command::answer(&mut command)?;
    ensure!((answer.code == 0) == kill.is_none(), "{kill:?}: {}", answer.text());
    outward(log)
}

/// Has `server` do `sql` in a session under strace; with `kill`, up to that call.
pub(crate) fn traced(
    server: &Server,
    sql: &str,
    log: &Path,
    kill: Option<&Call>,
) -> Result<Vec<Call>> {
    let mut session = Session::open(server)?;
    let mut tracer = attach(session.thread()?, log, kill.map(Call::kill_option))?;
    let answer = session.ask(&format!("{sql}; SELECT 'done'"));
    ensure!(answer.is_ok() == kill.is_none(), "{kill:?}: {answer:?}");
    if kill.is_none() {
        detach(&tracer)?;
    }
    tracer.wait()?;
    outward(log)
}

/// Has a tracer let the server go: asked to end it does, while SIGKILL would leave the thread stopped.
pub(crate) fn detach(tracer: &Child) -> Result<()> {
    let pid = nix::unistd::Pid::from_raw(tracer.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT)
        .map_err(|error| error.to_string().into())
}

/// The traced calls without those that manage memory and threads: they leave nothing outside of the
/// process, so a kill at one of them is a kill at the next, and they come and go from run to run.
pub(crate) fn outward(log: &Path) -> Result<Vec<Call>> {
    const INWARD: [&str; 8] =
        ["brk", "futex", "madvise", "mmap", "mprotect", "mremap", "munmap", "sched_yield"];
    let mut calls = strace::read(log)?;
    calls.retain(|call| !INWARD.contains(&call.name.as_str()));
    Ok(calls)
}

/// Attaches strace to one thread and waits until it is in place.
pub(crate) fn attach(thread: i32, log: &Path, injected: Option<String>) -> Result<Child> {
    let mut tracer = Command::new("strace")
        .args(strace::options(log))
        .args(injected)
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
pub(crate) fn commit_of(calls: &[Call], site: &Site) -> Result<Vec<Call>> {
    let first = first_of_commit(calls, site)?;
    let last = calls.iter().rposition(|call| is_lock(call, site)).unwrap_or(first);
    ensure!(last > first + 10, "the lock is held for {} calls only", last - first);
    Ok(calls[first..=last].to_vec())
}

fn first_of_commit(calls: &[Call], site: &Site) -> Result<usize> {
    let first = calls.iter().position(|call| is_lock(call, site));
    first.ok_or_else(|| "the trace shows no lock".into())
}

fn is_lock(call: &Call, site: &Site) -> bool {
    call.text.contains(&format!("{}.lock", site.keystore().display()))
}

/// The versions in a copy of the keystore's folder.
pub(crate) fn versions_in(site: &Site, folder: &Path) -> Result<Versions> {
    let config = files::text(&site.config())?
        .replace(&site.keys().display().to_string(), &folder.display().to_string());
    let copy = site.path("keyward/copy.toml");
    files::write(&copy, config)?;
    let mut list = Command::new(test_kit::artefacts::command());
    Versions::read(list.arg("--config").arg(copy).args(["keys", "list"]))
}
