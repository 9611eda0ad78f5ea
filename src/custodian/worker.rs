//! The one thread of ours in the server: looks every half second whether the source has changed,
//! keeps the policy and the register, and checks now and then whether a restart would succeed.

#![forbid(unsafe_code)]

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
    stop: Arc<StopSignal>,
}

/// Given once, to end the worker.
#[derive(Default)]
struct StopSignal {
    given: Mutex<bool>,
    changed: Condvar,
}

impl Worker {
    /// Starts the thread. It takes no signals: those belong to the server.
    pub(super) fn start(shared: Weak<Shared>) -> Result<Self> {
        let stop = Arc::new(StopSignal::default());
        let signal = stop.clone();
        let thread = spawn_without_signals("keyward", move || run(&shared, &signal))?;
        Ok(Self { thread, stop })
    }

    /// Ends the thread and waits for it.
    pub(super) fn stop(self) {
        *lock(&self.stop.given) = true;
        self.stop.changed.notify_all();
        // A worker that panicked is gone as well; the panic was reported when it happened.
        let _ = self.thread.join();
    }
}

fn run(shared: &Weak<Shared>, stop: &StopSignal) {
    while !stop.comes_within(PERIOD) {
        let Some(shared) = shared.upgrade() else { return };
        shared.maintenance.iter().for_each(|due| due.run(&*shared.env.log));
        // A failure is in the log and in the status by now.
        let _ = shared.refresh_changed();
        shared.run_policy_in_time();
        shared.register_in_time();
        shared.check_restart_in_time(Instant::now());
    }
}

impl StopSignal {
    fn comes_within(&self, time: Duration) -> bool {
        let given = lock(&self.given);
        match self.changed.wait_timeout_while(given, time, |given| !*given) {
            Ok((given, _)) => *given,
            Err(poison) => *poison.into_inner().0,
        }
    }
}
