//! Data keys from providers that serve them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Chore, KeySource, Reason, Which};
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
    /// Whether a key is made as soon as somebody asks for it.
    on_demand: bool,
    known: BTreeMap<KeyRef, KeyInfo>,
    /// When it was asked last, and how long that took.
    asked: Option<(Instant, Duration)>,
}

impl ServedSource {
    /// The keys of `server`; nothing is read yet. New keys are made for `cipher`, where the store
    /// takes new ones.
    #[must_use]
    pub fn new(server: NamedServer, cipher: Cipher, rng: Arc<dyn Rng>) -> Self {
        Self { server, cipher, rng, on_demand: false, known: BTreeMap::new(), asked: None }
    }

    /// The same; a key that is asked for and is not there is made.
    #[must_use]
    pub fn on_demand(self) -> Self {
        Self { on_demand: true, ..self }
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
            if ring.get(*id, info.key.version).is_none() {
                let data = self.server.server.fetch(&info.key, by).map_err(|e| self.within(e))?;
                ring.insert(*id, info.key.version, RingKey::new(data, *cipher))?;
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
        if let Some(made) = self.server.server.make(key, self.by()) {
            return made.map_err(|error| self.within(error));
        }
        let data = DataKey::generate(cipher.key_len, &*self.rng)?;
        let stored = self.server.server.put_for(key, &data, cipher, self.by());
        stored.map_err(|error| self.within(error))
    }
}

impl KeySource for ServedSource {
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
        upkeep.map(chore).into_iter().collect()
    }

    fn load(&mut self, ring: &Ring) -> Result<()> {
        let began = Instant::now();
        let outcome = self.read(ring);
        // A failure is no reason to ask again at once.
        self.asked =
            Some((Instant::now(), if outcome.is_ok() { began.elapsed() } else { Duration::ZERO }));
        outcome
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

    fn make_missing(&mut self, ring: &Ring, id: KeyId) -> Result<bool> {
        if !self.on_demand || self.newest(id).is_some() {
            return Ok(false);
        }
        self.add(&KeyRef::new(id, KeyVersion::FIRST), self.cipher)?;
        self.load(ring)?;
        Ok(true)
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
