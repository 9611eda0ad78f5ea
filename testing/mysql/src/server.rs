//! A running server.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use test_kit::command::answer_to;
use test_kit::{Answer, Result};

use crate::{Site, root};

/// How long a server may take to start or to stop on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

const TICK: Duration = Duration::from_millis(50);

/// What keyward says in `log` that is more than a note.
#[must_use]
pub fn complaints(log: &str) -> Vec<&str> {
    let complains = |line: &&str| !line.contains("[Note]") && !line.contains("[System]");
    log.lines().filter(|line| line.contains("keyward: ")).filter(complains).collect()
}

/// A running server; dropping it kills it.
pub struct Server {
    child: Child,
    folder: PathBuf,
    /// Where its part of the error log begins.
    from: u64,
}

impl Server {
    /// Waits until `child` says that it is ready; if it ends first, the error is what it logged. A
    /// server that daemonises ends well and leaves another process, which the pid file names.
    pub(crate) fn attend(child: Child, site: &Site, from: u64) -> Result<Self> {
        let mut server = Self { child, folder: site.path(""), from };
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if server.log().contains("ready for connections") {
                return Ok(server);
            }
            if let Ok(Some(status)) = server.child.try_wait()
                && !status.success()
            {
                let log = server.log();
                let output = fs::read_to_string(server.folder.join("output")).unwrap_or_default();
                return Err(format!("the server ended with {status}\n{output}{log}").into());
            }
            sleep(TICK);
        }
        Err(format!("the server did not start\n{}", server.log()).into())
    }

    /// Runs `sql`; the rows come back as lines, their fields apart by tabs.
    pub fn sql(&self, sql: &str) -> Result<String> {
        let rows = self.try_sql(sql)?.ok().map_err(|error| error.within(shorten(sql)))?;
        Ok(rows.trim_end().to_owned())
    }

    /// Runs `sql`, which may fail.
    pub fn try_sql(&self, sql: &str) -> Result<Answer> {
        answer_to(&mut self.client(), sql)
    }

    /// Runs `sql` as `user`, who has no password; it may fail.
    pub fn sql_as(&self, user: &str, sql: &str) -> Result<Answer> {
        answer_to(self.client().arg(format!("--user={user}")), sql)
    }

    /// Runs `sql`, which must fail; gives the server's message.
    pub fn sql_refused(&self, sql: &str) -> Result<String> {
        match self.try_sql(sql)? {
            Answer { code: 0, out, .. } => {
                Err(format!("{}: was to fail, answered {out}", shorten(sql)).into())
            }
            answer => Ok(answer.err.trim().to_owned()),
        }
    }

    /// The value of a row of `performance_schema.keyring_component_status`.
    pub fn component(&self, row: &str) -> Result<String> {
        self.sql(&format!(
            "SELECT STATUS_VALUE FROM performance_schema.keyring_component_status
             WHERE STATUS_KEY = '{row}'"
        ))
    }

    /// What it has logged so far, and before its log was open.
    #[must_use]
    pub fn log(&self) -> String {
        let log = fs::read(self.folder.join("error.log")).unwrap_or_default();
        let own = log.get(usize::try_from(self.from).unwrap_or(0)..).unwrap_or_default();
        String::from_utf8_lossy(own).into_owned()
    }

    /// The server's process.
    pub fn pid(&self) -> Result<i32> {
        Ok(fs::read_to_string(self.folder.join("pid"))?.trim().parse()?)
    }

    /// How many of its threads are ours.
    pub fn our_threads(&self) -> Result<usize> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid()?))?.flatten();
        let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        Ok(names.filter(|name| name.trim() == "keyward").count())
    }

    /// Shuts it down in good order; gives what it logged.
    pub fn stop(mut self) -> Result<String> {
        let pid = self.pid()?;
        self.sql("SHUTDOWN")?;
        self.wait(pid)?;
        Ok(self.log())
    }

    /// Kills it as a power cut would, short of the unsynced writes.
    pub fn kill(&mut self) -> Result<()> {
        let pid = self.pid()?;
        kill(Pid::from_raw(pid), Signal::SIGKILL).map_err(|error| error.to_string())?;
        self.wait(pid)
    }

    fn wait(&mut self, pid: i32) -> Result<()> {
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            let child_gone = self.child.try_wait()?.is_some();
            if child_gone && kill(Pid::from_raw(pid), None).is_err() {
                return Ok(());
            }
            sleep(TICK);
        }
        Err(format!("the server was still there after {PATIENCE:?}\n{}", self.log()).into())
    }

    fn client(&self) -> Command {
        let mut client = root::program("usr/bin/mysql");
        client.args(["--no-defaults", "--user=root", "--batch", "--skip-column-names"]);
        client.arg(format!("--socket={}", self.folder.join("sock").display()));
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(pid) = self.pid() {
            // One that is gone cannot be killed.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn shorten(sql: &str) -> String {
    sql.trim().chars().take(100).collect()
}
