//! keyward gives MariaDB and MySQL their encryption keys from any key store.

pub mod assemble;
pub mod audit;
pub mod backend;
pub mod cipher;
pub mod cli;
pub mod config;
pub mod custodian;
pub mod env;
pub mod error;
pub mod hex;
pub mod inspect;
pub mod key;
pub mod manager;
pub mod mariadb;
pub mod mark;
pub mod mysql;
pub mod policy;
pub mod provider;
pub mod ring;
pub mod secret;
pub mod source;
pub mod store;
pub mod trust;

pub use error::{Error, Kind, Result};
