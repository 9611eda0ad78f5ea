//! Data keys from providers that serve them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Chore, KeySource, Reason, Role, Stash, StashState, Which};
use crate::env::{Deadline, Rng};
use crate::error::{Error, Kind, Result};
use crate::key::{Cipher, KeyId, KeyInfo, KeyName, KeyRef, KeyState, KeyVersion, Purpose};
use crate::provider::KeyServer;
use crate::ring::{Ring, RingKey};
use crate::secret::DataKey;

/// A key store that takes long to list is listed less often: at most this share of the time.
const LISTING_SHARE: u32 = 20;

/// A provider that serves, under the name that the configuration gives it.
pub struct NamedServer {
    /// Its name in the configuration.
    pub name: String,
    /// How long a call may take.
    pub timeout: Duration,
    /// How long what it said is taken for the truth.
    pub refresh: Duration,
    /// The key store.
    pub server: Box<dyn KeyServer>,
}

/// One key store that serves data keys, as a source.
pub struct ServedSource {
    server: NamedServer,
    /// The cipher of new keys.
    cipher: Cipher,
    rng: Arc<dyn Rng>,
    known: BTreeMap<KeyRef, KeyInfo>,
    /// When it was asked last, and how long that took.
    asked: Option<(Instant, Duration)>,
    stash: Option<Stash>,
    /// Why the stash stands in for it.
    outage: Option<String>,
}

impl ServedSource {
    /// The keys of `server`; nothing is read yet. New keys are made for `cipher`, where the store
    /// takes new ones.
    #[must_use]
    pub fn new(server: NamedServer, cipher: Cipher, rng: Arc<dyn Rng>) -> Self {
        let (known, asked) = (BTreeMap::new(), None);
        Self { server, cipher, rng, known, asked, stash: None, outage: None }
    }

    /// With a stash to start with while the key store is away.
    #[must_use]
    pub fn with_stash(mut self, stash: Stash) -> Self {
        self.stash = Some(stash);
        self
    }

    fn within(&self, error: Error) -> Error {
        error.within(format!("provider {:?}", self.server.name))
    }

    fn by(&self) -> Deadline {
        Deadline::after(self.server.timeout)
    }

    /// Lists, and fetches what the ring lacks.
    fn read(&mut self, ring: &Ring) -> Result<()> {
        let by = self.by();
        let listed = self.server.server.list(by).map_err(|e| self.within(e))?;
        for info in listed.iter().filter(|info| info.state.decrypts()) {
            let (KeyName::Id(id), Purpose::Pages(cipher)) = (&info.key.name, &info.purpose) else {
                continue;
            };
            match ring.get(*id, info.key.version) {
                None => {
                    let data = self.server.server.fetch(&info.key, by);
                    let data = data.map_err(|error| self.within(error))?;
                    ring.insert(*id, info.key.version, RingKey::new(data, *cipher))?;
                }
                Some(held) if info.check.is_some_and(|check| check != held.check()) => {
                    let what = format!("{} is another key than the one in use", info.key);
                    return Err(self
                        .within(Error::new(Kind::Conflict, what))
                        .advise("put the former one back there: data was encrypted with it"));
                }
                Some(_) => {}
            }
        }
        for info in listed.iter().filter(|info| info.state == KeyState::Active) {
            if let KeyName::Id(id) = info.key.name {
                ring.activate(id, info.key.version)?;
            }
        }
        self.known = listed.into_iter().map(|info| (info.key.clone(), info)).collect();
        Ok(())
    }

    /// What a stash can do for the first reading, and must learn from every one that went well.
    fn with_stash_read(&mut self, outcome: Result<()>, is_first: bool, ring: &Ring) -> Result<()> {
        let Some(stash) = &mut self.stash else { return outcome };
        let provider = &self.server.name;
        match outcome {
            Err(cause) if is_first && cause.is_outage() => {
                let keys = stash.stand_in(ring, &cause)?;
                self.known = keys.into_iter().map(|info| (info.key.clone(), info)).collect();
                self.outage = Some(cause.to_string());
                Ok(())
            }
            Err(cause) => Err(cause),
            Ok(()) => {
                self.outage = None;
                let served: Vec<_> =
                    self.known.values().filter(|info| info.state.decrypts()).collect();
                if is_first {
                    let compared = stash.compare(&served, ring);
                    compared.map_err(|error| error.within(format!("provider {provider:?}")))?;
                }
                stash.follow(&served, ring);
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

    /// Stores a new random key as `key`.
    fn add(&self, key: &KeyRef, cipher: Cipher) -> Result<()> {
        let data = DataKey::generate(cipher.key_len, &*self.rng)?;
        let stored = self.server.server.put_for(key, &data, cipher, self.by());
        stored.map_err(|error| self.within(error))
    }
}

impl KeySource for ServedSource {
    fn begin(&mut self, role: Role) {
        if let Some(stash) = &mut self.stash {
            stash.begin(role);
        }
    }

    fn stash(&self) -> Option<StashState> {
        self.stash.as_ref().map(Stash::state)
    }

    fn outage(&self) -> Option<String> {
        self.outage.clone()
    }

    fn has_changed(&self) -> bool {
        let due = |(at, took): (Instant, Duration)| {
            at.elapsed() >= self.server.refresh.max(took.saturating_mul(LISTING_SHARE))
        };
        self.asked.is_none_or(due)
    }

    fn may_know_more(&self) -> bool {
        self.server.refresh != Duration::MAX
    }

    fn chores(&self) -> Vec<Chore> {
        let upkeep = self.server.server.upkeep();
        let chore = |upkeep| Chore::new(&self.server.name, self.server.timeout, upkeep);
        let sealing = self.stash.as_ref().map(Stash::chores);
        upkeep.map(chore).into_iter().chain(sealing.into_iter().flatten()).collect()
    }

    fn load(&mut self, ring: &Ring) -> Result<()> {
        let (began, is_first) = (Instant::now(), self.asked.is_none());
        let outcome = self.read(ring);
        // A failure is no reason to ask again at once.
        self.asked =
            Some((Instant::now(), if outcome.is_ok() { began.elapsed() } else { Duration::ZERO }));
        self.with_stash_read(outcome, is_first, ring)
    }

    fn rotate(&mut self, ring: &Ring, which: Which, _: Reason<'_>) -> Result<Vec<KeyRef>> {
        self.load(ring)?;
        let mut ids: Vec<KeyId> = match which {
            Which::One(id) => vec![id],
            Which::All => self.known.keys().filter_map(number).collect(),
        };
        ids.dedup();
        let mut rotated = Vec::new();
        for id in ids {
            let (version, cipher) = self.newest(id).ok_or_else(|| {
                let what = format!("provider {:?} has no key {id}", self.server.name);
                Error::new(Kind::NotFound, what)
                    .advise(format!("make it: keyward keys create {id}"))
            })?;
            let key = KeyRef::new(id, version.plus(1)?);
            self.add(&key, cipher)?;
            rotated.push(key);
        }
        self.load(ring)?;
        Ok(rotated)
    }

    fn create(
        &mut self,
        ring: &Ring,
        id: KeyId,
        cipher: Option<Cipher>,
        _: Reason<'_>,
    ) -> Result<KeyRef> {
        self.load(ring)?;
        if self.newest(id).is_some() {
            let what = format!("provider {:?} has key {id} already", self.server.name);
            return Err(Error::new(Kind::Conflict, what).advise("rotate it, or choose another id"));
        }
        let key = KeyRef::new(id, KeyVersion::FIRST);
        self.add(&key, cipher.unwrap_or(self.cipher))?;
        self.load(ring)?;
        Ok(key)
    }

    fn keys(&self) -> Vec<KeyInfo> {
        self.known.values().cloned().collect()
    }

    fn generation(&self) -> u64 {
        0
    }

    fn provider(&self) -> &str {
        &self.server.name
    }
}

fn number(key: &KeyRef) -> Option<KeyId> {
    match key.name {
        KeyName::Id(id) => Some(id),
        KeyName::Named { .. } => None,
    }
}
