//! `file`: serves the keys of a file in the format of MariaDB's `file_key_management`.

#![forbid(unsafe_code)]

pub mod encrypted;
mod failure;
pub mod keyfile;
mod resembling;
mod server;
mod settings;

pub use self::keyfile::{Dialect, Edition};
pub use self::server::FileServer;
pub use self::settings::{Digest, Password, Settings};
use super::{Backend, Custody};
use crate::provider::Provider;

/// `file` in the table of backends.
pub(super) static BACKEND: Backend = Backend {
    kind: "file",
    custody: Custody::Machine,
    environment: &[],
    groups: &[],
    open: |section, _| Ok(Provider::Serves(Box::new(FileServer::new(Settings::read(section)?)?))),
    create_key: None,
    set_up: None,
};

/// The longest key file, in bytes: the original's limit.
pub const MAX_FILE_LEN: usize = 1 << 20;

/// The longest password that a file may hold, in bytes: the original's limit.
const MAX_PASSWORD_LEN: usize = 256;

#[cfg(test)]
mod tests;
