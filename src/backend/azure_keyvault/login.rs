//! Access tokens, by each kind of credentials. None is kept: an operation asks for its own.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::super::http::{HeaderName, Method, Reply, Request, Url, form, place};
use super::challenge::Challenge;
use super::credentials::Credentials;
use super::failure;
use super::jwt::{self, Claims, Unusable};
use super::line::{Headers, Line, header, read_json, senseless};
use super::refusal::OfEntra;
use super::settings::{Settings, authority};
use crate::env::{Clock as _, System};
use crate::error::{Error, Kind, Result};
use crate::secret::source::without_line_end;
use crate::secret::{SecretBytes, read_file};
use crate::trust;

/// How long one call of the metadata service may take: a machine without one gets no answer.
const METADATA_TIME: Duration = Duration::from_secs(3);

/// The longest token, secret, certificate or key, in bytes.
const MAX_FILE: usize = 1 << 16;

/// The longest key that Azure Arc's agent writes, in bytes.
const MAX_ARC_KEY: u64 = 4096;

/// What an assertion is (RFC 7523).
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// An access token.
pub(super) struct Token(Zeroizing<String>);

/// A token as OAuth gives it (RFC 6749 section 5.1).
#[derive(Deserialize)]
struct Given {
    access_token: String,
}

impl Token {
    /// The header that it is sent as.
    pub(super) fn header(&self) -> (HeaderName, Zeroizing<String>) {
        header("authorization", format!("Bearer {}", *self.0))
    }
}

/// A token as `challenge` wants it.
pub(super) fn token(
    line: &Line<'_>,
    settings: &Settings,
    credentials: &Credentials,
    challenge: &Challenge,
) -> Result<Token> {
    let value = match credentials {
        Credentials::Machine { base, client_id } => {
            of_machine(line, base, client_id.as_deref(), challenge)?
        }
        Credentials::Arc { endpoint, tokens } => of_arc(line, endpoint, tokens, challenge)?,
        Credentials::Token(file) => text_of(&read_file(file, MAX_FILE)?, file)?,
        Credentials::Secret { client_id, file } => {
            let secret = text_of(&read_file(file, MAX_FILE)?, file)?;
            let proof = [("client_secret", secret.as_str())];
            of_application(line, settings, challenge, (client_id, file), &proof)?
        }
        Credentials::Certificate { client_id, certificate, key } => {
            let url = token_url(settings, challenge)?;
            let assertion = assertion(line, client_id, url.as_str(), certificate, key)?;
            let proof =
                [("client_assertion_type", ASSERTION), ("client_assertion", assertion.as_str())];
            of_application(line, settings, challenge, (client_id, certificate), &proof)?
        }
        Credentials::Federated { client_id, file } => {
            let text = trust::read_text(file, MAX_FILE as u64)
                .map_err(|refusal| refusal.of("cannot read", file))?;
            let subject = Zeroizing::new(text);
            let subject = Zeroizing::new(subject.trim().to_owned());
            if subject.is_empty() {
                return Err(empty(file));
            }
            let proof =
                [("client_assertion_type", ASSERTION), ("client_assertion", subject.as_str())];
            of_application(line, settings, challenge, (client_id, file), &proof)?
        }
    };
    Ok(Token(value))
}

/// The text of a secret, without the line end that a file has.
fn text_of(secret: &SecretBytes, file: &Path) -> Result<Zeroizing<String>> {
    let text = std::str::from_utf8(without_line_end(secret.expose())).unwrap_or_default();
    match text.is_empty() {
        true => Err(empty(file)),
        false => Ok(Zeroizing::new(text.to_owned())),
    }
}

fn empty(file: &Path) -> Error {
    Error::new(Kind::Config, format!("{} has no text for Azure in it", file.display()))
        .advise("look at who writes it")
}

/// What an application proves itself with that has a certificate.
fn assertion(
    line: &Line<'_>,
    client_id: &str,
    audience: &str,
    certificate: &PathBuf,
    key: &PathBuf,
) -> Result<Zeroizing<String>> {
    let own_key = read_file(key, MAX_FILE)?;
    let own_certificate = match certificate == key {
        true => None,
        false => Some(
            trust::read(certificate, MAX_FILE as u64)
                .map_err(|refusal| refusal.of("cannot read", certificate))?,
        ),
    };
    let pem = own_certificate.as_deref().unwrap_or_else(|| own_key.expose());
    let claims = Claims { client_id, audience, now: System.now() };
    jwt::signed(&claims, pem, own_key.expose(), line.rng())?.map_err(|unusable| {
        let (file, lacks) = match unusable {
            Unusable::Certificate => (certificate, "no certificate"),
            Unusable::Key => (key, "no RSA key that is not encrypted"),
        };
        Error::new(Kind::Config, format!("{} has {lacks} in PEM", file.display())).advise(format!(
            "az ad app credential reset --id {client_id} --create-cert writes a file that has both"
        ))
    })
}

/// Where Entra ID gives tokens of the vault's tenant.
fn token_url(settings: &Settings, challenge: &Challenge) -> Result<Url> {
    let of_environment = settings.environment.authority_host.as_deref();
    let of_environment = of_environment.map(authority).transpose().map_err(|(what, advice)| {
        Error::new(Kind::Config, format!("AZURE_AUTHORITY_HOST {what}")).advise(advice)
    })?;
    let of_cloud = settings.key.cloud().and_then(|cloud| Url::parse(cloud.authority).ok());
    let host = settings.authority_host.clone().or(of_environment).or(of_cloud);
    let host = host.ok_or_else(|| {
        let what = format!("{} is in none of Azure's clouds", place(&settings.key.vault));
        Error::new(Kind::Config, what).advise("set authority_host to where its tokens are given")
    })?;
    let wanted = settings.tenant.as_deref();
    if wanted.is_some_and(|wanted| !wanted.eq_ignore_ascii_case(&challenge.tenant)) {
        return Err(failure::other_tenant(&settings.key.vault, &challenge.tenant));
    }
    host.join(&format!("/{}/oauth2/v2.0/token", challenge.tenant))
        .map_err(|_| Error::new(Kind::Internal, "Entra ID's address cannot be written"))
}

/// The token of an application that shows its `proof` (RFC 6749 section 4.4).
fn of_application(
    line: &Line<'_>,
    settings: &Settings,
    challenge: &Challenge,
    (client_id, file): (&str, &Path),
    proof: &[(&str, &str)],
) -> Result<Zeroizing<String>> {
    let url = token_url(settings, challenge)?;
    let scope = format!("{}/.default", challenge.resource);
    let mut fields =
        vec![("grant_type", "client_credentials"), ("client_id", client_id), ("scope", &scope)];
    fields.extend(challenge.claims.as_deref().map(|claims| ("claims", claims)));
    fields.extend(proof);
    let request = || {
        let body = Some(form(&fields));
        Ok(Request { method: Method::POST, url: url.clone(), headers: Headers::new(), body })
    };
    line.ask(request, |reply| {
        given(&url, &reply, |refused| {
            failure::not_logged_in(
                client_id,
                &file.display().to_string(),
                &challenge.tenant,
                refused,
            )
        })
    })
}

/// The token of an answer of OAuth, or what `refused` makes of its error.
fn given(
    url: &Url,
    reply: &Reply,
    refused: impl Fn(&OfEntra) -> Error,
) -> Result<Zeroizing<String>> {
    match reply.status {
        200 => Ok(Zeroizing::new(read_json::<Given>(url, reply)?.access_token)),
        429 | 500.. => Err(failure::away(&place(url), reply.status)),
        400..=499 => match OfEntra::of(reply) {
            Some(error) if error.is_transient() => Err(failure::away(&place(url), reply.status)),
            Some(error) => Err(refused(&error)),
            None => Err(senseless(url, reply.status)),
        },
        status => Err(senseless(url, status)),
    }
}

/// The machine's own, of a virtual machine or a scale set.
fn of_machine(
    line: &Line<'_>,
    base: &Url,
    client_id: Option<&str>,
    challenge: &Challenge,
) -> Result<Zeroizing<String>> {
    let mut url = base
        .join("/metadata/identity/oauth2/token")
        .map_err(|_| Error::new(Kind::Internal, "no metadata can be asked for"))?;
    url.query_pairs_mut()
        .append_pair("api-version", "2018-02-01")
        .append_pair("resource", &challenge.resource)
        .extend_pairs(client_id.map(|id| ("client_id", id)));
    let answered = Cell::new(false);
    let value = line.ask_metadata(
        METADATA_TIME,
        || Ok(of_metadata(&url, None)),
        |reply| {
            answered.set(true);
            match reply.status {
                200 => Ok(Zeroizing::new(read_json::<Given>(&url, &reply)?.access_token)),
                // While it is being updated, or a new machine's identity has not come around.
                404 | 410 | 429 | 500.. => {
                    Err(failure::machine_away("the metadata service", reply.status))
                }
                _ => Err(failure::machine_without_identity(client_id)),
            }
        },
    );
    value.map_err(|error| match error.is_outage() && !answered.get() {
        true => failure::no_credentials(),
        false => error,
    })
}

/// The token of a machine that is none of Azure's: its agent wants to see what only root and its group can
/// read on this machine.
fn of_arc(
    line: &Line<'_>,
    endpoint: &Url,
    tokens: &Path,
    challenge: &Challenge,
) -> Result<Zeroizing<String>> {
    let mut url = endpoint.clone();
    url.query_pairs_mut()
        .append_pair("api-version", "2020-06-01")
        .append_pair("resource", &challenge.resource);
    let file = line.ask_metadata(
        METADATA_TIME,
        || Ok(of_metadata(&url, None)),
        |reply| match reply.status {
            401 => arc_key(reply.header("www-authenticate").unwrap_or_default(), tokens),
            404 | 410 | 429 | 500.. => {
                Err(failure::machine_away("Azure Arc's agent", reply.status))
            }
            status => Err(senseless(&url, status)),
        },
    )?;
    let key = trust::read_untrusted(&file, MAX_ARC_KEY).map(Zeroizing::new).map_err(|refusal| {
        refusal.of("cannot read", &file).advise(
            "usermod -aG himds mysql lets the server's user read it; then start the server again",
        )
    })?;
    let key = std::str::from_utf8(&key).unwrap_or_default().trim();
    let proof = Zeroizing::new(format!("Basic {key}"));
    let request = || Ok(of_metadata(&url, Some(&proof)));
    line.ask_metadata(METADATA_TIME, request, |reply| match reply.status {
        200 => Ok(Zeroizing::new(read_json::<Given>(&url, &reply)?.access_token)),
        404 | 410 | 429 | 500.. => Err(failure::machine_away("Azure Arc's agent", reply.status)),
        _ => Err(failure::machine_without_identity(None)),
    })
}

/// The file that the agent names, if it is one of its own: another one is not sent to anybody.
fn arc_key(challenge: &str, tokens: &Path) -> Result<PathBuf> {
    let named = challenge.split_once("realm=").map(|(_, path)| path.trim().trim_matches('"'));
    let path = PathBuf::from(named.unwrap_or_default());
    let is_plain = path.parent() == Some(tokens)
        && path.extension().is_some_and(|extension| extension == "key")
        && path.components().all(|part| part != std::path::Component::ParentDir)
        && path.symlink_metadata().is_ok_and(|found| found.is_file());
    match is_plain {
        true => Ok(path),
        false => {
            let what = format!(
                "Azure Arc's agent names a key that is no file NAME.key in {}",
                tokens.display()
            );
            Err(Error::new(Kind::Untrusted, what).advise(
                "who answers at IDENTITY_ENDPOINT? `azcmagent show` tells the agent's state",
            ))
        }
    }
}

fn of_metadata(url: &Url, proof: Option<&Zeroizing<String>>) -> Request {
    let mut headers = vec![header("metadata", "true")];
    headers.extend(proof.map(|proof| header("authorization", proof.as_str())));
    Request { method: Method::GET, url: url.clone(), headers, body: None }
}
