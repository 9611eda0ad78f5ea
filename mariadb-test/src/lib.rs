//! A real MariaDB server to try keyward on, in a folder of its own that goes with it.
//!
//! A [`Site`] is one server's folder: data, plugins, `my.cnf`, keystore. [`Site::start`] gives a
//! running [`Server`], which dies with the value and with the thread that started it.
//! The suites themselves are under `tests/`; `cargo xtask test` runs them in layers.

pub mod artefacts;
pub mod backup;
pub mod command;
pub mod files;
pub mod launch;
pub mod memory;
pub mod power;
pub mod rows;
pub mod scratch;
pub mod server;
pub mod session;
pub mod shared;
pub mod site;
pub mod strace;
pub mod trouble;
pub mod versions;

pub use backup::Backup;
pub use command::{Answer, run};
pub use launch::Launch;
pub use scratch::Scratch;
pub use server::Server;
pub use session::Session;
pub use site::{FILE_KEYS, Site};
pub use trouble::{Result, Trouble};
pub use versions::Versions;

/// Prints a line of evidence: what a test saw, for the reader of its layer's report.
///
/// `cargo xtask test` shows these lines beneath the layer; everything else a passing test prints
/// stays in its log.
#[macro_export]
macro_rules! seen {
    ($($text:tt)*) => {
        println!("| {}", format_args!($($text)*))
    };
}

/// Ends a test with an error unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err($crate::Trouble::from(format!($($text)+)));
        }
    };
}
