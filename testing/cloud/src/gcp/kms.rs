//! Cloud KMS: symmetric keys, their versions and states, encryption with additional data and checksums.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};

use super::{Answer, State, tokens};
use crate::http::Request;

/// An answer, or one that refuses.
type Outcome = Result<Answer, Answer>;

/// The longest plaintext and the longest additional data, in bytes.
const MAX_LEN: usize = 64 << 10;

/// When everything was made.
const CREATED: &str = "2026-03-01T12:00:00.123456789Z";

/// The states of a version, by Google's numbers, which its own clients send.
const STATES: [&str; 10] = [
    "CRYPTO_KEY_VERSION_STATE_UNSPECIFIED",
    "ENABLED",
    "DISABLED",
    "DESTROYED",
    "DESTROY_SCHEDULED",
    "PENDING_GENERATION",
    "PENDING_IMPORT",
    "IMPORT_FAILED",
    "GENERATION_FAILED",
    "PENDING_EXTERNAL_DESTRUCTION",
];

/// A key.
pub struct Key {
    /// `ENCRYPT_DECRYPT`, mostly.
    pub purpose: String,
    /// `SOFTWARE`, mostly.
    pub level: String,
    /// The number of the version that encrypts, if one does.
    pub primary: Option<u64>,
    /// The one that encrypts where nobody names one, until a change of the primary has come around.
    pub stale: Option<u64>,
    /// Its versions.
    pub versions: BTreeMap<u64, Version>,
    /// How often a new one is made, as it was asked for.
    pub rotation: Option<String>,
}

/// A version of one.
pub struct Version {
    /// `ENABLED`, mostly.
    pub state: String,
    material: [u8; 32],
}

impl Version {
    fn new() -> Self {
        let mut material = [0; 32];
        // It has never failed.
        let _ = SystemRandom::new().fill(&mut material);
        Self { state: "ENABLED".into(), material }
    }
}

impl Key {
    /// One with a version.
    #[must_use]
    pub fn new(level: &str) -> Self {
        Self {
            purpose: "ENCRYPT_DECRYPT".into(),
            level: level.to_owned(),
            primary: Some(1),
            stale: None,
            versions: BTreeMap::from([(1, Version::new())]),
            rotation: None,
        }
    }

    /// Makes a version, which encrypts nothing yet.
    pub fn new_version(&mut self) -> u64 {
        let number = self.versions.keys().next_back().map_or(1, |last| last + 1);
        self.versions.insert(number, Version::new());
        number
    }

    fn version_json(&self, name: &str, number: u64) -> Value {
        let algorithm = match self.level.starts_with("EXTERNAL") {
            true => "EXTERNAL_SYMMETRIC_ENCRYPTION",
            false => "GOOGLE_SYMMETRIC_ENCRYPTION",
        };
        json!({
            "name": format!("{name}/cryptoKeyVersions/{number}"),
            "state": self.versions[&number].state,
            "protectionLevel": self.level,
            "algorithm": algorithm,
            "createTime": CREATED,
            "generateTime": CREATED,
        })
    }

    fn json(&self, name: &str) -> Value {
        let mut all = json!({ "name": name, "purpose": self.purpose, "createTime": CREATED });
        if let Some(primary) = self.primary {
            all["primary"] = self.version_json(name, primary);
        }
        if let Some(period) = &self.rotation {
            all["rotationPeriod"] = json!(period);
            all["nextRotationTime"] = json!("2027-03-01T12:00:00Z");
        }
        all
    }
}

/// Does what is asked of the resource at `path`.
pub(super) fn answer(state: &mut State, request: &Request, path: &str) -> Outcome {
    let who = tokens::who(state, request, &["cloudkms", "cloud-platform"])?;
    let (name, verb) = path.rsplit_once(':').unwrap_or((path, &request.method));
    let body: Value = match request.body.is_empty() {
        true => json!({}),
        false => serde_json::from_slice(&request.body).map_err(|_| invalid("no JSON"))?,
    };
    let location = name.split('/').nth(3).unwrap_or_default();
    if location == "nowhere" {
        let message = "The request concerns location 'nowhere' but was sent to location 'global'. \
                       Either Cloud KMS is not available in 'nowhere' or the request was misrouted.";
        return Err(Answer::error(404, "NOT_FOUND", message, &json!([])));
    }
    let parts: Vec<&str> = name.split('/').collect();
    let may = |state: &State, permission: &str, on: &str| {
        let denied = |who: &str| state.denied.contains(&(who.to_owned(), permission.to_owned()));
        match denied("*") || denied(&who) {
            true => Err(Answer::denied(permission, on)),
            false => Ok(()),
        }
    };
    match (&parts[4..], verb) {
        (["keyRings"], "POST") => {
            may(state, "cloudkms.keyRings.create", name)?;
            let full = format!("{name}/{}", query(request, "keyRingId"));
            match state.rings.insert(full.clone()) {
                true => Ok(Answer::ok(&json!({ "name": full, "createTime": CREATED }))),
                false => Err(exists(&full)),
            }
        }
        ([_, _, "cryptoKeys"], "POST") => {
            may(state, "cloudkms.cryptoKeys.create", name)?;
            make_key(state, request, parts[..6].join("/"), &body)
        }
        ([_, _, _, _, rest @ ..], verb) => {
            let key_name = parts[..8].join("/");
            if verb == "testIamPermissions" {
                let wanted = body["permissions"].as_array().cloned().unwrap_or_default();
                let has: Vec<_> = wanted
                    .into_iter()
                    .filter(|one| may(state, one.as_str().unwrap_or_default(), name).is_ok())
                    .collect();
                return Ok(Answer::ok(&json!({ "permissions": has })));
            }
            let number = rest.get(1).and_then(|number| number.parse().ok());
            let permission = permission(rest, verb).ok_or_else(no_such_path)?;
            may(state, permission, name)?;
            let key = state.keys.get_mut(&key_name).ok_or_else(|| no_key(name))?;
            of_key(key, &key_name, number, rest, verb, &body)
        }
        _ => Err(no_such_path()),
    }
}

fn permission(rest: &[&str], verb: &str) -> Option<&'static str> {
    Some(match (rest, verb) {
        ([], "GET") => "cloudkms.cryptoKeys.get",
        ([], "updatePrimaryVersion") => "cloudkms.cryptoKeys.update",
        (_, "encrypt") => "cloudkms.cryptoKeyVersions.useToEncrypt",
        ([], "decrypt") => "cloudkms.cryptoKeyVersions.useToDecrypt",
        (["cryptoKeyVersions"], "POST") => "cloudkms.cryptoKeyVersions.create",
        (["cryptoKeyVersions", _], "GET") => "cloudkms.cryptoKeyVersions.get",
        (["cryptoKeyVersions", _], "PATCH") => "cloudkms.cryptoKeyVersions.update",
        (["cryptoKeyVersions", _], "destroy") => "cloudkms.cryptoKeyVersions.destroy",
        (["cryptoKeyVersions", _], "restore") => "cloudkms.cryptoKeyVersions.restore",
        _ => return None,
    })
}

fn of_key(
    key: &mut Key,
    name: &str,
    number: Option<u64>,
    rest: &[&str],
    verb: &str,
    body: &Value,
) -> Outcome {
    if let Some(number) = number.filter(|number| !key.versions.contains_key(number)) {
        return Err(no_key(&format!("{name}/cryptoKeyVersions/{number}")));
    }
    match (rest, verb, number) {
        ([], "GET", _) => Ok(Answer::ok(&key.json(name))),
        (_, "encrypt", number) => encrypt(key, name, number, body),
        (_, "decrypt", _) => decrypt(key, name, body),
        (["cryptoKeyVersions"], "POST", _) => {
            let number = key.new_version();
            Ok(Answer::ok(&key.version_json(name, number)))
        }
        ([], "updatePrimaryVersion", _) => {
            let number = body["cryptoKeyVersionId"].as_str().and_then(|text| text.parse().ok());
            let known = number.filter(|number| key.versions.contains_key(number));
            key.primary = Some(known.ok_or_else(|| no_key(name))?);
            Ok(Answer::ok(&key.json(name)))
        }
        (_, verb, Some(number)) => {
            let to = match verb {
                "GET" => None,
                "PATCH" => Some(state_of(&body["state"]).ok_or_else(|| invalid("no state"))?),
                "destroy" => Some("DESTROY_SCHEDULED".to_owned()),
                _ => Some("DISABLED".to_owned()),
            };
            let version = key.versions.get_mut(&number).ok_or_else(no_such_path)?;
            to.into_iter().for_each(|to| version.state = to);
            Ok(Answer::ok(&key.version_json(name, number)))
        }
        _ => Err(no_such_path()),
    }
}

fn make_key(state: &mut State, request: &Request, ring: String, body: &Value) -> Outcome {
    if !state.rings.contains(&ring) {
        return Err(Answer::error(
            404,
            "NOT_FOUND",
            &format!("KeyRing {ring} not found."),
            &json!([]),
        ));
    }
    let full = format!("{ring}/cryptoKeys/{}", query(request, "cryptoKeyId"));
    if state.keys.contains_key(&full) {
        return Err(exists(&full));
    }
    let purpose = &body["purpose"];
    if purpose != "ENCRYPT_DECRYPT" && *purpose != json!(1) {
        return Err(invalid("The purpose is not supported here."));
    }
    let level = match &body["versionTemplate"]["protectionLevel"] {
        Value::String(level) => level.clone(),
        level if *level == json!(2) => "HSM".to_owned(),
        _ => "SOFTWARE".to_owned(),
    };
    let mut key = Key::new(&level);
    key.rotation = body["rotationPeriod"].as_str().map(str::to_owned);
    let answer = Answer::ok(&key.json(&full));
    state.keys.insert(full, key);
    Ok(answer)
}

fn encrypt(key: &Key, name: &str, number: Option<u64>, body: &Value) -> Outcome {
    if key.purpose != "ENCRYPT_DECRYPT" {
        return Err(invalid("The purpose of the key does not allow it."));
    }
    let number = number.or(key.stale).or(key.primary);
    let number = number.ok_or_else(|| {
        let message = format!("{name} does not have a primary version.");
        Answer::error(400, "FAILED_PRECONDITION", &message, &json!([]))
    })?;
    let version = usable(key, name, number)?;
    let (plain, plain_verified) = field(body, "plaintext")?;
    let (aad, aad_verified) = field(body, "additionalAuthenticatedData")?;
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).map_err(|_| internal())?;
    let mut sealed = plain;
    cipher(version)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&aad), &mut sealed)
        .map_err(|_| internal())?;
    let blob = [&number.to_be_bytes()[..], &nonce, &sealed].concat();
    Ok(Answer::ok(&json!({
        "name": format!("{name}/cryptoKeyVersions/{number}"),
        "ciphertext": STANDARD.encode(&blob),
        "ciphertextCrc32c": crc32c(&blob).to_string(),
        "verifiedPlaintextCrc32c": plain_verified,
        "verifiedAdditionalAuthenticatedDataCrc32c": aad_verified,
        "protectionLevel": key.level,
    })))
}

fn decrypt(key: &Key, name: &str, body: &Value) -> Outcome {
    let failed =
        || invalid("Decryption failed: verify that 'name' refers to the correct CryptoKey.");
    let (blob, _) = field(body, "ciphertext")?;
    let (aad, _) = field(body, "additionalAuthenticatedData")?;
    let (number, rest) = blob.split_first_chunk().ok_or_else(failed)?;
    let (nonce, sealed) = rest.split_first_chunk().ok_or_else(failed)?;
    let number = u64::from_be_bytes(*number);
    if !key.versions.contains_key(&number) {
        return Err(failed());
    }
    let version = usable(key, name, number)?;
    let mut data = sealed.to_vec();
    let plain = cipher(version)?
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(&aad), &mut data)
        .map_err(|_| failed())?;
    let mut answer = json!({
        "plaintextCrc32c": crc32c(plain).to_string(),
        "usedPrimary": key.primary == Some(number),
        "protectionLevel": key.level,
    });
    // What is empty is left out.
    if !plain.is_empty() {
        answer["plaintext"] = json!(STANDARD.encode(plain));
    }
    Ok(Answer::ok(&answer))
}

fn usable<'k>(key: &'k Key, name: &str, number: u64) -> Result<&'k Version, Answer> {
    let version = key.versions.get(&number).ok_or_else(internal)?;
    if version.state == "ENABLED" {
        return Ok(version);
    }
    let full = format!("{name}/cryptoKeyVersions/{number}");
    let message = format!("{full} is not enabled, current state is: {}.", version.state);
    let kind = format!("KEY_{}", version.state);
    let details = json!([{
        "@type": "type.googleapis.com/google.rpc.PreconditionFailure",
        "violations": [{ "type": kind, "subject": full }],
    }]);
    Err(Answer::error(400, "FAILED_PRECONDITION", &message, &details))
}

/// The bytes at `name`, and whether their checksum came with them; an error where it is a wrong one.
fn field(body: &Value, name: &str) -> Result<(Vec<u8>, bool), Answer> {
    let text = body[name].as_str().unwrap_or_default();
    let bytes = STANDARD.decode(text).map_err(|_| invalid("no base64"))?;
    if bytes.len() > MAX_LEN + 1024 {
        return Err(invalid("too long"));
    }
    let told = match &body[format!("{name}Crc32c")] {
        Value::String(digits) => digits.parse().ok(),
        other => other.as_u64(),
    };
    match told {
        Some(told) if told != u64::from(crc32c(&bytes)) => Err(invalid(&format!(
            "The checksum in field {name}_crc32c did not match the data in field {name}."
        ))),
        told => Ok((bytes, told.is_some())),
    }
}

fn cipher(version: &Version) -> Result<LessSafeKey, Answer> {
    UnboundKey::new(&AES_256_GCM, &version.material).map(LessSafeKey::new).map_err(|_| internal())
}

/// By a table, unlike keyward's (RFC 3720, appendix B.4).
fn crc32c(bytes: &[u8]) -> u32 {
    let table: Vec<u32> = (0..256_u32)
        .map(|n| (0..8).fold(n, |c, _| if c & 1 == 1 { (c >> 1) ^ 0x82F6_3B78 } else { c >> 1 }))
        .collect();
    !bytes
        .iter()
        .fold(!0, |crc: u32, byte| table[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8))
}

fn state_of(value: &Value) -> Option<String> {
    match value {
        Value::String(state) => Some(state.clone()),
        other => STATES.get(usize::try_from(other.as_u64()?).ok()?).map(|&state| state.to_owned()),
    }
}

/// The value of `name` in the query; names of keys need no escapes.
fn query<'a>(request: &'a Request, name: &str) -> &'a str {
    let query = request.path.split_once('?').map_or("", |(_, query)| query);
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(known, _)| *known == name).map(|(_, value)| value).next().unwrap_or_default()
}

fn invalid(message: &str) -> Answer {
    Answer::error(400, "INVALID_ARGUMENT", message, &json!([]))
}

fn exists(name: &str) -> Answer {
    Answer::error(409, "ALREADY_EXISTS", &format!("{name} already exists."), &json!([]))
}

fn no_key(name: &str) -> Answer {
    Answer::error(404, "NOT_FOUND", &format!("{name} not found."), &json!([]))
}

fn no_such_path() -> Answer {
    Answer::text(404, "<html>Not found</html>")
}

fn internal() -> Answer {
    Answer::error(500, "INTERNAL", "Internal error.", &json!([]))
}
