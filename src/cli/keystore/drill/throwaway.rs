//! A server of our own on a copy of the data, with the keys of the backup and nothing else; it goes with the
//! call. ADR 138 says what it may do, and where its keys are.

#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::Read as _;
use std::mem;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::geteuid;

use super::copy::{BACKUPS_OPTIONS, Plan, make};
use super::{Counts, rows};
use crate::assemble;
use crate::backup::Backup;
use crate::cli::helpers::keeper::Kept;
use crate::cli::helpers::open::env;
use crate::cli::helpers::server::find_client;
use crate::config::Config;
use crate::drill::Trial;
use crate::env::{Env, Level, Log};
use crate::error::{Error, Kind, Result};
use crate::hex;
use crate::source::Reason;
use crate::trust;

/// Where the copy is made unless said otherwise.
const DISK: &str = "/var/tmp";
/// Where files are in memory.
const MEMORY: &str = "/dev/shm";
/// The kernel's number of that kind of file system (statfs(2)).
const TMPFS: i64 = 0x0102_1994;
/// How long a server may take to start: it may have a crash to recover from.
const START: Duration = Duration::from_secs(3600);
/// The options of a backup that its server needs, too.
const KEPT_OPTIONS: [&str; 3] =
    ["innodb_data_file_path", "innodb_page_size", "innodb_undo_tablespaces"];
/// The longest log that is searched for what went wrong, in bytes, and how much of it is told.
const MAX_LOG: u64 = 1 << 20;
const MOST_LINES: usize = 3;
const LONGEST_LINE: usize = 500;

/// What the server reads tables with. It tells others nothing, changes what it is told to and nothing by
/// itself, and has in the clear on disk nothing that was encrypted.
const OPTIONS: &[&str] = &[
    "--skip-networking",
    "--skip-grant-tables",
    "--skip-slave-start",
    "--skip-log-bin",
    "--skip-symbolic-links",
    "--local-infile=OFF",
    "--performance-schema=OFF",
    "--innodb-encryption-threads=0",
    "--innodb-encrypt-log=ON",
    "--innodb-encrypt-temporary-tables=ON",
    "--innodb-buffer-pool-load-at-startup=OFF",
    "--innodb-buffer-pool-dump-at-shutdown=OFF",
    "--aria-encrypt-tables=ON",
    "--encrypt-tmp-files=ON",
    "--encrypt-tmp-disk-tables=ON",
    "--max-connections=10",
];

/// A drill's copy of the data, and the server on it once it runs.
pub(super) struct Throwaway<'a> {
    options: &'a super::ServerOptions,
    /// What the copy is of.
    folder: &'a Path,
    program: PathBuf,
    kept: Kept,
    server: Option<Child>,
    counts: Counts,
    since: Instant,
}

/// Hears nothing: what fails is an error.
struct Silent;

impl Log for Silent {
    fn log(&self, _: Level, _: &str) {}
}

impl super::ServerOptions {
    /// Copies `folder`, with the keys of `backup` beside it, and prepares the copy where that has to be. An
    /// error is what keeps us from trying; what cannot be prepared is what the drill finds out.
    pub(super) fn copy<'a>(
        &'a self,
        folder: &'a Path,
        backup: &Backup,
        actor: &str,
    ) -> Result<Throwaway<'a>> {
        let since = Instant::now();
        if geteuid().is_root() {
            let what = "mariadbd does not run as root, and the keystore is root's";
            return Err(Error::new(Kind::Unsupported, what)
                .advise("name the account that the server runs as, with --user"));
        }
        refuse_disk(Path::new(MEMORY))?;
        let program = program("mariadbd", self.server.as_deref())?;
        let place = absolute(self.scratch.as_deref().unwrap_or(Path::new(DISK)))?;
        let plan = Plan::of(folder, &self.tables)?;
        plan.judge(&place, self.max_copy)?;
        let mut name = [0; 8];
        env().rng.fill(&mut name)?;
        let kept = Kept::new(&[&place, Path::new(MEMORY)], &hex::text(&name))?;
        let (server, counts) = (None, Counts::default());
        let mut copy = Throwaway { options: self, folder, program, kept, server, counts, since };
        make(&copy.temporary())?;
        copy.counts.mib = plan.bytes.div_ceil(1 << 20);
        copy.counts.files = plan.carry_out(folder, &copy.data())?;
        copy.restore(backup, actor)?;
        if plan.unprepared {
            copy.prepare()?;
        }
        Ok(copy)
    }
}

impl Throwaway<'_> {
    /// What `read` finds in the copy, where that is what can be read: pages of a backup that nobody has prepared
    /// are not all in place. None where the folder itself is to be read.
    pub(super) fn trial(&self, read: impl FnOnce(&[PathBuf]) -> Trial) -> Option<Trial> {
        if !self.counts.prepared {
            return None;
        }
        let mut trial = read(&[self.data()]);
        for fault in &mut trial.faults {
            if let Ok(file) = fault.file.strip_prefix(self.data()) {
                fault.file = self.folder.join(file);
            }
        }
        Some(trial)
    }

    /// What a server reads in the copy.
    pub(super) fn count(mut self) -> Result<Counts> {
        let mut counts = mem::take(&mut self.counts);
        if counts.faults.is_empty() {
            match self.start()? {
                Ok(()) => {
                    let (socket, tables) = (self.socket(), &self.options.tables);
                    rows::count(&socket, tables, &mut counts, || self.end())?;
                }
                Err(words) => counts.faults.push(words),
            }
        }
        counts.seconds = (self.since.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        Ok(counts)
    }

    /// The folder on disk: the copy, and what the server writes.
    fn disk(&self) -> &Path {
        self.kept.folder(0)
    }

    /// The folder in memory: the keystore, what opens it, and the socket.
    fn memory(&self) -> &Path {
        self.kept.folder(1)
    }

    fn data(&self) -> PathBuf {
        self.disk().join("data")
    }

    fn log(&self) -> PathBuf {
        self.disk().join("error.log")
    }

    fn temporary(&self) -> PathBuf {
        self.disk().join("tmp")
    }

    fn config(&self) -> PathBuf {
        self.memory().join("keyward.toml")
    }

    fn key_file(&self) -> PathBuf {
        self.memory().join("drill.key")
    }

    fn socket(&self) -> PathBuf {
        self.memory().join("sock")
    }

    /// Restores the keystore as on an empty machine, wrapped by a key of this drill's alone.
    fn restore(&self, backup: &Backup, actor: &str) -> Result<()> {
        let (path, key) = (self.memory().join("keystore.json"), self.key_file());
        let text = format!(
            "[keystore]\npath = {path:?}\n\n[[provider]]\nname = \"drill\"\ntype = \"local\"\nkey_file = {key:?}\n"
        );
        // What is to be said of the real keystore's trail is none of this copy's.
        let env = Env { log: Arc::new(Silent), ..env() };
        assemble::create_key_file(&key, &*env.rng)?;
        let config = self.config();
        fs::write(&config, &text).map_err(|cause| Error::io("cannot write", &config, &cause))?;
        let reason = Reason { actor, text: "a drill's own copy" };
        let config = Config::parse(&config, &text)?;
        assemble::restore(&config, backup, false, Some(reason), &env).map(drop)
    }

    /// Has the copy of a backup prepared; notes what is complained of where it cannot be.
    fn prepare(&mut self) -> Result<()> {
        let program = program("mariadb-backup", None)?;
        let (data, log) = (self.data(), self.disk().join("prepare.log"));
        self.write_options(&data.join(BACKUPS_OPTIONS))?;
        let mut command = self.kept.program(&program);
        command.arg("--prepare").arg(flag("target-dir", &data)).arg(self.plugins()?);
        command.arg(flag("tmpdir", &self.temporary()));
        let ended = logging(&mut command, &log)?.wait();
        let ended = ended.map_err(|cause| Error::io("cannot wait for", &program, &cause))?;
        self.counts.prepared = ended.success();
        if !ended.success() {
            let words = format!("mariadb-backup --prepare fails: {}", complaint(&log));
            self.counts.faults.push(words);
        }
        Ok(())
    }

    /// The options that the backup notes, with our plugin in the place of the server's.
    fn write_options(&self, path: &Path) -> Result<()> {
        let text =
            fs::read_to_string(path).map_err(|cause| Error::io("cannot read", path, &cause))?;
        let ours = |line: &&str| line.starts_with("innodb_") || line.starts_with('[');
        let mut lines: Vec<_> = text.lines().filter(ours).map(str::to_owned).collect();
        lines.push("plugin_load=keyward".to_owned());
        lines.push(format!("keyward_config={}", self.config().display()));
        let text = lines.join("\n") + "\n";
        fs::write(path, text).map_err(|cause| Error::io("cannot write", path, &cause))
    }

    /// Starts the server; what it complains of where it does not.
    fn start(&mut self) -> Result<Result<(), String>> {
        let log = self.log();
        let mut command = self.kept.program(&self.program);
        command.arg("--no-defaults").args(OPTIONS).arg(self.plugins()?);
        command.args(["--plugin-load-add=keyward", "--keyward=FORCE_PLUS_PERMANENT"]);
        command.arg(flag("keyward-config", &self.config()));
        command.arg(flag("datadir", &self.data())).arg(flag("tmpdir", &self.temporary()));
        command.arg(flag("socket", &self.socket())).arg(flag("log-error", &log));
        command.arg(flag("pid-file", &self.memory().join("pid")));
        command.args(self.noted_options()?);
        command.args(self.options.option.iter().map(|option| format!("--{option}")));
        let mut server = logging(&mut command, &self.disk().join("output.log"))?;
        let since = Instant::now();
        while UnixStream::connect(self.socket()).is_err() {
            let ended = server.try_wait();
            if !matches!(ended, Ok(None)) {
                return Ok(Err(format!("the server does not start: {}", complaint(&log))));
            }
            if since.elapsed() > START {
                let _ = server.kill().and_then(|()| server.wait());
                return Ok(Err("the server did not start within an hour".to_owned()));
            }
            thread::sleep(Duration::from_millis(50));
        }
        self.server = Some(server);
        // It has read it.
        let key = self.key_file();
        fs::remove_file(&key).map_err(|cause| Error::io("cannot remove", &key, &cause))?;
        Ok(Ok(()))
    }

    /// How InnoDB's files are laid out, as a backup notes it.
    fn noted_options(&self) -> Result<Vec<String>> {
        let path = self.data().join(BACKUPS_OPTIONS);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(cause) => return Err(Error::io("cannot read", &path, &cause)),
        };
        let kept = |line: &&str| {
            line.split_once('=').is_some_and(|(name, _)| KEPT_OPTIONS.contains(&name))
        };
        Ok(text.lines().filter(kept).map(|line| format!("--{line}")).collect())
    }

    /// Where the plugin is.
    fn plugins(&self) -> Result<std::ffi::OsString> {
        Ok(flag("plugin-dir", &absolute(&self.options.plugin_dir)?))
    }

    /// What the server says of its end; none while it runs.
    fn end(&mut self) -> Option<String> {
        let ended = self.server.as_mut().map(Child::try_wait);
        match ended {
            Some(Ok(None)) => None,
            _ => Some(complaint(&self.log())),
        }
    }
}

impl Drop for Throwaway<'_> {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            // Nobody reads the copy again.
            let _ = server.kill().and_then(|()| server.wait().map(drop));
        }
    }
}

/// Starts `command`, whose output goes to the new file `log`.
fn logging(command: &mut Command, log: &Path) -> Result<Child> {
    let file = File::create_new(log).and_then(|file| Ok((file.try_clone()?, file)));
    let (one, other) = file.map_err(|cause| Error::io("cannot make", log, &cause))?;
    let started = command.stdout(one).stderr(other).spawn();
    started.map_err(|cause| Error::new(Kind::Internal, format!("cannot start a program: {cause}")))
}

/// `--name=path`, whatever bytes the path has.
fn flag(name: &str, path: &Path) -> std::ffi::OsString {
    let mut flag = std::ffi::OsString::from(format!("--{name}="));
    flag.push(path);
    flag
}

/// Where the program `name` is, or `given` in its place: nobody but root, or we, can have put it there.
fn program(name: &str, given: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = given {
        trust::open_code(path).map_err(|refusal| refusal.of("cannot run", path))?;
        return absolute(path);
    }
    find_client(name).ok_or_else(|| {
        let what = format!("there is no {name} in a folder of PATH that only root can change");
        Error::new(Kind::NotFound, what).advise("install it, or name the server with --server")
    })
}

/// `path` as programs find it that work in another folder than we do.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|cause| Error::io("cannot make absolute", path, &cause))
}

/// Refuses to keep a key where `folder` is not in memory.
fn refuse_disk(folder: &Path) -> Result<()> {
    let found = rustix::fs::statfs(folder);
    match found.is_ok_and(|found| found.f_type == TMPFS) {
        true => Ok(()),
        false => {
            let what =
                format!("{} is no tmpfs, and the drill's key may be on no disk", folder.display());
            Err(Error::new(Kind::Unsupported, what).advise("mount a tmpfs there"))
        }
    }
}

/// What the `log` of a program says of its failure: what keyward says in it, else its first errors.
fn complaint(log: &Path) -> String {
    let mut text = Vec::new();
    let _ = File::open(log).and_then(|file| file.take(MAX_LOG).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    let errors =
        || text.lines().filter(|line| line.contains("[ERROR]") || line.contains("keyward: "));
    let own: Vec<_> = errors().filter(|line| line.contains("keyward cannot")).collect();
    let told = if own.is_empty() { errors().collect() } else { own };
    let told: Vec<_> = told.iter().take(MOST_LINES).map(|line| bare(line)).collect();
    if told.is_empty() { "it says nothing of why".to_owned() } else { told.join("; ") }
}

/// A line of a log without its time and level.
fn bare(line: &str) -> String {
    let text = line.split_once("[ERROR] ").map_or(line, |(_, text)| text);
    text.chars().take(LONGEST_LINE).collect()
}
