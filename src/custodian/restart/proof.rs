//! Proof, when somebody asks for it, that every provider answers and gives the keys that are in use.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use super::{Checker, held, opens_now};
use crate::custodian::{Custodian, Shared, lock};
use crate::env::Timestamp;
use crate::error::{Error, Result};
use crate::event::{Answer, RestartSafe};
use crate::provider::FreshLogin;
use crate::source::{KeystoreReader, NamedServer, NamedWrapper, StoreKeyInUse};

/// How long a proof is given again to whoever asks: no client can have key stores called without end.
const FRESH: Duration = Duration::from_secs(10);

/// How long served keys are fetched and compared, one by one.
const LONGEST: Duration = Duration::from_secs(20);

/// How the key stores stood at one moment.
#[derive(Clone, Debug)]
pub struct Proof {
    /// When that was.
    pub at: Timestamp,
    /// Whether a restart would succeed.
    pub restart: RestartSafe,
    /// Each provider of the configuration; none where this process does not know it.
    pub providers: Vec<ProviderProof>,
}

/// How one provider stood.
#[derive(Clone, Debug)]
pub struct ProviderProof {
    /// Its name.
    pub name: String,
    /// Why it does not give the keys in use; none where it does.
    pub failure: Option<String>,
    /// How many key versions it gave that are the ones in use; none where it wraps the store key.
    pub compared: Option<usize>,
    /// How long it took.
    pub took: Duration,
}

impl Proof {
    /// Whether all is well; none where that cannot be told.
    #[must_use]
    pub fn is_good(&self) -> Option<bool> {
        let failed = self.providers.iter().any(|provider| provider.failure.is_some());
        match self.restart.answer {
            _ if failed => Some(false),
            Answer::Yes => Some(true),
            Answer::No => Some(false),
            Answer::Unknown => None,
        }
    }
}

impl Custodian {
    /// Has every provider show now that it gives the keys in use, and checks whether a restart would
    /// succeed. One thread does so at a time; what it found is the answer to all who ask within ten seconds.
    pub fn prove(&self) -> Proof {
        let mut last = lock(&self.shared.restart.proof);
        if let Some((at, proof)) = &*last
            && at.elapsed() < FRESH
        {
            return proof.clone();
        }
        let proof = self.shared.prove();
        *last = Some((Instant::now(), proof.clone()));
        proof
    }
}

impl Shared {
    fn prove(&self) -> Proof {
        let mut checker = lock(&self.restart.checker);
        let providers = checker.as_mut().map(|checker| checker.prove(self)).unwrap_or_default();
        drop(checker);
        Proof { at: self.env.clock.now(), restart: self.restart.last(), providers }
    }
}

impl Checker {
    /// Checks whether a restart would succeed, and asks each provider that it would have. Where the
    /// configuration cannot be read there are none, and the check says why.
    fn prove(&mut self, shared: &Shared) -> Vec<ProviderProof> {
        let mut providers = Vec::new();
        let before = self.server.take();
        let restart = self.check_with(shared, |next| providers = prove_wrappers(next, shared));
        shared.restart.note(restart, Instant::now(), &shared.env);
        match &self.server {
            Some(server) => providers.push(self.prove_server(server, shared)),
            None => self.server = before,
        }
        providers
    }

    /// Fetches the keys in use and compares them, as many as there is time for.
    fn prove_server(&self, server: &NamedServer, shared: &Shared) -> ProviderProof {
        let begun = Instant::now();
        let (mut compared, mut failure) = (0, None);
        for key in held(&shared.ring) {
            match self.compare(shared, &key) {
                Ok(()) => compared += 1,
                Err(error) => failure = Some(error.to_string()),
            }
            if failure.is_some() || begun.elapsed() > LONGEST {
                break;
            }
        }
        let name = server.name.clone();
        ProviderProof { name, failure, compared: Some(compared), took: begun.elapsed() }
    }
}

fn prove_wrappers(next: &KeystoreReader, shared: &Shared) -> Vec<ProviderProof> {
    let in_use = shared.manager().map(|manager| manager.reader().in_use());
    let prove = |named: &NamedWrapper| {
        let begun = Instant::now();
        let outcome = match &in_use {
            Some(Ok(in_use)) => prove_wrapper(next, named, in_use, shared),
            Some(Err(error)) => Err(Error::new(error.kind(), error.what())),
            None => Ok(()),
        };
        ProviderProof {
            name: named.name.clone(),
            failure: outcome.err().map(|error| error.to_string()),
            compared: None,
            took: begun.elapsed(),
        }
    };
    next.wrappers.iter().map(prove).collect()
}

/// As the next start would find it, or the open one where that would use a credential up.
fn prove_wrapper(
    next: &KeystoreReader,
    named: &NamedWrapper,
    in_use: &StoreKeyInUse,
    shared: &Shared,
) -> Result<()> {
    match named.wrapper.fresh_login() {
        FreshLogin::Spends(_) => opens_now(next, shared, &named.name),
        FreshLogin::Repeatable | FreshLogin::Needless => next.unwraps(&named.name, in_use),
    }
}
