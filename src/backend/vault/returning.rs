//! Putting versions back into a KV engine, each under the number that it had. The engine counts by itself and
//! gives no number twice: what was deleted is undeleted, what is missing at the end is written, with
//! placeholders where the backup has no version, and all else is for an administrator.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::client::Call;
use super::nodes::Answer;
use super::rights::Right;
use super::secrets::{Condition, MetadataBody, PLACEHOLDER};
use super::server::{BATCH, KvServer, OUR_MAX_VERSIONS};
use crate::env::Deadline;
use crate::error::{Error, Kind, Result};
use crate::key::{KeyId, KeyName, KeyRef, KeyVersion};
use crate::provider::{ReturnWay, ReturningKey};

/// What stands at the path of a key.
enum Found {
    /// Nothing: numbers begin at 1.
    Nothing,
    /// A secret, with what the engine tells of its versions.
    Secret(MetadataBody),
}

/// What is to be done with the versions of one key.
#[derive(Default)]
struct Plan {
    /// By their places in the backup.
    ways: Vec<(usize, ReturnWay)>,
    /// Those whose numbers the engine has given to something that is no key any more.
    spent: Vec<KeyRef>,
    /// Whether a secret is made that is not there.
    makes: bool,
}

impl KvServer {
    /// See [`KeyServer::plan_return`](crate::provider::KeyServer::plan_return).
    pub(super) fn plan(
        &self,
        keys: &[ReturningKey<'_>],
        by: Deadline,
    ) -> Result<Vec<(usize, ReturnWay)>> {
        let call = self.client().call("looking for what is missing in Vault", by)?;
        let mut all = Plan::default();
        let mut from = 0;
        let of_one: Vec<_> = keys.chunk_by(|one, next| one.key.name == next.key.name).collect();
        for some in of_one.chunks(BATCH) {
            let ids = some.iter().filter_map(|keys| keys.first()).map(|first| id_of(first.key));
            let ids: Vec<KeyId> = ids.collect::<Result<_>>()?;
            for (keys, found) in some.iter().zip(self.found_all(&call, &ids)?) {
                self.plan_one(&call, from, keys, found, &mut all)?;
                from += keys.len();
            }
        }
        let Plan { mut ways, spent, makes } = all;
        if !spent.is_empty() {
            return Err(self.spent(&spent));
        }
        // It shows only afterwards whether they are the right keys.
        ways.sort_by_key(|(_, way)| *way != ReturnWay::Undeleted);
        call.prove(&self.rights_to_return(&ways, makes))?;
        Ok(ways)
    }

    /// Adds what is to be done with `keys`, all versions of one key, the first of them at place `from`, where
    /// this was found.
    fn plan_one(
        &self,
        call: &Call<'_>,
        from: usize,
        keys: &[ReturningKey<'_>],
        found: Found,
        plan: &mut Plan,
    ) -> Result<()> {
        let (Some(first), Some(last)) = (keys.first(), keys.last()) else { return Ok(()) };
        let mut written = false;
        for (place, ReturningKey { key, .. }) in keys.iter().enumerate() {
            let way = match found.condition(key.version) {
                Some(Condition::Live) if !self.is_placeholder(call, key)? => continue,
                Some(Condition::Deleted) => ReturnWay::Undeleted,
                _ if key.version.get() <= found.last() => {
                    plan.spent.push((*key).clone());
                    continue;
                }
                _ => ReturnWay::Written,
            };
            written |= way == ReturnWay::Written;
            plan.ways.push((from + place, way));
        }
        match found {
            Found::Secret(body) if written => self.has_room(call, &body, first.key, last.key),
            Found::Secret(_) => Ok(()),
            Found::Nothing => {
                plan.makes |= written;
                Ok(())
            }
        }
    }

    /// Refuses where the engine would drop a version of the key by the time `last` is written.
    fn has_room(
        &self,
        call: &Call<'_>,
        body: &MetadataBody,
        first: &KeyRef,
        last: &KeyRef,
    ) -> Result<()> {
        let live = body.versions().find(|(_, one)| one.condition() == Condition::Live);
        let lowest = first.version.get().min(live.map_or(u32::MAX, |(number, _)| *number));
        let max = self.max_versions(call, body);
        match lowest.saturating_add(max) <= last.version.get() {
            true => Err(self.drops(last, max, lowest)),
            false => Ok(()),
        }
    }

    /// See [`KeyServer::put_back`](crate::provider::KeyServer::put_back).
    pub(super) fn return_one(&self, back: &ReturningKey<'_>, by: Deadline) -> Result<()> {
        let (key, id) = (back.key, id_of(back.key)?);
        let call = self.client().call(format_args!("putting {key} back into Vault"), by)?;
        let found = self.found(&call, id)?;
        match found.condition(key.version) {
            Some(Condition::Live) => self.same(&call, id, back),
            Some(Condition::Deleted) => self.undelete(&call, id, back),
            _ if key.version.get() <= found.last() => Err(self.spent(std::slice::from_ref(key))),
            _ => {
                match &found {
                    Found::Nothing => self.keep_versions(&call, id),
                    Found::Secret(body) => self.guard_old_versions(&call, key, body)?,
                }
                for number in found.last() + 1..key.version.get() {
                    let gap = KeyRef::new(id, KeyVersion::try_from(number)?);
                    self.write(&call, id, &gap, &json!({ "placeholder": PLACEHOLDER }))?;
                }
                let hex = Zeroizing::new(crate::hex::text(back.data.expose()));
                let secret = json!({ "data": *hex, "cipher": back.cipher.to_string() });
                self.write(&call, id, key, &secret)?;
                self.same(&call, id, back)
            }
        }
    }

    fn write(&self, call: &Call<'_>, id: KeyId, key: &KeyRef, secret: &Value) -> Result<()> {
        let body = json!({ "options": { "cas": key.version.get() - 1 }, "data": secret });
        let answer = call.post(&self.path("data", id), &body)?;
        if answer.is_ok() {
            return self.stored_as(key, &answer);
        }
        if answer.status == 400 && answer.says("check-and-set") {
            // Ours, whose answer was lost, or somebody else's: the next look at it tells.
            let what = format!("{key} was written meanwhile");
            return Err(Error::new(Kind::Conflict, what).advise("run it again"));
        }
        Err(answer.unexpected(&format!("to store {key}")))
    }

    fn undelete(&self, call: &Call<'_>, id: KeyId, back: &ReturningKey<'_>) -> Result<()> {
        let versions = json!({ "versions": [back.key.version.get()] });
        let ask = |verb: &str| -> Result<()> {
            let answer = call.post(&self.path(verb, id), &versions)?;
            let refused = || answer.unexpected(&format!("to {verb} {}", back.key));
            if answer.is_ok() { Ok(()) } else { Err(refused()) }
        };
        ask("undelete")?;
        match self.same(call, id, back) {
            // It was something else all along, and stays deleted.
            Err(other) if !other.is_outage() => ask("delete").and(Err(other)),
            same => same,
        }
    }

    /// Checks that Vault gives what was to come back.
    fn same(&self, call: &Call<'_>, id: KeyId, back: &ReturningKey<'_>) -> Result<()> {
        match self.holds(call, id, back.key, back.data)? {
            true => Ok(()),
            false => {
                let what = format!("{} at {} is another key", back.key, self.secrets());
                Err(Error::new(Kind::State, what).advise(format!(
                    "is it the right backup? Once no data need the key that is there, have an administrator \
                     remove it, then run this again: {} {}/{id}",
                    self.client().command("kv metadata delete"),
                    self.secrets(),
                )))
            }
        }
    }

    fn found(&self, call: &Call<'_>, id: KeyId) -> Result<Found> {
        Ok(self.metadata(call, id)?.map_or(Found::Nothing, Found::Secret))
    }

    /// The same for many keys, some under way at a time.
    fn found_all(&self, call: &Call<'_>, ids: &[KeyId]) -> Result<Vec<Found>> {
        let paths: Vec<_> = ids.iter().map(|id| self.path("metadata", id)).collect();
        let found = |(id, answer): (&KeyId, Answer)| {
            Ok(self.described(call, *id, &answer)?.map_or(Found::Nothing, Found::Secret))
        };
        ids.iter().zip(call.get_all(&paths)?).map(found).collect()
    }

    /// The error of versions whose numbers are spent.
    fn spent(&self, keys: &[KeyRef]) -> Error {
        let names: Vec<_> = keys.iter().map(ToString::to_string).collect();
        let ids: BTreeSet<_> = keys.iter().map(|key| key.name.to_string()).collect();
        let command = self.client().command("kv metadata delete");
        let lines: Vec<_> =
            ids.iter().map(|id| format!("{command} {}/{id}", self.secrets())).collect();
        let what = format!(
            "{} cannot be put back: Vault has destroyed or dropped what it had of that number at {}, and gives \
             no number twice",
            names.join(", "),
            self.secrets()
        );
        Error::new(Kind::State, what).advise(format!(
            "back up what is there now (keyward keystore backup); have an administrator run {}; then restore this \
             backup, and the new one after it",
            lines.join(" && ")
        ))
    }

    fn rights_to_return(&self, ways: &[(usize, ReturnWay)], makes: bool) -> Vec<Right> {
        let all = |kind: &str| format!("{}*", self.folder(kind));
        let has = |wanted: ReturnWay| ways.iter().any(|(_, way)| *way == wanted);
        let mut rights = Vec::new();
        if has(ReturnWay::Written) {
            rights.push(Right::new(all("data"), &["create", "read", "update"]));
        }
        if makes {
            rights.push(Right::new(all("metadata"), &["create", "read", "update"]));
        }
        if has(ReturnWay::Undeleted) {
            rights.push(Right::new(all("undelete"), &["update"]));
            // Where it turns out to be another key.
            rights.push(Right::new(all("delete"), &["update"]));
        }
        rights
    }

    /// The error where the engine would drop version `dropped` of a key by the time `key` is written.
    pub(super) fn drops(&self, key: &KeyRef, max: u32, dropped: u32) -> Error {
        let (place, name) = (self.secrets(), &key.name);
        let what = format!(
            "cannot add {key}: Vault keeps {max} versions at {place}/{name} and would drop version {dropped}, \
             which may still be needed"
        );
        Error::new(Kind::State, what).advise(format!(
            "run: {} -max-versions={OUR_MAX_VERSIONS} {place}/{name}",
            self.client().command("kv metadata patch")
        ))
    }
}

impl Found {
    /// The highest number that was given.
    fn last(&self) -> u32 {
        match self {
            Self::Nothing => 0,
            Self::Secret(body) => body.current_version.unwrap_or_default(),
        }
    }

    fn condition(&self, version: KeyVersion) -> Option<Condition> {
        match self {
            Self::Nothing => None,
            Self::Secret(body) => Some(body.version(version.get())?.condition()),
        }
    }
}

fn id_of(key: &KeyRef) -> Result<KeyId> {
    match key.name {
        KeyName::Id(id) => Ok(id),
        KeyName::Named { .. } => {
            Err(Error::new(Kind::Unsupported, format!("{key} is no key of MariaDB's")))
        }
    }
}
