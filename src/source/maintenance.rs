//! What providers must do by themselves, such as staying logged in: the worker does it, without the
//! lock on the keys.

#![forbid(unsafe_code)]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::env::{Deadline, Level, Log};
use crate::provider::Maintain;

/// One provider's maintenance.
pub struct Maintenance {
    provider: String,
    timeout: Duration,
    maintenance: Arc<dyn Maintain>,
    /// Why it failed last, until it works again.
    failure: Mutex<Option<String>>,
}

impl Maintenance {
    /// The maintenance of `provider`, which may take as long as `timeout`.
    #[must_use]
    pub fn new(provider: &str, timeout: Duration, maintenance: Arc<dyn Maintain>) -> Self {
        Self { provider: provider.to_owned(), timeout, maintenance, failure: Mutex::default() }
    }

    /// Does what is due. The log gets a line when that begins to fail, and when its cause changes.
    pub fn run(&self, log: &dyn Log) {
        let outcome = self.maintenance.maintain(Deadline::after(self.timeout));
        let now = outcome.err().map(|error| error.to_string());
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if *failure == now {
            return;
        }
        if let Some(cause) = &now {
            log.log(Level::Warning, &format!("provider {:?}: {cause}", self.provider));
        }
        *failure = now;
    }
}
