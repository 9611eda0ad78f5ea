//! One Vault for all tests of a process, each with keys of its own: a start takes seconds.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::thread;
use std::time::Duration;

use mariadb_test::Result;

use crate::Vault;

/// What a server may do that keyward runs in, for all prefixes and keys of all tests.
const RULES: &str = r#"
path "transit/*" { capabilities = ["read", "update"] }
path "secret/*" { capabilities = ["create", "read", "update", "list"] }
"#;

/// A Vault with engines `secret` (KV 2) and `transit`, and a role `keyward` to log in as.
pub struct Shared {
    /// The Vault itself.
    pub vault: Vault,
    /// The name of the role.
    pub role_id: String,
    /// Its secret.
    pub secret_id: String,
}

impl Shared {
    /// The one of this process; it ends with its last user.
    pub fn get() -> Result<Arc<Self>> {
        static SHARED: Mutex<Weak<Shared>> = Mutex::new(Weak::new());
        // A test that failed while it started one has left nothing half-made in there.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(vault) = shared.upgrade() {
            return Ok(vault);
        }
        let vault = start_in_a_thread()?;
        *shared = Arc::downgrade(&vault);
        Ok(vault)
    }

    /// A name that no other test of this process has.
    #[must_use]
    pub fn new_name(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        format!("t{}", COUNT.fetch_add(1, Ordering::Relaxed))
    }

    fn start() -> Result<Self> {
        let vault = Vault::start()?;
        vault.vault(&["secrets", "enable", "transit"])?;
        vault.vault(&["secrets", "enable", "-path=secret", "-version=2", "kv"])?;
        vault.vault(&["auth", "enable", "approle"])?;
        vault.policy("keyward", RULES)?;
        vault.vault(&["write", "auth/approle/role/keyward", "token_policies=keyward"])?;
        let role = "auth/approle/role/keyward";
        let role_id = vault.field("role_id", &["read", &format!("{role}/role-id")])?;
        let secret_id = vault.field("secret_id", &["write", "-f", &format!("{role}/secret-id")])?;
        Ok(Self { vault, role_id, secret_id })
    }
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
    take.recv().map_err(|_| "the thread that was to start Vault broke off")?
}
