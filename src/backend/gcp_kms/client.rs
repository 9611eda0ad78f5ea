//! Calls to Cloud KMS: as whom, where, and what each answer means.

#![forbid(unsafe_code)]

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::http::{Method, Reply, Request, Url, place};
use super::adc;
use super::failure::{self, CallContext, Step};
use super::line::{Line, header, json, read_json};
use super::login::{self, Token};
use super::settings::Settings;
use crate::env::{Deadline, Rng, run_apart};
use crate::error::{Error, Kind, Result};

/// Cloud KMS as the configuration has it. Nothing of a call outlives it, no token either.
pub(super) struct Client {
    pub(super) settings: Settings,
    rng: Arc<dyn Rng>,
}

impl Client {
    pub(super) fn new(settings: Settings, rng: Arc<dyn Rng>) -> Self {
        Self { settings, rng }
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

    /// Finds our credentials and gets a token by them.
    fn call(&self, by: Deadline) -> Result<Call<'_>> {
        let settings = &self.settings;
        let found = adc::find(settings)?;
        let line = Line::open(&settings.trust, by, &*self.rng)?;
        let token = login::token(&line, settings, &found)?;
        let named = [&settings.quota_project, &settings.environment.quota_project];
        let named = named.into_iter().flatten().next().cloned();
        let quota_project = named.or(found.quota_project);
        Ok(Call { settings, line, token, quota_project, credentials: found.place })
    }
}

/// One operation: some requests, over connections that end with it, as one account.
pub(super) struct Call<'a> {
    settings: &'a Settings,
    line: Line<'a>,
    pub(super) token: Token,
    quota_project: Option<String>,
    /// Where the credentials are from, for people.
    pub(super) credentials: String,
}

/// What is called, in words of Cloud KMS: a resource and what to do with it.
pub(super) struct Target<'a> {
    pub(super) step: &'static Step,
    /// `projects/...:encrypt`.
    pub(super) path: &'a str,
    /// The version that is meant, if one is.
    pub(super) version: Option<u64>,
}

impl Call<'_> {
    /// When the operation ends.
    pub(super) fn by(&self) -> Deadline {
        self.line.by()
    }

    /// `https://cloudkms.googleapis.com`.
    pub(super) fn place(&self) -> String {
        place(&self.settings.endpoint)
    }

    pub(super) fn get<T: DeserializeOwned>(&self, to: &Target<'_>) -> Result<T> {
        self.send(to, None, Ok)
    }

    pub(super) fn post<T: DeserializeOwned>(&self, to: &Target<'_>, body: &Value) -> Result<T> {
        self.send(to, Some(body), Ok)
    }

    /// The same, where `check` has a say in whether the answer counts.
    pub(super) fn post_checked<T: DeserializeOwned, U>(
        &self,
        to: &Target<'_>,
        body: &Value,
        check: impl Fn(T) -> Result<U>,
    ) -> Result<U> {
        self.send(to, Some(body), check)
    }

    fn send<T: DeserializeOwned, U>(
        &self,
        to: &Target<'_>,
        body: Option<&Value>,
        check: impl Fn(T) -> Result<U>,
    ) -> Result<U> {
        let url = self.settings.endpoint.join(&format!("/v1/{}", to.path));
        let url = url.map_err(|_| Error::new(Kind::Internal, "a request cannot be written"))?;
        self.line.ask(
            || self.request(&url, body),
            |reply| match reply.status {
                200 => check(read_json(&url, &reply)?),
                _ => Err(self.refused(to, &reply)),
            },
        )
    }

    fn request(&self, url: &Url, body: Option<&Value>) -> Result<Request> {
        let mut headers = vec![self.token.header()];
        if let Some(project) = &self.quota_project {
            headers.push(header("x-goog-user-project", project));
        }
        let method = if body.is_some() { Method::POST } else { Method::GET };
        Ok(Request { method, url: url.clone(), headers, body: body.map(json).transpose()? })
    }

    fn refused(&self, to: &Target<'_>, reply: &Reply) -> Error {
        let context = CallContext {
            step: to.step,
            key: &self.settings.key,
            version: to.version,
            place: &self.place(),
            account: self.token.account.as_deref(),
            quota_project: self.quota_project.as_deref(),
        };
        failure::refused(&context, reply)
    }
}
