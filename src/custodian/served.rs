//! Data keys from providers that serve them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{KeySource, Reason, Which};
use crate::env::Deadline;
use crate::error::{Error, Kind, Result};
use crate::key::{Cipher, KeyId, KeyInfo, KeyName, KeyRef, KeyState, Purpose};
use crate::provider::KeyServer;
use crate::ring::{Ring, RingKey};

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
    known: BTreeMap<KeyRef, KeyInfo>,
    read_at: Option<Instant>,
}

impl ServedSource {
    /// The keys of `server`; nothing is read yet.
    #[must_use]
    pub fn new(server: NamedServer) -> Self {
        Self { server, known: BTreeMap::new(), read_at: None }
    }

    fn within(&self, error: Error) -> Error {
        error.within(format!("provider {:?}", self.server.name))
    }

    fn not_here(&self, what: &str) -> Error {
        let what = format!("provider {:?} serves keys and cannot {what}", self.server.name);
        Error::new(Kind::Unsupported, what)
            .advise("add the new version in that key store; the server picks it up by itself")
    }
}

impl KeySource for ServedSource {
    fn has_changed(&self) -> bool {
        self.read_at.is_none_or(|at| at.elapsed() >= self.server.refresh)
    }

    fn load(&mut self, ring: &Ring) -> Result<()> {
        let by = Deadline::after(self.server.timeout);
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
        self.read_at = Some(Instant::now());
        Ok(())
    }

    fn rotate(&mut self, _: &Ring, _: Which, _: Reason<'_>) -> Result<Vec<KeyRef>> {
        Err(self.not_here("be told to rotate"))
    }

    fn create(&mut self, _: &Ring, _: KeyId, _: Option<Cipher>, _: Reason<'_>) -> Result<KeyRef> {
        Err(self.not_here("be told to make a key"))
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
