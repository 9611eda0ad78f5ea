//! Backups of keys that a key store serves: made, tried, and what the store lost put back. Their recipients are
//! in a file next to the configuration, which is root's, as there is no keystore to keep them.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::digest::{noted_as, of_configuration, sha256};
use super::drill::{self, listed, newest, of_trial};
use super::restore;
use crate::age::{self, For, Recipient};
use crate::assemble::{Compared, Returned, ServedKeys};
use crate::backup::{BackupKey, ServedBackup};
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::env;
use crate::cli::helpers::print::{Printer, plain_lines};
use crate::cli::helpers::{confine, privilege};
use crate::config::Config;
use crate::drill::Trial;
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::key::KeyRef;
use crate::mark::{self, Place};
use crate::provider::ReturnWay;
use crate::source::Reason;
use crate::trust;

/// The longest file of recipients, in bytes.
const MAX_RECIPIENTS: u64 = 1 << 16;

/// Who can read a backup.
pub(super) enum Reader<'a> {
    /// Whoever has the identity of one of these; without any, of those in the file of recipients.
    Recipients(&'a [String]),
    /// Whoever knows this.
    Passphrase(&'a [u8]),
}

/// The file of recipients: `age1pq1...` a line, and comments, as the option -R of age takes it.
pub(super) fn recipients_file(config: &Path) -> PathBuf {
    config.with_file_name("backup-recipients")
}

/// The recipients in that file.
pub(super) fn recipients(config: &Path) -> Result<Vec<Recipient>> {
    let path = recipients_file(config);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = trust::read_text(&path, MAX_RECIPIENTS);
    let text = text.map_err(|refusal| refusal.of("cannot read", &path))?;
    let lines = text.lines().map(str::trim).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let parsed = lines.map(|(n, line)| {
        let parsed: Result<Recipient> = line.parse();
        parsed.map_err(|error| error.within(format!("{}, line {}", path.display(), n + 1)))
    });
    parsed.collect()
}

/// An encrypted backup of what `store` gives. What is to be noted of it is told on standard error.
pub(super) fn backup(
    store: &ServedKeys<'_>,
    config: &Path,
    reader: Reader<'_>,
    reason: Reason<'_>,
) -> Result<Vec<u8>> {
    let to = match reader {
        Reader::Recipients([]) => recipients(config)?,
        Reader::Recipients(given) => given.iter().map(|one| one.parse()).collect::<Result<_>>()?,
        Reader::Passphrase(_) => Vec::new(),
    };
    let reader = match reader {
        Reader::Passphrase(words) => For::Passphrase(words),
        Reader::Recipients(_) if to.is_empty() => return Err(no_recipient(config)),
        Reader::Recipients(_) => For::Recipients(&to),
    };
    let (backup, gone) = store.backup(of_configuration(config))?;
    let text = backup.to_text()?;
    let sealed = age::encrypt(text.expose(), reader, &*env().rng)?;
    let sha256 = sha256(&sealed);
    let told = format!("{} {}", reason.text, noted_as(&sha256));
    store.tell(Event::BackedUp, &names(&backup.keys), Reason { text: &told, ..reason })?;
    if !gone.is_empty() {
        let gone = listed(&gone);
        eprintln!("keyward: note: the key store does not give {gone} any more: not in the backup");
    }
    eprintln!("keyward: note, apart from the backup, its SHA-256: {sha256}");
    Ok(sealed)
}

fn no_recipient(config: &Path) -> Error {
    let path = recipients_file(config);
    let what = format!("nobody could open the backup: {} names no recipient", path.display());
    Error::new(Kind::NotFound, what).advise(
        "`keyward keystore backup --identity FILE` makes one and prints the line to add; or name a --recipient, or a \
         --passphrase-file",
    )
}

/// What cannot be done to the recipients, since no keystore has them.
pub(super) fn no_register(config: &Path) -> Error {
    let what = "no keystore has the recipients of backups: a key store serves the keys";
    let path = recipients_file(config);
    Error::new(Kind::Unsupported, what)
        .advise(format!("root edits {}, a recipient a line", path.display()))
}

/// What a restore did, for machines.
#[derive(Serialize)]
struct Done {
    place: String,
    backup_of: String,
    versions: usize,
    written: Vec<KeyRef>,
    undeleted: Vec<KeyRef>,
    completed: Vec<KeyRef>,
    /// Versions that the key store gives and the backup lacks.
    lacks: Vec<KeyRef>,
    restored: bool,
    tables_opened: usize,
}

/// Puts back what the key store lost; nothing where keyward's own keystore has the keys.
pub(super) fn restore(
    config: &Path,
    options: &restore::Options,
    printer: &Printer,
) -> Result<Option<Exit>> {
    let (config, env) = (Config::load(config)?, env());
    let Some(store) = ServedKeys::of(&config, &env)? else { return Ok(None) };
    if options.replace {
        let what = "--replace is for a keystore: what a key store has is never replaced";
        return Err(Error::new(Kind::Config, what).advise("leave it out"));
    }
    let backup = options.opener.open_served(&options.file, &config.keystore.path)?;
    let mut tables_opened = 0;
    for folder in &options.datadir {
        tables_opened += opened(folder, &backup)?;
    }
    let planned = store.plan(&backup)?;
    if !options.dry_run {
        let actor = privilege::actor();
        let reason = Reason { actor: &actor, text: &options.reason };
        store.restore(&backup, &planned, reason)?;
    }
    let by = |way| planned.iter().filter(move |one| one.way == way).map(|one| one.key.clone());
    let done = Done {
        place: store.place(),
        backup_of: backup.origin.place.clone(),
        versions: backup.keys.len(),
        written: by(ReturnWay::Written).collect(),
        undeleted: by(ReturnWay::Undeleted).collect(),
        completed: by(ReturnWay::Completed).collect(),
        lacks: store.compare(&backup)?.lacks,
        restored: !options.dry_run,
        tables_opened,
    };
    printer.show(&done, &plain_lines(&done.text(&backup, &planned)))?;
    Ok(Some(Exit::Success))
}

/// How many tables and logs in `folder` the backup's keys open; an error where one is of another key.
fn opened(folder: &Path, backup: &ServedBackup) -> Result<usize> {
    let ring = backup.ring()?;
    let found = confine::reading(|| mark::examine(folder, &ring, &|_| false, Duration::ZERO))?;
    match found.against {
        None => Ok(found.opens),
        Some(Place { file, key, .. }) => Err(restore::is_of_another_key(&file, &key)),
    }
}

impl Done {
    fn text(&self, backup: &ServedBackup, planned: &[Returned]) -> String {
        let mut text = format!(
            "the backup of {} has {} key versions of {}\n",
            backup.made, self.versions, self.backup_of
        );
        if self.tables_opened > 0 {
            text += &format!("its keys open what was looked at: {} files\n", self.tables_opened);
        }
        let verb = if self.restored { "was" } else { "would be" };
        for (keys, how) in [
            (&self.undeleted, "undeleted"),
            (&self.written, "written"),
            (&self.completed, "brought to its state"),
        ] {
            if !keys.is_empty() {
                text += &format!("{verb} {how}: {}\n", listed(keys));
            }
        }
        if !self.lacks.is_empty() {
            text += &format!("not in the backup: {}\n", listed(&self.lacks));
        }
        text + &match (planned.is_empty(), self.restored) {
            (true, _) => format!("{} has all of them: nothing was changed\n", self.place),
            (false, true) => format!("{} has all of them again\n", self.place),
            (false, false) => "nothing was changed\n".to_owned(),
        }
    }
}

/// What came of a drill, for machines.
#[derive(Serialize)]
struct Drilled {
    backup: PathBuf,
    made: String,
    place: String,
    versions: usize,
    /// Versions that the key store gives and the backup lacks.
    lacks: Vec<KeyRef>,
    /// Versions that are other keys in the backup.
    differs: Vec<KeyRef>,
    /// Versions of the backup that the key store does not give any more.
    gone: Vec<KeyRef>,
    data: Trial,
    seconds: f64,
    passed: bool,
}

/// Tries a backup; nothing where keyward's own keystore has the keys.
pub(super) fn drill(
    config: &Path,
    options: &drill::Options,
    printer: &Printer,
) -> Result<Option<Exit>> {
    let since = Instant::now();
    let (config, env) = (Config::load(config)?, env());
    let Some(store) = ServedKeys::of(&config, &env)? else { return Ok(None) };
    options.refuse_server()?;
    let file = newest(&options.path)?;
    let backup = options.opener.open_served(&file, &config.keystore.path)?;
    let Compared { lacks, differs, gone } = store.compare(&backup)?;
    let ring = backup.ring()?;
    let data = confine::reading(|| Trial::on(&options.datadir, &ring))?;
    let done = Drilled {
        backup: file,
        made: backup.made.to_string(),
        place: store.place(),
        versions: backup.keys.len(),
        passed: lacks.is_empty() && differs.is_empty() && data.faults.is_empty(),
        lacks,
        differs,
        gone,
        data,
        seconds: (since.elapsed().as_secs_f64() * 10.0).round() / 10.0,
    };
    let (actor, text) = (privilege::actor(), format!("{}: {}", options.reason, done.summary()));
    store.tell(Event::Drilled, &names(&backup.keys), Reason { actor: &actor, text: &text })?;
    printer.show(&done, &plain_lines(&done.text()))?;
    Ok(Some(if done.passed { Exit::Success } else { Exit::Failure }))
}

impl Drilled {
    /// One line, for the trail.
    fn summary(&self) -> String {
        let outcome = if self.passed { "passed" } else { "failed" };
        format!(
            "{outcome}: backup of {}; lacks {}, differs in {}, of {} files {} faults",
            self.made,
            self.lacks.len(),
            self.differs.len(),
            self.data.files,
            self.data.faults.len()
        )
    }

    fn text(&self) -> String {
        let Self { backup, made, place, versions, .. } = self;
        let mut text = format!("{} is of {made}: {versions} key versions\n", backup.display());
        if self.lacks.is_empty() && self.differs.is_empty() {
            text += &format!("{place} has no key that the backup lacks, and none that differs\n");
        }
        for (keys, before, after) in [
            (&self.lacks, "it lacks", ": make a new backup"),
            (&self.differs, "the key store has other keys as", ""),
            (&self.gone, "the key store does not give", " any more: a restore would put them back"),
        ] {
            if !keys.is_empty() {
                text += &format!("{before} {}{after}\n", listed(keys));
            }
        }
        text += &of_trial(&self.data);
        text + &format!("{} in {} s\n", if self.passed { "passed" } else { "failed" }, self.seconds)
    }
}

fn names(keys: &[BackupKey]) -> Vec<KeyRef> {
    keys.iter().map(|key| key.info.key.clone()).collect()
}
