//! The environment of the server's process, which the programs that it starts inherit.

#![allow(unsafe_code)]

use std::ffi::CString;

/// Sets a variable for the programs that the server starts, such as `mariadb-backup` for a state
/// transfer of Galera's. Only while the plugin is being started. A text with a NUL in it is left
/// away.
pub(super) fn set(name: &str, value: &str) {
    let (Ok(name), Ok(value)) = (CString::new(name), CString::new(value)) else { return };
    // SAFETY: both end with NUL and live to the end of the call, which copies them. The C library
    // guards its list against other threads that set; one that reads at this very moment may see the
    // list before or after. Encryption plugins are started before the server has clients.
    unsafe { libc::setenv(name.as_ptr(), value.as_ptr(), 0) };
}
