//! Stand-ins for what other rooms will bring, so that the door can be built and tried before them.

use std::path::Path;

use crate::env::{Env, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::key::{Cipher, KeyId, KeyRef, KeyVersion, PageMode};
use crate::ring::{Ring, RingKey};
use crate::secret::DataKey;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Server,
    Reader,
}
pub(super) struct Reason<'a> {
    pub(super) actor: &'a str,
    pub(super) text: &'a str,
}
pub(super) enum Which {
    One(KeyId),
    All,
}
pub(super) struct Degraded {
    pub(super) since: Timestamp,
    pub(super) cause: String,
}
pub(super) struct Status {
    pub(super) degraded: Option<Degraded>,
    pub(super) generation: u64,
    pub(super) provider: String,
    pub(super) keys: usize,
    pub(super) versions: usize,
    pub(super) rotations: u64,
    pub(super) started: Timestamp,
}
pub(super) struct Custodian {
    ring: Ring,
    env: Env,
    role: Role,
}
impl Custodian {
    pub(super) fn latest(&self, id: KeyId) -> Option<KeyVersion> {
        self.ring.latest(id)
    }
    pub(super) fn key(&self, id: KeyId, version: KeyVersion) -> Option<&RingKey> {
        self.ring.get(id, version)
    }
    pub(super) fn cipher(&self, id: KeyId, version: KeyVersion) -> Option<Cipher> {
        self.ring.get(id, version).map(RingKey::cipher)
    }
    pub(super) fn refresh(&self) -> Result<()> {
        Ok(())
    }
    pub(super) fn rotate(&self, which: Which, reason: Reason<'_>) -> Result<Vec<KeyRef>> {
        let Which::One(id) = which else {
            return Err(Error::new(Kind::Unsupported, "no all yet"));
        };
        if self.role == Role::Reader {
            return Err(Error::new(Kind::Unsupported, "this process only reads keys"));
        }
        let latest =
            self.latest(id).ok_or_else(|| Error::new(Kind::NotFound, format!("no key {id}")))?;
        let next = latest.plus(2)?;
        let key = DataKey::generate(32, &*self.env.rng)?;
        self.ring.insert(id, next, RingKey::new(key, Cipher::DEFAULT))?;
        self.ring.activate(id, next)?;
        let _ = (reason.actor, reason.text);
        Ok(vec![KeyRef::new(id, next)])
    }
    pub(super) fn status(&self) -> Status {
        Status {
            degraded: None,
            generation: 1,
            provider: "stand-in".to_owned(),
            keys: self.ring.len(),
            versions: self.ring.len(),
            rotations: 0,
            started: self.env.clock.now(),
        }
    }
    pub(super) fn stop(&self) {}
}
pub(super) struct KeyFile {
    pub(super) filename: String,
    pub(super) filekey: Option<String>,
    pub(super) digest: String,
    pub(super) use_pbkdf2: u32,
    pub(super) encryption: PageMode,
}
pub(super) fn from_file(path: &Path, role: Role, env: Env) -> Result<Custodian> {
    read(path, PageMode::Ctr, role, env)
}
pub(super) fn from_key_file(file: KeyFile, role: Role, env: Env) -> Result<Custodian> {
    let _ = (file.filekey, file.digest, file.use_pbkdf2);
    read(Path::new(&file.filename), file.encryption, role, env)
}
fn read(path: &Path, mode: PageMode, role: Role, env: Env) -> Result<Custodian> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("cannot read", path, &e))?;
    let ring = Ring::new();
    for line in text.lines().filter_map(|line| line.split_once(';')) {
        let id = KeyId::try_from(line.0.parse::<u32>().unwrap_or(0))?;
        let bytes: Vec<u8> = (0..line.1.len() / 2)
            .filter_map(|n| u8::from_str_radix(&line.1[2 * n..2 * n + 2], 16).ok())
            .collect();
        let key = DataKey::copy_of(&bytes)?;
        let cipher = Cipher { mode, key_len: bytes.len() };
        ring.insert(id, KeyVersion::FIRST, RingKey::new(key, cipher))?;
        ring.activate(id, KeyVersion::FIRST)?;
    }
    Ok(Custodian { ring, env, role })
}
