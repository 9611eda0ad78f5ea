//! Calls to a vault: as whom, where, and what each answer means.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroizing;

use super::super::http::{Body, Method, Reply, Request, Url, place};
use super::challenge::Challenge;
use super::credentials::Credentials;
use super::failure::{self, CallContext, DESCRIBE, LOOK_DELETED, Step};
use super::line::{Line, read_json};
use super::login::{self, Token};
use super::refusal::Refusal;
use super::settings::Settings;
use crate::env::{Deadline, Rng, Timestamp, run_apart};
use crate::error::{Error, Kind, Result};

/// The version of the API, of vaults and HSMs alike.
const API: &str = "2025-07-01";

/// A vault as the configuration has it. Nothing of a call outlives it, no token either.
pub(super) struct Client {
    pub(super) settings: Settings,
    rng: Arc<dyn Rng>,
}

/// A key that was deleted and can be recovered.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Deleted {
    scheduled_purge_date: Option<u64>,
}

/// What came of a request.
enum Outcome<T> {
    Done(T),
    /// A token that has more in it is wanted.
    Claims(Challenge),
}

impl Client {
    pub(super) fn new(settings: Settings, rng: Arc<dyn Rng>) -> Self {
        Self { settings, rng }
    }

    pub(super) fn rng(&self) -> &dyn Rng {
        &*self.rng
    }

    /// Does `work`, an operation that `what` names, apart: a signature takes more of a stack than a server's
    /// connection has.
    pub(super) fn run<T: Send>(
        &self,
        what: &str,
        by: Deadline,
        work: impl FnOnce(&Call<'_>) -> Result<T> + Send,
    ) -> Result<T> {
        by.left(what)?;
        run_apart(|| work(&self.call(by)?))?
    }

    /// Finds our credentials, asks the vault for what a token must be, without a body and without a token, and
    /// gets one.
    fn call(&self, by: Deadline) -> Result<Call<'_>> {
        let settings = &self.settings;
        let credentials = Credentials::find(settings)?;
        let line = Line::open(&settings.trust, by, &*self.rng)?;
        let path = format!("/keys/{}", settings.key.name);
        let to = Target { step: &DESCRIBE, path: &path, version: None };
        let url = url_of(settings, &path)?;
        let bare = || {
            let headers = Vec::new();
            Ok(Request { method: Method::GET, url: url.clone(), headers, body: None })
        };
        let challenge = line.ask(bare, |reply| match reply.status {
            401 => {
                let header = reply.header("www-authenticate").unwrap_or_default();
                Challenge::judged(header, &settings.key)
            }
            200..=399 => Err(failure::no_challenge(&settings.key.vault)),
            _ => Err(refused(settings, &credentials, &to, &reply)),
        })?;
        let token = login::token(&line, settings, &credentials, &challenge)?;
        Ok(Call { settings, line, token: RefCell::new(token), credentials })
    }
}

/// One operation: some requests, over connections that end with it, as one account.
pub(super) struct Call<'a> {
    settings: &'a Settings,
    line: Line<'a>,
    token: RefCell<Token>,
    pub(super) credentials: Credentials,
}

/// What is called.
pub(super) struct Target<'a> {
    pub(super) step: &'static Step,
    /// `/keys/NAME/VERSION/wrapkey`.
    pub(super) path: &'a str,
    /// The version that is meant, if one is.
    pub(super) version: Option<&'a str>,
}

impl Call<'_> {
    /// `https://example.vault.azure.net`.
    pub(super) fn place(&self) -> String {
        place(&self.settings.key.vault)
    }

    pub(super) fn get<T: DeserializeOwned>(&self, to: &Target<'_>) -> Result<T> {
        self.send(to, None).map_err(|error| self.or_deleted(error))
    }

    pub(super) fn post<T: DeserializeOwned>(&self, to: &Target<'_>, body: &Value) -> Result<T> {
        self.send(to, Some(body)).map_err(|error| self.or_deleted(error))
    }

    /// `error`, unless it is that there is no key and the key was deleted and can be recovered.
    fn or_deleted(&self, error: Error) -> Error {
        if !matches!(error.kind(), Kind::NotFound | Kind::NotMine) {
            return error;
        }
        let path = format!("/deletedkeys/{}", self.settings.key.name);
        let to = Target { step: &LOOK_DELETED, path: &path, version: None };
        match self.send::<Deleted>(&to, None) {
            Ok(Deleted { scheduled_purge_date }) => {
                let ends = scheduled_purge_date.map(Timestamp::from_unix);
                failure::deleted(&self.settings.key, ends)
            }
            // A caller without that right gets an error that names where to look.
            Err(_) => error,
        }
    }

    fn send<T: DeserializeOwned>(&self, to: &Target<'_>, body: Option<&Value>) -> Result<T> {
        let url = url_of(self.settings, to.path)?;
        let mut renewed = false;
        loop {
            let outcome = self.line.ask(
                || self.request(&url, body),
                |reply| match reply.status {
                    200 => Ok(Outcome::Done(read_json(&url, &reply)?)),
                    401 if !renewed => match self.claims(&reply)? {
                        Some(challenge) => Ok(Outcome::Claims(challenge)),
                        None => Err(self.refused(to, &reply)),
                    },
                    _ => Err(self.refused(to, &reply)),
                },
            )?;
            match outcome {
                Outcome::Done(answer) => return Ok(answer),
                Outcome::Claims(challenge) => {
                    let token =
                        login::token(&self.line, self.settings, &self.credentials, &challenge)?;
                    self.token.replace(token);
                    renewed = true;
                }
            }
        }
    }

    /// The challenge of a `reply` that wants a token with more in it.
    fn claims(&self, reply: &Reply) -> Result<Option<Challenge>> {
        let header = reply.header("www-authenticate").unwrap_or_default();
        match header.contains("insufficient_claims") {
            true => Challenge::judged(header, &self.settings.key).map(Some),
            false => Ok(None),
        }
    }

    fn request(&self, url: &Url, body: Option<&Value>) -> Result<Request> {
        let headers = vec![self.token.borrow().header()];
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let broken = |_| Error::new(Kind::Internal, "a request to Azure cannot be written");
        let body = body.map(|body| serde_json::to_vec(body).map_err(broken)).transpose()?;
        let body = body.map(|bytes| Body::Json(Zeroizing::new(bytes)));
        Ok(Request { method, url: url.clone(), headers, body })
    }

    fn refused(&self, to: &Target<'_>, reply: &Reply) -> Error {
        refused(self.settings, &self.credentials, to, reply)
    }
}

fn url_of(settings: &Settings, path: &str) -> Result<Url> {
    let url = settings.key.vault.join(&format!("{path}?api-version={API}"));
    url.map_err(|_| Error::new(Kind::Internal, "a request cannot be written"))
}

fn refused(
    settings: &Settings,
    credentials: &Credentials,
    to: &Target<'_>,
    reply: &Reply,
) -> Error {
    let context = CallContext {
        step: to.step,
        key: &settings.key,
        version: to.version,
        place: &place(&settings.key.vault),
        account: credentials.account(),
    };
    failure::refused(&context, reply.status, &Refusal::of(reply))
}
