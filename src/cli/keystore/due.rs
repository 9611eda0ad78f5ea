//! `keyward keystore backup --due`: the backup that the section `[backup]` wants by now. A timer calls it, and
//! a unit that watches the keystore; ADR 133 says why no server does.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::backup::for_recipients;
use crate::assemble;
use crate::backup::{Folder, Made, Name, Note, NoteLock};
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::{env, open};
use crate::cli::helpers::print::{Printer, plain_lines};
use crate::cli::helpers::privilege;
use crate::config::{BackupConfig, Config};
use crate::custodian::Custodian;
use crate::env::{Clock as _, System, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::source::Reason;
use crate::store::{Revision, StoreFile};
use crate::trust;

/// How long changes are gathered: there may be one after another.
const GATHER: Duration = Duration::from_secs(60);
/// How old the last backup is when there is one a day: a timer may come an hour early.
const DAY: Duration = Duration::from_secs(23 * 3_600);
/// How many backups one call makes at most: a change that comes while it makes one is followed by another.
const ROUNDS: usize = 2;
/// How long a hook may take.
const HOOK_TIME: Duration = Duration::from_secs(600);

/// What was done, for machines.
#[derive(Default, Serialize)]
struct Done {
    /// The new backup.
    file: Option<PathBuf>,
    /// How many older ones were removed.
    removed: usize,
    /// Whether a backup was given to the hook.
    handed_on: bool,
    /// Whether another call is about to do all this.
    busy: bool,
}

pub(super) fn run(path: &Path, printer: &Printer) -> Result<Exit> {
    let config = Config::load(path)?;
    let wanted = config.backup.as_deref().ok_or_else(|| {
        Error::new(Kind::Config, format!("{} has no section [backup]", path.display()))
            .advise("add one, with a line `to = \"/a/folder\"`")
    })?;
    if assemble::serves(&config, &env())? {
        let what = "[backup] is for a keystore, and here a key store serves the keys";
        return Err(Error::new(Kind::Unsupported, what)
            .advise("have cron call `keyward keystore backup --to FILE`, and keep the SHA-256 that it prints"));
    }
    let Some((lock, note)) = NoteLock::take(&config.keystore.path)? else {
        return shown(&Done { busy: true, ..Done::default() }, printer);
    };
    let mut call = Call { path, config: &config, wanted, lock, note, custodian: None };
    let done = match call.all() {
        Ok(done) => done,
        Err(error) => {
            if let Err(unnoted) = call.fail(&error) {
                printer.error(&unnoted);
            }
            return Err(error);
        }
    };
    shown(&done, printer)
}

struct Call<'a> {
    path: &'a Path,
    config: &'a Config,
    wanted: &'a BackupConfig,
    lock: NoteLock,
    note: Note,
    /// Once it is open.
    custodian: Option<Custodian>,
}

impl Call<'_> {
    fn all(&mut self) -> Result<Done> {
        let mut done = Done::default();
        for _ in 0..ROUNDS {
            if !self.is_due()? {
                break;
            }
            let made = self.make()?;
            let folder = Folder::open(&self.wanted.to, &made.keystore)?;
            done.file = Some(made.file.clone());
            self.note.last = Some(made);
            self.lock.write(&self.note)?;
            done.removed += folder.prune(self.wanted.keep)?;
        }
        if let Some(hook) = &self.wanted.hook
            && let Some(made) = self.note.last.as_mut().filter(|made| !made.handed_on)
        {
            hand_on(hook, &made.file)?;
            (made.handed_on, done.handed_on) = (true, true);
            self.note.failure = None;
            self.lock.write(&self.note)?;
        } else if self.note.failure.take().is_some() || done.file.is_some() {
            self.lock.write(&self.note)?;
        }
        Ok(done)
    }

    /// Whether there is to be a backup, once the changes of a minute have been gathered.
    fn is_due(&self) -> Result<bool> {
        let keystore = StoreFile::at(&self.config.keystore.path);
        let (sealed, _) = keystore.read()?;
        let (now, found) = (System.now(), sealed.unverified());
        let Some(last) = &self.note.last else { return Ok(true) };
        if !is_due(last, found.id(), found.revision(), self.wanted.after_each_change, now) {
            return Ok(false);
        }
        let written = keystore.path().metadata().and_then(|found| found.modified());
        let age = written.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
        thread::sleep(GATHER.saturating_sub(age.unwrap_or(GATHER)));
        Ok(true)
    }

    fn make(&mut self) -> Result<Made> {
        let custodian = self.custodian.insert(open(self.path)?.1);
        let (keystore, revision) = {
            let manager = custodian.manager()?;
            let contents = manager.contents();
            let none = || Error::new(Kind::Internal, "the keystore was not read");
            contents.map(|found| (found.id().to_owned(), found.revision())).ok_or_else(none)?
        };
        let name = Name { revision, made: System.now(), keystore };
        let folder = Folder::open(&self.wanted.to, &name.keystore)?;
        let file = folder.put(&name, || {
            let (actor, text) = (privilege::actor(), format!("scheduled, {name}"));
            let reason = Reason { actor: &actor, text: &text };
            for_recipients(custodian, self.path, reason)
        })?;
        let Name { revision, made, keystore } = name;
        let handed_on = self.wanted.hook.is_none();
        Ok(Made { file, keystore, revision, made, handed_on })
    }

    /// Notes what went wrong, and tells the trail of it if that is news.
    fn fail(&mut self, error: &Error) -> Result<()> {
        let is_news = self.note.fail(error.to_string(), System.now());
        self.lock.write(&self.note)?;
        if let Some(custodian) = self.custodian.as_ref().filter(|_| is_news) {
            let (actor, text) = (privilege::actor(), error.to_string());
            let reason = Reason { actor: &actor, text: &text };
            custodian.manager()?.note(Event::BackupFailed, &[], reason)?;
        }
        Ok(())
    }
}

/// Whether a keystore of this id and revision wants a backup after the `last`.
fn is_due(last: &Made, id: &str, revision: Revision, each_change: bool, now: Timestamp) -> bool {
    let has_changed = last.keystore != id || last.revision != revision;
    // A clock that was put back does not postpone it.
    let is_old = now.since(last.made) >= DAY || last.made > now;
    has_changed && (each_change || is_old)
}

/// Has the program `hook` take `file` elsewhere.
fn hand_on(hook: &Path, file: &Path) -> Result<()> {
    let failed = |what: String| {
        Error::new(Kind::State, format!("the hook {} {what}", hook.display())).advise(format!(
            "{} is not elsewhere yet; the next call tries it again",
            file.display()
        ))
    };
    // Whoever may write it would have our rights.
    trust::open_code(hook).map_err(|refusal| refusal.of("cannot run the hook", hook))?;
    let words = || io::stderr().as_fd().try_clone_to_owned().map(Stdio::from);
    let words = words().map_err(|cause| failed(format!("cannot be run: {cause}")))?;
    let mut command = Command::new(hook);
    command.arg(file).stdin(Stdio::null()).stdout(words);
    privilege::own_environment(&mut command);
    let child = command.spawn().map_err(|cause| failed(format!("cannot be run: {cause}")))?;
    match ended(child).map_err(|cause| failed(format!("is lost: {cause}")))? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(failed(format!("ended with {status}"))),
        None => Err(failed(format!("took longer than {} minutes", HOOK_TIME.as_secs() / 60))),
    }
}

/// How it ended; none where it was ended, because it took too long.
fn ended(mut child: Child) -> io::Result<Option<ExitStatus>> {
    let until = Instant::now() + HOOK_TIME;
    while Instant::now() < until {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(50));
    }
    child.kill()?;
    child.wait().map(|_| None)
}

fn shown(done: &Done, printer: &Printer) -> Result<Exit> {
    let mut text = String::new();
    if let Some(file) = &done.file {
        text += &format!("{} is made\n", file.display());
    }
    if done.removed > 0 {
        text += &format!("{} older ones are removed\n", done.removed);
    }
    if done.handed_on {
        text += "the hook has taken it\n";
    }
    if done.busy {
        text += "another call makes the backup\n";
    }
    if text.is_empty() {
        text += "nothing is due\n";
    }
    printer.show(done, &plain_lines(&text))?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_followed_at_once_or_the_next_day() {
        let at = Timestamp::from_unix;
        let revision = |generation| Revision { epoch: 1, generation };
        let last = Made {
            file: "/b/x".into(),
            keystore: "a".to_owned(),
            revision: revision(7),
            made: at(100_000),
            handed_on: true,
        };
        let due =
            |id, generation, each, now| is_due(&last, id, revision(generation), each, at(now));
        assert!(!due("a", 7, true, 900_000) && !due("a", 7, false, 900_000));
        assert!(due("a", 8, true, 100_001) && !due("a", 8, false, 100_001));
        // An older copy was put back, or another keystore.
        assert!(due("a", 6, true, 100_001) && due("b", 7, true, 100_001));
        assert!(due("a", 8, false, 100_000 + 23 * 3_600) && due("a", 8, false, 99_999));
    }
}
