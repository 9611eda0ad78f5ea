//! What every harness needs: folders that go with a test, processes that die with it, one file of each
//! program that `cargo xtask` installs, and an error that a test can end with.

pub mod account;
pub mod artefacts;
pub mod binlog;
pub mod cache;
pub mod certificates;
pub mod command;
pub mod doctor;
pub mod files;
pub mod hsm;
pub mod listening;
pub mod process;
pub mod scratch;
pub mod shared;
pub mod strace;
pub mod trouble;

pub use certificates::Certificates;
pub use command::{Answer, run};
pub use process::{Process, free_port};
pub use scratch::Scratch;
pub use trouble::{Result, Trouble};

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
