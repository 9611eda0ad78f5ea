//! Key Vault's and Managed HSM's keys: versions, attributes, soft delete, operations.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use test_kit::Result;

use super::crypto::{Material, random};
use super::{Answer, State, entra, error};
use crate::http::Request;

/// An answer, or one that refuses.
type Outcome = std::result::Result<Answer, Answer>;

/// When everything was made.
const CREATED: u64 = 1_772_366_400;

/// A key.
pub struct Key {
    /// `RSA`, `RSA-HSM` or `oct-HSM`.
    pub kty: String,
    /// What it may be used for.
    pub operations: Vec<String>,
    /// Its versions, the newest last.
    pub versions: Vec<Version>,
}

/// A version of one.
pub struct Version {
    /// 32 hex digits.
    pub name: String,
    /// Whether it can be used.
    pub enabled: bool,
    /// Before that it wraps nothing.
    pub not_before: Option<u64>,
    /// From then on it wraps nothing.
    pub expires: Option<u64>,
    material: Material,
}

/// Now, in seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Key {
    pub(super) fn new(state: &State, kty: &str, operations: &[&str]) -> Result<Self> {
        let operations = operations.iter().map(|&one| one.to_owned()).collect();
        let mut key = Self { kty: kty.to_owned(), operations, versions: Vec::new() };
        key.new_version(state, 2048)?;
        Ok(key)
    }

    fn new_version(&mut self, state: &State, bits: u64) -> Result<()> {
        let name = random::<16>().map(|byte| format!("{byte:02x}")).concat();
        let material = match self.kty.starts_with("RSA") {
            true => Material::rsa(&state.folder, &name, bits)?,
            false => Material::aes(),
        };
        let (enabled, not_before, expires) = (true, None, None);
        self.versions.push(Version { name, enabled, not_before, expires, material });
        Ok(())
    }

    fn version(&self, name: &str) -> std::result::Result<&Version, Answer> {
        let found = match name {
            "" => self.versions.last(),
            name => self.versions.iter().find(|version| version.name == name),
        };
        found.ok_or_else(not_found)
    }
}

/// A key as it is described (`KeyBundle`).
fn bundle(state: &State, base: &str, name: &str, key: &Key, version: &Version) -> Value {
    let mut web_key = json!({
        "kid": format!("{base}/keys/{name}/{}", version.name),
        "kty": key.kty,
        "key_ops": key.operations,
    });
    if let Material::Rsa(_, modulus) = &version.material {
        web_key["n"] = json!(URL_SAFE_NO_PAD.encode(modulus));
        web_key["e"] = json!("AQAB");
    }
    let mut attributes = json!({
        "enabled": version.enabled, "created": CREATED, "updated": CREATED, "exportable": false,
        "recoveryLevel": state.recovery, "recoverableDays": 90,
    });
    for (name, value) in [("nbf", version.not_before), ("exp", version.expires)] {
        if let Some(value) = value {
            attributes[name] = json!(value);
        }
    }
    json!({ "key": web_key, "attributes": attributes, "tags": {} })
}

/// Does what is asked of keys.
pub(super) fn answer(state: &mut State, request: &Request, path: &str) -> Outcome {
    let who = entra::who(state, request)?;
    if !request.path.contains("api-version=") {
        return Err(error(400, "BadParameter", "no api-version", ""));
    }
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let base = request.base();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let may = |state: &State, permission: &str| match state.denied.contains(permission) {
        false => Ok(()),
        true => {
            let message = format!("Caller is not authorized to perform action on resource. {who}");
            Err(error(403, "Forbidden", &message, &state.denial))
        }
    };
    match (request.method.as_str(), &parts[..]) {
        ("GET", ["keys", name]) => {
            may(state, "get")?;
            described(state, &base, name, "")
        }
        ("GET", ["keys", name, version]) => {
            may(state, "get")?;
            described(state, &base, name, version)
        }
        ("POST", ["keys", name, "create"]) => {
            may(state, "create")?;
            create(state, &base, name, &body)
        }
        ("POST", ["keys", name, version, operation]) => {
            let permission = match *operation {
                "wrapkey" => "wrapKey",
                "unwrapkey" => "unwrapKey",
                other => other,
            };
            may(state, permission)?;
            operate(state, &base, name, version, permission, &body)
        }
        ("PATCH", ["keys", name, version]) => update(state, &base, name, version, &body),
        ("DELETE", ["keys", name]) => {
            let key = state.keys.remove(*name).ok_or_else(not_found)?;
            state.deleted.insert((*name).to_owned(), key);
            deleted(state, &base, name)
        }
        ("GET", ["deletedkeys", name]) => {
            may(state, "get")?;
            deleted(state, &base, name)
        }
        ("POST", ["deletedkeys", name, "recover"]) => {
            let key = state.deleted.remove(*name).ok_or_else(not_found)?;
            state.keys.insert((*name).to_owned(), key);
            described(state, &base, name, "")
        }
        _ => Err(Answer::text(404, "<html>Not found</html>")),
    }
}

fn described(state: &State, base: &str, name: &str, version: &str) -> Outcome {
    let key = state.keys.get(name).ok_or_else(not_found)?;
    Ok(Answer::ok(&bundle(state, base, name, key, key.version(version)?)))
}

fn deleted(state: &State, base: &str, name: &str) -> Outcome {
    let key = state.deleted.get(name).ok_or_else(not_found)?;
    let mut answer = bundle(state, base, name, key, key.version("")?);
    answer["recoveryId"] = json!(format!("{base}/deletedkeys/{name}"));
    answer["deletedDate"] = json!(CREATED);
    answer["scheduledPurgeDate"] = json!(CREATED + 90 * 86_400);
    Ok(Answer::ok(&answer))
}

fn create(state: &mut State, base: &str, name: &str, body: &Value) -> Outcome {
    if state.deleted.contains_key(name) {
        let message = format!("Key {name} is currently in a deleted but recoverable state.");
        return Err(error(409, "Conflict", &message, "ObjectIsDeletedButRecoverable"));
    }
    let kty = body["kty"].as_str().unwrap_or_default().to_owned();
    if !["RSA", "RSA-HSM", "oct-HSM"].contains(&kty.as_str()) {
        return Err(bad("kty"));
    }
    let usual = ["encrypt", "decrypt", "wrapKey", "unwrapKey"].map(|one| json!(one)).to_vec();
    let operations = body["key_ops"].as_array().unwrap_or(&usual);
    let operations = operations.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let versions = state.keys.remove(name).map(|key| key.versions).unwrap_or_default();
    let mut key = Key { kty, operations, versions };
    let made = key.new_version(state, body["key_size"].as_u64().unwrap_or(2048));
    state.keys.insert(name.to_owned(), key);
    made.map_err(|_| error(500, "InternalServerError", "openssl", ""))?;
    described(state, base, name, "")
}

fn update(state: &mut State, base: &str, name: &str, version: &str, body: &Value) -> Outcome {
    let key = state.keys.get_mut(name).ok_or_else(not_found)?;
    let newest = key.versions.last().map(|last| last.name.clone()).unwrap_or_default();
    let wanted = if version.is_empty() { &newest } else { version };
    let found = key.versions.iter_mut().find(|known| known.name == wanted).ok_or_else(not_found)?;
    let attributes = &body["attributes"];
    if let Some(enabled) = attributes["enabled"].as_bool() {
        found.enabled = enabled;
    }
    found.not_before = attributes["nbf"].as_u64().or(found.not_before);
    found.expires = attributes["exp"].as_u64().or(found.expires);
    described(state, base, name, version)
}

fn operate(
    state: &State,
    base: &str,
    name: &str,
    version: &str,
    operation: &str,
    body: &Value,
) -> Outcome {
    let key = state.keys.get(name).ok_or_else(not_found)?;
    let version = key.version(version)?;
    let forbidden = |inner| Err(error(403, "Forbidden", "The operation is not permitted.", inner));
    let opens = ["unwrapKey", "decrypt"].contains(&operation);
    // A disabled key still wraps, it was seen; what is outside of its time still opens.
    if !version.enabled && opens {
        return forbidden("KeyDisabled");
    }
    if !opens && version.not_before.is_some_and(|begins| begins > now()) {
        return forbidden("KeyNotYetValid");
    }
    if !opens && version.expires.is_some_and(|ends| ends <= now()) {
        return forbidden("KeyExpired");
    }
    if !key.operations.iter().any(|known| known == operation) {
        return forbidden("KeyOperationForbidden");
    }
    let field = |name: &str| {
        let text = body[name].as_str().unwrap_or_default();
        URL_SAFE_NO_PAD.decode(text).map_err(|_| bad(name))
    };
    let algorithm = body["alg"].as_str().unwrap_or_default();
    let value = field("value")?;
    let mut answer = json!({ "kid": format!("{base}/keys/{name}/{}", version.name) });
    let material = &version.material;
    let made = match (operation, algorithm) {
        ("wrapKey", _) => material.wrap(algorithm, &value),
        ("unwrapKey", _) => material.unwrap(algorithm, &value),
        ("encrypt", "A256GCM") => {
            material.encrypt(&value, &field("aad")?).map(|[nonce, data, tag]| {
                answer["iv"] = json!(URL_SAFE_NO_PAD.encode(nonce));
                answer["tag"] = json!(URL_SAFE_NO_PAD.encode(tag));
                data
            })
        }
        ("decrypt", "A256GCM") => {
            material.decrypt(&field("iv")?, &value, &field("tag")?, &field("aad")?)
        }
        _ => None,
    };
    answer["value"] = json!(URL_SAFE_NO_PAD.encode(made.ok_or_else(|| bad("value"))?));
    Ok(Answer::ok(&answer))
}

fn bad(name: &str) -> Answer {
    error(400, "BadParameter", &format!("Property has invalid value: {name}"), "")
}

fn not_found() -> Answer {
    let message = "A key with (name/id) was not found in this key vault. If you recently deleted this key \
                   you may be able to recover it using the correct recovery command.";
    error(404, "KeyNotFound", message, "")
}
