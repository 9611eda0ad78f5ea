//! One server of some kind for all tests of a process, each with keys of its own: a start takes
//! seconds.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::thread;
use std::time::Duration;

use crate::Result;

/// The place of the one `T`: it is started for the first user and ends with the last.
pub struct Shared<T>(Mutex<Weak<T>>);

impl<T: Send + Sync + 'static> Shared<T> {
    /// A place where nothing was started yet.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it stands in a static")]
    pub const fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    /// The one that runs, or what `start` gives.
    pub fn get(&self, start: fn() -> Result<T>) -> Result<Arc<T>> {
        // A test that failed while it started one has left nothing half-made in there.
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return Ok(running);
        }
        let started = start_in_a_thread(start)?;
        *shared = Arc::downgrade(&started);
        Ok(started)
    }
}

/// The process dies with the thread that started it, so that is none of a test's.
fn start_in_a_thread<T: Send + Sync + 'static>(start: fn() -> Result<T>) -> Result<Arc<T>> {
    let (give, take) = mpsc::channel();
    thread::spawn(move || match start() {
        Ok(started) => {
            let started = Arc::new(started);
            let watched = Arc::downgrade(&started);
            if give.send(Ok(started)).is_ok() {
                while watched.strong_count() > 0 {
                    thread::sleep(Duration::from_millis(50));
                }
            }
        }
        Err(error) => drop(give.send(Err(error))),
    });
    take.recv().map_err(|_| "the thread that was to start it broke off")?
}

/// A name that no other test of this process has.
#[must_use]
pub fn new_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("t{}", COUNT.fetch_add(1, Ordering::Relaxed))
}
