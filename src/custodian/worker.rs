//! The threads of ours in the server. The one looks every half second whether the source has changed,
//! keeps the policy and the register, signs checkpoints, checks now and then whether a restart would succeed,
//! and tells the trail what it noticed; the other copies the audit trail, where that is wanted.

#![forbid(unsafe_code)]

use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Shared, lock};
use crate::env::{Level, Log, spawn_without_signals};
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

/// Work that no key waits for, on a thread of its own once that is started.
pub(super) struct Attendant {
    work: Option<Work>,
    running: Option<Worker>,
}

type Work = Box<dyn FnMut() -> bool + Send>;

impl Attendant {
    pub(super) fn of(work: Work) -> Self {
        Self { work: Some(work), running: None }
    }

    /// Starts the thread; later calls do nothing.
    pub(super) fn start(&mut self, log: &dyn Log) {
        let Some(mut work) = self.work.take() else { return };
        let stop = Arc::new(StopSignal::default());
        let signal = stop.clone();
        let run = move || {
            let mut more = false;
            while !signal.comes_within(if more { Duration::ZERO } else { PERIOD }) {
                more = work();
            }
        };
        match spawn_without_signals("keyward-audit", run) {
            Ok(thread) => self.running = Some(Worker { thread, stop }),
            Err(error) => {
                let line = format!("the audit trail is copied nowhere: {error}");
                log.log(Level::Warning, &line);
            }
        }
    }

    /// Ends the thread and waits for it: a call that is under way has its deadline.
    pub(super) fn stop(self) {
        if let Some(running) = self.running {
            running.stop();
        }
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
        shared.checkpoint_in_time();
        shared.check_restart_in_time(Instant::now());
        shared.verify_in_time();
        shared.tell_in_time();
        shared.tell_of_rotations();
    }
    if let Some(shared) = shared.upgrade() {
        shared.tell_of_rotations();
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
