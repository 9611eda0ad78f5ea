//! Access tokens, by each kind of credentials. None is kept: an operation asks for its own.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::super::http::{Body, HeaderName, Method, Reply, Request, Url, form, is_metadata, place};
use super::adc::{
    Credentials, Federation, Found, Impersonation, Place, ServiceAccount, Subject, User,
    impersonation, judged_url,
};
use super::failure::{self, Refusal};
use super::line::{Headers, Line, header, read_json, senseless};
use super::settings::Settings;
use super::{jwt, line};
use crate::env::{Clock as _, System};
use crate::error::{Error, Kind, Result};
use crate::trust;

/// All that Cloud KMS wants.
const KMS: &str = "https://www.googleapis.com/auth/cloudkms";

/// All that IAM wants of who becomes a service account.
const IAM: &str = "https://www.googleapis.com/auth/iam";

/// How long a token of a service account that we become may live; an operation is over sooner.
const LIFETIME: &str = "600s";

/// How long the metadata service may take: on a machine without one nothing answers.
const METADATA_TIME: Duration = Duration::from_secs(3);

/// The longest token, in bytes.
const MAX_TOKEN: u64 = 1 << 16;

/// An access token.
pub(super) struct Token {
    value: Zeroizing<String>,
    /// Whose it is, if that is known.
    pub(super) account: Option<String>,
}

/// A token as OAuth gives it (RFC 6749 section 5.1).
#[derive(Deserialize)]
struct Given {
    access_token: String,
}

/// A token as IAM gives it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Generated {
    access_token: String,
}

impl Token {
    /// The header that it is sent as.
    pub(super) fn header(&self) -> (HeaderName, Zeroizing<String>) {
        header("authorization", format!("Bearer {}", *self.value))
    }
}

/// A token for Cloud KMS.
pub(super) fn token(line: &Line<'_>, settings: &Settings, found: &Found) -> Result<Token> {
    let Some((account, through)) = settings.impersonate.split_last() else {
        return token_for(KMS, line, &found.credentials, &found.place);
    };
    let source = token_for(IAM, line, &found.credentials, &found.place)?;
    let path = format!("/v1/projects/-/serviceAccounts/{account}:generateAccessToken");
    let url = settings.iam.join(&path);
    let url = url.map_err(|_| Error::new(Kind::Internal, "IAM's address cannot be written"))?;
    become_account(line, &url, account, through, KMS, &source)
}

fn token_for(scope: &str, line: &Line<'_>, from: &Credentials, place: &str) -> Result<Token> {
    match from {
        Credentials::ServiceAccount(account) => of_service_account(account, scope, place),
        Credentials::User(user) => of_user(line, user, place),
        Credentials::Federated(federation) => of_federation(line, federation, scope, place),
        Credentials::Impersonated(through) => {
            let Impersonation { source, url, delegates } = &**through;
            let source = token_for(IAM, line, source, place)?;
            let (url, account) = impersonation(url, place)?;
            become_account(line, &url, &account, delegates, scope, &source)
        }
        Credentials::Machine(base) => of_machine(line, base, scope),
    }
}

fn of_service_account(account: &ServiceAccount, scope: &str, place: &str) -> Result<Token> {
    let ServiceAccount { client_email, private_key, private_key_id } = account;
    let id = private_key_id.as_deref();
    let value =
        jwt::signed(client_email, private_key, id, scope, System.now()).ok_or_else(|| {
            Error::new(Kind::Config, format!("{place}: private_key is no RSA key in PEM"))
                .advise("make another with `gcloud iam service-accounts keys create`")
        })?;
    Ok(Token { value, account: Some(client_email.clone()) })
}

fn of_user(line: &Line<'_>, user: &User, place: &str) -> Result<Token> {
    let url = judged_url(&user.token_uri, "token_uri", place)?;
    let fields = [
        ("grant_type", "refresh_token"),
        ("client_id", &user.client_id),
        ("client_secret", &user.client_secret),
        ("refresh_token", &user.refresh_token),
    ];
    let value = line.ask(
        || Ok(post(&url, Vec::new(), form(&fields))),
        |reply| given(&url, &reply, |code| failure::log_in_over(place, code)),
    )?;
    Ok(Token { value, account: None })
}

/// Changes the token of somebody whom Google trusts for one of Google's (RFC 8693), and that for a service
/// account's where the file says so.
fn of_federation(
    line: &Line<'_>,
    federation: &Federation,
    scope: &str,
    place: &str,
) -> Result<Token> {
    let subject = subject_token(line, &federation.subject(place)?, place)?;
    let url = judged_url(&federation.token_url, "token_url", place)?;
    let through = federation.service_account_impersonation_url.as_deref();
    let of_person = &federation.workforce_pool_user_project;
    let options = of_person.as_ref().map(|project| json!({ "userProject": project }).to_string());
    let mut fields = vec![
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("audience", federation.audience.as_str()),
        ("scope", if through.is_some() { IAM } else { scope }),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("subject_token_type", &federation.subject_token_type),
        ("subject_token", &subject),
    ];
    fields.extend(options.as_deref().map(|options| ("options", options)));
    let headers = || match (&federation.client_id, &federation.client_secret) {
        (Some(id), Some(secret)) => {
            let both = Zeroizing::new(format!("{id}:{secret}"));
            vec![header("authorization", format!("Basic {}", STANDARD.encode(both.as_bytes())))]
        }
        _ => Vec::new(),
    };
    let value = line.ask(
        || Ok(post(&url, headers(), form(&fields))),
        |reply| given(&url, &reply, |code| failure::not_federated(place, code)),
    )?;
    let federated = Token { value, account: None };
    match through {
        None => Ok(federated),
        Some(through) => {
            let (url, account) = impersonation(through, place)?;
            become_account(line, &url, &account, &[], scope, &federated)
        }
    }
}

/// The token to show to Google, without the line end that a file has.
fn subject_token(
    line: &Line<'_>,
    subject: &Subject<'_>,
    credentials: &str,
) -> Result<Zeroizing<String>> {
    let (text, from) = match &subject.place {
        Place::File(path) => {
            let text = trust::read_text(path, MAX_TOKEN)
                .map_err(|refusal| refusal.of("cannot read", path))?;
            (Zeroizing::new(text), path.display().to_string())
        }
        Place::Url(url, headers) => (fetched(line, url, headers, credentials)?, place(url)),
    };
    let found = match subject.field {
        None => Some(Zeroizing::new(text.trim().to_owned())),
        Some(field) => serde_json::from_str::<Value>(&text)
            .ok()
            .and_then(|value| Some(Zeroizing::new(value.get(field)?.as_str()?.to_owned()))),
    };
    found.filter(|token| !token.is_empty()).ok_or_else(|| {
        let advice =
            format!("look at credential_source in {credentials}, and at who writes the token");
        Error::new(Kind::Config, format!("{from} has no token for Google")).advise(advice)
    })
}

/// What is at `url`, which may be another cloud's metadata service.
fn fetched(
    line: &Line<'_>,
    url: &Url,
    wanted: &BTreeMap<String, String>,
    credentials: &str,
) -> Result<Zeroizing<String>> {
    let request = || {
        let mut headers = Headers::new();
        for (name, value) in wanted {
            let name = HeaderName::try_from(name).map_err(|_| {
                let what = format!("{credentials}: a header of credential_source is none");
                Error::new(Kind::Config, what).advise("make the file again with gcloud")
            })?;
            headers.push((name, Zeroizing::new(value.clone())));
        }
        Ok(get(url, headers))
    };
    let read = |reply: Reply| match reply.status {
        200 => {
            let text = std::str::from_utf8(&reply.body).map_err(|_| senseless(url, 200))?;
            Ok(Zeroizing::new(text.to_owned()))
        }
        429 | 500.. => Err(failure::away(&place(url), reply.status)),
        status => Err(failure::no_subject(&place(url), status)),
    };
    match is_metadata(url) {
        true => line.ask_metadata(line.by().left("asking for a token")?, request, read),
        false => line.ask(request, read),
    }
}

/// The machine's own, of GCE, GKE and what else Google runs.
fn of_machine(line: &Line<'_>, base: &Url, scope: &str) -> Result<Token> {
    let path =
        format!("/computeMetadata/v1/instance/service-accounts/default/token?scopes={scope}");
    let url = base.join(&path);
    let url = url.map_err(|_| Error::new(Kind::Internal, "no metadata can be asked for"))?;
    let request = || Ok(get(&url, vec![header("metadata-flavor", "Google")]));
    let answered = Cell::new(false);
    let value = line.ask_metadata(METADATA_TIME, request, |reply| {
        answered.set(true);
        // Whoever else answers at that address is no metadata service of Google's.
        if reply.header("metadata-flavor") != Some("Google") {
            return Err(failure::no_credentials(Kind::Denied));
        }
        match reply.status {
            404 => Err(failure::machine_without_account()),
            429 | 500.. => Err(failure::away("the metadata service", reply.status)),
            _ => given(&url, &reply, |_| failure::machine_without_account()),
        }
    });
    let value = value.map_err(|error| match error.is_outage() && !answered.get() {
        true => failure::no_credentials(Kind::Unavailable),
        false => error,
    })?;
    Ok(Token { value, account: None })
}

/// The token of `account` for who has `source`, by way of the accounts `through`.
fn become_account(
    line: &Line<'_>,
    url: &Url,
    account: &str,
    through: &[String],
    scope: &str,
    source: &Token,
) -> Result<Token> {
    let full = |name: &String| match name.contains('/') {
        true => name.clone(),
        false => format!("projects/-/serviceAccounts/{name}"),
    };
    let delegates: Vec<String> = through.iter().map(full).collect();
    let body = json!({ "delegates": delegates, "scope": [scope], "lifetime": LIFETIME });
    let value = line.ask(
        || Ok(post(url, vec![source.header()], line::json(&body)?)),
        |reply| match reply.status {
            200 => Ok(Zeroizing::new(read_json::<Generated>(url, &reply)?.access_token)),
            429 | 500.. => Err(failure::away(&place(url), reply.status)),
            _ => Err(failure::not_impersonated(
                account,
                source.account.as_deref(),
                &Refusal::of(&reply),
            )),
        },
    )?;
    Ok(Token { value, account: Some(account.to_owned()) })
}

/// The token of an answer of OAuth, or what `refused` makes of the name of its error.
fn given(url: &Url, reply: &Reply, refused: impl Fn(&str) -> Error) -> Result<Zeroizing<String>> {
    match reply.status {
        200 => Ok(Zeroizing::new(read_json::<Given>(url, reply)?.access_token)),
        429 | 500.. => Err(failure::away(&place(url), reply.status)),
        400..=499 => {
            let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            Err(refused(body.get("error").and_then(Value::as_str).unwrap_or_default()))
        }
        status => Err(senseless(url, status)),
    }
}

fn get(url: &Url, headers: Headers) -> Request {
    Request { method: Method::GET, url: url.clone(), headers, body: None }
}

fn post(url: &Url, headers: Headers, body: Body) -> Request {
    Request { method: Method::POST, url: url.clone(), headers, body: Some(body) }
}
