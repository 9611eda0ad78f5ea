//! Who somebody is: access tokens and all that gives them.

use std::process::Command;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use serde_json::{Value, json};
use test_kit::Result;
use test_kit::command::answer as run;

use super::{Answer, State};
use crate::http::{Request, form};

/// A service account.
pub const ACCOUNT: &str = "keyward@keyward-test.iam.gserviceaccount.com";

/// What a person's log-in keeps.
pub const REFRESH_TOKEN: &str = "1//refresh-token-of-a-person";

/// A token of somebody whom a pool trusts.
pub const SUBJECT_TOKEN: &str = "subject.token.of-a-cluster";

/// The pool's provider that trusts them.
pub const AUDIENCE: &str = "//iam.googleapis.com/projects/123456/locations/global/\
                            workloadIdentityPools/pool/providers/cluster";

/// An answer, or one that refuses.
type Outcome = std::result::Result<Answer, Answer>;

/// The private key of [`ACCOUNT`] in PEM, made once by openssl.
pub fn private_key() -> Result<String> {
    static KEY: OnceLock<String> = OnceLock::new();
    if let Some(key) = KEY.get() {
        return Ok(key.clone());
    }
    let mut command = Command::new("openssl");
    command.args(["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    let made = run(&mut command)?.ok()?;
    Ok(KEY.get_or_init(|| made).clone())
}

/// Its public half (RFC 8017, `RSAPublicKey`).
pub(super) fn public_key() -> Result<Vec<u8>> {
    let pem = private_key()?;
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(body).map_err(|error| error.to_string())?;
    let pair = RsaKeyPair::from_pkcs8(&der).map_err(|error| error.to_string())?;
    Ok(pair.public_key().as_ref().to_vec())
}

/// Whose token comes with `request`, if it is for one of these scopes.
pub(super) fn who(
    state: &State,
    request: &Request,
    scopes: &[&str],
) -> std::result::Result<String, Answer> {
    let unauthenticated = |reason: &str| {
        let message = "Request had invalid authentication credentials.";
        Answer::reason(401, "UNAUTHENTICATED", message, reason)
    };
    let token = request.header("authorization").strip_prefix("Bearer ");
    let token = token.ok_or_else(|| unauthenticated("CREDENTIALS_MISSING"))?;
    let found = match token.matches('.').count() {
        2 => signed(state, token).and_then(|claims| {
            let scope = claims["scope"].as_str().map(str::to_owned);
            // Google's own clients may name the API as the audience in place of a scope.
            let of_audience = claims["aud"].as_str().map(|_| "cloud-platform".to_owned());
            Some((claims["iss"].as_str()?.to_owned(), scope.or(of_audience)?))
        }),
        _ => state.tokens.get(token).cloned(),
    };
    let (who, has) = found.ok_or_else(|| unauthenticated("ACCESS_TOKEN_EXPIRED"))?;
    let fits = |one: &str| scopes.contains(&one.rsplit('/').next().unwrap_or_default());
    match has.split([' ', ',']).any(fits) {
        true => Ok(who),
        false => Err(Answer::reason(
            403,
            "PERMISSION_DENIED",
            "Request had insufficient authentication scopes.",
            "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
        )),
    }
}

/// The claims of a JWT that its issuer signed and whose time it is.
fn signed(state: &State, token: &str) -> Option<Value> {
    let (text, signature) = token.rsplit_once('.')?;
    let (header, claims) = text.split_once('.')?;
    let decoded = |part: &str| -> Option<Value> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    };
    let (header, claims) = (decoded(header)?, decoded(claims)?);
    let key = state.accounts.get(claims["iss"].as_str()?)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)
        .verify(text.as_bytes(), &signature)
        .ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    let (issued, ends) = (claims["iat"].as_u64()?, claims["exp"].as_u64()?);
    let is_time = issued <= now + 60 && ends > now && ends <= issued + 3600;
    (header["alg"] == "RS256" && is_time).then_some(claims)
}

/// What gives tokens.
pub(super) fn answer(state: &mut State, request: &Request, path: &str) -> Outcome {
    match path {
        "/token" => oauth(state, request),
        "/sts/v1/token" => exchange(state, request),
        "/subject" if request.header("let-me") == "in" => Ok(Answer::text(200, SUBJECT_TOKEN)),
        "/subject.json" => Ok(Answer::ok(&json!({ "other": 1, "the_token": SUBJECT_TOKEN }))),
        _ if path.starts_with("/v1/") => impersonate(state, request, path),
        _ if path == "/" || path.starts_with("/computeMetadata/") => metadata(state, request, path),
        _ => Err(Answer::text(404, "<html>Not found</html>")),
    }
}

fn oauth(state: &mut State, request: &Request) -> Outcome {
    let form = form(request);
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    match field("grant_type") {
        "refresh_token" if field("refresh_token") != REFRESH_TOKEN => {
            Err(Answer::oauth(400, "invalid_grant"))
        }
        "refresh_token" if field("client_secret") != "client-secret" => {
            Err(Answer::oauth(401, "invalid_client"))
        }
        "refresh_token" => Ok(Answer::ok(&state.give("user:person@example.com", "cloud-platform"))),
        "urn:ietf:params:oauth:grant-type:jwt-bearer" => {
            let claims = signed(state, field("assertion"));
            // Google's own clients name it so wherever it is.
            let audience = "https://oauth2.googleapis.com/token";
            let claims = claims.filter(|claims| claims["aud"] == audience);
            let claims = claims.ok_or_else(|| Answer::oauth(400, "invalid_grant"))?;
            let text = |name: &str| claims[name].as_str().unwrap_or_default().to_owned();
            Ok(Answer::ok(&state.give(&text("iss"), &text("scope"))))
        }
        _ => Err(Answer::oauth(400, "unsupported_grant_type")),
    }
}

/// The Security Token Service (RFC 8693).
fn exchange(state: &mut State, request: &Request) -> Outcome {
    let form = form(request);
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let of_exchange = "urn:ietf:params:oauth:grant-type:token-exchange";
    let of_token = "urn:ietf:params:oauth:token-type:access_token";
    if field("grant_type") != of_exchange || field("requested_token_type") != of_token {
        return Err(Answer::oauth(400, "invalid_request"));
    }
    if field("audience") != AUDIENCE {
        return Err(Answer::oauth(400, "invalid_target"));
    }
    if field("subject_token") != SUBJECT_TOKEN {
        return Err(Answer::oauth(400, "invalid_grant"));
    }
    let mut given = state.give("principal://pool/subject/database", field("scope"));
    given["issued_token_type"] = json!(of_token);
    Ok(Answer::ok(&given))
}

/// IAM's `generateAccessToken`, by way of delegates.
fn impersonate(state: &mut State, request: &Request, path: &str) -> Outcome {
    let source = who(state, request, &["iam", "cloud-platform"])?;
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let account =
        path.rsplit('/').next().and_then(|last| last.strip_suffix(":generateAccessToken"));
    let account = account.ok_or_else(|| Answer::text(404, "<html>Not found</html>"))?.to_owned();
    let delegates = body["delegates"].as_array().cloned().unwrap_or_default();
    let names = delegates.iter().filter_map(Value::as_str);
    let names = names.map(|name| name.trim_start_matches("projects/-/serviceAccounts/").to_owned());
    let chain: Vec<String> = [source].into_iter().chain(names).chain([account.clone()]).collect();
    let may = |pair: &[String]| state.becomes.contains(&(pair[0].clone(), pair[1].clone()));
    if !chain.windows(2).all(may) {
        return Err(Answer::denied("iam.serviceAccounts.getAccessToken", &account));
    }
    let scopes: Vec<_> =
        body["scope"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let given = state.give(&account, &scopes.join(" "));
    Ok(Answer::ok(
        &json!({ "accessToken": given["access_token"], "expireTime": "2099-01-01T00:00:00Z" }),
    ))
}

/// A machine's metadata service: who asks without the header is refused.
fn metadata(state: &mut State, request: &Request, path: &str) -> Outcome {
    let flavoured = |answer: Answer| answer.with("Metadata-Flavor", "Google");
    if request.header("metadata-flavor") != "Google" {
        return Err(flavoured(Answer::text(403, "Missing Metadata-Flavor:Google header.")));
    }
    let of_account = "/computeMetadata/v1/instance/service-accounts/";
    let answer = match path.strip_prefix(of_account) {
        None if path.ends_with("universe-domain") => Answer::text(200, "googleapis.com"),
        None => Answer::text(200, "computeMetadata/\n"),
        Some(rest) => match state.machine.clone() {
            None => Answer::text(404, "<html>Not found</html>"),
            Some((account, scopes)) if rest.ends_with("token") => {
                Answer::ok(&state.give(&account, &scopes))
            }
            Some((account, scopes)) => {
                Answer::ok(&json!({ "aliases": ["default"], "email": account, "scopes": [scopes] }))
            }
        },
    };
    Ok(flavoured(answer))
}
