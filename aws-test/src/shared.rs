//! One LocalStack for all tests of a process, each with keys of its own: a start takes seconds.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::thread;
use std::time::Duration;

use mariadb_test::{Result, files};

use crate::LocalStack;

/// A LocalStack, and a file of credentials for it, which it does not look at.
pub struct Shared {
    /// The emulator itself.
    pub localstack: LocalStack,
    /// As `~/.aws/credentials` is written.
    pub credentials_file: PathBuf,
    /// As `~/.aws/config` is written: nothing in it.
    pub config_file: PathBuf,
}

/// The secret access key in the credentials' file.
pub const SECRET: &str = "wJalrXUtnFEMIK7MDENGbPxRfiCYkeywardtest";

impl Shared {
    /// The one of this process; it ends with its last user.
    pub fn get() -> Result<Arc<Self>> {
        static SHARED: Mutex<Weak<Shared>> = Mutex::new(Weak::new());
        // A test that failed while it started one has left nothing half-made in there.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return Ok(running);
        }
        let started = start_in_a_thread()?;
        *shared = Arc::downgrade(&started);
        Ok(started)
    }

    /// A name that no other test of this process has.
    #[must_use]
    pub fn new_name(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        format!("t{}", COUNT.fetch_add(1, Ordering::Relaxed))
    }

    fn start() -> Result<Self> {
        let localstack = LocalStack::start()?;
        let (credentials_file, config_file) =
            (localstack.path("credentials"), localstack.path("config"));
        files::write(&credentials_file, credentials())?;
        files::write(&config_file, "[default]\n")?;
        Ok(Self { localstack, credentials_file, config_file })
    }
}

/// Credentials as the file `~/.aws/credentials` has them.
#[must_use]
pub fn credentials() -> String {
    format!("[default]\naws_access_key_id = AKIDKEYWARDTEST\naws_secret_access_key = {SECRET}\n")
}

/// The process dies with the thread that started it, so that is none of a test's.
fn start_in_a_thread() -> Result<Arc<Shared>> {
    let (give, take) = mpsc::channel();
    thread::spawn(move || match Shared::start() {
        Ok(shared) => {
            let shared = Arc::new(shared);
            let watched = Arc::downgrade(&shared);
            if give.send(Ok(shared)).is_ok() {
                while watched.strong_count() > 0 {
                    thread::sleep(Duration::from_millis(50));
                }
            }
        }
        Err(error) => drop(give.send(Err(error))),
    });
    take.recv().map_err(|_| "the thread that was to start LocalStack broke off")?
}
