//! MySQL's door: keyward as a keyring component of the server, `component_keyring_keyward`.
//!
//! The server opens the library, calls `list_components` and takes eight services from it: tables
//! of functions that read, store, make and list keys by name. The tables and functions are in
//! `ffi`, the only place with unsafe code; what the functions do is in the safe modules beside it.
//! docs/mysql.md tells people how to set it up, and what each line in the log means.

mod aes;
mod ffi;
mod message;
mod open;

use crate::error::{Error, Kind, Result};

pub(crate) use message::defect;
pub(crate) use open::{is_loaded, metrics, serving};

/// The privilege that a client needs who asks for keys by a function: the one that rotates them.
const PRIVILEGE: &str = "ENCRYPTION_KEY_ADMIN";

/// Refuses a client who may not look after keys.
pub(crate) fn admit_client() -> Result<()> {
    if ffi::client_has(PRIVILEGE) {
        return Ok(());
    }
    Err(Error::new(Kind::Denied, format!("it wants {PRIVILEGE}"))
        .advise("have that granted, or call a stored function whose definer has it"))
}

/// Rescues the keys in memory for the client whose statement this is; the log knows why it failed.
pub(crate) fn rescue() -> Result<usize> {
    let rescued = open::rescue(ffi::client().as_deref());
    if let Err(error) = &rescued {
        message::failed("rescue the keys", error);
    }
    rescued
}

/// The component's name, after which the library must be called.
const NAME: &str = "component_keyring_keyward";
