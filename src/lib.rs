//! keyward gives MariaDB and MySQL their encryption keys from any key store.

pub mod cipher;
pub mod env;
pub mod error;
pub mod key;
pub mod provider;
pub mod ring;
pub mod secret;
pub mod store;

pub use error::{Error, Kind, Result};
