//! A real MariaDB server to try keyward on, in a folder of its own that goes with it.
//!
//! A [`Site`] is one server's folder: data, plugins, `my.cnf`, keystore. [`Site::start`] gives a
//! running [`Server`], which dies with the value and with the thread that started it.
//! The suites themselves are under `tests/`; `cargo xtask test` runs them in layers.

pub mod approvers;
pub mod backup;
pub mod launch;
pub mod load;
pub mod memory;
pub mod power;
pub mod report;
pub mod rows;
pub mod server;
pub mod session;
pub mod site;
pub mod versions;

pub use backup::Backup;
pub use launch::Launch;
pub use server::Server;
pub use session::Session;
pub use site::{FILE_KEYS, Site};
pub use versions::Versions;

/// The plugins that the distribution's packages installed.
pub const PLUGINS: &str = "/usr/lib/mysql/plugin";

/// The distribution's server.
pub const SERVER: &str = "/usr/sbin/mariadbd";
