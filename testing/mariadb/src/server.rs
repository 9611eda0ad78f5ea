//! A running server.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use test_kit::command::{answer, answer_to};
use test_kit::{Answer, Result, Trouble};

/// How long a server may take to start or to stop. One under valgrind on a busy machine needs it.
const PATIENCE: Duration = Duration::from_secs(240);

/// How often anything that is waited for is looked at.
const TICK: Duration = Duration::from_millis(20);

/// A running server; dropping it kills it.
pub struct Server {
    child: Child,
    socket: PathBuf,
    pid_file: PathBuf,
    log: Log,
}

/// The part of an error log that one server process wrote.
#[derive(Clone)]
pub(crate) struct Log {
    path: PathBuf,
    from: u64,
}

impl Server {
    /// Waits until `child` answers on `socket`; if it ends first, the error is what it logged.
    pub(crate) fn attend(
        child: Child,
        socket: &Path,
        pid_file: &Path,
        log: Log,
    ) -> Result<Self, Refusal> {
        let mut server = Self { child, socket: socket.into(), pid_file: pid_file.into(), log };
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if server.log().contains("ready for connections") {
                return Ok(server);
            }
            if let Ok(Some(status)) = server.child.try_wait() {
                return Err(Refusal { status: Some(status), log: server.log() });
            }
            sleep(TICK);
        }
        Err(Refusal { status: None, log: server.log() })
    }

    /// Runs `sql`; the rows come back as lines, their fields apart by tabs.
    pub fn sql(&self, sql: &str) -> Result<String> {
        let answer = self.try_sql(sql)?;
        answer
            .ok()
            .map(|rows| rows.trim_end().to_owned())
            .map_err(|error| error.within(shorten(sql)))
    }

    /// Runs `sql` as `user`, who has no password.
    pub fn sql_as(&self, user: &str, sql: &str) -> Result<String> {
        let mut client = client(&self.socket);
        let rows = answer_to(client.arg(format!("--user={user}")), sql)?.ok()?;
        Ok(rows.trim_end().to_owned())
    }

    /// Runs `sql`, which may fail.
    pub fn try_sql(&self, sql: &str) -> Result<Answer> {
        answer_to(&mut client(&self.socket), sql)
    }

    /// The checksums of all rows of `tables`, as the server computes them.
    pub fn checksums(&self, tables: &[&str]) -> Result<String> {
        self.sql(&format!("CHECKSUM TABLE {} EXTENDED", tables.join(", ")))
    }

    /// Runs `sql`, which must fail; gives the server's message.
    pub fn sql_refused(&self, sql: &str) -> Result<String> {
        match self.try_sql(sql)? {
            Answer { code: 0, out, .. } => {
                Err(format!("{}: was to fail, answered {out}", shorten(sql)).into())
            }
            // The client repeats the statement before it.
            answer => {
                let line = answer.err.lines().find(|line| line.starts_with("ERROR"));
                Ok(line.unwrap_or(&answer.err).to_owned())
            }
        }
    }

    /// A status variable's value.
    pub fn status(&self, name: &str) -> Result<String> {
        let row = self.sql(&format!("SHOW GLOBAL STATUS LIKE '{name}'"))?;
        match row.split_once('\t') {
            Some((_, value)) => Ok(value.to_owned()),
            None => Err(format!("no status variable {name}").into()),
        }
    }

    /// Runs `sql` again and again until `wanted` likes what it says.
    pub fn wait_for(
        &self,
        sql: &str,
        limit: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let since = Instant::now();
        loop {
            let rows = self.sql(sql)?;
            if wanted(&rows) {
                return Ok(rows);
            }
            if since.elapsed() > limit {
                return Err(format!("{}: still {rows:?} after {limit:?}", shorten(sql)).into());
            }
            sleep(TICK);
        }
    }

    /// Has InnoDB write every changed page to its file.
    pub fn write_pages(&self) -> Result<()> {
        self.sql(
            "FLUSH TABLES; SET GLOBAL innodb_max_dirty_pages_pct = 0, GLOBAL innodb_max_dirty_pages_pct_lwm = 0",
        )?;
        let dirty = "SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'";
        self.wait_for(dirty, Duration::from_secs(60), |row| row.ends_with("\t0"))?;
        Ok(())
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.read()
    }

    /// The server's own process, not that of a tool it runs under.
    pub fn pid(&self) -> Result<i32> {
        let text = fs::read_to_string(&self.pid_file)?;
        Ok(text.trim().parse()?)
    }

    /// Its threads by number and name.
    pub fn threads(&self) -> Result<Vec<(i32, String)>> {
        let mut threads = Vec::new();
        for entry in fs::read_dir(format!("/proc/{}/task", self.pid()?))?.flatten() {
            // A thread that ended in between is none.
            if let Ok(name) = fs::read_to_string(entry.path().join("comm")) {
                let number = entry.file_name().to_string_lossy().parse()?;
                threads.push((number, name.trim().to_owned()));
            }
        }
        Ok(threads)
    }

    /// Where its clients meet it.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Shuts it down in good order; gives what it logged.
    pub fn stop(mut self) -> Result<String> {
        self.sql("SHUTDOWN")?;
        let status = self.wait()?;
        let log = self.log();
        if status.success() {
            Ok(log)
        } else {
            Err(format!("the server stopped with {status}\n{log}").into())
        }
    }

    /// Kills it as a power cut would, short of the unsynced writes.
    pub fn kill(mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait()?;
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.pid()?), signal).map_err(|error| error.to_string().into())
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            sleep(TICK);
        }
        Err(format!("the server was still there after {PATIENCE:?}\n{}", self.log()).into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The pid file of a server under a tool names a process that is not our child.
        if let (Ok(None), Ok(_)) = (self.child.try_wait(), self.pid()) {
            let _ = self.signal(Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Log {
    /// What will be written to `path` from now on.
    pub(crate) fn from_here(path: &Path) -> Self {
        let from = fs::metadata(path).map_or(0, |data| data.len());
        Self { path: path.into(), from }
    }

    pub(crate) fn read(&self) -> String {
        let mut bytes = Vec::new();
        let read = fs::File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.from))?;
            file.read_to_end(&mut bytes)
        });
        match read {
            Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(_) => String::new(),
        }
    }
}

/// A server that did not start.
#[derive(Debug)]
pub struct Refusal {
    /// How it ended; none where it hung.
    pub status: Option<ExitStatus>,
    /// What it logged.
    pub log: String,
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        let end = refusal.status.map_or_else(|| "and hung".to_owned(), |status| status.to_string());
        format!("the server did not start: {end}\n{}", refusal.log).into()
    }
}

/// The client, as root over the socket.
pub(crate) fn client(socket: &Path) -> Command {
    let mut client = Command::new("mariadb");
    client.args(["--no-defaults", "--default-character-set=utf8mb4", "--user=root"]);
    client.args(["--batch", "--skip-column-names"]);
    client.arg(format!("--socket={}", socket.display()));
    client
}

/// Whether a server answers on `socket`.
#[must_use]
pub fn answers(socket: &Path) -> bool {
    answer(client(socket).arg("--execute=SELECT 1")).is_ok_and(|answer| answer.code == 0)
}

fn shorten(sql: &str) -> String {
    sql.trim().chars().take(100).collect()
}
