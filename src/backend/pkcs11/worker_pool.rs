//! Threads that call into a module, so that nobody else ever waits for one that hangs.
//!
//! A caller waits for its answer until its deadline and no longer; the thread that hangs is left
//! alone and works again as soon as the module returns. There are few of them, so that a module which
//! never returns costs little.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::env::{Deadline, spawn_without_signals};
use crate::error::{Error, Kind, Result};

/// How many calls may be in a module at once.
const MAX_LANES: usize = 4;

/// How long the end waits for threads that have nothing more to do.
const END_WAIT: Duration = Duration::from_secs(1);

/// How often it looks whether they have ended.
const TICK: Duration = Duration::from_millis(2);

type Job = Box<dyn FnOnce() + Send>;

/// The threads of one module. They start when they are needed.
pub(super) struct WorkerPool(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    rung: Condvar,
}

struct State {
    /// The process whose threads these are: after a fork the child has none of them.
    process: u32,
    waiting: VecDeque<Job>,
    idle: usize,
    threads: Vec<JoinHandle<()>>,
    closing: bool,
}

impl WorkerPool {
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared { state: Mutex::new(State::new()), rung: Condvar::new() }))
    }

    /// Runs `job` on a thread of its own and waits for it, until `by` at most. What is given up
    /// before it began will not begin.
    pub(super) fn run<T: Send + 'static>(
        &self,
        what: &str,
        by: Deadline,
        job: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let left = by.left(what)?;
        let (to_us, answer) = mpsc::sync_channel(1);
        let given_up = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&given_up);
        self.enqueue(Box::new(move || {
            if !heard.load(Ordering::Acquire) {
                // Nobody may be there any more to take it; then it is dropped, and so wiped.
                let _ = to_us.send(job());
            }
        }))?;
        answer.recv_timeout(left).unwrap_or_else(|cause| {
            given_up.store(true, Ordering::Release);
            Err(match cause {
                RecvTimeoutError::Timeout => {
                    Error::new(Kind::Timeout, format!("{what}: no answer in time"))
                        .advise("the module hangs: look at the HSM and at its network client")
                }
                RecvTimeoutError::Disconnected => {
                    Error::new(Kind::Internal, format!("{what}: the thread that did it broke off"))
                }
            })
        })
    }

    fn enqueue(&self, job: Job) -> Result<()> {
        let mut state = self.0.lock();
        state.waiting.push_back(job);
        state.threads.retain(|thread| !thread.is_finished());
        if state.waiting.len() > state.idle && state.threads.len() < MAX_LANES {
            let shared = Arc::clone(&self.0);
            let started = spawn_without_signals("keyward-pkcs11", move || shared.work());
            match started {
                Ok(thread) => state.threads.push(thread),
                // One of those that run will come to it.
                Err(_) if !state.threads.is_empty() => {}
                Err(error) => {
                    state.waiting.pop_back();
                    return Err(error);
                }
            }
        }
        drop(state);
        self.0.rung.notify_one();
        Ok(())
    }

    /// Ends the threads. One that hangs in the module is left behind; the system keeps our code in
    /// memory until it has ended, because of the thread-local values that it has.
    pub(super) fn end(&self) {
        let mut state = self.0.lock();
        state.closing = true;
        let threads = std::mem::take(&mut state.threads);
        drop(state);
        self.0.rung.notify_all();
        let until = Instant::now() + END_WAIT;
        while threads.iter().any(|thread| !thread.is_finished()) && Instant::now() < until {
            std::thread::sleep(TICK);
        }
        for thread in threads.into_iter().filter(JoinHandle::is_finished) {
            // A panic on it was told to the one who waited.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.process != std::process::id() {
            // The handles name threads of our parent: neither join nor detach them.
            std::mem::take(&mut state.threads).into_iter().for_each(std::mem::forget);
            *state = State::new();
        }
        state
    }

    fn work(&self) {
        thread_local!(static PIN: Pin = const { Pin });
        PIN.with(|_| ());
        let mut state = self.lock();
        loop {
            if let Some(job) = state.waiting.pop_front() {
                drop(state);
                job();
                state = self.lock();
            } else if state.closing {
                return;
            } else {
                state.idle += 1;
                state = self.rung.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle = state.idle.saturating_sub(1);
            }
        }
    }
}

impl State {
    fn new() -> Self {
        Self {
            process: std::process::id(),
            waiting: VecDeque::new(),
            idle: 0,
            threads: Vec::new(),
            closing: false,
        }
    }
}

/// A thread-local value that is dropped: as long as its thread lives, the C library does not unload
/// the library that will drop it.
struct Pin;

impl Drop for Pin {
    fn drop(&mut self) {
        std::hint::black_box(&self);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn within(millis: u64) -> Deadline {
        Deadline::after(Duration::from_millis(millis))
    }

    #[test]
    fn a_job_answers_and_threads_are_used_again() {
        let workers = WorkerPool::new();
        for n in 0..100 {
            assert_eq!(workers.run("count", within(10_000), move || Ok(n)).unwrap(), n);
        }
        assert!(workers.0.lock().threads.len() <= MAX_LANES);
        workers.end();
        assert!(workers.0.lock().threads.is_empty());
    }

    #[test]
    fn who_hangs_is_waited_for_until_the_deadline_and_works_again_afterwards() {
        let workers = WorkerPool::new();
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let hanging = Arc::new(AtomicUsize::new(0));
        // On a busy machine a call may be given up before its thread has begun with it.
        while hanging.load(Ordering::SeqCst) < MAX_LANES {
            let (held, began) = (Arc::clone(&held), Arc::clone(&hanging));
            let hang = move || {
                began.fetch_add(1, Ordering::SeqCst);
                let _ = held.lock().unwrap().recv();
                Ok(())
            };
            let since = Instant::now();
            let error = workers.run("a call", within(50), hang).unwrap_err();
            assert_eq!(error.kind(), Kind::Timeout);
            assert!(since.elapsed() < Duration::from_secs(5));
        }
        // All hang: what comes now is given up, and does not run later.
        let late = Arc::new(AtomicBool::new(false));
        let ran = Arc::clone(&late);
        let error = workers.run("late", within(50), move || Ok(ran.swap(true, Ordering::SeqCst)));
        assert_eq!(
            error.unwrap_err().to_string(),
            "late: no answer in time; the module hangs: look at the HSM and at its network client"
        );
        drop(release);
        assert_eq!(workers.run("after", within(10_000), || Ok(7)).unwrap(), 7);
        assert!(!late.load(Ordering::SeqCst));
        workers.end();
    }

    #[test]
    fn a_job_that_panics_is_told_and_others_go_on() {
        let workers = WorkerPool::new();
        let error = workers.run::<()>("a call", within(10_000), || panic!("on purpose"));
        assert_eq!(error.unwrap_err().kind(), Kind::Internal);
        assert_eq!(workers.run("after", within(10_000), || Ok(7)).unwrap(), 7);
        workers.end();
    }

    #[test]
    fn the_end_does_not_wait_for_who_hangs() {
        let workers = WorkerPool::new();
        let (release, held) = mpsc::channel::<()>();
        let _ = workers.run("a call", within(20), move || {
            let _ = held.recv();
            Ok(())
        });
        let since = Instant::now();
        workers.end();
        assert!(since.elapsed() < END_WAIT + Duration::from_secs(1));
        drop(release);
    }
}
