//! What an administrator does once for a database server: engine, key, policy, and a role that may do
//! what the policy says and no more.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::{Order, ServerLogin, SetUp};
use super::client::Call;
use super::nodes::Answer;
use super::rights::Right;
use super::server::KvServer;
use super::wrapper::TransitWrapper;
use crate::config::Section;
use crate::env::Deadline;
use crate::error::{Error, Kind, Result};
use crate::provider::KekInfo;
use crate::secret::SecretBytes;

/// How an engine for data keys is prepared.
pub(super) static KV: SetUp =
    by_approle(|section, order| KvServer::of(section, order.rng)?.set_up(order.by));

/// How an engine for wrapping is prepared.
pub(super) static TRANSIT: SetUp =
    by_approle(|section, order| TransitWrapper::of(section, order.rng)?.set_up(order.by));

/// For a server that will log in by AppRole.
const fn by_approle(run: fn(&Section, &Order<'_>) -> Result<ServerLogin>) -> SetUp {
    SetUp {
        token_file: "token_file",
        token_env: "token_env",
        secret_name: "vault-secret-id",
        secret_file: "secret_id_file",
        run,
    }
}

/// The type of a key that we make.
const NEW_TYPE: &str = "aes256-gcm96";

/// Where AppRole is, or will be, mounted.
const APPROLE: &str = "approle";

/// A new KV engine answers only after a moment.
const ENGINE_PAUSE: Duration = Duration::from_millis(200);

/// What is mounted where: the answers of `sys/mounts` and `sys/auth`.
#[derive(Deserialize)]
struct Mounts {
    data: BTreeMap<String, Mount>,
}

#[derive(Deserialize)]
struct Mount {
    #[serde(rename = "type")]
    kind: String,
    options: Option<BTreeMap<String, String>>,
}

/// An answer that shows one thing.
#[derive(Deserialize)]
struct Found<T> {
    data: T,
}

#[derive(Deserialize)]
struct Policy {
    policy: String,
}

#[derive(Deserialize)]
struct Policies {
    #[serde(default)]
    token_policies: Vec<String>,
}

/// What policy and role are called, what the policy says, and which of them are there.
struct Names {
    name: String,
    rules: String,
    has_policy: bool,
    has_role: bool,
}

#[derive(Deserialize)]
struct RoleId {
    data: RoleIdBody,
}

#[derive(Deserialize)]
struct RoleIdBody {
    role_id: String,
}

#[derive(Deserialize)]
struct SecretId {
    data: SecretIdBody,
}

#[derive(Deserialize)]
struct SecretIdBody {
    secret_id: String,
}

impl TransitWrapper {
    /// Makes the key where there is none, else a new version of it.
    pub fn create_key(&self, by: Deadline) -> Result<KekInfo> {
        let (client, ..) = self.parts();
        let call = client.call("making a key in Vault", by)?;
        let (path, body) = match self.describe_key(&call) {
            Ok(_) => (format!("{}/rotate", self.path("keys")), json!({})),
            Err(error) if error.kind() == Kind::NotFound => {
                (self.path("keys"), json!({ "type": NEW_TYPE }))
            }
            Err(error) => return Err(error),
        };
        let answer = call.post(&path, &body)?;
        if !answer.is_ok() {
            return Err(answer.unexpected(&format!("to make {}", self.name())));
        }
        Ok(self.info(self.describe_key(&call)?))
    }

    /// Mounts the engine and makes the key, where either is missing, then a policy and a role.
    pub fn set_up(&self, by: Deadline) -> Result<ServerLogin> {
        let (client, mount, key) = self.parts();
        let call = client.call("setting up Vault", by)?;
        let names = call.names(key, "key", &self.rights(false))?;
        call.mount("sys/mounts", mount, "transit", &json!({ "type": "transit" }))?;
        let path = format!("{mount}/keys/{key}");
        done(call.post(&path, &json!({ "type": NEW_TYPE }))?, "to make a transit key")?;
        call.role(names)
    }
}

impl KvServer {
    /// Mounts the engine where it is missing, then makes a policy and a role.
    pub fn set_up(&self, by: Deadline) -> Result<ServerLogin> {
        let (client, mount, prefix) = self.parts();
        let call = client.call("setting up Vault", by)?;
        let names = call.names(prefix, "prefix", &self.rights())?;
        let engine = json!({ "type": "kv", "options": { "version": "2" } });
        call.mount("sys/mounts", mount, "kv", &engine)?;
        self.wait_for_engine(&call)?;
        call.role(names)
    }

    fn wait_for_engine(&self, call: &Call<'_>) -> Result<()> {
        let (_, mount, _) = self.parts();
        while !call.get(&format!("{mount}/config"))?.is_ok() {
            call.by().left(format_args!("waiting for the engine {mount}"))?;
            std::thread::sleep(ENGINE_PAUSE);
        }
        Ok(())
    }
}

impl Call<'_> {
    /// Mounts something at `path` unless it is there; refuses something else that is.
    fn mount(&self, list: &str, path: &str, kind: &str, body: &Value) -> Result<()> {
        let mounts = done(self.get(list)?, "to list what is mounted")?.json::<Mounts>()?.data;
        let Some(mount) = mounts.get(&format!("{path}/")) else {
            let doing = format!("to mount {kind} at {path}");
            return done(self.post(&format!("{list}/{path}"), body)?, &doing).map(drop);
        };
        let version = mount.options.as_ref().and_then(|options| options.get("version"));
        let is_old = kind == "kv" && version.is_none_or(|version| version != "2");
        if mount.kind == kind && !is_old {
            return Ok(());
        }
        let what = format!("{} has another engine at {path}", self.client.place());
        Err(Error::new(Kind::Conflict, what).advise("choose another place: --set mount=PATH"))
    }

    /// The name of policy and role for what is kept under `place`, which `setting` chooses. Refuses
    /// those that are there and differ: another server may live by them.
    fn names(&self, place: &str, setting: &str, rights: &[Right]) -> Result<Names> {
        let name = match place.replace('/', "-") {
            name if name.is_empty() || name == "keyward" => "keyward".to_owned(),
            name => format!("keyward-{name}"),
        };
        let rules: Vec<_> = rights.iter().map(Right::rule).collect();
        let refused = |what: &str, more: &str| {
            let what = format!("{} has a {what}; a server may need it", self.client.place());
            let advice = format!("choose another name with --set {setting}=NAME{more}");
            Err(Error::new(Kind::State, what).advise(advice))
        };
        let policy = self.found::<Policy>(&format!("sys/policies/acl/{name}"))?;
        if let Some(Policy { policy }) = &policy
            && !rules.iter().all(|rule| policy.lines().any(|line| line.trim() == rule))
        {
            let more = format!(", or add to that policy: {}", rules.join(" "));
            return refused(&format!("policy {name:?} with other rules"), &more);
        }
        let role = self.found::<Policies>(&format!("auth/{APPROLE}/role/{name}"))?;
        if let Some(Policies { token_policies }) = &role
            && !token_policies.contains(&name)
        {
            return refused(&format!("role {name:?} without the policy {name:?}"), "");
        }
        let (has_policy, has_role) = (policy.is_some(), role.is_some());
        Ok(Names { name, rules: rules.join("\n"), has_policy, has_role })
    }

    /// What stands at `path`, if anything does.
    fn found<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        let answer = self.get(path)?;
        if answer.status == 404 {
            return Ok(None);
        }
        let found: Found<T> = done(answer, &format!("to show {path}"))?.json()?;
        Ok(Some(found.data))
    }

    fn role(&self, names: Names) -> Result<ServerLogin> {
        let Names { name, rules, has_policy, has_role } = names;
        if !has_policy {
            let policy = json!({ "policy": rules });
            done(self.post(&format!("sys/policies/acl/{name}"), &policy)?, "to write a policy")?;
        }
        self.mount("sys/auth", APPROLE, APPROLE, &json!({ "type": APPROLE }))?;
        let role = format!("auth/{APPROLE}/role/{name}");
        if !has_role {
            let body =
                json!({ "token_policies": [name], "token_ttl": "1h", "token_max_ttl": "24h" });
            done(self.post(&role, &body)?, "to make a role")?;
        }
        let role_id = done(self.get(&format!("{role}/role-id"))?, "to name a role")?;
        let secret_id = done(self.post(&format!("{role}/secret-id"), &json!({}))?, "a secret id")?;
        let secret_id = zeroize::Zeroizing::new(secret_id.json::<SecretId>()?.data.secret_id);
        let role_id = role_id.json::<RoleId>()?.data.role_id;
        Ok(ServerLogin {
            settings: vec![("auth", APPROLE.to_owned()), ("role_id", role_id)],
            secret: SecretBytes::copy_of(secret_id.as_bytes()),
        })
    }
}

/// The answer if it did as it was asked.
fn done(answer: Answer, doing: &str) -> Result<Answer> {
    if answer.is_ok() { Ok(answer) } else { Err(answer.unexpected(doing)) }
}
