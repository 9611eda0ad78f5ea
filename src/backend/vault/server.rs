//! `vault-kv`: data keys in a KV engine of version 2. The secret `<prefix>/<key id>` has the key in
//! hex in its field `data`, as `hashicorp_key_management` has it, and its cipher in `cipher`; the
//! engine's versions are the key's.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use zeroize::Zeroizing;

use super::client::{Call, Client, PathParts};
use super::nodes::Answer;
use super::rights::Right;
use super::secrets::{
    Condition, Data, Metadata, MetadataBody, MountConfig, NO_DATA, Names, Newest, Stored,
    VersionBody, key_of,
};
use super::settings::KvSettings;
use crate::config::Section;
use crate::env::{Deadline, Rng, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::key::{
    CheckValue, Cipher, KeyId, KeyInfo, KeyName, KeyRef, KeyState, KeyVersion, PageMode,
};
use crate::provider::{End, FreshLogin, KeyServer, Maintain, Probe, ReturnWay, ReturningKey};
use crate::secret::DataKey;

/// How many keys are read before the next are asked for, so that not all answers are held at once.
pub(super) const BATCH: usize = 512;

/// How many versions the engine keeps where neither secret nor mount says.
const ENGINE_MAX_VERSIONS: u32 = 10;

/// How many versions we ask it to keep of a key that we make.
pub(super) const OUR_MAX_VERSIONS: u32 = 10_000;

/// The keys under one prefix of a KV engine.
pub struct KvServer {
    client: Arc<Client>,
    mount: String,
    prefix: String,
    mode: PageMode,
    refresh: Duration,
    /// The versions that were read. Each is fetched once, and again where it was made at another time:
    /// then somebody deleted the secret and put another in its place, which begins at 1 again.
    known: Mutex<BTreeMap<KeyRef, Known>>,
    /// Whether the engine was looked at, and is none of version 1 as far as Vault says.
    looked: AtomicBool,
}

struct Known {
    /// None where something only keeps the number taken.
    key: Option<KnownKey>,
    /// When Vault says that it was made.
    created: String,
}

struct KnownKey {
    data: DataKey,
    cipher: Cipher,
    check: CheckValue,
}

impl KvServer {
    /// The one that a `[[provider]]` section describes.
    pub(super) fn of(section: &Section, rng: &Arc<dyn Rng>) -> Result<Self> {
        Ok(Self::new(KvSettings::read(section)?, Arc::clone(rng)))
    }

    /// The server of the keys that `settings` describe. Nobody is called yet.
    pub fn new(settings: KvSettings, rng: Arc<dyn Rng>) -> Self {
        Self {
            client: settings.vault.client(rng),
            mount: settings.mount,
            prefix: settings.prefix,
            mode: settings.mode,
            refresh: settings.refresh,
            known: Mutex::default(),
            looked: AtomicBool::new(false),
        }
    }

    /// The API's path of a secret: `secret/data/keyward/1`.
    pub(super) fn path(&self, kind: &str, name: impl std::fmt::Display) -> String {
        format!("{}{name}", self.folder(kind))
    }

    /// The API's path of all secrets: `secret/data/keyward/`.
    pub(super) fn folder(&self, kind: &str) -> String {
        match self.prefix.as_str() {
            "" => format!("{}/{kind}/", self.mount),
            prefix => format!("{}/{kind}/{prefix}/", self.mount),
        }
    }

    /// Where the secrets are, for people and for Vault's own command: `secret/keyward`.
    pub(super) fn secrets(&self) -> String {
        match self.prefix.as_str() {
            "" => self.mount.clone(),
            prefix => format!("{}/{prefix}", self.mount),
        }
    }

    fn ids(&self, call: &Call<'_>) -> Result<Vec<KeyId>> {
        let folder = self.folder("metadata");
        let answer = call.list(folder.trim_end_matches('/'))?;
        if answer.status == 404 {
            self.refuse_other_engines(call, &answer)?;
            return Ok(Vec::new());
        }
        let names = answer.json::<Names>()?.data.keys;
        let id = |name: &String| {
            // A secret called 01 or +1 is another one than 1.
            let id = name.parse().ok().and_then(|number: u32| KeyId::try_from(number).ok());
            id.filter(|id| id.to_string() == *name)
        };
        Ok(names.iter().filter_map(id).collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// An empty folder is no error; an engine that is not there, or of another kind, is one.
    fn refuse_other_engines(&self, call: &Call<'_>, answer: &Answer) -> Result<()> {
        if answer.says("no handler for route") || answer.says("unsupported path") {
            let what = format!("{} has no KV engine at {}", self.client.place(), self.mount);
            return Err(Error::new(Kind::Config, what).advise(format!(
                "correct `mount`, or enable one: {} -version=2 kv",
                self.client.command("secrets enable")
            )));
        }
        if self.looked.load(Ordering::Relaxed) {
            return Ok(());
        }
        // Version 1 has nothing in an empty folder either, and would take what is written there.
        match self.client.mounted(&self.mount, call.by()) {
            Ok(found) if found.kind == "kv" && found.version < 2 => return Err(self.version_one()),
            // Who may not ask sees it by the answers.
            Err(error) if error.kind() != Kind::Denied => return Err(error),
            Ok(_) | Err(_) => {}
        }
        self.looked.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn version_one(&self) -> Error {
        let (vault, mount) = (self.client.place(), &self.mount);
        let what = format!("the KV engine at {mount} in {vault} is of version 1");
        Error::new(Kind::Config, what).advise(format!(
            "keyward needs version 2: run {} {mount}, or name another `mount`",
            self.client.command("kv enable-versioning")
        ))
    }

    pub(super) fn metadata(&self, call: &Call<'_>, id: KeyId) -> Result<Option<MetadataBody>> {
        self.described(call, id, &call.get(&self.path("metadata", id))?)
    }

    pub(super) fn described(
        &self,
        call: &Call<'_>,
        id: KeyId,
        answer: &Answer,
    ) -> Result<Option<MetadataBody>> {
        match answer.status {
            404 => self.refuse_other_engines(call, answer).map(|()| None),
            _ if answer.is_ok() => match answer.json::<Metadata>()?.data {
                body if body.is_versioned() => Ok(Some(body)),
                _ => Err(self.version_one()),
            },
            _ => Err(answer.unexpected(&format!("to describe key {id}"))),
        }
    }

    /// The keys of which some version was read.
    fn known_ids(&self) -> HashSet<KeyId> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let id = |key: &KeyRef| match key.name {
            KeyName::Id(id) => Some(id),
            KeyName::Named { .. } => None,
        };
        known.keys().filter_map(id).collect()
    }

    /// Reads the newest version of each of `ids`. What that tells of a key is all there is to know
    /// if it is the first; the others are given back, to be read as a whole.
    fn read_new(&self, call: &Call<'_>, ids: &[KeyId]) -> Result<(Vec<KeyInfo>, Vec<KeyId>)> {
        let paths: Vec<_> = ids.iter().map(|id| self.path("data", id)).collect();
        let (mut infos, mut rest) = (Vec::new(), Vec::new());
        for (id, answer) in ids.iter().zip(call.get_all(&paths)?) {
            let metadata = || answer.json::<Newest>().ok()?.data.metadata;
            let newest = if answer.is_ok() { metadata() } else { None };
            let Some((version, body)) = newest.and_then(|body| Some((body.number()?, body))) else {
                rest.push(*id);
                continue;
            };
            let key = KeyRef::new(*id, version);
            self.remember(key.clone(), self.understand(&key, &answer)?);
            if version != KeyVersion::FIRST {
                rest.push(*id);
                continue;
            }
            let versions = Some(BTreeMap::from([(version.get(), body)]));
            let body = MetadataBody { current_version: Some(1), max_versions: 0, versions };
            infos.extend(self.infos(*id, &body));
        }
        Ok((infos, rest))
    }

    /// Reads what the engine tells of `ids` and every version that can be read and is not known yet.
    fn read_all(&self, call: &Call<'_>, ids: &[KeyId]) -> Result<Vec<KeyInfo>> {
        let paths: Vec<_> = ids.iter().map(|id| self.path("metadata", id)).collect();
        let mut bodies = Vec::new();
        for (id, answer) in ids.iter().zip(call.get_all(&paths)?) {
            bodies.extend(self.described(call, *id, &answer)?.map(|body| (*id, body)));
        }
        let mut unknown = Vec::new();
        for (id, body) in &bodies {
            let live = body.versions().filter(|(_, one)| one.condition() == Condition::Live);
            let unread = live.filter_map(|(number, one)| {
                let key = KeyRef::new(*id, KeyVersion::try_from(*number).ok()?);
                (!self.knows(&key, &one.created_time)).then_some(key)
            });
            unknown.extend(unread);
        }
        for keys in unknown.chunks(BATCH) {
            let path =
                |key: &KeyRef| format!("{}?version={}", self.path("data", &key.name), key.version);
            let paths: Vec<_> = keys.iter().map(path).collect();
            for (key, answer) in keys.iter().zip(call.get_all(&paths)?) {
                self.remember(key.clone(), self.understand(key, &answer)?);
            }
        }
        Ok(bodies.iter().flat_map(|(id, body)| self.infos(*id, body)).collect())
    }

    /// Whether the version that was made then was read.
    fn knows(&self, key: &KeyRef, created: &str) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).is_some_and(|known| known.created == created)
    }

    fn remember(&self, key: KeyRef, found: Known) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, found);
    }

    /// Reads a version into `known`.
    fn learn(&self, call: &Call<'_>, id: KeyId, version: KeyVersion) -> Result<()> {
        let key = KeyRef::new(id, version);
        let answer = call.get(&format!("{}?version={version}", self.path("data", id)))?;
        self.remember(key.clone(), self.understand(&key, &answer)?);
        Ok(())
    }

    fn understand(&self, key: &KeyRef, answer: &Answer) -> Result<Known> {
        let place = self.secrets();
        let gone =
            |what: &str| Error::new(Kind::NotFound, format!("Vault has no {key} at {place}{what}"));
        if answer.status == 404 {
            let body = answer.json::<Data>().ok().map(|answer| answer.data);
            let condition = body.and_then(|body| body.metadata).map(|version| version.condition());
            return Err(match (condition, &key.name) {
                (Some(Condition::Deleted), name) => gone(": it was deleted").advise(format!(
                    "bring it back: {} -versions={} {place}/{name}",
                    self.client.command("kv undelete"),
                    key.version
                )),
                (Some(_), _) => gone(": it was destroyed")
                    .advise("put it back from a backup: keyward keystore restore"),
                (None, _) => gone("").advise("restore it there, or correct `mount` and `prefix`"),
            });
        }
        if !answer.is_ok() {
            return Err(answer.unexpected(&format!("to give {key}")));
        }
        let wrong = |what: &str| {
            Error::new(Kind::Config, format!("the secret of {key} at {place} {what}"))
                .advise("write the key there as 32, 48 or 64 hex digits in the field `data`")
        };
        let body = answer.json::<Data>()?.data;
        let created = self.made_as(key, body.metadata)?;
        let mut secret = body.data.ok_or_else(|| wrong("is empty"))?;
        if secret.is_placeholder() {
            return Ok(Known { key: None, created });
        }
        let cipher = secret.cipher.take();
        let data = key_of(secret, |what| match what {
            NO_DATA => wrong("has no field `data`"),
            _ => wrong("is no AES key in hex"),
        })?;
        let len = data.expose().len();
        let cipher = match cipher.map(|text| text.parse::<Cipher>()) {
            None => Cipher { mode: self.mode, key_len: len },
            Some(Ok(cipher)) if cipher.key_len == len => cipher,
            Some(_) => {
                return Err(wrong("names a cipher that does not exist or does not fit the key"));
            }
        };
        let check = data.check_value();
        Ok(Known { key: Some(KnownKey { data, cipher, check }), created })
    }

    /// When the version was made that an answer is of: it must be `key`'s.
    fn made_as(&self, key: &KeyRef, answered: Option<VersionBody>) -> Result<String> {
        let answered = answered.ok_or_else(|| self.version_one())?;
        match answered.number() {
            Some(number) if number != key.version => {
                let place = self.client.place();
                let what = format!("{place} was asked for {key} and gave version {number}");
                Err(Error::new(Kind::Untrusted, what)
                    .advise("look for a proxy or cache on the way that drops ?version="))
            }
            _ => Ok(answered.created_time),
        }
    }

    /// What may be told of the versions of `id`: the newest live one encrypts.
    fn infos(&self, id: KeyId, body: &MetadataBody) -> Vec<KeyInfo> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key_of = |number: u32| Some(KeyRef::new(id, KeyVersion::try_from(number).ok()?));
        let holds_none = |key: &KeyRef| known.get(key).is_some_and(|known| known.key.is_none());
        let is_live = |(number, version): &(&u32, &VersionBody)| {
            version.condition() == Condition::Live
                && key_of(**number).is_some_and(|key| !holds_none(&key))
        };
        let active = body.versions().rfind(is_live).map(|(n, _)| *n);
        let info = |one: (&u32, &VersionBody)| {
            let ((number, version), is_live) = (one, is_live(&one));
            let key = key_of(*number)?;
            let known = known.get(&key).and_then(|known| known.key.as_ref()).filter(|_| is_live);
            let state = match is_live {
                true if Some(*number) == active => KeyState::Active,
                true => KeyState::Retired,
                false => KeyState::Destroyed,
            };
            let cipher =
                known.map_or(Cipher { mode: self.mode, key_len: 32 }, |known| known.cipher);
            Some(KeyInfo {
                key,
                state,
                purpose: cipher.into(),
                created: version.created_time.parse::<Timestamp>().ok(),
                check: known.map(|known| known.check),
            })
        };
        body.versions().filter_map(info).collect()
    }

    /// Refuses to write `version` where the engine would drop one that can still be read.
    pub(super) fn guard_old_versions(
        &self,
        call: &Call<'_>,
        key: &KeyRef,
        body: &MetadataBody,
    ) -> Result<()> {
        let max = self.max_versions(call, body);
        let dropped = body.versions().find(|(number, version)| {
            version.condition() == Condition::Live
                && number.saturating_add(max) <= key.version.get()
        });
        dropped.map_or(Ok(()), |(number, _)| Err(self.drops(key, max, *number)))
    }

    /// How many versions of the secret the engine keeps.
    pub(super) fn max_versions(&self, call: &Call<'_>, body: &MetadataBody) -> u32 {
        match body.max_versions {
            0 => self.mount_max_versions(call),
            max => max,
        }
    }

    /// What the mount says, where we may read it; else the engine's own number.
    fn mount_max_versions(&self, call: &Call<'_>) -> u32 {
        let answer = call.get(&format!("{}/config", self.mount)).ok().filter(Answer::is_ok);
        let config = answer.and_then(|answer| answer.json::<MountConfig>().ok());
        match config.map(|config| config.data.max_versions) {
            None | Some(0) => ENGINE_MAX_VERSIONS,
            Some(max) => max,
        }
    }

    /// Tells a new secret to keep more versions than the engine does by itself. Where that is
    /// denied, the guard above holds all the same.
    pub(super) fn keep_versions(&self, call: &Call<'_>, id: KeyId) {
        let body = json!({ "max_versions": OUR_MAX_VERSIONS, "cas_required": true });
        let _ = call.post(&self.path("metadata", id), &body);
    }

    /// Whether what is stored as `key` is `data`.
    pub(super) fn holds(
        &self,
        call: &Call<'_>,
        id: KeyId,
        key: &KeyRef,
        data: &DataKey,
    ) -> Result<bool> {
        self.learn(call, id, key.version)?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let there = known.get(key).and_then(|known| known.key.as_ref());
        Ok(there.is_some_and(|there| there.data.same_as(data)))
    }

    /// Whether what is stored as `key` only keeps its number taken.
    pub(super) fn is_placeholder(&self, call: &Call<'_>, key: &KeyRef) -> Result<bool> {
        let KeyName::Id(id) = key.name else { return Ok(false) };
        let is_known = || {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(key).map(|known| known.key.is_none())
        };
        if let Some(is_one) = is_known() {
            return Ok(is_one);
        }
        self.learn(call, id, key.version)?;
        Ok(is_known().unwrap_or_default())
    }

    /// Checks that what was written became `key`: version 1 of the engine says nothing, and keeps one.
    pub(super) fn stored_as(&self, key: &KeyRef, answer: &Answer) -> Result<()> {
        if answer.status == 204 {
            return Err(self.version_one());
        }
        match answer.json::<Stored>()?.data.version {
            Some(number) if number != key.version.get() => {
                let what = format!("{} stored {key} as version {number}", self.client.place());
                Err(Error::new(Kind::Untrusted, what)
                    .advise("look for a proxy on the way that drops the option `cas`"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The client, the mount and the prefix.
    pub(super) fn parts(&self) -> PathParts<'_> {
        (&self.client, &self.mount, &self.prefix)
    }

    /// What the policy must allow.
    pub(super) fn rights(&self) -> Vec<Right> {
        let all = |kind: &str| format!("{}*", self.folder(kind));
        vec![
            Right::new(self.folder("metadata"), &["list"]),
            Right::new(all("metadata"), &["create", "read", "update"]),
            Right::new(all("data"), &["create", "read", "update"]),
            Right::new(format!("{}/config", self.mount), &["read"]),
        ]
    }
}

impl KeyServer for KvServer {
    fn list(&self, by: Deadline) -> Result<Vec<KeyInfo>> {
        let call = self.client.call("listing the keys in Vault", by)?;
        let mut infos = Vec::new();
        for ids in self.ids(&call)?.chunks(BATCH) {
            let known = self.known_ids();
            let (old, new): (Vec<KeyId>, Vec<KeyId>) =
                ids.iter().partition(|id| known.contains(*id));
            let (found, rest) = self.read_new(&call, &new)?;
            infos.extend(found);
            infos.extend(self.read_all(&call, &[old, rest].concat())?);
        }
        Ok(infos)
    }

    fn fetch(&self, key: &KeyRef, by: Deadline) -> Result<DataKey> {
        by.left(format_args!("fetching {key} from Vault"))?;
        let KeyName::Id(id) = key.name else {
            return Err(Error::new(Kind::NotFound, format!("Vault has no {key}: it is no number"))
                .advise("for MySQL, configure a provider that wraps"));
        };
        let copy = || {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let known = known.get(key)?.key.as_ref()?;
            Some(DataKey::copy_of(known.data.expose()))
        };
        if let Some(data) = copy() {
            return data;
        }
        let call = self.client.call(format_args!("fetching {key} from Vault"), by)?;
        self.learn(&call, id, key.version)?;
        copy().unwrap_or_else(|| Err(Error::new(Kind::NotFound, format!("Vault has no {key}"))))
    }

    fn put(&self, key: &KeyRef, data: &DataKey, by: Deadline) -> Result<()> {
        let cipher = Cipher { mode: self.mode, key_len: data.expose().len() };
        self.put_for(key, data, cipher, by)
    }

    fn put_for(&self, key: &KeyRef, data: &DataKey, cipher: Cipher, by: Deadline) -> Result<()> {
        let call = self.client.call(format_args!("storing {key} in Vault"), by)?;
        let KeyName::Id(id) = key.name else {
            return Err(Error::new(Kind::Unsupported, format!("{key} is no key of MariaDB's")));
        };
        let taken = || {
            Error::new(Kind::Conflict, format!("Vault has another version than {key} to come next"))
                .advise("somebody else has rotated it: look again")
        };
        match self.metadata(&call, id)? {
            Some(body) if body.next_version() != Some(key.version.get()) => {
                return Err(taken());
            }
            Some(body) => self.guard_old_versions(&call, key, &body)?,
            None if key.version != KeyVersion::FIRST => return Err(taken()),
            None => self.keep_versions(&call, id),
        }
        let hex = crate::hex::text(data.expose());
        let hex = Zeroizing::new(hex);
        let body = json!({
            "options": { "cas": key.version.get() - 1 },
            "data": { "data": *hex, "cipher": cipher.to_string() },
        });
        let answer = call.post(&self.path("data", id), &body)?;
        if answer.is_ok() {
            return self.stored_as(key, &answer);
        }
        // Our own write, whose answer was lost.
        if call.was_repeated() && self.holds(&call, id, key, data).unwrap_or(false) {
            return Ok(());
        }
        let is_taken = answer.status == 400 && answer.says("check-and-set");
        Err(if is_taken { taken() } else { answer.unexpected(&format!("to store {key}")) })
    }

    fn plan_return(
        &self,
        keys: &[ReturningKey<'_>],
        by: Deadline,
    ) -> Result<Vec<(usize, ReturnWay)>> {
        self.plan(keys, by)
    }

    fn put_back(&self, key: &ReturningKey<'_>, by: Deadline) -> Result<()> {
        self.return_one(key, by)
    }

    fn remove(&self, key: &KeyRef, by: Deadline) -> Result<()> {
        let call = self.client.call(format_args!("destroying {key} in Vault"), by)?;
        let gone = || Error::new(Kind::NotFound, format!("Vault has no {key}"));
        let KeyName::Id(id) = key.name else { return Err(gone()) };
        let body = self.metadata(&call, id)?.ok_or_else(gone)?;
        let version = body.version(key.version.get());
        if version.is_none_or(|version| version.condition() == Condition::Destroyed) {
            return Err(gone());
        }
        let answer =
            call.post(&self.path("destroy", id), &json!({ "versions": [key.version.get()] }))?;
        if !answer.is_ok() {
            return Err(answer.unexpected(&format!("to destroy {key}")));
        }
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        Ok(())
    }

    fn probe(&self, by: Deadline) -> Result<Probe> {
        let call = self.client.call("asking Vault", by)?;
        let ids = self.ids(&call)?;
        let mut facts = vec![
            ("vault".to_owned(), self.client.place()),
            ("keys at".to_owned(), self.secrets()),
            ("keys".to_owned(), ids.len().to_string()),
        ];
        facts.extend(call.prove(&self.rights())?);
        Ok(Probe { facts })
    }

    fn identity(&self) -> String {
        format!("{} {}/{}", self.client.namespace(), self.mount, self.prefix)
    }

    fn place(&self) -> String {
        format!("{} in {}", self.secrets(), self.client.place())
    }

    fn refresh(&self) -> Duration {
        self.refresh
    }

    fn ends(&self, now: Timestamp) -> Vec<End> {
        self.client.ends(now)
    }

    fn fresh_login(&self) -> FreshLogin {
        self.client.session.fresh_login()
    }

    fn credentials_readable(&self) -> Result<()> {
        self.client.session.credentials_readable()
    }

    fn maintenance(&self) -> Option<Arc<dyn Maintain>> {
        Some(self.client.clone())
    }
}
