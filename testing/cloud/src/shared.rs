//! One LocalStack for all tests of a process, each with keys of its own: a start takes seconds.

use std::path::PathBuf;
use std::sync::Arc;

use test_kit::{Result, files, shared};

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
        static SHARED: shared::Shared<Shared> = shared::Shared::new();
        SHARED.get(Self::start)
    }

    /// A name that no other test of this process has.
    #[must_use]
    pub fn new_name(&self) -> String {
        shared::new_name()
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
