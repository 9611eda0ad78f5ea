//! One PyKMIP for all tests of a process, each with keys of its own.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::thread;
use std::time::Duration;

use mariadb_test::Result;

use crate::Kmip;

/// The PyKMIP that tests share.
pub struct Shared {
    /// The server itself.
    pub kmip: Kmip,
}

impl Shared {
    /// The one of this process; it ends with its last user.
    pub fn get() -> Result<Arc<Self>> {
        static SHARED: Mutex<Weak<Shared>> = Mutex::new(Weak::new());
        // A test that failed while it started one has left nothing half-made in there.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kmip) = shared.upgrade() {
            return Ok(kmip);
        }
        let kmip = start_in_a_thread()?;
        *shared = Arc::downgrade(&kmip);
        Ok(kmip)
    }

    /// A name that no other test of this process has.
    #[must_use]
    pub fn new_name(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        format!("t{}", COUNT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The process dies with the thread that started it, so that is none of a test's.
fn start_in_a_thread() -> Result<Arc<Shared>> {
    let (give, take) = mpsc::channel();
    thread::spawn(move || match Kmip::start() {
        Ok(kmip) => {
            let shared = Arc::new(Shared { kmip });
            let watched = Arc::downgrade(&shared);
            if give.send(Ok(shared)).is_ok() {
                while watched.strong_count() > 0 {
                    thread::sleep(Duration::from_millis(50));
                }
            }
        }
        Err(error) => drop(give.send(Err(error))),
    });
    take.recv().map_err(|_| "the thread that was to start PyKMIP broke off")?
}
