//! MariaDB's door: keyward as an encryption plugin of the server.
//!
//! The server opens the library, finds a table of plugin declarations in it and calls the functions
//! that stand there. All of that is in `ffi`, the only place with unsafe code; what the functions do
//! is in the safe modules beside it. Which plugin the library is depends on the name of the file the
//! server opened: see `plugins`.

mod ffi;
mod keyward;
mod message;
mod open;
mod plugins;
mod role;

use crate::custodian::Custodian;
use crate::error::{Error, Kind, Result};
use crate::event::metrics::Shown;

pub(crate) use message::defect;

/// Asks the keys that the plugin serves. For a client's statement, which the plugin outlives.
pub(crate) fn serving<T>(ask: impl FnOnce(&Custodian) -> T) -> Result<T> {
    let closed = || Error::new(Kind::State, "the plugin is not running");
    ffi::open().map(|open| ask(open.custodian())).ok_or_else(closed)
}

/// What SHOW STATUS shows.
pub(crate) fn metrics() -> Vec<Shown> {
    ffi::open().map(open::Open::status).unwrap_or_default()
}
