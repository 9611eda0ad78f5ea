//! Calls to a Vault with our token.

#![forbid(unsafe_code)]

use std::sync::Arc;

use serde_json::Value;

use super::super::http::Method;
use super::nodes::{Answer, Exchange, Nodes};
use super::session::Session;
use super::settings::Settings;
use crate::env::{Clock as _, Deadline, Rng, System, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::provider::{End, Maintain};

/// What Vault says of a token that was revoked, is over or never was; of one without a right it does not.
const INVALID_TOKEN: &str = "invalid token";

/// One Vault and our log-in to it, shared by all threads.
pub struct Client {
    nodes: Nodes,
    pub(super) session: Session,
}

/// A client, and the two parts of a path in it.
pub(super) type PathParts<'a> = (&'a Arc<Client>, &'a str, &'a str);

impl Settings {
    /// A client that has called nobody yet.
    pub fn client(self, rng: Arc<dyn Rng>) -> Arc<Client> {
        Arc::new(Client::new(self, rng))
    }
}

impl Client {
    pub(super) fn new(settings: Settings, rng: Arc<dyn Rng>) -> Self {
        let Settings { addresses, namespace, trust, login } = settings;
        let nodes = Nodes::new(addresses, namespace, trust, rng);
        Self { nodes, session: Session::new(login) }
    }

    /// Without retries; the caller retries.
    pub(super) fn without_retries(self) -> Self {
        Self { nodes: self.nodes.without_retries(), ..self }
    }

    /// Begins an operation, which `what` names.
    pub(super) fn call(&self, what: impl std::fmt::Display, by: Deadline) -> Result<Call<'_>> {
        Ok(Call { client: self, exchange: self.nodes.open(what, by)? })
    }

    /// The namespace; empty where that is the root.
    pub(super) fn namespace(&self) -> &str {
        self.nodes.namespace()
    }

    /// The beginning of a line for Vault's own command, which OpenBao calls `bao`: `vault kv put`, and
    /// the namespace where there is one.
    pub(super) fn command(&self, words: &str) -> String {
        match self.namespace() {
            "" => format!("vault {words}"),
            namespace => format!("vault {words} -namespace={namespace}"),
        }
    }

    /// When certificates end, and the token that we were given.
    pub(super) fn ends(&self, now: Timestamp) -> Vec<End> {
        let token = self.session.given_token_ends(now);
        self.nodes.trust().ends().into_iter().chain(token).collect()
    }

    /// `Vault at https://vault:8200`, for people.
    pub(super) fn place(&self) -> String {
        self.nodes.place()
    }
}

impl Maintain for Client {
    fn maintain(&self, by: Deadline) -> Result<()> {
        self.session.renew_if_due(&self.nodes, by)?;
        self.session.warn_of_end(System.now())
    }
}

/// One operation, as the one that we are logged in as.
pub(super) struct Call<'a> {
    pub(super) client: &'a Client,
    exchange: Exchange<'a>,
}

impl Call<'_> {
    pub(super) fn get(&self, path: &str) -> Result<Answer> {
        self.ask(Method::GET, path, None)
    }

    /// The answers to many, some under way at a time. What does not come at the first attempt is
    /// asked for as [`Self::get`] does.
    pub(super) fn get_all(&self, paths: &[String]) -> Result<Vec<Answer>> {
        let token = self.client.session.token(&self.exchange)?.text()?;
        let answers = self.exchange.get_all(paths, &token)?;
        let or_again = |(path, answer): (&String, Option<Answer>)| match answer {
            Some(answer) => Ok(answer),
            None => self.get(path),
        };
        paths.iter().zip(answers).map(or_again).collect()
    }

    /// The names at `path`.
    pub(super) fn list(&self, path: &str) -> Result<Answer> {
        self.ask(Method::GET, &format!("{path}?list=true"), None)
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.ask(Method::POST, path, Some(body))
    }

    /// When the operation ends.
    pub(super) fn by(&self) -> Deadline {
        self.exchange.by()
    }

    /// Whether a request was sent again after its first outcome was lost.
    pub(super) fn was_repeated(&self) -> bool {
        self.exchange.was_repeated()
    }

    /// Asks with our token; once more with a new one where that had become invalid.
    fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let (session, to) = (&self.client.session, &self.exchange);
        let token = session.token(to)?;
        let answer = to.send(&method, path, body, Some(&token.text()?))?;
        if answer.status != 403 {
            return Ok(answer);
        }
        let Some(token) = session.token_after_denial(to, &token)? else {
            return Err(self.denied(&answer, &method, path));
        };
        match to.send(&method, path, body, Some(&token.text()?))? {
            answer if answer.status == 403 => Err(self.denied(&answer, &method, path)),
            answer => Ok(answer),
        }
    }

    fn denied(&self, answer: &Answer, method: &Method, path: &str) -> Error {
        let place = &answer.place;
        // A policy has nothing to do with it then.
        if answer.says(INVALID_TOKEN) {
            let what = format!("Vault at {place} does not accept our token");
            return Error::new(Kind::Denied, what).advise(self.client.session.token_advice());
        }
        let (path, right) = match path.strip_suffix("?list=true") {
            Some(path) => (format!("{path}/"), "list"),
            None => {
                let path = path.split('?').next().unwrap_or(path).to_owned();
                (path, if *method == Method::GET { "read" } else { "update" })
            }
        };
        let namespace = self.exchange.in_namespace();
        Error::new(Kind::Denied, format!("Vault at {place} denies {right} on {path}{namespace}"))
            .advise(format!(
                "add to the policy: path \"{path}\" {{ capabilities = [\"{right}\"] }}"
            ))
    }
}
