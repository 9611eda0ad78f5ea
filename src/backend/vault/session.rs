//! Logging in to Vault, and staying logged in.

#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::super::http::Method;
use super::jwt::Claims;
use super::login::{Jwt, Login, RoleId};
use super::nodes::{Answer, Exchange, Nodes};
use crate::env::{Clock as _, Deadline, Rng, System, Timestamp, jittered};
use crate::error::{Error, Kind, Result};
use crate::provider::{End, Ending, FreshLogin};
use crate::secret::SecretBytes;
use crate::secret::source::{SecretSource, without_line_end};
use crate::trust;

/// The longest token, secret id or JWT, in bytes.
const MAX_SECRET: usize = 64 * 1024;

/// The shortest pause between two attempts to renew.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// No token is believed to live longer than this: as good as for ever, and within what a clock can show.
const LONGEST_LEASE: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A token this young is not the reason of a denial.
const FRESH: Duration = Duration::from_secs(1);

/// How long credentials that were refused are not tried again: Vault locks a role or a user out, for all
/// who log in so, after five failures of which none is older than 15 minutes; a directory does the like.
const REFUSED_FOR: Duration = Duration::from_secs(300);

/// A token that was given ends soon where this much of its life is left, or less than a quarter: one that is
/// renewed has always more.
const SOON: Duration = Duration::from_secs(7 * 86_400);

/// Why a token is not accepted.
const REVOKED: &str = "it was revoked, is over, or belongs to another namespace";

/// Our log-in to a Vault, shared by all threads.
pub(super) struct Session {
    login: Login,
    state: Mutex<State>,
}

/// A log-in as it stands.
#[derive(Default)]
struct State {
    token: Option<Arc<Token>>,
    /// A secret id that was unwrapped, with the wrapping token that it came from: that works once.
    unwrapped: Option<(SecretBytes, SecretBytes)>,
    /// The credentials that were refused last.
    refused: Option<Refused>,
    /// Not before this does the next attempt to renew begin.
    not_before: Option<Instant>,
    /// Whether it was told that the token ends soon.
    end_told: bool,
}

/// Credentials that Vault refused, and how.
struct Refused {
    /// SHA-256 of them.
    digest: [u8; 32],
    status: u16,
    until: Instant,
}

/// A token of Vault's.
pub(super) struct Token {
    value: SecretBytes,
    since: Instant,
    lease: Option<Lease>,
    /// How long it lived at most, from the moment we had it or it was renewed.
    life: Duration,
    /// When it ends however often it is renewed.
    last: Option<Timestamp>,
}

/// How long a token lives.
struct Lease {
    renewable: bool,
    renew_at: Instant,
    ends: Instant,
}

/// What a log-in or a renewal answers.
#[derive(Deserialize)]
struct Auth {
    auth: AuthBody,
}

#[derive(Deserialize)]
struct AuthBody {
    client_token: String,
    /// Seconds; 0 = for ever.
    lease_duration: u64,
    renewable: bool,
}

/// What a token says of itself.
#[derive(Deserialize)]
struct Lookup {
    data: LookupBody,
}

#[derive(Deserialize)]
struct LookupBody {
    /// Seconds; 0 = for ever.
    ttl: u64,
    #[serde(default)]
    renewable: bool,
    /// Seconds since 1970.
    #[serde(default)]
    creation_time: u64,
    /// Seconds from its creation on; 0 = no renewal is too late.
    #[serde(default)]
    explicit_max_ttl: u64,
    /// Where it was made; nothing where there are no namespaces.
    #[serde(default)]
    namespace_path: String,
}

impl LookupBody {
    fn last(&self) -> Option<Timestamp> {
        let last = self.creation_time.saturating_add(self.explicit_max_ttl);
        (self.explicit_max_ttl > 0).then(|| Timestamp::from_unix(last))
    }
}

/// What unwrapping a secret id answers.
#[derive(Deserialize)]
struct Unwrapped {
    data: UnwrappedBody,
}

#[derive(Deserialize)]
struct UnwrappedBody {
    secret_id: String,
}

impl Token {
    fn new(value: SecretBytes, seconds: u64, renewable: bool, rng: &dyn Rng) -> Self {
        let now = Instant::now();
        let all = Duration::from_secs(seconds).min(LONGEST_LEASE);
        let lease = (seconds > 0).then(|| {
            // Two thirds of it at the latest.
            let renew_at = now + jittered(all / 6, rng) + all / 2;
            Lease { renewable, renew_at, ends: now + all }
        });
        Self { value, since: now, lease, life: all, last: None }
    }

    /// The same token as `before` where it has that one's value: looked up again, it is as old as it was.
    fn following(self, before: Option<&Self>) -> Self {
        match before.filter(|before| before.value.expose() == self.value.expose()) {
            Some(before) => {
                let last = self.last.or(before.last);
                Self { life: self.life.max(before.life), last, ..self }
            }
            None => self,
        }
    }

    /// Whether it ends soon, and has not ended.
    fn ends_soon(&self) -> bool {
        let left = |lease: &Lease| lease.ends.saturating_duration_since(Instant::now());
        let soon = SOON.min(self.life / 4);
        self.lease.as_ref().map(left).is_some_and(|left| !left.is_zero() && left < soon)
    }

    /// The token as a header needs it.
    pub(super) fn text(&self) -> Result<Zeroizing<String>> {
        text(&self.value, "the token")
    }

    fn is_over(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| Instant::now() >= lease.ends)
    }
}

impl Session {
    /// No log-in yet.
    pub(super) fn new(login: Login) -> Self {
        Self { login, state: Mutex::default() }
    }

    /// What a second log-in costs: a secret id may be good for a number of log-ins, and a wrapped one
    /// can be unwrapped once.
    pub(super) fn fresh_login(&self) -> FreshLogin {
        match &self.login {
            Login::AppRole { wrapped: true, .. } => FreshLogin::Spends(
                "its secret id is wrapped, which unwraps only once, so no new log-in is tried",
            ),
            Login::AppRole { .. } => FreshLogin::Spends(
                "no new log-in is tried, because each may use up its AppRole secret id",
            ),
            Login::Token(_)
            | Login::Jwt { .. }
            | Login::User { .. }
            | Login::Certificate { .. } => FreshLogin::Repeatable,
        }
    }

    /// Checks that the secrets of a log-in can be read. Vault is not asked.
    pub(super) fn credentials_readable(&self) -> Result<()> {
        match &self.login {
            Login::Token(source) => read(source).map(drop),
            Login::AppRole { role_id, secret_id, .. } => {
                if let RoleId::From(source) = role_id {
                    read(source)?;
                }
                read(secret_id).map(drop)
            }
            Login::Jwt { jwt: Jwt::Secret(source), .. } | Login::User { password: source, .. } => {
                read(source).map(drop)
            }
            Login::Jwt { jwt: Jwt::Pod(path), .. } => pod_token(path).map(drop),
            Login::Certificate { .. } => Ok(()),
        }
    }

    /// Whether the token can only be renewed, not replaced.
    pub(super) fn lives_by_renewal(&self) -> bool {
        let state = self.state();
        let lease = state.token.as_ref().and_then(|token| token.lease.as_ref());
        matches!(self.login, Login::Token(_)) && lease.is_some_and(|lease| lease.renewable)
    }

    /// When the token ends that the configuration gives, once a call has shown it; one that a log-in made is
    /// followed by the next.
    pub(super) fn given_token_ends(&self, now: Timestamp) -> Option<End> {
        let state = self.state();
        let token = state.token.as_ref()?;
        let lease = token.lease.as_ref()?;
        let left = lease.ends.saturating_duration_since(Instant::now()).as_secs();
        let end = match token.last.filter(|_| lease.renewable) {
            Some(at) => End { what: Ending::Token { renewable: false }, at },
            None => End {
                what: Ending::Token { renewable: lease.renewable },
                at: Timestamp::from_unix(now.as_unix().saturating_add(left)),
            },
        };
        matches!(self.login, Login::Token(_)).then_some(end)
    }

    /// An error, once, where the token of the configuration ends soon.
    pub(super) fn warn_of_end(&self, now: Timestamp) -> Result<()> {
        let (Login::Token(source), Some(end)) = (&self.login, self.given_token_ends(now)) else {
            return Ok(());
        };
        let mut state = self.state();
        let soon = state.token.as_ref().is_some_and(|token| token.ends_soon());
        let was_told = std::mem::replace(&mut state.end_told, soon);
        if !soon || was_told {
            return Ok(());
        }
        let what = format!("its token ends at {}, and is not renewed beyond that", end.at);
        Err(Error::new(Kind::Denied, what).advise(format!("put a new one into {source} before")))
    }

    /// What to do about a token that is not accepted.
    pub(super) fn token_advice(&self) -> String {
        match &self.login {
            Login::Token(source) => format!("{REVOKED}: put a new one into {source}"),
            // The log-in gave it a moment ago.
            _ => "it was revoked as soon as it was made: Vault's audit log says by whom".to_owned(),
        }
    }

    /// Renews the token if two thirds of its lease have passed; logs in again where it cannot be
    /// renewed. Does nothing before the first log-in.
    pub(super) fn renew_if_due(&self, nodes: &Nodes, by: Deadline) -> Result<()> {
        let now = Instant::now();
        {
            let state = self.state();
            let lease = state.token.as_ref().and_then(|token| token.lease.as_ref());
            let due = lease.is_some_and(|lease| now >= lease.renew_at);
            if !due || state.not_before.is_some_and(|at| now < at) {
                return Ok(());
            }
        }
        let outcome = nodes.open("renewing the log-in to Vault", by).and_then(|to| self.renew(&to));
        let mut state = self.state();
        let lease = state.token.as_ref().and_then(|token| token.lease.as_ref());
        let left = lease.map(|lease| lease.ends.saturating_duration_since(now)).unwrap_or_default();
        state.not_before = match outcome {
            Ok(()) => None,
            Err(_) => Some(now + jittered((left / 4).max(SHORTEST_PAUSE * 2), nodes.rng())),
        };
        outcome
    }

    /// Our token; logs in where there is none or its time is over. Others wait for it meanwhile.
    pub(super) fn token(&self, to: &Exchange<'_>) -> Result<Arc<Token>> {
        let mut state = self.state();
        if let Some(token) = state.token.as_ref().filter(|token| !token.is_over()) {
            return Ok(Arc::clone(token));
        }
        self.log_in(to, &mut state)
    }

    /// A new token after Vault denied something to `refused`, unless that was new itself.
    pub(super) fn token_after_denial(
        &self,
        to: &Exchange<'_>,
        refused: &Arc<Token>,
    ) -> Result<Option<Arc<Token>>> {
        let mut state = self.state();
        match &state.token {
            // Renewed meanwhile, it is the same token still.
            Some(token) if token.value.expose() != refused.value.expose() => {
                Ok(Some(Arc::clone(token)))
            }
            _ if refused.since.elapsed() < FRESH => Ok(None),
            _ => self.log_in(to, &mut state).map(Some),
        }
    }

    fn renew(&self, to: &Exchange<'_>) -> Result<()> {
        let mut state = self.state();
        let Some(token) = state.token.clone() else { return Ok(()) };
        if token.lease.as_ref().is_some_and(|lease| lease.renewable) {
            let answer = to.send(
                &Method::POST,
                "auth/token/renew-self",
                Some(&json!({})),
                Some(&token.text()?),
            )?;
            if answer.is_ok() {
                let AuthBody { lease_duration, renewable, .. } = answer.json::<Auth>()?.auth;
                let value = SecretBytes::copy_of(token.value.expose());
                // It is as old as it was: a denial right after its renewal may well be its own.
                let renewed = Token::new(value, lease_duration, renewable, to.rng());
                let renewed = Token { since: token.since, ..renewed.following(Some(&token)) };
                // Near its last day a token is renewed by less and less.
                let longer = match (&renewed.lease, &token.lease) {
                    (Some(new), Some(old)) => new.ends > old.ends,
                    _ => true,
                };
                if longer || matches!(self.login, Login::Token(_)) {
                    state.token = Some(Arc::new(renewed));
                    return Ok(());
                }
            }
        }
        self.log_in(to, &mut state).map(drop)
    }

    fn log_in(&self, to: &Exchange<'_>, state: &mut State) -> Result<Arc<Token>> {
        let token = match &self.login {
            Login::Token(source) => Self::look_up(to, source)?.following(state.token.as_deref()),
            Login::AppRole { mount, role_id, secret_id, wrapped } => {
                let role_id = match role_id {
                    RoleId::Given(role_id) => Zeroizing::new(role_id.clone()),
                    RoleId::From(source) => text(&read(source)?, source)?,
                };
                let secret = Self::secret_id(to, secret_id, *wrapped, state)?;
                let body = json!({ "role_id": *role_id, "secret_id": *secret });
                let attempt = Attempt {
                    mount,
                    path: format!("auth/{mount}/login"),
                    digest: digest(&role_id, &secret),
                    reason: "its role id or secret id is wrong, over or used up",
                };
                attempt.log_in_unless_refused(to, &body, state)?
            }
            Login::User { mount, name, password } => {
                let password = text(&read(password)?, password)?;
                let body = json!({ "password": *password });
                let attempt = Attempt {
                    mount,
                    path: format!("auth/{mount}/login/{name}"),
                    digest: digest(name, &password),
                    reason: "the user's name or password is wrong, or the user may not log in",
                };
                attempt.log_in_unless_refused(to, &body, state)?
            }
            Login::Jwt { mount, role, jwt } => {
                let jwt = match jwt {
                    Jwt::Secret(source) => text(&read(source)?, source)?,
                    Jwt::Pod(path) => pod_token(path)?,
                };
                let body = json!({ "role": role, "jwt": *jwt });
                let path = format!("auth/{mount}/login");
                match to.send(&Method::POST, &path, Some(&body), None)? {
                    answer if answer.is_ok() => logged_in(to, mount, &answer)?,
                    answer => return Err(jwt_refusal(to, mount, role, &jwt, answer.status)),
                }
            }
            Login::Certificate { mount, role } => {
                let body = role.as_ref().map_or_else(|| json!({}), |role| json!({ "name": role }));
                log_in_at(to, mount, &body, "no role accepts our client certificate")?
            }
        };
        let token = Arc::new(token);
        state.token = Some(Arc::clone(&token));
        state.not_before = None;
        Ok(token)
    }

    /// The token from `source`, with what Vault says of its life.
    fn look_up(to: &Exchange<'_>, source: &SecretSource) -> Result<Token> {
        let value = read(source)?;
        let answer =
            to.send(&Method::GET, "auth/token/lookup-self", None, Some(&text(&value, source)?))?;
        if !answer.is_ok() && matches!(source, SecretSource::Option(_)) {
            // It may be good for keys, and not for asking what it is good for.
            return Ok(Token::new(value, 0, false, to.rng()));
        }
        if !answer.is_ok() {
            let what = format!("Vault does not accept the token from {source}");
            return Err(
                Error::new(Kind::Denied, what).advise(format!("{REVOKED}: put a new one there"))
            );
        }
        let found = answer.json::<Lookup>()?.data;
        let its = found.namespace_path.trim_matches('/');
        let ours = to.namespace().unwrap_or_default();
        // A `mount` can begin with the namespace that a token is of.
        if !is_within(ours, its) && !is_within(its, ours) {
            let what = format!("the token from {source} is of another namespace than {ours}");
            return Err(Error::new(Kind::Denied, what)
                .advise("put one there that was made in `namespace` or above it"));
        }
        let last = found.last();
        Ok(Token { last, ..Token::new(value, found.ttl, found.renewable, to.rng()) })
    }

    /// The secret id from `source`; unwrapped, once, where it is wrapped.
    fn secret_id(
        to: &Exchange<'_>,
        source: &SecretSource,
        wrapped: bool,
        state: &mut State,
    ) -> Result<Zeroizing<String>> {
        let found = read(source)?;
        if !wrapped {
            return text(&found, source);
        }
        if let Some((wrapping, secret)) = &state.unwrapped
            && wrapping.expose() == found.expose()
        {
            return text(secret, source);
        }
        let token = text(&found, source)?;
        let answer = to.send(&Method::POST, "sys/wrapping/unwrap", None, Some(&token))?;
        if !answer.is_ok() {
            let what = format!("the wrapped secret id in {source} cannot be unwrapped");
            return Err(Error::new(Kind::Denied, what).advise(
                "it is over, or somebody has unwrapped it before us: find out who, and put a new one there",
            ));
        }
        let secret = Zeroizing::new(answer.json::<Unwrapped>()?.data.secret_id);
        state.unwrapped = Some((found, SecretBytes::copy_of(secret.as_bytes())));
        Ok(secret)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the namespace `name` is `other` or in it.
fn is_within(name: &str, other: &str) -> bool {
    let rest = name.strip_prefix(other);
    rest.is_some_and(|rest| other.is_empty() || rest.is_empty() || rest.starts_with('/'))
}

/// A log-in with credentials that are counted against us where they are wrong.
struct Attempt<'a> {
    mount: &'a str,
    path: String,
    /// SHA-256 of the credentials.
    digest: [u8; 32],
    /// Why it is refused, most likely.
    reason: &'static str,
}

impl Attempt<'_> {
    /// Logs in, but not again with what was refused a moment ago.
    fn log_in_unless_refused(
        &self,
        to: &Exchange<'_>,
        body: &Value,
        state: &mut State,
    ) -> Result<Token> {
        let before = state.refused.take().filter(|before| before.digest == self.digest);
        if let Some(before) = before.filter(|before| Instant::now() < before.until) {
            let error = refusal(to, self.mount, before.status, self.reason);
            state.refused = Some(before);
            return Err(error);
        }
        match to.send(&Method::POST, &self.path, Some(body), None)? {
            answer if answer.is_ok() => logged_in(to, self.mount, &answer),
            answer => {
                let (status, until) = (answer.status, Instant::now() + REFUSED_FOR);
                state.refused = Some(Refused { digest: self.digest, status, until });
                Err(refusal(to, self.mount, status, self.reason))
            }
        }
    }
}

fn digest(name: &str, secret: &str) -> [u8; 32] {
    Sha256::new().chain_update(name).chain_update([0]).chain_update(secret).finalize().into()
}

fn log_in_at(to: &Exchange<'_>, mount: &str, body: &Value, reason: &str) -> Result<Token> {
    match to.send(&Method::POST, &format!("auth/{mount}/login"), Some(body), None)? {
        answer if answer.is_ok() => logged_in(to, mount, &answer),
        answer => Err(refusal(to, mount, answer.status, reason)),
    }
}

fn logged_in(to: &Exchange<'_>, mount: &str, answer: &Answer) -> Result<Token> {
    let AuthBody { client_token, lease_duration, renewable } = answer.json::<Auth>()?.auth;
    let client_token = Zeroizing::new(client_token);
    if client_token.is_empty() {
        let what = format!("Vault wants a second factor for our log-in at auth/{mount}");
        return Err(Error::new(Kind::Denied, what)
            .advise("a server has none: exempt it from that rule, or use another `auth`"));
    }
    let value = SecretBytes::copy_of(client_token.as_bytes());
    Ok(Token::new(value, lease_duration, renewable, to.rng()))
}

/// The error for a log-in that was refused, most likely for `reason`.
fn refusal(to: &Exchange<'_>, mount: &str, status: u16, reason: &str) -> Error {
    let (reason, advice) = match status {
        404 => ("nothing is mounted there", "correct `auth_mount`"),
        _ => (reason, "put new credentials where the configuration says"),
    };
    let namespace = to.in_namespace();
    let what = format!("Vault refuses our log-in at auth/{mount}{namespace}: {reason}");
    let error = Error::new(Kind::Denied, what);
    match status {
        403 => error.advise(format!(
            "{advice}; after several failures Vault refuses right ones, too, for some minutes; it \
             answers the same where no method is mounted at auth/{mount}{namespace}"
        )),
        _ => error.advise(advice),
    }
}

/// The same for a signed token, which tells of itself what the role may not like; Vault counts no
/// failures with these.
fn jwt_refusal(to: &Exchange<'_>, mount: &str, role: &str, jwt: &str, status: u16) -> Error {
    let Some(claims) = Claims::of(jwt).filter(|_| status != 404) else {
        return refusal(to, mount, status, "the role does not accept this JWT");
    };
    let namespace = to.in_namespace();
    let option = to.namespace().map_or_else(String::new, |name| format!("-namespace={name} "));
    let [reason, advice] = claims.refused(mount, role, &option, System.now());
    let what = format!("Vault refuses our log-in at auth/{mount}{namespace}: {reason}");
    Error::new(Kind::Denied, what).advise(advice)
}

fn read(source: &SecretSource) -> Result<SecretBytes> {
    let read = source.read(MAX_SECRET)?;
    let secret = without_line_end(read.expose());
    if secret.is_empty() {
        return Err(Error::new(Kind::Config, format!("{source} is empty"))
            .advise("put the credential there"));
    }
    Ok(SecretBytes::copy_of(secret))
}

fn pod_token(path: &Path) -> Result<Zeroizing<String>> {
    let text = trust::read_text(path, MAX_SECRET as u64)
        .map_err(|refusal| refusal.of("cannot read", path))?;
    Ok(Zeroizing::new(Zeroizing::new(text).trim().to_owned()))
}

fn text(
    secret: &SecretBytes,
    source: &(impl std::fmt::Display + ?Sized),
) -> Result<Zeroizing<String>> {
    match std::str::from_utf8(secret.expose()) {
        Ok(text) if !text.contains(|c: char| c.is_control()) => Ok(Zeroizing::new(text.to_owned())),
        _ => Err(Error::new(Kind::Config, format!("what is in {source} is no text in one line"))
            .advise("put the credential there, and nothing else")),
    }
}
