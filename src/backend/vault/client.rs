//! Calls to a Vault: which node, with which token, again or not, and what each answer means.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroizing;

use super::super::http::{Connection, Method, Reply, Request, Url, is_loopback, is_private, place};
use super::login::Session;
use super::settings::Settings;
use crate::env::{Deadline, Retry, Rng};
use crate::error::{Error, Kind, Result};
use crate::provider::Maintain;

/// How many requests are under way at a time where many are needed: so many connections.
const AT_ONCE: usize = 16;

/// One Vault and our log-in to it, shared by all threads.
pub struct Client {
    pub(super) settings: Settings,
    pub(super) session: Mutex<Session>,
    pub(super) rng: Arc<dyn Rng>,
    /// The node that answered last.
    preferred: AtomicUsize,
    /// Whether each node is tried once.
    without_retries: bool,
}

impl Client {
    pub(super) fn new(settings: Settings, rng: Arc<dyn Rng>) -> Self {
        let session = Mutex::new(Session::default());
        Self { settings, session, rng, preferred: AtomicUsize::new(0), without_retries: false }
    }

    /// Without retries; the caller retries.
    pub(super) fn without_retries(self) -> Self {
        Self { without_retries: true, ..self }
    }

    /// Begins an operation, which `what` names.
    pub(super) fn call(&self, what: impl std::fmt::Display, by: Deadline) -> Result<Call<'_>> {
        by.left(what)?;
        let line = Connection::open(&self.settings.trust)?;
        Ok(Call { client: self, line, by, repeated: Cell::new(false) })
    }

    /// The namespace; empty where that is the root.
    pub(super) fn namespace(&self) -> &str {
        self.settings.namespace.as_deref().unwrap_or_default()
    }

    /// `Vault at https://vault:8200`, for people.
    pub(super) fn place(&self) -> String {
        let places: Vec<_> = self.settings.addresses.iter().map(place).collect();
        format!("Vault at {}", places.join(", "))
    }
}

impl Maintain for Client {
    fn maintain(&self, by: Deadline) -> Result<()> {
        self.renew_if_due(by)
    }
}

/// One operation: some requests, over connections that end with it.
pub(super) struct Call<'a> {
    pub(super) client: &'a Client,
    pub(super) line: Connection,
    pub(super) by: Deadline,
    /// Whether a request was sent twice, so that the first may have been carried out.
    repeated: Cell<bool>,
}

/// What Vault answered, if it was neither out of order nor a denial.
pub(super) struct Answer {
    /// 200, 204, 400 or 404.
    pub(super) status: u16,
    body: Zeroizing<Vec<u8>>,
    place: String,
}

/// The body of a refusal. Its words are compared and never shown: they can hold what was sent.
#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<String>,
}

impl Call<'_> {
    pub(super) fn get(&self, path: &str) -> Result<Answer> {
        self.ask(Method::GET, path, None)
    }

    /// The answers to many, some under way at a time. What does not come at the first attempt is
    /// asked for as [`Self::get`] does.
    pub(super) fn get_all(&self, paths: &[String]) -> Result<Vec<Answer>> {
        let token = self.token()?.text()?;
        let first = self.client.preferred.load(Ordering::Relaxed);
        let base = &self.client.settings.addresses[first];
        let request = |path: &String| self.request(base, Method::GET, path, None, Some(&token));
        let requests = paths.iter().map(request).collect::<Result<Vec<_>>>()?;
        let replies = self.line.send_all(requests, AT_ONCE, self.by)?;
        let answers = paths.iter().zip(replies).map(|(path, reply)| match reply {
            Ok(reply) if matches!(reply.status, 200 | 404) => understood(base, reply),
            _ => self.get(path),
        });
        answers.collect()
    }

    /// The names at `path`.
    pub(super) fn list(&self, path: &str) -> Result<Answer> {
        self.ask(Method::GET, &format!("{path}?list=true"), None)
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.ask(Method::POST, path, Some(body))
    }

    /// Whether a request was sent again after its first outcome was lost.
    pub(super) fn was_repeated(&self) -> bool {
        self.repeated.get()
    }

    /// Asks with our token; once more with a new one where that had become invalid.
    fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let token = self.token()?;
        let answer = self.send(&method, path, body, Some(&token.text()?))?;
        if answer.status != 403 {
            return Ok(answer);
        }
        let Some(token) = self.token_after_denial(&token)? else {
            return Err(denied(&answer.place, &method, path));
        };
        match self.send(&method, path, body, Some(&token.text()?))? {
            Answer { status: 403, place, .. } => Err(denied(&place, &method, path)),
            answer => Ok(answer),
        }
    }

    /// Sends to the nodes in turn, again and again while the failures are transient, until the
    /// deadline. The error is the last cause but for a timeout, if there was another.
    pub(super) fn send(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        token: Option<&str>,
    ) -> Result<Answer> {
        let nodes = self.client.settings.addresses.len();
        let mut retry = Retry::until(self.by, &*self.client.rng);
        let mut cause: Option<Error> = None;
        loop {
            let first = self.client.preferred.load(Ordering::Relaxed);
            let mut may_repeat = false;
            for turn in 0..nodes {
                let node = (first + turn) % nodes;
                match self.send_to(node, nodes - turn, method, path, body, token) {
                    Ok(answer) => {
                        self.client.preferred.store(node, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    Err(error) => {
                        may_repeat |= error.is_transient();
                        self.repeated.set(true);
                        // A deadline that ran out says less than the failure before it.
                        let says_more = error.kind() != Kind::Timeout;
                        if says_more || cause.is_none() {
                            cause = Some(error);
                        }
                    }
                }
            }
            if !may_repeat || self.client.without_retries || !retry.wait() {
                return Err(
                    cause.unwrap_or_else(|| Error::new(Kind::Config, "Vault has no address"))
                );
            }
        }
    }

    /// Sends to one node, which gets its share of the time that is left, and follows it once where
    /// it names the leader.
    fn send_to(
        &self,
        node: usize,
        nodes_left: usize,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        token: Option<&str>,
    ) -> Result<Answer> {
        let base = &self.client.settings.addresses[node];
        let by = self.by.share(nodes_left, format_args!("calling Vault at {}", place(base)))?;
        let request = |base: &Url| self.request(base, method.clone(), path, body, token);
        let reply = self.line.send(request(base)?, by)?;
        let Some(leader) = redirect(base, &reply)? else { return understood(base, reply) };
        let reply = self.line.send(request(&leader)?, by)?;
        match redirect(&leader, &reply)? {
            None => understood(&leader, reply),
            Some(_) => Err(Error::new(
                Kind::Unavailable,
                format!("Vault at {} knows of no leader: it sends us in a circle", place(base)),
            )),
        }
    }

    fn request(
        &self,
        base: &Url,
        method: Method,
        path: &str,
        body: Option<&Value>,
        token: Option<&str>,
    ) -> Result<Request> {
        let broken = || Error::new(Kind::Internal, "a request to Vault cannot be written");
        let url = base.join(&format!("/v1/{path}")).map_err(|_| broken())?;
        let mut headers = vec![("x-vault-request", Zeroizing::new("true".to_owned()))];
        if let Some(namespace) = &self.client.settings.namespace {
            headers.push(("x-vault-namespace", Zeroizing::new(namespace.clone())));
        }
        if let Some(token) = token {
            headers.push(("x-vault-token", Zeroizing::new(token.to_owned())));
        }
        let body = body.map(serde_json::to_vec).transpose().map_err(|_| broken())?;
        Ok(Request { method, url, headers, body: body.map(Zeroizing::new) })
    }
}

impl Answer {
    /// Whether it did what it was asked.
    pub(super) fn is_ok(&self) -> bool {
        matches!(self.status, 200 | 204)
    }

    /// The body, which must be what the API promises.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|_| {
            let what = format!("Vault at {} returned an unexpected response", self.place);
            Error::new(Kind::Unavailable, what).advise("is it the right address and mount?")
        })
    }

    /// Whether its complaint has these words in it.
    pub(super) fn says(&self, words: &str) -> bool {
        let errors =
            serde_json::from_slice(&self.body).map_or_else(|_| Vec::new(), |e: Errors| e.errors);
        errors.iter().any(|error| error.contains(words))
    }

    /// The error for a refusal that nobody foresaw; it names what was refused and no word of the
    /// answer.
    pub(super) fn unexpected(&self, doing: &str) -> Error {
        let what = format!("Vault at {} refuses {doing} (status {})", self.place, self.status);
        Error::new(Kind::Denied, what).advise("its audit log has the reason")
    }
}

/// Where `reply` sends us, if it does: to the same path on another node. Never from https to http, and
/// from plain http, where anybody could answer, nowhere but to this machine.
pub(super) fn redirect(base: &Url, reply: &Reply) -> Result<Option<Url>> {
    if !matches!(reply.status, 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    match &reply.location {
        Some(to) if to.has_host() && may_lead(base, to) => Ok(Some(to.clone())),
        _ => Err(Error::new(
            Kind::Unavailable,
            format!("Vault at {} sends us to a place that cannot be trusted", place(base)),
        )
        .advise("set its api_addr to an https address")),
    }
}

fn may_lead(from: &Url, to: &Url) -> bool {
    match from.scheme() {
        "https" => to.scheme() == "https",
        _ => is_private(to) && is_loopback(to),
    }
}

/// Sorts the answers that say how the node is from those that say something of the request.
fn understood(base: &Url, reply: Reply) -> Result<Answer> {
    let place = place(base);
    let away = |what: &str| Error::new(Kind::Unavailable, format!("Vault at {place} {what}"));
    let answer = Answer { status: reply.status, body: reply.body, place: place.clone() };
    Err(match answer.status {
        200 | 204 | 400 | 403 | 404 => return Ok(answer),
        412 => away("has not caught up with its leader yet"),
        429 => away("asks us to come back later: a quota of requests is used up")
            .advise("raise the quota, or poll less often with `refresh`"),
        472 => away("is the standby of a disaster recovery pair").advise("name the primary first"),
        473 => {
            away("is a performance standby and does not forward").advise("name the leader first")
        }
        501 => away("is not initialised").advise("run `vault operator init` there"),
        503 if answer.says("sealed") => {
            away("is sealed").advise("unseal it with `vault operator unseal`")
        }
        502..=504 => away(&format!("is out of order (status {})", answer.status)),
        500..=599 => away(&format!("fails (status {})", answer.status)).advise("see its log"),
        other => Error::new(Kind::Config, format!("{place} is no Vault (status {other})"))
            .advise("correct the address"),
    })
}

fn denied(place: &str, method: &Method, path: &str) -> Error {
    let (path, right) = match path.strip_suffix("?list=true") {
        Some(path) => (format!("{path}/"), "list"),
        None => {
            let path = path.split('?').next().unwrap_or(path).to_owned();
            (path, if *method == Method::GET { "read" } else { "update" })
        }
    };
    Error::new(Kind::Denied, format!("Vault at {place} denies {right} on {path}"))
        .advise(format!("add to the policy: path \"{path}\" {{ capabilities = [\"{right}\"] }}"))
}
