//! What providers must do by themselves, such as staying logged in: done by the worker, without the
//! lock on the keys, and told to the log when it begins to fail and when it works again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Shared, lock};
use crate::env::{Deadline, Level};
use crate::provider::Upkeep;

/// One provider's upkeep.
pub struct Chore {
    provider: String,
    timeout: Duration,
    upkeep: Arc<dyn Upkeep>,
    /// Why it failed last, until it works again.
    failure: Mutex<Option<String>>,
}

impl Chore {
    /// That of `provider`, which may take as long as `timeout`.
    #[must_use]
    pub fn new(provider: &str, timeout: Duration, upkeep: Arc<dyn Upkeep>) -> Self {
        Self { provider: provider.to_owned(), timeout, upkeep, failure: Mutex::default() }
    }
}

impl Shared {
    /// Does what is due of every provider's upkeep.
    pub(super) fn keep_up(&self) {
        for chore in &self.chores {
            let outcome = chore.upkeep.keep_up(Deadline::after(chore.timeout));
            let now = outcome.err().map(|error| error.to_string());
            let mut failure = lock(&chore.failure);
            if *failure == now {
                continue;
            }
            if let Some(cause) = &now {
                let line = format!("provider {:?}: {cause}", chore.provider);
                self.env.log.log(Level::Warning, &line);
            }
            *failure = now;
        }
    }
}
