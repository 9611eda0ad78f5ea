//! Azure as far as Key Vault and Managed HSM need it, in this process: keys with real RSA-OAEP, AES key wrap
//! and AES-GCM (`keys`, `crypto`), and all that gives access tokens (`entra`): Entra ID, which verifies an
//! application's signature, a machine's metadata and Azure Arc's agent. HTTP and HTTPS at one address:
//! Microsoft's own Python client, which takes HTTPS alone, drives it in the same suite, so that it stays like the
//! original.

mod crypto;
mod entra;
mod keys;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use test_kit::{Certificates, Result, Scratch};

pub use crate::gcp::Answer;
pub use crate::gcp::error::TEXT;
pub use entra::{
    Application, CLIENT_ID, CLIENT_SECRET, IDENTITY, SUBJECT_TOKEN, TENANT, certificate,
};
pub use keys::{Key, Version, now};

use crate::http::{PATIENCE, Request};
use crate::tls::server_config;

/// What the server does in place of what it would.
type Fault = Box<dyn Fn(&Request) -> Option<Answer> + Send>;

/// A running server; it ends with this value, and whoever calls it then is refused.
pub struct FakeAzure {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
    scratch: Scratch,
}

/// What it knows.
pub struct State {
    /// Where it keeps RSA keys.
    folder: PathBuf,
    /// Keys, by their names.
    pub keys: BTreeMap<String, Key>,
    /// Deleted keys that can be recovered.
    pub deleted: BTreeMap<String, Key>,
    /// What is said of how a key can be lost.
    pub recovery: String,
    /// What nobody may do.
    pub denied: BTreeSet<String>,
    /// The name of the error that says so.
    pub denial: String,
    /// The tenant that it is of.
    pub tenant: String,
    /// Applications, by their ids.
    pub applications: BTreeMap<String, Application>,
    /// The machine's identities: `system`, and the ids of others.
    pub machine: BTreeSet<String>,
    /// Where Azure Arc's agent writes keys, if this is one of its machines.
    pub arc: Option<PathBuf>,
    arc_key: String,
    /// Access tokens that it gave, whose they are, and whether they have the claims that are wanted.
    pub tokens: BTreeMap<String, (String, bool)>,
    /// Whether the vault wants claims that ordinary tokens lack.
    pub wants_claims: bool,
    /// Answers in place of its own.
    pub fault: Option<Fault>,
    /// What it was asked.
    pub seen: Vec<Request>,
}

impl State {
    /// A new access token of `who`.
    fn give(&mut self, who: &str, has_claims: bool) -> Value {
        let token =
            format!("eyJ0.{}", crypto::random::<24>().map(|byte| format!("{byte:02x}")).concat());
        self.tokens.insert(token.clone(), (who.to_owned(), has_claims));
        json!({ "access_token": token, "expires_in": 3599, "token_type": "Bearer" })
    }

    fn answer(&mut self, request: &Request) -> Answer {
        self.seen.push(request.clone());
        if let Some(answer) = self.fault.as_ref().and_then(|fault| fault(request)) {
            return answer;
        }
        let path = request.path.split('?').next().unwrap_or_default();
        let is_of_keys = path.starts_with("/keys/") || path.starts_with("/deletedkeys/");
        let outcome = match is_of_keys {
            true => keys::answer(self, request, path),
            false => entra::answer(self, request, path),
        };
        outcome.unwrap_or_else(|refusal| refusal)
    }
}

/// An error of a vault, with an inner one if that has a name.
#[must_use]
pub fn error(status: u16, code: &str, message: &str, inner: &str) -> Answer {
    let mut error = json!({ "code": code, "message": format!("{message} ({TEXT})") });
    if !inner.is_empty() {
        error["innererror"] = json!({ "code": inner });
    }
    Answer::text(status, json!({ "error": error }).to_string())
}

/// An error of Entra ID, by its number.
#[must_use]
pub fn oauth_error(name: &str, number: u64) -> Answer {
    let status = if name == "invalid_client" { 401 } else { 400 };
    let description = format!("AADSTS{number}: {TEXT}");
    let body = json!({
        "error": name, "error_description": description, "error_codes": [number],
        "trace_id": "0", "correlation_id": "0",
    });
    Answer::text(status, body.to_string())
}

impl FakeAzure {
    /// One that has no keys, and the application [`CLIENT_ID`].
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let scratch = Scratch::new("fake-azure")?;
        let tls = server_config(&Certificates::make(scratch.path())?)?;
        let stopped = Arc::<AtomicBool>::default();
        let state = Arc::new(Mutex::new(State {
            folder: scratch.path().to_owned(),
            keys: BTreeMap::new(),
            deleted: BTreeMap::new(),
            recovery: "Recoverable".to_owned(),
            denied: BTreeSet::new(),
            denial: "ForbiddenByRbac".to_owned(),
            tenant: TENANT.to_owned(),
            applications: BTreeMap::from([(CLIENT_ID.to_owned(), Application::new()?)]),
            machine: BTreeSet::new(),
            arc: None,
            arc_key: String::new(),
            tokens: BTreeMap::new(),
            wants_claims: false,
            fault: None,
            seen: Vec::new(),
        }));
        let (ends, known) = (Arc::clone(&stopped), Arc::clone(&state));
        let thread = thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if ends.load(Ordering::SeqCst) {
                    break;
                }
                if let Err(error) = serve(stream, &tls, &known) {
                    eprintln!("fake Azure: {error}");
                }
            }
        });
        Ok(Self { address, stopped, state, thread: Some(thread), scratch })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `https://localhost:PORT`, whose certificate is from [`authority`](Self::authority).
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// The file with the certificate of its authority.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.scratch.path().join("ca.pem")
    }

    /// What it knows, to look at or to change.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the key `name`, with one version, and gives its address.
    pub fn new_key(&self, name: &str, kty: &str) -> Result<String> {
        let operations = ["encrypt", "decrypt", "wrapKey", "unwrapKey"];
        let mut state = self.state();
        let key = Key::new(&state, kty, &operations)?;
        state.keys.insert(name.to_owned(), key);
        Ok(format!("{}/keys/{name}", self.url()))
    }

    /// Changes the newest version of the key `name`.
    pub fn change(&self, name: &str, how: impl FnOnce(&mut Version)) {
        let mut state = self.state();
        let newest = state.keys.get_mut(name).and_then(|key| key.versions.last_mut());
        if let Some(newest) = newest {
            how(newest);
        }
    }

    /// Has nobody do what takes `permission`.
    pub fn deny(&self, permission: &str) {
        self.state().denied.insert(permission.to_owned());
    }

    /// Answers as `fault` says where it says anything.
    pub fn fail(&self, fault: impl Fn(&Request) -> Option<Answer> + Send + 'static) {
        self.state().fault = Some(Box::new(fault));
    }

    /// What it was asked, and forgets it.
    pub fn take_actions(&self) -> Vec<String> {
        let seen = std::mem::take(&mut self.state().seen);
        seen.iter().map(action).collect()
    }

    /// All that must be shown to nobody.
    #[must_use]
    pub fn secrets(&self) -> Vec<Vec<u8>> {
        let state = self.state();
        let tokens = state.tokens.keys().map(|token| token.as_bytes().to_vec());
        let own = [CLIENT_SECRET, SUBJECT_TOKEN, TEXT].map(|text| text.as_bytes().to_vec());
        tokens.chain(own).collect()
    }
}

/// What is asked by `request`, in a word: `challenge` where it came without a token.
#[must_use]
pub fn action(request: &Request) -> String {
    let path = request.path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match parts[..] {
        ["keys", ..] if request.header("authorization").is_empty() => "challenge".to_owned(),
        ["keys", _, _, operation] | ["keys", _, operation @ "create"] => operation.to_owned(),
        ["keys", ..] => request.method.to_lowercase(),
        ["deletedkeys", ..] => "deleted".to_owned(),
        _ => parts.last().copied().unwrap_or_default().to_owned(),
    }
}

fn serve(stream: TcpStream, tls: &Arc<ServerConfig>, state: &Mutex<State>) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut first = [0];
    // A handshake of TLS begins with this byte (RFC 8446, 5.1).
    let is_tls = stream.peek(&mut first)? == 1 && first == [22];
    let answer =
        |request: &Request| state.lock().unwrap_or_else(PoisonError::into_inner).answer(request);
    if !is_tls {
        let Some(request) = Request::read(&stream)? else { return Ok(()) };
        return answer(&request.of_scheme("http")).write(&stream);
    }
    let session = ServerConnection::new(Arc::clone(tls)).map_err(|error| error.to_string())?;
    let mut stream = StreamOwned::new(session, stream);
    let Some(request) = Request::read_from(&mut stream)? else { return Ok(()) };
    answer(&request.of_scheme("https")).write(&mut stream)?;
    stream.conn.send_close_notify();
    stream.conn.complete_io(&mut stream.sock)?;
    Ok(())
}

impl Drop for FakeAzure {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes it up to see that.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            // One that panicked has printed why.
            drop(thread.join());
        }
    }
}
