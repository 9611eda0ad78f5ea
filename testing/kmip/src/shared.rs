//! One PyKMIP for all tests of a process, each with keys of its own.

use std::sync::Arc;

use test_kit::{Result, shared};

use crate::Kmip;

/// The PyKMIP that tests share.
pub struct Shared {
    /// The server itself.
    pub kmip: Kmip,
}

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
        Ok(Self { kmip: Kmip::start()? })
    }
}
