//! Google Cloud as far as Cloud KMS needs it, in this process: KMS with real AES-256-GCM, additional data
//! and checksums (`kms`), and all that gives access tokens (`tokens`): OAuth, which verifies a service
//! account's signature, the Security Token Service, IAM's impersonation and a machine's metadata.
//! Google's own Python client drives it in the same suite, so that it stays like the original.

mod credentials;
pub mod error;
mod kms;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};
use test_kit::Result;

pub use error::Answer;
pub use kms::{Key, Version};
pub use tokens::{ACCOUNT, AUDIENCE, REFRESH_TOKEN, SUBJECT_TOKEN, private_key};

use crate::http::Request;

/// The project and location of all keys that tests make.
pub const RING: &str = "projects/keyward-test/locations/europe-west3/keyRings/databases";

/// What the server does in place of what it would.
type Fault = Box<dyn Fn(&Request) -> Option<Answer> + Send>;

/// A running server; it ends with this value, and whoever calls it then is refused.
pub struct FakeGcp {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

/// What it knows.
pub struct State {
    /// Where it is: `http://127.0.0.1:PORT`.
    pub url: String,
    /// Key rings, by their full names.
    pub rings: BTreeSet<String>,
    /// Keys, by their full names.
    pub keys: BTreeMap<String, Key>,
    /// Who may not do what: an account or `*`, and a permission.
    pub denied: BTreeSet<(String, String)>,
    /// Who may become which service account.
    pub becomes: BTreeSet<(String, String)>,
    /// The public keys of service accounts.
    pub accounts: BTreeMap<String, Vec<u8>>,
    /// The machine's own service account and the scopes of its tokens.
    pub machine: Option<(String, String)>,
    /// Access tokens that it gave, whose they are and for what.
    pub tokens: BTreeMap<String, (String, String)>,
    /// Answers in place of its own.
    pub fault: Option<Fault>,
    /// What it was asked.
    pub seen: Vec<Request>,
}

impl State {
    /// A new access token of `who` for `scopes`.
    fn give(&mut self, who: &str, scopes: &str) -> Value {
        let mut bytes = [0; 24];
        // It has never failed.
        let _ = SystemRandom::new().fill(&mut bytes);
        let token = format!("ya29.{}", bytes.map(|byte| format!("{byte:02x}")).concat());
        self.tokens.insert(token.clone(), (who.to_owned(), scopes.to_owned()));
        json!({ "access_token": token, "expires_in": 3599, "token_type": "Bearer" })
    }

    fn answer(&mut self, request: &Request) -> Answer {
        self.seen.push(request.clone());
        if let Some(answer) = self.fault.as_ref().and_then(|fault| fault(request)) {
            return answer;
        }
        let path = request.path.split('?').next().unwrap_or_default();
        let outcome =
            if path.starts_with("/v1/projects/-/serviceAccounts/") || !path.starts_with("/v1/") {
                tokens::answer(self, request, path)
            } else {
                kms::answer(self, request, path.trim_start_matches("/v1/"))
            };
        outcome.unwrap_or_else(|refusal| refusal)
    }
}

impl FakeGcp {
    /// One that has no keys, and service account [`ACCOUNT`], whose key is [`private_key`].
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let stopped = Arc::<AtomicBool>::default();
        let state = Arc::new(Mutex::new(State {
            url: format!("http://{address}"),
            rings: BTreeSet::from([RING.to_owned()]),
            keys: BTreeMap::new(),
            denied: BTreeSet::new(),
            becomes: BTreeSet::new(),
            accounts: BTreeMap::from([(ACCOUNT.to_owned(), tokens::public_key()?)]),
            machine: None,
            tokens: BTreeMap::new(),
            fault: None,
            seen: Vec::new(),
        }));
        let (ends, known) = (Arc::clone(&stopped), Arc::clone(&state));
        let serve = move |stream: &TcpStream| -> Result<()> {
            let Some(request) = Request::read(stream)? else { return Ok(()) };
            let answer = known.lock().unwrap_or_else(PoisonError::into_inner).answer(&request);
            answer.write(stream)
        };
        let thread = thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if ends.load(Ordering::SeqCst) {
                    break;
                }
                if let Err(error) = serve(&stream) {
                    eprintln!("fake Google: {error}");
                }
            }
        });
        Ok(Self { address, stopped, state, thread: Some(thread) })
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it knows, to look at or to change.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the key `name` in [`RING`], with one version, and gives its full name.
    #[must_use]
    pub fn new_key(&self, name: &str) -> String {
        let full = format!("{RING}/cryptoKeys/{name}");
        self.state().keys.insert(full.clone(), Key::new("SOFTWARE"));
        full
    }

    /// Puts version `number` of `key` into this state.
    pub fn set_version(&self, key: &str, number: u64, to: &str) {
        let mut state = self.state();
        let version = state.keys.get_mut(key).and_then(|key| key.versions.get_mut(&number));
        version.into_iter().for_each(|version| to.clone_into(&mut version.state));
    }

    /// Has nobody do what takes `permission`.
    pub fn deny(&self, permission: &str) {
        self.state().denied.insert(("*".to_owned(), permission.to_owned()));
    }

    /// Answers as `fault` says where it says anything.
    pub fn fail(&self, fault: impl Fn(&Request) -> Option<Answer> + Send + 'static) {
        self.state().fault = Some(Box::new(fault));
    }

    /// What it was asked, and forgets it: what follows the last colon of a path, or its last part.
    pub fn take_actions(&self) -> Vec<String> {
        let seen = std::mem::take(&mut self.state().seen);
        seen.iter().map(action).collect()
    }

    /// All that must be shown to nobody.
    #[must_use]
    pub fn secrets(&self) -> Vec<Vec<u8>> {
        let state = self.state();
        let tokens = state.tokens.keys().map(|token| token.as_bytes().to_vec());
        let own = [REFRESH_TOKEN, SUBJECT_TOKEN, error::TEXT].map(|text| text.as_bytes().to_vec());
        tokens.chain(own).chain(private_key().map(|key| key.as_bytes()[64..128].to_vec())).collect()
    }
}

/// What is asked by `request`, in a word.
#[must_use]
pub fn action(request: &Request) -> String {
    let path = request.path.split('?').next().unwrap_or_default();
    let last = path.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, verb)) => verb.to_owned(),
        None if request.path.contains("/cryptoKeys/") && !path.ends_with("cryptoKeyVersions") => {
            request.method.to_lowercase()
        }
        None => last.to_owned(),
    }
}

impl Drop for FakeGcp {
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
