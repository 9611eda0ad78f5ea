//! Who somebody is: Entra ID's tokens, by secret, by certificate and by federation; a machine's metadata
//! service; Azure Arc's agent.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use ring::signature::{
    KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaKeyPair,
    UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::{Value, json};
use test_kit::Result;
use test_kit::command::answer as run;

use super::crypto::random;
use super::{Answer, State, oauth_error};
use crate::http::{Request, form};

/// The tenant of the vault.
pub const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

/// An application of it.
pub const CLIENT_ID: &str = "0f0c6f3c-1111-4222-8333-0123456789ab";

/// Its secret.
pub const CLIENT_SECRET: &str = "Abc8Q~secret-of-an-application";

/// A token of an issuer that it trusts.
pub const SUBJECT_TOKEN: &str = "subject.token.of-a-cluster";

/// A user-assigned identity of the machine.
pub const IDENTITY: &str = "1a2b3c4d-1111-4222-8333-0123456789ab";

/// An answer, or one that refuses.
type Outcome = std::result::Result<Answer, Answer>;

/// What an application can prove itself with.
pub struct Application {
    /// Its secret.
    pub secret: String,
    /// The token of somebody that it trusts.
    pub subject: String,
    /// SHA-256 and SHA-1 of its certificate, in base64url, and the public key in it.
    pub certificate: ([String; 2], Vec<u8>),
}

impl Application {
    /// One with [`CLIENT_SECRET`], [`SUBJECT_TOKEN`] and [`certificate`].
    pub(super) fn new() -> Result<Self> {
        let parts = certificate()?;
        let der = |kind: &str| -> Result<Vec<u8>> {
            let begin = format!("-----BEGIN {kind}-----");
            let body = parts.split_once(&begin).and_then(|(_, rest)| rest.split_once("-----END"));
            let (body, _) = body.ok_or_else(|| format!("no {kind}"))?;
            Ok(STANDARD.decode(body.replace('\n', "")).map_err(|error| error.to_string())?)
        };
        let own = der("CERTIFICATE")?;
        let print = |by| URL_SAFE_NO_PAD.encode(digest(by, &own));
        let prints = [print(&SHA256), print(&SHA1_FOR_LEGACY_USE_ONLY)];
        let pair =
            RsaKeyPair::from_pkcs8(&der("PRIVATE KEY")?).map_err(|error| error.to_string())?;
        Ok(Self {
            secret: CLIENT_SECRET.to_owned(),
            subject: SUBJECT_TOKEN.to_owned(),
            certificate: (prints, pair.public_key().as_ref().to_vec()),
        })
    }
}

/// The certificate of [`CLIENT_ID`] with its private key in PEM, made once by openssl.
pub fn certificate() -> Result<String> {
    static MADE: OnceLock<String> = OnceLock::new();
    if let Some(made) = MADE.get() {
        return Ok(made.clone());
    }
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-noenc", "-subj", "/CN=keyward"]);
    command.args(["-days", "2", "-keyout", "/dev/stdout", "-out", "/dev/stdout"]);
    let made = run(&mut command)?.ok()?;
    Ok(MADE.get_or_init(|| made).clone())
}

/// Whose token comes with `request`; else a challenge.
pub(super) fn who(state: &State, request: &Request) -> std::result::Result<String, Answer> {
    let challenge = |more: &str| {
        let resource = request.base();
        let header = format!(
            "Bearer authorization=\"{resource}/{}\", resource=\"{resource}\"{more}",
            state.tenant
        );
        let message = "AKV10000: Request is missing a Bearer or PoP token.";
        super::error(401, "Unauthorized", message, "").with("WWW-Authenticate", &header)
    };
    let Some(token) = request.header("authorization").strip_prefix("Bearer ") else {
        return match request.body.is_empty() {
            true => Err(challenge("")),
            false => Err(super::error(400, "BadParameter", "a body came without a token", "")),
        };
    };
    match state.tokens.get(token) {
        Some((_, false)) if state.wants_claims => {
            let claims = STANDARD.encode("{\"access_token\":{\"nbf\":{\"essential\":true}}}");
            Err(challenge(&format!(", error=\"insufficient_claims\", claims=\"{claims}\"")))
        }
        Some((who, _)) => Ok(who.clone()),
        None => Err(challenge(", error=\"invalid_token\"")),
    }
}

/// What gives tokens.
pub(super) fn answer(state: &mut State, request: &Request, path: &str) -> Outcome {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts[..] {
        [tenant, "v2.0", ".well-known", "openid-configuration"] => {
            let base = request.base();
            Ok(Answer::ok(&json!({
                "token_endpoint": format!("{base}/{tenant}/oauth2/v2.0/token"),
                "authorization_endpoint": format!("{base}/{tenant}/oauth2/v2.0/authorize"),
                "issuer": format!("{base}/{tenant}/v2.0"),
            })))
        }
        [tenant, "oauth2", "v2.0", "token"] if tenant == state.tenant => entra(state, request),
        [_, "oauth2", "v2.0", "token"] => Err(oauth_error("invalid_request", 90_002)),
        ["metadata", "identity", "oauth2", "token"] => metadata(state, request),
        ["arc", "metadata", "identity", "oauth2", "token"] => arc(state, request),
        _ => Err(Answer::text(404, "<html>Not found</html>")),
    }
}

fn entra(state: &mut State, request: &Request) -> Outcome {
    let form = form(request);
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let client_id = field("client_id").to_owned();
    let Some(application) = state.applications.get(&client_id) else {
        return Err(oauth_error("unauthorized_client", 700_016));
    };
    if field("grant_type") != "client_credentials" || !field("scope").ends_with("/.default") {
        return Err(oauth_error("invalid_request", 900_144));
    }
    let assertion = field("client_assertion");
    if assertion.is_empty() {
        if field("client_secret") != application.secret {
            return Err(oauth_error("invalid_client", 7_000_215));
        }
    } else if assertion != application.subject {
        check_signed(application, &client_id, &state.tenant, assertion)?;
    }
    let has_claims = !field("claims").is_empty();
    Ok(Answer::ok(&state.give(&client_id, has_claims)))
}

/// Whether `assertion` is signed by the certificate of `application`, for here and now.
fn check_signed(
    application: &Application,
    client_id: &str,
    tenant: &str,
    assertion: &str,
) -> std::result::Result<(), Answer> {
    let unknown = || oauth_error("invalid_client", 700_213);
    let (text, signature) = assertion.rsplit_once('.').ok_or_else(unknown)?;
    let (header, claims) = text.split_once('.').ok_or_else(unknown)?;
    let decoded = |part: &str| -> Option<Value> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    };
    let (header, claims) = decoded(header).zip(decoded(claims)).ok_or_else(unknown)?;
    let ([sha256, sha1], key) = &application.certificate;
    let algorithm: &dyn VerificationAlgorithm = match header["alg"].as_str() {
        Some("PS256") => &RSA_PSS_2048_8192_SHA256,
        Some("RS256") => &RSA_PKCS1_2048_8192_SHA256,
        _ => return Err(oauth_error("invalid_client", 5_002_738)),
    };
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| unknown())?;
    let is_signed =
        UnparsedPublicKey::new(algorithm, key).verify(text.as_bytes(), &signature).is_ok();
    // Microsoft's own client goes by SHA-1, and pads it.
    let has = |name: &str, print: &String| {
        header[name].as_str().is_some_and(|shown| shown.trim_end_matches('=') == print)
    };
    let is_known = has("x5t#S256", sha256) || has("x5t", sha1);
    if !is_known || !is_signed {
        return Err(oauth_error("invalid_client", 700_027));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = now.as_secs_f64();
    // Microsoft's own client has fractions of a second in them.
    let time = |name: &str| claims[name].as_f64().unwrap_or_default();
    if time("nbf") > now + 60.0 || time("exp") <= now || time("exp") > now + 3600.0 {
        return Err(oauth_error("invalid_client", 700_024));
    }
    let audience = format!("/{tenant}/oauth2/v2.0/token");
    let fits = claims["aud"].as_str().is_some_and(|aud| aud.ends_with(&audience))
        && claims["iss"] == client_id
        && claims["sub"] == client_id
        && claims["jti"].as_str().is_some_and(|id| id.len() >= 16);
    if fits { Ok(()) } else { Err(oauth_error("invalid_client", 700_023)) }
}

/// A machine's metadata service: who asks without the header is refused.
fn metadata(state: &mut State, request: &Request) -> Outcome {
    let query = query(request);
    if request.header("metadata") != "true" || !query.contains_key("resource") {
        return Err(oauth_error("invalid_request", 0));
    }
    let wanted = query.get("client_id").map(String::as_str).unwrap_or("system");
    let Some(found) = state.machine.iter().find(|has| *has == wanted).cloned() else {
        return Err(oauth_error("invalid_request", 0));
    };
    Ok(Answer::ok(&machine_token(state, &found, &query)))
}

/// Azure Arc's agent: it writes a key, and who shows it can read this machine's files.
fn arc(state: &mut State, request: &Request) -> Outcome {
    let folder = state.arc.clone().ok_or_else(|| Answer::text(404, "<html>Not found</html>"))?;
    let query = query(request);
    if request.header("metadata") != "true" || !query.contains_key("resource") {
        return Err(oauth_error("invalid_request", 0));
    }
    match request.header("authorization").strip_prefix("Basic ") {
        Some(shown) if shown == state.arc_key => {
            state.arc_key.clear();
            Ok(Answer::ok(&machine_token(state, "system", &query)))
        }
        Some(_) => Err(Answer::text(401, "{}")),
        None => {
            state.arc_key = random::<16>().map(|byte| format!("{byte:02x}")).concat();
            let file = new_key_file(&folder, &state.arc_key)?;
            let realm = format!("Basic realm={file}");
            Err(Answer::text(401, "{}").with("WWW-Authenticate", &realm))
        }
    }
}

fn new_key_file(folder: &Path, key: &str) -> std::result::Result<String, Answer> {
    let file = folder.join(format!("{}.key", &key[..8]));
    std::fs::write(&file, key).map_err(|_| Answer::text(500, "{}"))?;
    Ok(file.display().to_string())
}

fn machine_token(state: &mut State, who: &str, query: &BTreeMap<String, String>) -> Value {
    let mut given = state.give(who, false);
    given["resource"] = json!(query.get("resource"));
    given["expires_in"] = json!("86399");
    given["expires_on"] = json!("4102444800");
    given["not_before"] = json!("1700000000");
    given
}

fn query(request: &Request) -> BTreeMap<String, String> {
    let body = request.path.split_once('?').map_or("", |(_, query)| query);
    form(&Request { body: body.as_bytes().to_vec(), ..Request::default() })
}
