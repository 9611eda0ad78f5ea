//! keyward gives MariaDB and MySQL their encryption keys from any key store.
//!
//! The rooms, and which of them sees which; arrows run downwards only (`tests/architecture.rs` holds them):
//!
//! ```text
//!   mariadb   mysql        cli          the doors: a plugin, a keyring component, the command
//!        \      |      /
//!             compat                    the plugins that keyward stands in for: options, start, import
//!               |
//!            assemble                   joins configuration, key stores and custodian
//!           /        \
//!    custodian      backend             serves keys from memory | one folder a key store
//!        |              |
//!     manager           |               changes a keystore: create, rotate, rewrap, destroy
//!        |              |
//!     source            |               reads keys: a keystore, a key store that serves
//!        |              |
//!  store event ring  provider config    the keystore's file, trail and metrics, keys in memory, the joint
//!  policy mark inspect                  pure decisions, the data directory's mark, data files
//!        |
//!  cipher secret                        pages, locked memory
//!        |
//!  key error env hex trust              names, one error, clock and randomness, files of others
//! ```
//!
//! `ring`, `cipher` and the doors' `ffi` are all that a page sees. Everything else happens at a start, in
//! the worker's thread or in the command.

pub mod assemble;
pub mod backend;
pub mod cipher;
pub mod cli;
pub mod compat;
pub mod config;
pub mod custodian;
pub mod env;
pub mod error;
pub mod event;
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
