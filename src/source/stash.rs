//! The stash: what a key store serves, sealed on this machine under another key, so that a server can
//! start while that key store is away. Never asked while the key store answers, whatever it answers.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::pinned::proves;
use super::publish::publish;
use super::{Maintenance, NamedWrapper, Role, infos, opening};
use crate::env::{Deadline, Env, Level};
use crate::error::{Error, Kind, Result};
use crate::event::StashState;
use crate::key::{KeyInfo, KeyName, KeyRef, KeyState};
use crate::ring::{Ring, RingKey};
use crate::secret::DataKey;
use crate::store::{Change, Contents, Keystore, STORE_KEY_LEN, Served, StoreFile, StoreLock};

/// How long another process may hold the stash's lock.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// Rewrite an unchanged offline copy after this time, to refresh its age.
const CONFIRMED_FOR: Duration = Duration::from_secs(3600);

/// All that a key store has, those that it says are destroyed as well.
type Listed = BTreeMap<KeyRef, KeyInfo>;

/// Where the stash of one key store is, and what seals it.
pub struct Stash {
    file: StoreFile,
    wrappers: Vec<NamedWrapper>,
    /// The id that a stash of this key store has.
    id: String,
    /// What is older is not served.
    max_age: Option<Duration>,
    env: Env,
    writes: bool,
    opened: Option<Keystore>,
    /// The versions that it keeps though the key store does not list them any more.
    unlisted: Vec<KeyRef>,
    in_use: bool,
    /// Why it could not be read or written last.
    failure: Option<String>,
}

impl Stash {
    /// The stash in `file` of the key store that `words` name; nothing is read yet. All of
    /// `wrappers` seal it, any one opens it.
    #[must_use]
    pub fn new(
        file: StoreFile,
        wrappers: Vec<NamedWrapper>,
        words: &str,
        max_age: Option<Duration>,
        env: Env,
    ) -> Self {
        let id = Keystore::stash_id(words);
        let (writes, opened, unlisted, in_use, failure) = (false, None, Vec::new(), false, None);
        Self { file, wrappers, id, max_age, env, writes, opened, unlisted, in_use, failure }
    }

    /// Only a server keeps it: who looks at it must not make it look younger.
    pub(super) fn begin(&mut self, role: Role) {
        self.writes = matches!(role, Role::Server | Role::Daemon);
    }

    /// What the providers that seal it must do now and then.
    pub(super) fn maintenance(&self) -> Vec<Maintenance> {
        self.wrappers.iter().filter_map(NamedWrapper::maintenance).collect()
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    pub(super) fn state(&self) -> StashState {
        StashState {
            path: self.file.path().to_owned(),
            taken: self.opened.as_ref().map(|stash| stash.contents().created()),
            in_use: self.in_use,
            failure: self.failure.clone(),
        }
    }

    /// Checks that a start could use it while the key store is away. Its keys stay where they are.
    pub(crate) fn would_help(&self) -> Result<()> {
        self.refuse_old(self.read()?.contents())
    }

    /// Puts its keys into `ring`, for a start while the key store is away for the reason `cause`.
    pub(super) fn stand_in(&mut self, ring: &Ring, cause: &Error) -> Result<Vec<KeyInfo>> {
        let opened = self.read().and_then(|stash| {
            self.refuse_old(stash.contents())?;
            publish(None, &stash, ring).map(|()| stash)
        });
        let stash = opened.map_err(|error| {
            let what = format!("{}; the stash does not help: {error}", cause.what());
            let both = Error::new(cause.kind(), what);
            match cause.advice() {
                Some(advice) => both.advise(advice),
                None => both,
            }
        })?;
        let taken = stash.contents().created();
        let age = humantime::format_duration(self.env.clock.now().since(taken));
        let line = format!("{}; started with the stash, taken {age} ago at {taken}", cause.what());
        self.env.log.log(Level::Warning, &line);
        let keys = infos(stash.contents());
        self.opened = Some(stash);
        self.in_use = true;
        Ok(keys)
    }

    /// Checks that the key store has the keys that it had when the stash was taken. A stash that cannot
    /// be read tells nothing.
    pub(super) fn compare(&mut self, listed: &Listed, ring: &Ring) -> Result<()> {
        match self.read() {
            Ok(stash) => self.opened = Some(stash),
            Err(none) if none.kind() == Kind::NotFound => return Ok(()),
            Err(error) => {
                self.note(Some(&error));
                return Ok(());
            }
        }
        let Some(stash) = &self.opened else { return Ok(()) };
        let at = stash.contents().created();
        for info in listed.values() {
            let KeyName::Id(id) = info.key.name else { continue };
            let Some(held) = ring.get(id, info.key.version) else { continue };
            let known = stash.contents().info(&info.key).is_some();
            if known && !stash.has_key(&info.key, held.key()) {
                let what = format!("{} is another key than it was on {at}", info.key);
                return Err(Error::new(Kind::Conflict, what).advise(format!(
                    "put the former one back there; if it is not needed, remove {}",
                    self.file.path().display()
                )));
            }
        }
        Ok(())
    }

    /// Brings it up to what the key store has; what of it decrypts is in `ring`. That this fails is
    /// told once, and tried again.
    pub(super) fn follow(&mut self, listed: &Listed, ring: &Ring) {
        self.in_use = false;
        if !self.writes {
            return;
        }
        let outcome = self.try_follow(listed, ring);
        let kept = self.opened.as_ref().map(|stash| unlisted(stash.contents(), listed));
        self.unlisted = kept.into_iter().flatten().map(|info| info.key).collect();
        self.note(outcome.err().as_ref());
    }

    fn try_follow(&mut self, listed: &Listed, ring: &Ring) -> Result<()> {
        if self.opened.as_ref().is_some_and(|stash| self.is_current(stash, listed, ring)) {
            return Ok(());
        }
        let lock = self.file.lock(Deadline::after(LOCK_WAIT))?;
        let base = self.base(&lock)?;
        let unlisted = unlisted(base.contents(), listed);
        let with_key = |info: KeyInfo| base.data_key(&info.key).map(|data| (info, data));
        let unlisted: Vec<_> = unlisted.into_iter().map(with_key).collect::<Result<_>>()?;
        let served = listed.values().filter(|info| info.state.decrypts());
        let mut all: Vec<_> = served
            .filter_map(|info| Some(Served { info, data: of_ring(ring, &info.key)? }))
            .chain(unlisted.iter().map(|(info, data)| Served { info, data }))
            .collect();
        all.sort_by(|one, other| one.info.key.cmp(&other.info.key));
        let at = self.env.clock.now();
        let (actor, reason) = ("keyward".to_owned(), "taken from the key store".to_owned());
        let next = base.with_only(&all, &Change { at, actor, reason }, &*self.env.rng)?;
        let (next, _) = self.file.commit(&lock, &next, &*self.env.rng)?;
        self.opened = Some(next);
        Ok(())
    }

    /// Whether `stash` holds what it is to hold, and was taken lately.
    fn is_current(&self, sealed: &Keystore, listed: &Listed, ring: &Ring) -> bool {
        let stash = sealed.contents();
        let fresh_for = self.max_age.map_or(CONFIRMED_FOR, |max| CONFIRMED_FOR.min(max / 4));
        let now = self.env.clock.now();
        let before = infos(stash);
        let served = listed.values().filter(|info| info.state.decrypts()).cloned();
        let mut wanted: Vec<_> = served.chain(unlisted(stash, listed)).collect();
        wanted.sort_by(|one, other| one.key.cmp(&other.key));
        let same = |(before, now): (&KeyInfo, &KeyInfo)| {
            let alike =
                (&before.key, before.state, &before.purpose) == (&now.key, now.state, &now.purpose);
            let held = of_ring(ring, &now.key);
            alike && held.is_none_or(|held| sealed.has_key(&now.key, held))
        };
        now.since(stash.created()) < fresh_for
            && self.is_sealed_by_all(stash)
            && before.len() == wanted.len()
            && before.iter().zip(&wanted).all(same)
    }

    /// The versions that it keeps though the key store does not list them any more, not even as
    /// destroyed: it may have the last copy.
    pub(super) fn unlisted(&self) -> Vec<KeyRef> {
        self.unlisted.clone()
    }

    fn is_sealed_by_all(&self, stash: &Contents) -> bool {
        let sealed_by = stash.wrappings().iter().map(|wrapping| &wrapping.provider);
        sealed_by.eq(self.wrappers.iter().map(|named| &named.name))
    }

    /// The stash to go on from: the one that is there, or a new one where that is none of use.
    fn base(&self, lock: &StoreLock) -> Result<Keystore> {
        match self.read() {
            Ok(stash) if self.is_sealed_by_all(stash.contents()) => return Ok(stash),
            Ok(_) => self.file.discard(lock)?,
            Err(none) if none.kind() == Kind::NotFound => {}
            Err(error) if matches!(error.kind(), Kind::Corrupt | Kind::NotMine) => {
                let line = format!("{error}; the stash is taken again");
                self.env.log.log(Level::Warning, &line);
                self.file.discard(lock)?;
            }
            Err(error) => return Err(error),
        }
        let store_key = DataKey::generate(STORE_KEY_LEN, &*self.env.rng)?;
        let context = Keystore::first_context(&self.id);
        let wrap = |named: &NamedWrapper| named.wrap(&store_key, &context);
        let wrappings = self.wrappers.iter().map(wrap).collect::<Result<_>>()?;
        let (now, rng) = (self.env.clock.now(), &*self.env.rng);
        let made = Keystore::create(&self.id, store_key, wrappings, now, rng)?;
        let mut names = self.wrappers.iter().map(|named| &named.name);
        names.try_for_each(|name| self.refuse_unproven(made.contents(), name)).map(|()| made)
    }

    /// Refuses a stash that `provider` seals by a public key: anybody could put their own keys there, and
    /// nothing names the right one.
    fn refuse_unproven(&self, found: &Contents, provider: &str) -> Result<()> {
        if proves(&self.wrappers, found, provider) {
            return Ok(());
        }
        let path = self.file.path().display();
        let what = format!("provider {provider:?} seals {path} by a public key, as anybody can");
        Err(Error::new(Kind::Unsupported, what)
            .advise("seal the stash by another provider, such as local"))
    }

    /// What stands in the file, opened and verified.
    fn read(&self) -> Result<Keystore> {
        let (path, log) = (self.file.path(), &*self.env.log);
        let (sealed, _) = self.file.read().map_err(|error| match error.kind() {
            Kind::NotFound => {
                let what = format!("there is no stash at {} yet", path.display());
                Error::new(Kind::NotFound, what)
            }
            _ => error,
        })?;
        let found = sealed.unverified();
        if found.id() != self.id {
            let what = format!("{} is the stash of another key store", path.display());
            return Err(Error::new(Kind::Config, what)
                .advise("name another `path` in [stash], or remove it"));
        }
        let is_configured =
            |provider: &String| self.wrappers.iter().any(|named| named.name == *provider);
        if !found.wrappings().iter().any(|wrapping| is_configured(&wrapping.provider)) {
            let what = format!("{} is sealed by no provider that is configured", path.display());
            return Err(Error::new(Kind::NotMine, what));
        }
        let store_key = match self.held_store_key(found) {
            Some(held) => held,
            None => {
                let (store_key, provider) =
                    opening::unwrap_store_key(&self.wrappers, found, path, log)?;
                self.refuse_unproven(found, &provider)?;
                store_key
            }
        };
        sealed.open(store_key).map_err(|error| error.within(path.display()))
    }

    /// The store key in memory, where the file still uses it: then nobody is asked.
    fn held_store_key(&self, found: &Contents) -> Option<DataKey> {
        let held = self.opened.as_ref()?.store_key();
        let active = found.store_keys().last()?;
        (active.check == held.check_value()).then(|| DataKey::copy_of(held.expose()).ok())?
    }

    fn refuse_old(&self, stash: &Contents) -> Result<()> {
        let age = self.env.clock.now().since(stash.created());
        match self.max_age {
            Some(max) if age > max => {
                let (age, max) = (humantime::format_duration(age), humantime::format_duration(max));
                let what = format!("it was taken {age} ago, and max_age is {max}");
                Err(Error::new(Kind::State, what))
            }
            _ => Ok(()),
        }
    }

    fn note(&mut self, failure: Option<&Error>) {
        let now = failure.map(ToString::to_string);
        if let Some(cause) = now.as_ref().filter(|_| now != self.failure) {
            let line = format!("there is no stash to start with in an outage: {cause}");
            self.env.log.log(Level::Warning, &line);
        }
        self.failure = now;
    }
}

/// The key in memory.
fn of_ring<'a>(ring: &'a Ring, key: &KeyRef) -> Option<&'a DataKey> {
    match key.name {
        KeyName::Id(id) => ring.get(id, key.version).map(RingKey::key),
        KeyName::Named { .. } => None,
    }
}

/// What `stash` has and the key store does not list, not even as destroyed: gone by mistake, for all
/// that is known. Demoted to retired if another version is active.
fn unlisted(stash: &Contents, listed: &Listed) -> Vec<KeyInfo> {
    let active = |name: &KeyName| {
        let active = listed.values().find(|i| i.key.name == *name && i.state == KeyState::Active);
        active.map(|info| info.key.version)
    };
    let kept = infos(stash).into_iter().filter(|info| !listed.contains_key(&info.key));
    kept.map(|mut info| {
        match active(&info.key.name) {
            Some(active) if info.key.version > active => info.state = KeyState::Pending,
            Some(_) if info.state == KeyState::Active => info.state = KeyState::Retired,
            _ => {}
        }
        info
    })
    .collect()
}
