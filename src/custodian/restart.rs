//! Whether a restart would succeed, which a running server tries again and again: it opens what its
//! next start would open, and leaves out what such a try would use up.

#![forbid(unsafe_code)]

mod proof;
mod round;

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq as _;

pub use self::proof::{Proof, ProviderProof};
use self::round::Round;
use super::held::Guard;
use super::{Custodian, Shared, lock};
use crate::env::{Deadline, Env, Level};
use crate::error::{Error, Kind, Result};
use crate::event::{Answer, RestartSafe};
use crate::key::{KeyInfo, KeyName, KeyRef};
use crate::manager::{ExportedKey, Manager, Rescued};
use crate::provider::FreshLogin;
use crate::ring::{Ring, RingKey};
use crate::secret::DataKey;
use crate::source::{KeystoreReader, NamedServer, Reason, Role, Stash, infos};
use crate::store::Contents;

/// How long after the start the first check comes.
const FIRST: Duration = Duration::from_secs(60);

/// How long after a check the next one comes.
const PERIOD: Duration = Duration::from_secs(3600);

/// How soon it comes where a restart would fail, so that a repair shows.
const AGAIN: Duration = Duration::from_secs(60);

/// Opens what the next start of this server would open.
pub trait NextStart: Send {
    /// Reads the configuration again and opens its key stores from scratch. What a provider's
    /// [`FreshLogin`] speaks against must refuse to be called.
    fn open(&mut self) -> Result<NextSource>;

    /// Writes `keys`, which a key store serves, into a new keystore of their own.
    fn rescue_served(&mut self, _keys: &[ExportedKey], _: Reason<'_>) -> Result<Rescued> {
        Err(no_rescue())
    }

    /// Whether the start had the rights that this process has now.
    fn starts_as_we_are(&self) -> bool {
        true
    }
}

/// What the next start would take its keys from.
pub enum NextSource {
    /// Our own keystore.
    Keystore(Box<Manager>),
    /// A key store that serves.
    Served {
        /// The key store.
        server: NamedServer,
        /// What would help while the key store is away.
        stash: Option<Box<Stash>>,
    },
}

/// What this process knows of its next start.
pub(super) struct Watch {
    /// Held for the length of a check, so that there is one at a time.
    checker: Mutex<Option<Checker>>,
    found: Mutex<Found>,
    /// The last proof of all providers, and when it was done. Held while the next is made.
    proof: Mutex<Option<(Instant, Proof)>>,
}

struct Found {
    last: RestartSafe,
    due: Instant,
}

/// Who checks, and what a round of single keys has shown so far.
struct Checker {
    next: Box<dyn NextStart>,
    /// The key store of the last check, for the keys that are fetched until the next.
    server: Option<NamedServer>,
    round: Round,
}

impl Custodian {
    /// Checks from now on whether a restart would succeed, by `next`: soon, then once an hour. Only
    /// a server does.
    pub fn watch_restart(&self, next: Box<dyn NextStart>) {
        if !matches!(self.shared.role, Role::Server | Role::Daemon) {
            return;
        }
        let checker = Checker { next, server: None, round: Round::default() };
        *lock(&self.shared.restart.checker) = Some(checker);
        let last = RestartSafe::unknown("the first check comes a minute after the start");
        *lock(&self.shared.restart.found) = Found { last, due: Instant::now() + FIRST };
    }

    /// Checks now whether a restart would succeed.
    pub fn check_restart(&self) -> RestartSafe {
        self.shared.check_restart(Instant::now())
    }

    /// What the server's worker does again and again, at the moment `now`: checks if it is time to,
    /// or fetches the served keys whose turn it is.
    pub fn check_restart_in_time(&self, now: Instant) {
        self.shared.check_restart_in_time(now);
    }
}

impl Shared {
    pub(super) fn check_restart_in_time(&self, now: Instant) {
        if self.restart.is_due(now) {
            self.check_restart(now);
        } else {
            self.fetch_some(now);
        }
    }

    /// Looks for a reason why the next start would fail. Where nobody watches, nothing is tried.
    fn check_restart(&self, now: Instant) -> RestartSafe {
        let mut checker = lock(&self.restart.checker);
        if let Some(checker) = checker.as_mut() {
            let found = checker.check(self);
            self.restart.note(found, now, &self.env);
        }
        self.restart.last()
    }

    /// Refuses to make a key that the next start could not read.
    pub(super) fn prove_restart(&self) -> Result<()> {
        let served = self.source().contents().is_none();
        if served || lock(&self.restart.checker).is_none() {
            return Ok(());
        }
        match self.check_restart(Instant::now()) {
            RestartSafe { answer: Answer::No, reason } => {
                let what = format!("no new key is made, because a restart would fail: {reason}");
                Err(Error::new(Kind::State, what))
            }
            _ => Ok(()),
        }
    }

    /// Fetches the served keys whose turn it is, and compares them with those in memory.
    fn fetch_some(&self, now: Instant) {
        let mut checker = lock(&self.restart.checker);
        let Some(checker) = checker.as_mut() else { return };
        for key in checker.round.due(now) {
            match checker.compare(self, &key) {
                Ok(()) => checker.round.is_good(&key),
                // What is out of reach is for the next listing to tell, at once.
                Err(error) if error.is_outage() => self.restart.make_due(now),
                Err(error) => {
                    checker.round.is_bad(key, error.to_string());
                    self.restart.note(RestartSafe::no(&error), now, &self.env);
                }
            }
        }
    }
}

impl Watch {
    pub(super) fn new(role: Role) -> Self {
        let last = match role {
            // It has just opened everything as a start does.
            Role::Command => RestartSafe::yes(""),
            Role::Reader => {
                RestartSafe::unknown("a process that only reads keys does not check it")
            }
            Role::Server | Role::Daemon => {
                RestartSafe::unknown("it is not checked under this plugin's name")
            }
        };
        let found = Mutex::new(Found { last, due: Instant::now() });
        Self { checker: Mutex::default(), found, proof: Mutex::default() }
    }

    /// What the last check found.
    pub(super) fn last(&self) -> RestartSafe {
        lock(&self.found).last.clone()
    }

    /// Has whoever knows the configuration write `keys` into a keystore.
    pub(super) fn rescue_served(
        &self,
        keys: &[ExportedKey],
        reason: Reason<'_>,
    ) -> Result<Rescued> {
        let mut checker = lock(&self.checker);
        let checker = checker.as_mut().ok_or_else(no_rescue)?;
        checker.next.rescue_served(keys, reason)
    }

    /// Has the next check come at once.
    pub(super) fn make_due(&self, now: Instant) {
        lock(&self.found).due = now;
    }

    fn is_due(&self, now: Instant) -> bool {
        now >= lock(&self.found).due
    }

    /// Keeps what a check found; the log is told when a restart begins to be unsafe, and when that
    /// ends.
    fn note(&self, now_found: RestartSafe, at: Instant, env: &Env) {
        let mut found = lock(&self.found);
        let (before, now) = (found.last.answer, now_found.answer);
        let reason = &now_found.reason;
        match (before, now) {
            (Answer::Yes | Answer::Unknown, Answer::No) => {
                env.log.log(Level::Warning, &format!("a restart would fail: {reason}"));
            }
            (Answer::No, Answer::Yes) => {
                env.log.log(Level::Note, "a restart would succeed again");
            }
            (Answer::No, Answer::Unknown) => {
                let line = format!("whether a restart would succeed is no longer known: {reason}");
                env.log.log(Level::Note, &line);
            }
            _ => {}
        }
        let pause = if now == Answer::No { AGAIN } else { PERIOD };
        *found = Found { last: now_found, due: at + pause };
    }
}

impl Checker {
    fn check(&mut self, shared: &Shared) -> RestartSafe {
        self.check_with(shared, |_| ())
    }

    /// The same; `look` is given our own keystore as the next start would open it, once that was checked.
    fn check_with(&mut self, shared: &Shared, look: impl FnOnce(&KeystoreReader)) -> RestartSafe {
        let found = match self.next.open() {
            Ok(NextSource::Keystore(manager)) => {
                let found = check_keystore(manager.reader(), shared);
                look(manager.reader());
                found
            }
            Ok(NextSource::Served { server, stash }) => self.check_served(server, stash, shared),
            Err(error) => RestartSafe::no(&error),
        };
        if found.answer == Answer::No && !self.next.starts_as_we_are() {
            let reason = format!("{}; the start itself reads it with other rights", found.reason);
            return RestartSafe::unknown(reason);
        }
        found
    }

    fn check_served(
        &mut self,
        server: NamedServer,
        stash: Option<Box<Stash>>,
        shared: &Shared,
    ) -> RestartSafe {
        let name = server.name.clone();
        let untried = match server.server.fresh_login() {
            FreshLogin::Spends(why) => Some(why),
            FreshLogin::Repeatable | FreshLogin::Needless => None,
        };
        self.server = Some(server);
        let listed = match self.list(shared) {
            Ok(listed) => listed,
            Err(error) => {
                let error = error.within(of(&name));
                shared.note_failure(&error);
                return without_listing(error, stash);
            }
        };
        shared.note_answer();
        let held = held(&shared.ring);
        if let Some(key) = held.iter().find(|key| !is_listed(key, &listed, &shared.ring)) {
            let what = format!("provider {name:?} no longer has {key} as it is in use");
            return RestartSafe::no(&Error::new(Kind::NotFound, what).advise("put it back there"));
        }
        self.round.follow(&held);
        for key in self.round.bad_ones() {
            if self.compare(shared, &key).is_ok() {
                self.round.is_good(&key);
            }
        }
        match (self.round.first_bad(), untried) {
            (Some(bad), _) => RestartSafe { answer: Answer::No, reason: bad.to_owned() },
            (None, Some(why)) => {
                RestartSafe::unknown(format!("provider {name:?} serves its keys now; {why}"))
            }
            (None, None) => RestartSafe::yes(""),
        }
    }

    fn list(&self, shared: &Shared) -> Result<Vec<KeyInfo>> {
        self.ask(shared, |server, by| server.server.list(by))
    }

    /// Checks that the key store has `key` as it is in memory.
    fn compare(&self, shared: &Shared, key: &KeyRef) -> Result<()> {
        let name = self.server.as_ref().map_or("", |server| &server.name);
        let data = self.ask(shared, |server, by| server.server.fetch(key, by));
        let data = data.map_err(|error| error.within(of(name)))?;
        match in_ring(&shared.ring, key) {
            Some(held) if !same(held, &data) => {
                let what = format!("{key} is another key than the one in use");
                Err(Error::new(Kind::Conflict, what)
                    .within(of(name))
                    .advise("put the former one back there: data was encrypted with it"))
            }
            _ => Ok(()),
        }
    }

    /// Asks the key store as the next start would find it, or the open one where that would use a
    /// credential up.
    fn ask<T>(
        &self,
        shared: &Shared,
        ask: impl Fn(&NamedServer, Deadline) -> Result<T>,
    ) -> Result<T> {
        let none = || Error::new(Kind::Internal, "there is no key store to ask");
        let fresh = self.server.as_ref().ok_or_else(none)?;
        if let FreshLogin::Spends(_) = fresh.server.fresh_login() {
            fresh.server.credentials_readable()?;
            let mut held = shared.source();
            let Guard::Served(source) = &mut *held else { return Err(none()) };
            let open = source.server();
            return ask(open, Deadline::after(open.timeout));
        }
        ask(fresh, Deadline::after(fresh.timeout))
    }
}

fn check_keystore(next: &KeystoreReader, shared: &Shared) -> RestartSafe {
    let path = next.file.path();
    // Taken first: what the next start reads is as new or newer.
    let live = shared.source().contents().cloned();
    let refused = match next.read_guarded(None) {
        Ok((opened, _)) => {
            shared.note_answer();
            return live.map_or(RestartSafe::yes(""), |live| {
                compare(opened.keystore.contents(), &live, &path.display())
            });
        }
        Err(error) if path.try_exists().unwrap_or(true) => error,
        // No log-in would help.
        Err(error) => {
            return RestartSafe::no(&error.advise(
                "put it back; if there is no copy, keyward_rescue writes the keys in memory into a \
                 new one",
            ));
        }
    };
    let untried = next.wrappers.iter().filter_map(|named| match named.wrapper.fresh_login() {
        FreshLogin::Spends(why) => Some((&named.name, why)),
        FreshLogin::Repeatable | FreshLogin::Needless => None,
    });
    let mut failure = None;
    for (name, why) in untried {
        match opens_now(next, shared, name) {
            Ok(()) => {
                shared.note_answer();
                let reason = format!("provider {name:?} opens the keystore now; {why}");
                return RestartSafe::unknown(reason);
            }
            Err(error) => failure = Some(error),
        }
    }
    let was_not_repeated = next.wrappers.iter().all(|named| {
        matches!(named.wrapper.fresh_login(), FreshLogin::Needless | FreshLogin::Spends(_))
    });
    shared.note_failure(failure.as_ref().unwrap_or(&refused));
    match failure {
        Some(error) => RestartSafe::no(&error),
        // A refused PIN, for one: nobody tries it again to find out.
        None if refused.kind() == Kind::Denied && was_not_repeated => {
            RestartSafe::unknown(refused.to_string())
        }
        None => RestartSafe::no(&refused),
    }
}

/// Checks that `provider`, as it is open, unwraps the store key, and that the next start finds its
/// credentials.
fn opens_now(next: &KeystoreReader, shared: &Shared, provider: &str) -> Result<()> {
    let named = next.wrappers.iter().find(|named| named.name == provider);
    named.map_or(Ok(()), |named| named.wrapper.credentials_readable())?;
    let none = || Error::new(Kind::Internal, "the keystore is not open");
    shared.manager().ok_or_else(none)?.reader().opens_with(provider)
}

/// Whether the keystore `next` gives all keys that are in use.
fn compare(next: &Contents, live: &Contents, path: &dyn fmt::Display) -> RestartSafe {
    if next.id() != live.id() {
        let what =
            format!("{path} is keystore {}, and the keys in use are of {}", next.id(), live.id());
        return RestartSafe::no(
            &Error::new(Kind::Conflict, what).advise("put the right file back"),
        );
    }
    let is_there = |info: &KeyInfo| {
        next.info(&info.key)
            .is_some_and(|found| !found.state.decrypts() || found.check == info.check)
    };
    let in_use = infos(live).into_iter().filter(|info| info.state.decrypts());
    match in_use.into_iter().find(|info| !is_there(info)) {
        Some(info) => {
            let what = format!("{path} no longer has {} as it is in use", info.key);
            RestartSafe::no(&Error::new(Kind::Conflict, what).advise("put the newest copy back"))
        }
        None => RestartSafe::yes(""),
    }
}

/// What a start would do while its key store cannot be asked.
fn without_listing(error: Error, stash: Option<Box<Stash>>) -> RestartSafe {
    let Some(stash) = stash.filter(|_| error.is_outage()) else { return RestartSafe::no(&error) };
    match stash.would_help() {
        Ok(()) => RestartSafe::yes(format!("with the stash: {}", error.what())),
        Err(bad) => {
            let what = format!("{}; the stash does not help: {bad}", error.what());
            RestartSafe::no(&Error::new(error.kind(), what))
        }
    }
}

/// The versions in memory, sorted.
fn held(ring: &Ring) -> Vec<KeyRef> {
    let mut all: Vec<_> =
        ring.versions().into_iter().map(|(id, version)| KeyRef::new(id, version)).collect();
    all.sort();
    all
}

fn is_listed(key: &KeyRef, listed: &[KeyInfo], ring: &Ring) -> bool {
    let found = listed.iter().find(|info| info.key == *key && info.state.decrypts());
    found.is_some_and(|info| {
        let held = in_ring(ring, key).map(DataKey::check_value);
        info.check.is_none_or(|check| held == Some(check))
    })
}

fn in_ring<'a>(ring: &'a Ring, key: &KeyRef) -> Option<&'a DataKey> {
    match key.name {
        KeyName::Id(id) => ring.get(id, key.version).map(RingKey::key),
        KeyName::Named { .. } => None,
    }
}

fn same(one: &DataKey, other: &DataKey) -> bool {
    one.expose().ct_eq(other.expose()).into()
}

fn no_rescue() -> Error {
    let what = "served keys are not rescued under this plugin's name";
    Error::new(Kind::Unsupported, what).advise("put them back in their key store")
}

fn of(provider: &str) -> String {
    format!("provider {provider:?}")
}
