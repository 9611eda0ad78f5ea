//! keyward gives MariaDB and MySQL their encryption keys from any key store.
//!
//! A room imports only rooms drawn below it, or in its own row where `tests/architecture.rs` says so:
//!
//! ```text
//!       sql                             functions for SQL, which ask the door that is open
//!      /   \
//!   mysql   mariadb     cli             the doors: a keyring component, a plugin, the command
//!       \         \    /
//!        \        compat                the plugins that keyward stands in for: options, start, import
//!         \      /
//!         assemble                      builds a custodian from a configuration
//!        /        \
//!  custodian      sink   backend        serves keys from memory | copies of the trail elsewhere |
//!      |             |                  one folder a key store
//!   manager          |                  changes a keystore: create, rotate, rewrap, destroy
//!      |             |
//!   source           |                  reads keys: a keystore, or a key store that serves them
//!      |             |
//!   backup  report                      a keystore's backup as text | the report for an auditor
//!   store  event  ring                  the keystore's file | audit trail and metrics | keys in memory
//!   policy  mark  inspect  binlog       when a rotation is due | the data directory's mark | data files |
//!                                       binary logs, decrypted
//!   provider  config                    the traits of a key store | the configuration file
//!   cipher  secret  age  approval       pages | locked memory, secrets from files | encrypted files of age's |
//!                                       requests that several people sign
//!   key  error  env  hex  trust         a key's names | the one error | clock, randomness, threads |
//!                                       digits | whose a file is
//! ```
//!
//! Encrypting a page runs a door, `custodian`, `ring` and `cipher`, and takes no lock. Everything else runs
//! at a start, in the worker's thread or in the command.

pub mod age;
pub mod approval;
pub mod assemble;
pub mod backend;
pub mod backup;
pub mod binlog;
pub mod cipher;
pub mod cli;
pub mod compat;
pub mod config;
pub mod custodian;
pub mod drill;
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
pub mod report;
pub mod ring;
pub mod secret;
pub mod shares;
pub mod sink;
pub mod source;
mod sql;
pub mod store;
pub mod trust;

pub use error::{Error, Kind, Result};
