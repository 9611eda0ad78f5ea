//! `local`: wraps with a key on this machine, from a key file or from a passphrase.

#![forbid(unsafe_code)]

mod derive;
mod keyfile;
mod settings;
mod setup;
mod wrapper;

use std::sync::Arc;

pub use self::derive::Cost;
pub use self::settings::{KekSource, Settings};
pub use self::setup::create_key_file;
pub use self::wrapper::LocalWrapper;
use super::{Backend, Custody};
use crate::provider::Provider;

/// `local` in the table of backends.
pub(super) static BACKEND: Backend = Backend {
    kind: "local",
    custody: Custody::Machine,
    environment: &[],
    groups: &[],
    open: |section, rng| {
        let wrapper = LocalWrapper::new(Settings::read(section)?, Arc::clone(rng))?;
        Ok(Provider::Wraps(Box::new(wrapper)))
    },
    create_key: None,
    set_up: None,
};

/// The length of a wrapping key, in bytes.
const KEK_LEN: usize = 32;

#[cfg(test)]
mod tests;
