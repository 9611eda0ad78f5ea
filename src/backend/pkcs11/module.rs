//! A PKCS#11 module: loaded and initialised once in this process, shared by all who name it.
//!
//! It is initialised at the first call, so never before a server has become a daemon, and again in a
//! child after a fork. The last one who lets go of it ends it with C_Finalize.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, TryLockError};
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as Call, RvError};
use cryptoki::session::Session;
use cryptoki::slot::Slot;

use super::failure::{TokenError, of_call};
use super::worker_pool::WorkerPool;
use crate::env::Deadline;
use crate::error::{Error, Kind, Result};
use crate::secret::SecretBytes;
use crate::trust::{self, Folder, Refusal};

/// How many sessions wait open for the next call.
const MAX_SEATS: usize = 4;

/// How often at most a module is ended and begun again, to find a token again.
const RESTART_PERIOD: Duration = Duration::from_secs(1);

/// How long C_Finalize may take, and whoever is still in the module.
const FINALIZE_WAIT: Duration = Duration::from_secs(3);

/// How often a lock that somebody in the module holds is tried.
const TICK: Duration = Duration::from_millis(5);

/// The modules in use. Held while the last user's module ends, so that nobody begins it meanwhile.
static MODULES: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

struct Entry {
    core: Arc<Core>,
    users: usize,
}

/// A claim on a module; nothing is loaded yet.
pub(super) struct Module(Arc<Core>);

impl Module {
    /// The module in the file `path`.
    pub(super) fn of(path: &Path) -> Self {
        let mut modules = lock(&MODULES);
        if let Some(entry) = modules.iter_mut().find(|entry| entry.core.path == path) {
            entry.users += 1;
            return Self(Arc::clone(&entry.core));
        }
        let core = Arc::new(Core::new(path));
        modules.push(Entry { core: Arc::clone(&core), users: 1 });
        Self(core)
    }

    /// Runs `job` on one of the module's threads.
    pub(super) fn run<T: Send + 'static>(
        &self,
        what: &str,
        by: Deadline,
        job: impl FnOnce(&Core) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let core = Arc::clone(&self.0);
        self.0.workers.run(what, by, move || job(&core))
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let mut modules = lock(&MODULES);
        let Some(at) = modules.iter().position(|entry| Arc::ptr_eq(&entry.core, &self.0)) else {
            return;
        };
        modules[at].users -= 1;
        if modules[at].users > 0 {
            return;
        }
        let Entry { core, .. } = modules.swap_remove(at);
        if core.may_be_open() {
            let by = Deadline::after(FINALIZE_WAIT);
            let ending = Arc::clone(&core);
            // A module that hangs now is left as it is.
            let _ = core.workers.run("C_Finalize", by, move || ending.close(by));
        }
        core.workers.end();
    }
}

/// What the threads of a module share.
pub(super) struct Core {
    path: PathBuf,
    workers: WorkerPool,
    /// Read by whoever calls into the module, written to begin or end it.
    open: RwLock<Option<Open>>,
    seats: Mutex<Vec<PooledSession>>,
    restarted: Mutex<Option<Instant>>,
    /// The PINs that a token refused: none is tried twice. Held during a log-in.
    pub(super) refused: Mutex<Vec<(String, SecretBytes)>>,
}

/// An initialised module.
pub(super) struct Open {
    pub(super) pkcs11: Pkcs11,
    /// Whether we initialised it, and not somebody else in this process.
    ours: bool,
    process: u32,
}

/// An open session that waits for work.
struct PooledSession {
    slot: Slot,
    session: Session,
}

impl Core {
    fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            workers: WorkerPool::new(),
            open: RwLock::new(None),
            seats: Mutex::default(),
            restarted: Mutex::default(),
            refused: Mutex::default(),
        }
    }

    /// The module, initialised; as long as the guard lives it stays so.
    pub(super) fn open(&self, by: Deadline) -> Result<RwLockReadGuard<'_, Option<Open>>> {
        loop {
            let guard = self.open.read().unwrap_or_else(PoisonError::into_inner);
            if guard.as_ref().is_some_and(|open| open.process == std::process::id()) {
                return Ok(guard);
            }
            drop(guard);
            self.exclusively(by, Self::begin)?;
        }
    }

    /// Ends the module and begins it again, which is how many notice that a token came back. Says
    /// whether that was done after `since`, by us or another: not if it was done a moment before, or
    /// if somebody else in this process owns the module.
    pub(super) fn restart(&self, since: Instant, by: Deadline) -> Result<bool> {
        let mut restarted = lock(&self.restarted);
        if restarted.is_some_and(|before| before > since) {
            return Ok(true);
        }
        if restarted.is_some_and(|before| before.elapsed() < RESTART_PERIOD) {
            return Ok(false);
        }
        let outcome = self.exclusively(by, |core, open| {
            if open.as_ref().is_some_and(|open| !open.ours) {
                return Ok(false);
            }
            core.finish(open);
            core.begin(open).map(|()| true)
        });
        *restarted = Some(Instant::now());
        outcome
    }

    /// A session that waits on `slot`.
    pub(super) fn take_seat(&self, slot: Slot) -> Option<Session> {
        let mut seats = lock(&self.seats);
        let at = seats.iter().position(|seat| seat.slot == slot)?;
        Some(seats.swap_remove(at).session)
    }

    /// Keeps a session for the next call.
    pub(super) fn give_seat(&self, slot: Slot, session: Session) {
        let mut seats = lock(&self.seats);
        if seats.len() < MAX_SEATS {
            seats.push(PooledSession { slot, session });
        }
    }

    /// Closes the sessions that wait on `slot`: what befell one befell them all.
    pub(super) fn clear_seats(&self, slot: Slot) {
        let mut seats = lock(&self.seats);
        let all = std::mem::take(&mut *seats);
        let (lost, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(|seat| seat.slot == slot);
        *seats = kept;
        drop(seats);
        drop(lost);
    }

    fn may_be_open(&self) -> bool {
        match self.open.try_read() {
            Ok(open) => open.is_some(),
            Err(_) => true,
        }
    }

    fn close(&self, by: Deadline) -> Result<()> {
        self.exclusively(by, |core, open| {
            core.finish(open);
            Ok(())
        })
    }

    /// Does `work` while nobody else is in the module.
    fn exclusively<T>(
        &self,
        by: Deadline,
        work: impl FnOnce(&Self, &mut Option<Open>) -> Result<T>,
    ) -> Result<T> {
        loop {
            match self.open.try_write() {
                Ok(mut open) => return work(self, &mut open),
                Err(TryLockError::Poisoned(poison)) => return work(self, &mut poison.into_inner()),
                Err(TryLockError::WouldBlock) => {
                    by.left(format_args!("waiting for other calls of {self}"))?;
                    std::thread::sleep(TICK);
                }
            }
        }
    }

    fn begin(&self, open: &mut Option<Open>) -> Result<()> {
        let process = std::process::id();
        if open.as_ref().is_some_and(|open| open.process == process) {
            return Ok(());
        }
        check_file(&self.path)?;
        check_settings(|name| std::env::var_os(name))?;
        let inherited = open.take().is_some();
        if inherited {
            // They belong to our parent, and closing them would disturb it.
            std::mem::take(&mut *lock(&self.seats)).into_iter().for_each(std::mem::forget);
        }
        let pkcs11 = Pkcs11::new(&self.path).map_err(|call| self.not_loaded(&call))?;
        if inherited {
            // After a fork a module counts as not initialised (section 5.4.1); some keep the
            // parent's state all the same.
            let _ = pkcs11.clone().finalize();
        }
        let args = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        let ours = match pkcs11.initialize(args) {
            Ok(()) => true,
            Err(Call::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => false,
            Err(call) => return Err(of_call(&call, self)),
        };
        *open = Some(Open { pkcs11, ours, process });
        Ok(())
    }

    fn finish(&self, open: &mut Option<Open>) {
        lock(&self.seats).clear();
        if let Some(open) = open.take().filter(|open| open.ours) {
            // A module that cannot end has nothing that we could still correct.
            let _ = open.pkcs11.finalize();
        }
    }

    fn not_loaded(&self, call: &Call) -> Error {
        match call {
            Call::LibraryLoading(cause) => {
                let cause = cause.to_string().replace(char::is_control, " ");
                Error::new(Kind::Config, format!("{self} cannot be loaded: {cause}"))
                    .advise("install the HSM's client library, or correct `module`")
            }
            call => of_call(call, self),
        }
    }
}

impl std::fmt::Display for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PKCS#11 module {}", self.path.display())
    }
}

impl Open {
    /// The module's own name and version, for people.
    pub(super) fn description(&self) -> Result<String, TokenError> {
        let info = self.pkcs11.get_library_info()?;
        let version = info.library_version();
        Ok(format!("{} {}.{}", info.manufacturer_id(), version.major(), version.minor()))
    }
}

/// Refuses settings of a module's own that the environment names, in a file that others could write: a
/// module does what they say. Where a folder is named it must keep its place.
fn check_settings(variable: impl Fn(&str) -> Option<OsString>) -> Result<()> {
    let named = super::BACKEND.environment.iter().filter_map(|name| variable(name));
    for path in named.map(PathBuf::from) {
        let checked = match path.parent().filter(|_| path.is_dir()) {
            Some(above) => Folder::open(above).map(drop),
            None => trust::open(&path).map(drop),
        };
        if let Err(refusal @ Refusal::Untrusted(_)) = checked {
            return Err(refusal.of("cannot read", &path));
        }
    }
    Ok(())
}

/// A module is code that runs with the server's rights: nobody else may change it.
fn check_file(path: &Path) -> Result<()> {
    match trust::open_code(path) {
        Ok(_) => Ok(()),
        Err(Refusal::Io(cause)) => Err(Error::io("cannot find the PKCS#11 module", path, &cause)
            .advise("install the HSM's client library, or correct `module`")),
        Err(Refusal::Untrusted(error)) => {
            let (shown, why) = (path.display(), error.what());
            let what = format!("the PKCS#11 module {shown} can be changed by others: {why}");
            let advice = error.advice().unwrap_or("name another");
            Err(Error::new(Kind::Config, what).advise(format!("it runs as the server: {advice}")))
        }
    }
}

pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
