//! What the kernel is asked for here that no safe interface has.

#![allow(unsafe_code)]

use std::io;
use std::ptr;

use nix::sys::signal::{SigHandler, Signal, signal};

/// Has the kernel keep how our children end until we ask. A caller that ignored `SIGCHLD` left us that,
/// and what was done would look lost.
pub(super) fn keep_ends_of_children() {
    // SAFETY: the default action runs no code of ours. It cannot fail for a signal that there is.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
}

/// Takes a new, empty keyring for the session: whoever has that of the caller reads the keys in it, as
/// whatever user (keyrings(7)).
pub(super) fn leave_session_keyring() -> io::Result<()> {
    // SAFETY: no name is given, so the kernel reads no memory of ours, and it writes none.
    let made = unsafe {
        let call = libc::KEYCTL_JOIN_SESSION_KEYRING;
        libc::syscall(libc::SYS_keyctl, call, ptr::null::<libc::c_char>())
    };
    match made {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
