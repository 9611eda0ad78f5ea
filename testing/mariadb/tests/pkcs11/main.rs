//! A wrapping key in a hardware security module: SoftHSM2, as Debian installs it, below a real
//! server, and told to fail in every way that a module can.

mod faults;
mod pins;
mod server;
mod start;

#[allow(dead_code)]
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use keyward::backend::pkcs11::{KeyChoice, Pkcs11Wrapper, Settings, TokenChoice};
use keyward::env::{Deadline, System};
use keyward::provider::WrapContext;
use keyward::secret::source::SecretSource;
use test_kit::hsm::{Hsm, PIN};
use test_kit::{Result, Scratch};

/// The tokens of this process, one test at a time: a module has one state for all.
struct Bench {
    hsm: Hsm,
    scratch: Scratch,
}

impl Bench {
    fn get() -> Result<MutexGuard<'static, Self>> {
        static BENCH: OnceLock<std::result::Result<Mutex<Bench>, String>> = OnceLock::new();
        let bench = BENCH.get_or_init(|| Self::new().map(Mutex::new).map_err(|e| e.to_string()));
        let bench = bench.as_ref().map_err(Clone::clone)?;
        let bench = bench.lock().unwrap_or_else(PoisonError::into_inner);
        bench.hsm.release();
        Ok(bench)
    }

    fn new() -> Result<Self> {
        let scratch = Scratch::new("hsm")?;
        let hsm = Hsm::softhsm(scratch.path())?;
        for token in ["faults", "many", "pins"] {
            hsm.make_token(token)?;
        }
        private(&scratch.path().join("pin"), PIN)?;
        Ok(Self { hsm, scratch })
    }

    fn pin_file(&self) -> PathBuf {
        self.scratch.path().join("pin")
    }

    /// A provider for the key `key` of the token `token`.
    fn wrapper(&self, token: &str, key: &str) -> Pkcs11Wrapper {
        Pkcs11Wrapper::new(self.settings(token, key), Arc::new(System))
    }

    fn settings(&self, token: &str, key: &str) -> Settings {
        self.settings_at(TokenChoice { label: Some(token.into()), ..TokenChoice::default() }, key)
    }

    fn wrapper_at(&self, token: TokenChoice, key: &str) -> Pkcs11Wrapper {
        Pkcs11Wrapper::new(self.settings_at(token, key), Arc::new(System))
    }

    fn settings_at(&self, token: TokenChoice, key: &str) -> Settings {
        Settings {
            module: self.hsm.module(),
            token,
            pin: Some(SecretSource::File(self.pin_file())),
            key: KeyChoice { label: Some(key.into()), id: None },
            way: None,
        }
    }
}

/// keyward's errors among the harness's own.
trait Told<T> {
    fn told(self) -> Result<T>;
}

impl<T> Told<T> for keyward::Result<T> {
    fn told(self) -> Result<T> {
        self.map_err(|error| error.to_string().into())
    }
}

/// Writes a file that only its owner may read.
fn private(path: &Path, content: &str) -> Result<()> {
    std::fs::write(path, content)?;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?)
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

fn context() -> WrapContext {
    WrapContext { keystore: "6ba7b810-9dad-41d1-80b4-00c04fd430c8".into(), store_key: 1 }
}
