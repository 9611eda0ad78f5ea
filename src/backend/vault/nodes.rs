//! Requests to a Vault: which node, again or not, and what each answer means.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroizing;

use super::super::http::{
    Body, Connection, HeaderName, Method, Reply, Request, TlsConfig, Url, is_loopback, is_private,
    place,
};
use crate::env::{Deadline, Retry, Rng};
use crate::error::{Error, Kind, Result};

/// How many requests are under way at a time where many are needed: so many connections.
const AT_ONCE: usize = 16;

/// The nodes of one Vault.
pub(super) struct Nodes {
    addresses: Vec<Url>,
    namespace: Option<String>,
    trust: TlsConfig,
    rng: Arc<dyn Rng>,
    /// The node that answered last.
    preferred: AtomicUsize,
    /// Whether each node is tried once.
    without_retries: bool,
}

impl Nodes {
    pub(super) fn new(
        addresses: Vec<Url>,
        namespace: Option<String>,
        trust: TlsConfig,
        rng: Arc<dyn Rng>,
    ) -> Self {
        let preferred = AtomicUsize::new(0);
        Self { addresses, namespace, trust, rng, preferred, without_retries: false }
    }

    /// Without retries; the caller retries.
    pub(super) fn without_retries(self) -> Self {
        Self { without_retries: true, ..self }
    }

    /// Begins an operation, which `what` names.
    pub(super) fn open(&self, what: impl std::fmt::Display, by: Deadline) -> Result<Exchange<'_>> {
        by.left(what)?;
        let line = Connection::open(&self.trust)?;
        Ok(Exchange { nodes: self, line, by, repeated: Cell::new(false) })
    }

    /// The namespace; empty where that is the root.
    pub(super) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    /// `Vault at https://vault:8200`, for people.
    pub(super) fn place(&self) -> String {
        let places: Vec<_> = self.addresses.iter().map(place).collect();
        format!("Vault at {}", places.join(", "))
    }

    /// Whom their TLS must be, and who we are.
    pub(super) fn trust(&self) -> &TlsConfig {
        &self.trust
    }

    /// Spreads what several processes would do at the same time.
    pub(super) fn rng(&self) -> &dyn Rng {
        &*self.rng
    }
}

/// One operation: some requests, over connections that end with it.
pub(super) struct Exchange<'a> {
    nodes: &'a Nodes,
    line: Connection,
    by: Deadline,
    /// Whether a request was sent twice, so that the first may have been carried out.
    repeated: Cell<bool>,
}

/// What Vault answered, if it was neither out of order nor a denial.
pub(super) struct Answer {
    /// 200, 204, 400 or 404.
    pub(super) status: u16,
    body: Zeroizing<Vec<u8>>,
    pub(super) place: String,
}

/// The body of a refusal. Its words are compared and never shown: they can hold what was sent.
#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<String>,
}

impl Exchange<'_> {
    /// Spreads what several processes would do at the same time.
    pub(super) fn rng(&self) -> &dyn Rng {
        self.nodes.rng()
    }

    /// When the operation ends.
    pub(super) fn by(&self) -> Deadline {
        self.by
    }

    /// The namespace, where that is not the root.
    pub(super) fn namespace(&self) -> Option<&str> {
        self.nodes.namespace.as_deref()
    }

    /// ` in the namespace team/db`, for people; nothing in the root.
    pub(super) fn in_namespace(&self) -> String {
        self.namespace().map_or_else(String::new, |name| format!(" in the namespace {name}"))
    }

    /// Whether a request was sent again after its first outcome was lost.
    pub(super) fn was_repeated(&self) -> bool {
        self.repeated.get()
    }

    /// The answers to many requests, some under way at a time, from the node that answered last;
    /// nothing for one that did not come at the first attempt.
    pub(super) fn get_all(&self, paths: &[String], token: &str) -> Result<Vec<Option<Answer>>> {
        let base = &self.nodes.addresses[self.nodes.preferred.load(Ordering::Relaxed)];
        let request = |path: &String| self.request(base, Method::GET, path, None, Some(token));
        let requests = paths.iter().map(request).collect::<Result<Vec<_>>>()?;
        let replies = self.line.send_all(requests, AT_ONCE, self.by)?;
        let answers = replies.into_iter().map(|reply| match reply {
            Ok(reply) if matches!(reply.status, 200 | 404) => {
                self.understood(base, reply, self.by).map(Some)
            }
            _ => Ok(None),
        });
        answers.collect()
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
        let nodes = self.nodes.addresses.len();
        let mut retry = Retry::until(self.by, &*self.nodes.rng);
        let mut cause: Option<Error> = None;
        loop {
            let first = self.nodes.preferred.load(Ordering::Relaxed);
            let mut may_repeat = false;
            for turn in 0..nodes {
                let node = (first + turn) % nodes;
                match self.send_to(node, nodes - turn, method, path, body, token) {
                    Ok(answer) => {
                        self.nodes.preferred.store(node, Ordering::Relaxed);
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
            if !may_repeat || self.nodes.without_retries || !retry.wait() {
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
        let base = &self.nodes.addresses[node];
        let by = self.by.share(nodes_left, format_args!("calling Vault at {}", place(base)))?;
        let request = |base: &Url| self.request(base, method.clone(), path, body, token);
        let reply = self.line.send(request(base)?, by)?;
        let Some(leader) = redirect(base, &reply)? else { return self.understood(base, reply, by) };
        let reply = self.line.send(request(&leader)?, by)?;
        match redirect(&leader, &reply)? {
            None => self.understood(&leader, reply, by),
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
        let headers = headers(self.namespace(), token);
        let body = body.map(serde_json::to_vec).transpose().map_err(|_| broken())?;
        let body = body.map(|bytes| Body::Json(Zeroizing::new(bytes)));
        Ok(Request { method, url, headers, body })
    }

    /// What a node answers in another namespace than ours, without a token.
    pub(super) fn ask_in(
        &self,
        namespace: &str,
        base: &Url,
        path: &str,
        by: Deadline,
    ) -> Result<Answer> {
        let request = self.request(base, Method::GET, path, None, None)?;
        let headers = headers(Some(namespace), None);
        Ok(Answer::of(base, self.line.send(Request { headers, ..request }, by)?))
    }

    /// The answer of the node at `base`, unless it tells how the node or our namespace is.
    fn understood(&self, base: &Url, reply: Reply, by: Deadline) -> Result<Answer> {
        let answer = Answer::of(base, reply);
        self.check_namespace(base, &answer, by)?;
        understood(answer)
    }
}

/// The headers of a request.
fn headers(namespace: Option<&str>, token: Option<&str>) -> Vec<(HeaderName, Zeroizing<String>)> {
    let header =
        |name, value: &str| (HeaderName::from_static(name), Zeroizing::new(value.to_owned()));
    let mut headers = vec![header("x-vault-request", "true")];
    headers.extend(namespace.map(|namespace| header("x-vault-namespace", namespace)));
    headers.extend(token.map(|token| header("x-vault-token", token)));
    headers
}

impl Answer {
    fn of(base: &Url, reply: Reply) -> Self {
        Self { status: reply.status, body: reply.body, place: place(base) }
    }

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
fn understood(answer: Answer) -> Result<Answer> {
    let place = &answer.place;
    let away = |what: &str| Error::new(Kind::Unavailable, format!("Vault at {place} {what}"));
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
