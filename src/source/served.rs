//! Data keys from providers that serve them.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::continuity::{self, Break, Held};
use super::{KeySource, LOCK_WAIT, Looked, Maintenance, Reason, Role, SourceState, Stash, Which};
use crate::env::{Deadline, Env, Level};
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Limits, Record, Trail};
use crate::key::{Cipher, KeyId, KeyInfo, KeyName, KeyRef, KeyState, KeyVersion, Purpose};
use crate::provider::KeyServer;
use crate::ring::{Ring, RingKey};
use crate::secret::DataKey;
use crate::store::StoreFile;

/// What leads out where a key store lost or changed a key that is in use.
const PUT_BACK: &str = "put the same key back there";

/// A key store that takes long to list is listed less often: at most this share of the time.
const LISTING_SHARE: u32 = 20;

/// A provider that serves, under the name that the configuration gives it.
pub struct NamedServer {
    /// Its name in the configuration.
    pub name: String,
    /// How long a call may take.
    pub timeout: Duration,
    /// How long a listing stays valid.
    pub refresh: Duration,
    /// The key store.
    pub server: Box<dyn KeyServer>,
}

/// When missing keys may be created.
enum Making {
    /// `keyward keys create`.
    ByCommand,
    /// A server that asks for one.
    OnDemand,
    /// Nothing, until this was done.
    After(&'static str),
}

/// What becomes of a key that the key store lost or changed while it is in use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Continuity {
    /// It serves on from memory, is not rotated, and the state is `degraded`.
    Refuse,
    /// One note in the log, and no more: what a plugin does that keyward stands in for.
    Note,
}

/// One key store that serves data keys, as a source.
pub struct ServedSource {
    server: NamedServer,
    /// The cipher of new keys.
    cipher: Cipher,
    env: Env,
    ring: Arc<Ring>,
    /// The audit trail is next to this file.
    trail: Option<(StoreFile, Limits)>,
    making: Making,
    continuity: Continuity,
    known: BTreeMap<KeyRef, KeyInfo>,
    /// The versions that it gave out, all of them in the ring.
    held: BTreeSet<KeyRef>,
    /// How what it listed last breaks with those.
    breaks: Vec<Break>,
    /// When it was listed last, and how long that took.
    asked: Option<(Instant, Duration)>,
    stash: Option<Stash>,
    /// Why the stash stands in for it.
    outage: Option<String>,
}

impl ServedSource {
    /// The keys of `server`; nothing is read yet. New keys are made for `cipher`, where the store
    /// takes new ones.
    #[must_use]
    pub fn new(server: NamedServer, cipher: Cipher, env: Env) -> Self {
        Self {
            server,
            cipher,
            env,
            ring: Arc::default(),
            trail: None,
            making: Making::ByCommand,
            continuity: Continuity::Refuse,
            known: BTreeMap::new(),
            held: BTreeSet::new(),
            breaks: Vec::new(),
            asked: None,
            stash: None,
            outage: None,
        }
    }

    /// The same under the name of a plugin that lets keys go and change while they are in use: that
    /// is a note in the log and no more.
    #[must_use]
    pub fn only_noting(self) -> Self {
        Self { continuity: Continuity::Note, ..self }
    }

    /// With a stash to start with while the key store is away.
    #[must_use]
    pub fn with_stash(mut self, stash: Stash) -> Self {
        self.stash = Some(stash);
        self
    }

    /// The same; a key that is asked for and is not there is made.
    #[must_use]
    pub fn on_demand(self) -> Self {
        Self { making: Making::OnDemand, ..self }
    }

    /// The same; no key can be made until the operator has done what `advice` says.
    #[must_use]
    pub fn makes_none_until(self, advice: &'static str) -> Self {
        Self { making: Making::After(advice), ..self }
    }

    /// With an audit trail of what this process makes in the key store, next to where a keystore of
    /// ours would be.
    #[must_use]
    pub fn with_trail(self, beside: StoreFile, limits: Limits) -> Self {
        Self { trail: Some((beside, limits)), ..self }
    }

    /// The key store.
    pub(crate) fn server(&self) -> &NamedServer {
        &self.server
    }

    /// Where the audit trail is, by the file that it is next to.
    pub(crate) fn trail_is_beside(&self) -> Option<&Path> {
        self.trail.as_ref().map(|(beside, _)| beside.path())
    }

    /// Appends a line to the audit trail, if there is one.
    pub(crate) fn tell(&self, event: Event, keys: &[KeyRef], reason: Reason<'_>) -> Result<()> {
        let Some((beside, limits)) = &self.trail else { return Ok(()) };
        let Reason { actor, text } = reason;
        let record = Record { event, keys, generation: 0, actor, reason: text };
        // Only who has the lock writes.
        let _lock = beside.lock(Deadline::after(LOCK_WAIT))?;
        Trail::beside(beside.path()).with_limits(*limits).append(&*self.env.clock, &record)
    }

    /// What is left to do once `keys` are stored. That it fails does not undo them: it is a warning.
    fn after_storing(&mut self, event: Event, keys: &[KeyRef], reason: Reason<'_>) {
        let told = self.tell(event, keys, reason);
        let read = self.load();
        for error in [told.err(), read.err()].into_iter().flatten() {
            let stored: Vec<_> = keys.iter().map(ToString::to_string).collect();
            let line = format!("{} is stored, but: {error}", stored.join(", "));
            self.env.log.log(Level::Warning, &line);
        }
    }

    fn within(&self, error: Error) -> Error {
        error.within(format!("provider {:?}", self.server.name))
    }

    fn by(&self) -> Deadline {
        Deadline::after(self.server.timeout)
    }

    /// Lists, compares with what was given out before, and fetches what the ring lacks.
    fn read(&mut self) -> Result<()> {
        let ring = Arc::clone(&self.ring);
        let by = self.by();
        let listed = self.server.server.list(by).map_err(|e| self.within(e))?;
        let breaks = continuity::of_served(&self.held_in_memory(), &listed);
        for info in listed.iter().filter(|info| info.state.decrypts()) {
            let (KeyName::Id(id), Purpose::Pages(cipher)) = (&info.key.name, &info.purpose) else {
                continue;
            };
            if ring.get(*id, info.key.version).is_none() {
                let data = self.server.server.fetch(&info.key, by);
                let data = data.map_err(|error| self.within(error))?;
                ring.insert(*id, info.key.version, RingKey::new(data, *cipher))?;
                self.held.insert(info.key.clone());
            }
        }
        let broken: BTreeSet<_> =
            breaks.iter().filter_map(Break::key).map(|key| &key.name).collect();
        ring.announce();
        for info in listed.iter().filter(|info| info.state == KeyState::Active) {
            if let KeyName::Id(id) = info.key.name
                && (!broken.contains(&info.key.name) || self.continuity == Continuity::Note)
            {
                ring.activate(id, info.key.version)?;
            }
        }
        self.note_breaks(breaks);
        self.known = listed.into_iter().map(|info| (info.key.clone(), info)).collect();
        Ok(())
    }

    /// What this process has from the key store.
    fn held_in_memory(&self) -> Vec<Held> {
        let ring = &self.ring;
        let held = |key: &KeyRef| {
            let id = number(key)?;
            let found = ring.get(id, key.version)?;
            let encrypts = ring.latest(id) == Some(key.version);
            let (check, cipher) = (found.check(), found.cipher());
            Some(Held { key: key.clone(), check, cipher, encrypts })
        };
        self.held.iter().filter_map(held).collect()
    }

    fn note_breaks(&mut self, breaks: Vec<Break>) {
        if self.continuity == Continuity::Note && !breaks.is_empty() && breaks != self.breaks {
            let line =
                format!("provider {:?}: {}", self.server.name, continuity::in_words(&breaks));
            self.env.log.log(Level::Note, &line);
        }
        self.breaks = breaks;
    }

    /// Refuses to give key `id` a version while the key store lacks one that is in use.
    fn refuse_lost(&self, id: KeyId) -> Result<()> {
        let lost = |one: &&Break| one.is_loss() && one.is_of(&KeyName::Id(id));
        match self.breaks.iter().find(lost) {
            Some(lost) if self.continuity == Continuity::Refuse => {
                let what =
                    format!("{}: key {id} gets no new version: {lost}", self.name_and_place());
                Err(Error::new(Kind::State, what).advise(PUT_BACK))
            }
            _ => Ok(()),
        }
    }

    fn name_and_place(&self) -> String {
        let name = &self.server.name;
        match self.server.server.place() {
            place if place.is_empty() => format!("provider {name:?}"),
            place => format!("provider {name:?} ({place})"),
        }
    }

    /// What a stash can do for the first reading, and must learn from every one that went well.
    fn with_stash_read(&mut self, outcome: Result<()>, is_first: bool) -> Result<()> {
        let ring = &*self.ring;
        let Some(stash) = &mut self.stash else { return outcome };
        let provider = &self.server.name;
        match outcome {
            Err(cause) if is_first && cause.is_outage() => {
                let keys = stash.stand_in(ring, &cause)?;
                self.held.extend(keys.iter().map(|info| info.key.clone()));
                self.known = keys.into_iter().map(|info| (info.key.clone(), info)).collect();
                self.outage = Some(cause.to_string());
                Ok(())
            }
            Err(cause) => Err(cause),
            Ok(()) => {
                self.outage = None;
                if is_first {
                    let compared = stash.compare(&self.known, ring);
                    compared.map_err(|error| error.within(format!("provider {provider:?}")))?;
                }
                stash.follow(&as_in_memory(&self.known, &self.breaks, ring), ring);
                Ok(())
            }
        }
    }

    /// The newest version of `id`, whatever its state, and the cipher to go on with.
    fn newest(&self, id: KeyId) -> Option<(KeyVersion, Cipher)> {
        let newest = self.known.values().rfind(|info| info.key.name == KeyName::Id(id))?;
        let cipher = match newest.purpose {
            Purpose::Pages(cipher) => cipher,
            Purpose::Keyring(_) => self.cipher,
        };
        Some((newest.key.version, cipher))
    }

    /// What brings key `id` into being.
    fn how_to_make(&self, id: KeyId) -> String {
        match self.making {
            Making::ByCommand => format!("make it: keyward keys create {id}"),
            Making::OnDemand => format!("the first table with ENCRYPTION_KEY_ID={id} makes it"),
            Making::After(advice) => advice.to_owned(),
        }
    }

    /// The error of a rotation that stored `rotated` before it failed: those are in force.
    fn half_rotated(&mut self, error: Error, rotated: &[KeyRef], reason: Reason<'_>) -> Error {
        if rotated.is_empty() {
            return error;
        }
        // What matters is the first failure; the intention is in the trail in any case, and they come
        // into force with the next reading that works.
        let _ = self.tell(Event::Rotated, rotated, reason);
        let _ = self.load();
        let done: Vec<_> = rotated.iter().map(ToString::to_string).collect();
        let what =
            format!("{}; stored before that, and in force: {}", error.what(), done.join(", "));
        let advice = error.advice().map_or_else(String::new, |advice| format!("{advice}; "));
        Error::new(error.kind(), what).advise(format!("{advice}then rotate the others one by one"))
    }

    /// Stores a new random key as `key`.
    fn add(&self, key: &KeyRef, cipher: Cipher) -> Result<()> {
        if let Some(made) = self.server.server.make(key, self.by()) {
            return made.map_err(|error| self.within(error));
        }
        let data = DataKey::generate(cipher.key_len, &*self.env.rng)?;
        match self.server.server.put_for(key, &data, cipher, self.by()) {
            Err(lost) if lost.is_outage() => self.find_out(key, &data, lost),
            stored => stored.map_err(|error| self.within(error)),
        }
    }

    /// Asks what became of `key`, where the reply to its storing was lost.
    fn find_out(&self, key: &KeyRef, data: &DataKey, lost: Error) -> Result<()> {
        match self.server.server.fetch(key, self.by()) {
            Ok(there) if there.check_value() == data.check_value() => Ok(()),
            Ok(_) => {
                let what = format!("somebody else has stored {key} meanwhile");
                Err(self.within(Error::new(Kind::Conflict, what)).advise("look again"))
            }
            Err(none) if none.kind() == Kind::NotFound => Err(self.within(lost)),
            Err(_) => {
                let what = format!("{key} may be stored or not: {}", lost.what());
                Err(self.within(Error::new(Kind::Unknown, what)).advise(
                    "once the key store answers, `keyward keys list` shows whether it is there; then \
                     nothing more is to be done",
                ))
            }
        }
    }

    /// The keys in use that the key store lost or changed, and what to do.
    fn losses(&self) -> Option<String> {
        if self.continuity == Continuity::Note {
            return None;
        }
        let kept = self.stash.as_ref().map(Stash::unlisted).unwrap_or_default();
        let (lost, older): (Vec<_>, Vec<_>) = self.breaks.iter().cloned().partition(Break::is_loss);
        let unheld = kept.iter().filter(|key| !self.held.contains(key)).cloned();
        let lost: Vec<_> = lost.into_iter().chain(unheld.map(Break::Gone)).collect();
        let place = self.name_and_place();
        if let (true, Some(key)) = (lost.is_empty(), older.first().and_then(Break::key)) {
            let older = continuity::in_words(&older);
            let advice = format!("`keyward rotate {}` makes one that encrypts there too", key.name);
            return Some(format!("{place}: {older}; {advice}"));
        }
        let words = (!lost.is_empty()).then(|| continuity::in_words(&lost))?;
        let copy = match (kept.is_empty(), &self.stash) {
            (false, Some(stash)) => format!(", which {} keeps", stash.path().display()),
            _ => String::new(),
        };
        Some(format!(
            "{place}: {words}{copy}; a restart would not find the key in use: {PUT_BACK}, or restart the \
             server if no data needs it"
        ))
    }
}

impl KeySource for ServedSource {
    fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    fn begin(&mut self, role: Role) {
        if let Some(stash) = &mut self.stash {
            stash.begin(role);
        }
    }

    fn has_changed(&self) -> bool {
        let due = |(at, took): (Instant, Duration)| {
            at.elapsed() >= self.server.refresh.max(took.saturating_mul(LISTING_SHARE))
        };
        self.asked.is_none_or(due)
    }

    fn load(&mut self) -> Result<()> {
        let (began, is_first) = (Instant::now(), self.asked.is_none());
        let outcome = self.read();
        // A failure is no reason to ask again at once.
        self.asked =
            Some((Instant::now(), if outcome.is_ok() { began.elapsed() } else { Duration::ZERO }));
        self.with_stash_read(outcome, is_first)
    }

    fn look_for(&mut self, id: KeyId, may_make: bool) -> Result<Looked> {
        // What is read only once does not change.
        if self.server.refresh == Duration::MAX {
            return Ok(Looked::NothingNew);
        }
        self.load()?;
        let is_made = may_make && matches!(self.making, Making::OnDemand);
        if !is_made || self.newest(id).is_some() {
            return Ok(Looked::ReadAgain);
        }
        self.add(&KeyRef::new(id, KeyVersion::FIRST), self.cipher)?;
        self.load().map(|()| Looked::Made)
    }

    fn rotate(&mut self, which: Which, reason: Reason<'_>) -> Result<Vec<KeyRef>> {
        self.load()?;
        let mut ids: Vec<KeyId> = match which {
            Which::One(id) => vec![id],
            Which::All => self.known.keys().chain(&self.held).filter_map(number).collect(),
        };
        ids.sort_unstable();
        ids.dedup();
        ids.iter().try_for_each(|id| self.refuse_lost(*id))?;
        let next = |id| {
            let (version, cipher) = self.newest(id).ok_or_else(|| {
                let what = format!("provider {:?} has no key {id}", self.server.name);
                Error::new(Kind::NotFound, what).advise(self.how_to_make(id))
            })?;
            Ok((KeyRef::new(id, version.plus(1)?), cipher))
        };
        let (keys, ciphers): (Vec<KeyRef>, Vec<Cipher>) =
            ids.into_iter().map(next).collect::<Result<Vec<_>>>()?.into_iter().unzip();
        self.tell(Event::Intended, &keys, reason)?;
        for (done, (key, cipher)) in keys.iter().zip(ciphers).enumerate() {
            if let Err(error) = self.add(key, cipher) {
                return Err(self.half_rotated(error, &keys[..done], reason));
            }
        }
        self.after_storing(Event::Rotated, &keys, reason);
        Ok(keys)
    }

    fn create(&mut self, id: KeyId, cipher: Option<Cipher>, reason: Reason<'_>) -> Result<KeyRef> {
        self.load()?;
        self.refuse_lost(id)?;
        if self.newest(id).is_some() {
            let what = format!("provider {:?} has key {id} already", self.server.name);
            return Err(Error::new(Kind::State, what).advise("rotate it, or choose another id"));
        }
        let key = KeyRef::new(id, KeyVersion::FIRST);
        self.tell(Event::Intended, std::slice::from_ref(&key), reason)?;
        self.add(&key, cipher.unwrap_or(self.cipher))?;
        self.after_storing(Event::KeyCreated, std::slice::from_ref(&key), reason);
        Ok(key)
    }

    fn keys(&self) -> Vec<KeyInfo> {
        self.known.values().cloned().collect()
    }

    fn state(&self) -> SourceState {
        SourceState {
            generation: 0,
            provider: self.server.name.clone(),
            trail_line: 0,
            stash: self.stash.as_ref().map(Stash::state),
            outage: self.outage.clone(),
            losses: self.losses(),
        }
    }

    fn maintenance(&self) -> Vec<Maintenance> {
        let NamedServer { name, timeout, server, .. } = &self.server;
        let own =
            server.maintenance().map(|maintenance| Maintenance::new(name, *timeout, maintenance));
        let sealing = self.stash.as_ref().map(Stash::maintenance);
        own.into_iter().chain(sealing.into_iter().flatten()).collect()
    }
}

/// What a stash is to hold: of a version that is another key at the key store, the one in memory.
fn as_in_memory(
    known: &BTreeMap<KeyRef, KeyInfo>,
    breaks: &[Break],
    ring: &Ring,
) -> BTreeMap<KeyRef, KeyInfo> {
    let mut listed = known.clone();
    for key in breaks.iter().filter_map(Break::key) {
        let held = number(key).and_then(|id| ring.get(id, key.version));
        if let (Some(info), Some(held)) = (listed.get_mut(key), held) {
            info.check = Some(held.check());
            info.purpose = held.cipher().into();
        }
    }
    listed
}

fn number(key: &KeyRef) -> Option<KeyId> {
    match key.name {
        KeyName::Id(id) => Some(id),
        KeyName::Named { .. } => None,
    }
}

#[cfg(test)]
mod tests;
