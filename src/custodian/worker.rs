//! The one thread of ours in the server: looks every half second whether the source has changed,
//! keeps the policy and the register, and checks now and then whether a restart would succeed.

use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Shared, lock};
use crate::env::spawn_without_signals;
use crate::error::Result;

/// A change made by the command is in force in the server after this long at most.
const PERIOD: Duration = Duration::from_millis(500);

/// A running worker.
pub(super) struct Worker {
    thread: JoinHandle<()>,
    bell: Arc<Bell>,
}

/// Rung once, to end the worker.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Worker {
    /// Starts the thread. It takes no signals: those belong to the server.
    pub(super) fn start(shared: Weak<Shared>) -> Result<Self> {
        let bell = Arc::new(Bell::default());
        let heard = bell.clone();
        let thread = spawn_without_signals("keyward", move || run(&shared, &heard))?;
        Ok(Self { thread, bell })
    }

    /// Ends the thread and waits for it.
    pub(super) fn stop(self) {
        *lock(&self.bell.rung) = true;
        self.bell.changed.notify_all();
        // A worker that panicked is gone as well; the panic was reported when it happened.
        let _ = self.thread.join();
    }
}

fn run(shared: &Weak<Shared>, bell: &Bell) {
    while !bell.rings_within(PERIOD) {
        let Some(shared) = shared.upgrade() else { return };
        shared.keep_up();
        shared.refresh_if_changed();
        shared.keep_policy_in_time();
        shared.register_in_time();
        shared.check_restart_in_time(Instant::now());
    }
}

impl Bell {
    fn rings_within(&self, time: Duration) -> bool {
        let rung = lock(&self.rung);
        match self.changed.wait_timeout_while(rung, time, |rung| !*rung) {
            Ok((rung, _)) => *rung,
            Err(poison) => *poison.into_inner().0,
        }
    }
}
