//! Who uses the keystore. Each server enters its data directory in the register, and a version is
//! destroyed only where every one of them was looked at or is gone.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::{Changed, Manager};
use crate::env::{Level, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::source::Reason;
use crate::store::{Contents, DataDirectory, Keystore};

/// How long a server has run before it is worth a generation: short starts change nothing.
const FIRST_AFTER: Duration = Duration::from_secs(60);

/// How old an entry may become.
const AGE: Duration = Duration::from_secs(86_400);

/// When a failure is followed by another attempt.
const RETRY: Duration = Duration::from_secs(3_600);

/// Who the audit trail names.
const ACTOR: &str = "server";

/// The data directory of the server that this process is.
pub struct Home {
    /// The host's name.
    pub host: String,
    /// Where it is there.
    pub path: String,
    /// The id of the mark in it, once there is one.
    pub mark: Box<dyn Fn() -> Option<String> + Send + Sync>,
}

/// A server on its way into the register.
pub(super) struct Registering {
    home: Home,
    not_before: Timestamp,
    /// Whether this process has entered it: from then on host and path are not compared, so that two
    /// servers with copies of one mark do not write over each other for ever.
    entered: bool,
    /// What went wrong last, so that it is not logged every hour.
    failure: Option<String>,
}

/// What a destruction was judged by: marks of registered data directories.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// Those that were looked at.
    pub seen: Vec<String>,
    /// Those that no longer exist, by somebody's word.
    pub gone: Vec<String>,
}

impl Manager {
    /// Enters the server that this process is in the keystore's register: a minute from now, then daily,
    /// and together with any change that it makes before.
    pub fn register(&mut self, home: Home) {
        let not_before = self.reader.env.clock.now().plus(FIRST_AFTER);
        self.home = Some(Registering { home, not_before, entered: false, failure: None });
    }

    /// Refuses what [`Self::destroy`] would refuse because of the register.
    pub fn check_judged(&self, judged: &Judged) -> Result<()> {
        self.contents().map_or(Ok(()), |contents| judged.check(contents))
    }

    /// `after` with this server in its register, where its entry is missing or old. What hinders that
    /// hinders no change.
    pub(super) fn registered_in(&self, after: Keystore) -> Keystore {
        match self.to_enter(after.contents()) {
            Some(seen) => after.with_data_directory(seen).unwrap_or(after),
            None => after,
        }
    }

    /// Enters the server if it is time to; the log is told of a failure.
    pub fn register_in_time(&mut self) {
        let now = self.reader.env.clock.now();
        // While the keystore cannot be read, the log says so already.
        let due =
            self.home.as_ref().is_some_and(|home| home.is_due(now)) && !self.reader.has_changed();
        let Some(seen) = self.reader.contents().filter(|_| due).and_then(|now| self.to_enter(now))
        else {
            return;
        };
        let DataDirectory { mark, host, path, .. } = seen;
        let text = format!("data directory {path} on {host}, mark {mark}");
        let entered = self.commit(Reason { actor: ACTOR, text: &text }, |manager, before| {
            let Some(seen) = manager.to_enter(before.contents()) else { return Ok(None) };
            let after = before.with_data_directory(seen)?;
            Ok(Some(Changed { after, events: vec![(Event::DataDirectoryRegistered, Vec::new())] }))
        });
        let failure = entered.err().map(|error| {
            format!(
                "this server could not be registered in the keystore: {error}; until it is, \
                 `keyward keys destroy` does not ask for its data directory"
            )
        });
        if let Some(line) = self.home.as_mut().and_then(|home| home.note(failure, now)) {
            self.reader.env.log.log(Level::Warning, &line);
        }
    }

    /// The entry that is missing in `contents`, or old.
    fn to_enter(&self, contents: &Contents) -> Option<DataDirectory> {
        let Registering { home: Home { host, path, mark }, entered, .. } = self.home.as_ref()?;
        let (mark, now) = (mark()?, self.reader.env.clock.now());
        let is_fresh = |known: &DataDirectory| {
            let age = now.as_unix().abs_diff(known.last_seen.as_unix());
            let is_here = known.host == *host && known.path == *path;
            known.mark == mark && age < AGE.as_secs() && (is_here || *entered)
        };
        if contents.registers().data_directories.iter().any(is_fresh) {
            return None;
        }
        Some(DataDirectory { mark, host: host.clone(), path: path.clone(), last_seen: now })
    }
}

impl Registering {
    fn is_due(&self, now: Timestamp) -> bool {
        // A clock that was put back does not postpone it.
        now >= self.not_before || self.not_before.since(now) > RETRY
    }

    /// Takes down how an attempt ended; the line that is to be logged.
    fn note(&mut self, failure: Option<String>, now: Timestamp) -> Option<String> {
        self.entered |= failure.is_none();
        if failure.is_some() {
            self.not_before = now.plus(RETRY);
        }
        let line = failure.clone().filter(|_| self.failure != failure);
        self.failure = failure;
        line
    }
}

impl Judged {
    /// Checks that every registered data directory was looked at or is gone.
    pub(super) fn check(&self, contents: &Contents) -> Result<()> {
        let all = &contents.registers().data_directories;
        let known =
            |one: &&DataDirectory| self.seen.contains(&one.mark) || self.gone.contains(&one.mark);
        let mut missing = all.iter().filter(|one| !known(one));
        let Some(DataDirectory { mark, host, path, last_seen }) = missing.next() else {
            return Ok(());
        };
        let more = match missing.count() {
            0 => String::new(),
            more => format!(" (and {more} more that `keyward status` lists)"),
        };
        let what = format!(
            "{path} on {host}, mark {mark}, last seen {last_seen}, uses this keystore and was not \
             looked at{more}"
        );
        Err(Error::new(Kind::State, what).advise(format!(
            "name it with --datadir, or say --gone {mark} if that data directory no longer exists"
        )))
    }

    /// `keystore` without those that are gone; none where it has none of them.
    pub(super) fn without_gone(&self, keystore: &Keystore) -> Result<Option<Keystore>> {
        let is_gone = |one: &DataDirectory| self.gone.contains(&one.mark);
        if !keystore.contents().registers().data_directories.iter().any(is_gone) {
            return Ok(None);
        }
        let without = keystore.with_registers(|registers| {
            registers.data_directories.retain(|one| !is_gone(one));
            Ok(())
        });
        without.map(Some)
    }

    /// `text`, and which data directories are gone, for the audit trail.
    pub(super) fn reason(&self, text: &str, before: Option<&Contents>) -> String {
        let registered = before.map(|contents| &contents.registers().data_directories);
        let gone = registered.into_iter().flatten().filter(|one| self.gone.contains(&one.mark));
        gone.fold(text.to_owned(), |text, DataDirectory { mark, host, path, .. }| {
            format!("{text}; gone: {path} on {host}, mark {mark}")
        })
    }
}
