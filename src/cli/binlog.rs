//! `keyward binlog`: encrypted binary and relay logs as plain ones, for `mariadb-binlog` and
//! `mysqlbinlog`.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::assemble;
use crate::binlog::{self, LogKey, Need, Torn, Written};
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::{env, open};
use crate::cli::helpers::outlet::{Outlet, refuse_terminal};
use crate::cli::helpers::print::plain;
use crate::cli::helpers::{confine, privilege};
use crate::config::Config;
use crate::custodian::Custodian;
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::inspect::Source as _;
use crate::key::{KeyId, KeyRef, KeyVersion, PageMode};
use crate::secret::DataKey;
use crate::source::Reason;
use crate::trust;

/// How often `--progress` tells.
const TELL: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(super) struct Options {
    /// Binary or relay logs, in the order in which they were written; those that are not encrypted go
    /// through as they are
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Write the plain log to this new file, which only its owner may read, instead of standard output
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Tell on standard error how far it is
    #[arg(long)]
    progress: bool,
    /// Why, for the audit trail
    #[arg(long, default_value = "keyward binlog", value_name = "TEXT")]
    reason: String,
}

/// A file, and which key it needs.
struct Log<'a> {
    path: &'a Path,
    need: Need,
    len: u64,
}

/// The keys of all logs.
#[derive(Default)]
struct Keys(BTreeMap<Need, Held>);

/// A key while logs are decrypted with it.
struct Held {
    version: KeyVersion,
    data: DataKey,
    /// How MariaDB's is used.
    mode: PageMode,
}

pub(super) fn run(config: &Path, options: &Options) -> Result<Exit> {
    let mut outlet = options.outlet()?;
    let exit = decrypted(config, options, &mut outlet);
    outlet.end(exit)
}

impl Options {
    /// Where the plain log goes: what root has opened, where root called for it.
    pub(super) fn outlet(&self) -> Result<Outlet> {
        match &self.to {
            Some(path) if !privilege::is_second() => Outlet::to_new(path),
            Some(_) => Outlet::standard(),
            None => refuse_terminal(
                "a plain log is for a program",
                "pipe it (`keyward binlog FILE | mariadb-binlog -`), or name a file with --to",
            ),
        }
    }
}

fn decrypted(config: &Path, options: &Options, outlet: &mut Outlet) -> Result<Exit> {
    let logs = confine::reading(|| look(&options.files))??;
    let opened = match logs.iter().all(|log| log.need == Need::Nothing) {
        true => None,
        false => Some(open(config)?),
    };
    let keys = match &opened {
        Some((config, custodian)) => {
            let keys = Keys::of(&logs, custodian)?;
            note(config, custodian, &logs, &keys, &options.reason)?;
            keys
        }
        None => Keys::default(),
    };
    confine::reading(|| copy(&logs, &keys, options.progress, outlet))??;
    Ok(Exit::Success)
}

/// What each file needs. Nothing is written before all of them were looked at.
fn look(files: &[PathBuf]) -> Result<Vec<Log<'_>>> {
    let one = |path: &'_ PathBuf| {
        let file = trust::open_untrusted(path);
        let file = file.map_err(|cause| Error::io("cannot open", path, &cause))?;
        let len = file.len().map_err(|cause| Error::io("cannot read", path, &cause))?;
        let need = binlog::need(&file).map_err(|error| error.within(path.display()))?;
        Ok((need, len))
    };
    let log = |path| one(path).map(|(need, len)| Log { path, need, len });
    files.iter().map(log).collect()
}

/// Appends the line to the audit trail, before anything is decrypted.
fn note(
    config: &Config,
    custodian: &Custodian,
    logs: &[Log<'_>],
    keys: &Keys,
    why: &str,
) -> Result<()> {
    let files: Vec<_> = logs.iter().map(|log| log.path.display().to_string()).collect();
    let (actor, text) = (privilege::actor(), format!("{why}: {}", files.join(", ")));
    let reason = Reason { actor: &actor, text: &text };
    assemble::note(config, custodian, Event::BinaryLogRead, &keys.names(), reason, &env())
}

impl Keys {
    /// All that `logs` need; `NotFound` where one is missing.
    fn of(logs: &[Log<'_>], custodian: &Custodian) -> Result<Self> {
        let mut keys = Self::default();
        for Log { path, need, .. } in logs {
            if !keys.0.contains_key(need)
                && let Some(held) =
                    held(need, custodian).map_err(|error| error.within(path.display()))?
            {
                keys.0.insert(need.clone(), held);
            }
        }
        Ok(keys)
    }

    fn get<'a>(&'a self, need: &Need) -> LogKey<'a> {
        match (need, self.0.get(need)) {
            (Need::Version(version), Some(held)) => LogKey::Pages(*version, &held.data, held.mode),
            (Need::Named(_), Some(held)) => LogKey::Keyring(&held.data),
            _ => LogKey::Nothing,
        }
    }

    /// What the audit trail calls them.
    fn names(&self) -> Vec<KeyRef> {
        let name = |(need, held): (&Need, &Held)| match need {
            Need::Nothing => None,
            Need::Version(version) => Some(KeyRef::new(KeyId::SYSTEM, *version)),
            Need::Named(name) => Some(KeyRef::new(name.clone(), held.version)),
        };
        self.0.iter().filter_map(name).collect()
    }
}

/// The keystore's key for `need`.
fn held(need: &Need, custodian: &Custodian) -> Result<Option<Held>> {
    Ok(Some(match need {
        Need::Nothing => return Ok(None),
        Need::Version(version) => {
            let name = || format!("key {} version {version}", KeyId::SYSTEM);
            let key = custodian.key(KeyId::SYSTEM, *version).ok_or_else(|| missing(&name()))?;
            let data = DataKey::copy_of(key.key().expose())?;
            Held { version: *version, data, mode: key.cipher().mode }
        }
        Need::Named(name) => {
            let key = custodian.named(name)?.ok_or_else(|| missing(&format!("key {name}")))?;
            let data = DataKey::copy_of(key.data().expose())?;
            Held { version: key.version(), data, mode: PageMode::Ctr }
        }
    }))
}

fn missing(key: &str) -> Error {
    let what = format!("it is encrypted with {key}, which the keystore does not have");
    Error::new(Kind::NotFound, what).advise(
        "name the configuration of a keystore, or of a copy of it, that has it, with --config",
    )
}

/// Writes all of `logs`, one behind the other.
fn copy(logs: &[Log<'_>], keys: &Keys, tells: bool, outlet: &mut Outlet) -> Result<()> {
    let all = logs.iter().map(|log| log.len).sum();
    let mut out = Counted { outlet, progress: tells.then(|| Progress::new(all)) };
    for (n, log) in logs.iter().enumerate() {
        let within = |error: Error| error.within(log.path.display());
        let file = trust::open_untrusted(log.path);
        let file: File = file.map_err(|cause| Error::io("cannot open", log.path, &cause))?;
        let key = keys.get(&log.need);
        let written = binlog::decrypt(&file, key, n > 0, &mut out).map_err(within)?;
        out.tell(log.path, &written);
    }
    Ok(())
}

/// What goes to the outlet, counted.
struct Counted<'a> {
    outlet: &'a mut Outlet,
    progress: Option<Progress>,
}

struct Progress {
    all: u64,
    done: u64,
    told: Instant,
}

impl Progress {
    fn new(all: u64) -> Self {
        Self { all, done: 0, told: Instant::now() }
    }

    fn add(&mut self, bytes: usize) {
        self.done += bytes as u64;
        if self.told.elapsed() >= TELL {
            let mib = |bytes: u64| bytes >> 20;
            eprintln!("keyward: {} of {} MiB", mib(self.done), mib(self.all));
            self.told = Instant::now();
        }
    }
}

impl Counted<'_> {
    /// Says how a log ended, where there is something to say.
    fn tell(&self, path: &Path, written: &Written) {
        let name = plain(&path.display().to_string());
        if let Some(Torn { at, len }) = written.torn {
            eprintln!(
                "keyward: warning: {name}: its last {len} bytes, from byte {at} on, are no whole event and \
                 are left off: it is still being written, was copied before its end, or a crash cut it"
            );
        }
        if self.progress.is_some() {
            eprintln!("keyward: {name}: {} events", written.events);
        }
    }
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.outlet.write(bytes)?;
        if let Some(progress) = &mut self.progress {
            progress.add(written);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.outlet.flush()
    }
}
