//! The server's service for messages.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_uint, c_ulong, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::abi;
use crate::env::Level;

/// The version of the message service that this is written for. The number is not in the installed
/// headers; it is what the server's own plugins carry.
const VERSION: *mut c_void = ptr::without_provenance_mut(0x0100);

/// The server looks for this symbol when it loads the library: it checks the version in it and
/// writes the address of its service there, before it calls anything of ours.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, unreachable_pub)]
pub static my_print_error_service: AtomicPtr<c_void> = AtomicPtr::new(VERSION);

/// The service that the server has given us; null without a server.
static SERVICE: AtomicPtr<abi::my_print_error_service_st> = AtomicPtr::new(ptr::null_mut());

/// Takes the service that the server has written into the symbol. Its address stays there while the
/// plugin is open: the server then refuses to load this library under a second name, because it
/// takes the address for a version that it does not know. Without that it would find a plugin that
/// is installed already, and MariaDB 10.11 crashes on an `INSTALL SONAME` that installs nothing.
pub(super) fn take_service() {
    let written = my_print_error_service.load(Ordering::Relaxed);
    if written != VERSION {
        SERVICE.store(written.cast(), Ordering::Release);
    }
}

/// Puts the version back once the plugin is closed, so that the library can be loaded again even
/// where it is still in memory.
pub(super) fn release_service() {
    my_print_error_service.store(VERSION, Ordering::Relaxed);
}

/// Who is to read a message.
#[derive(Clone, Copy)]
pub(in crate::mariadb) enum Target {
    /// The error log.
    Log(Level),
    /// The client whose statement is being worked on; without one, the error log.
    Client,
    /// Both, once where they are the same.
    ClientAndLog,
}

impl Target {
    fn flags(self) -> c_ulong {
        let flags = match self {
            Self::Log(Level::Error) => abi::ME_ERROR_LOG_ONLY,
            Self::Log(Level::Warning) => abi::ME_ERROR_LOG_ONLY | abi::ME_WARNING,
            Self::Log(Level::Note) => abi::ME_ERROR_LOG_ONLY | abi::ME_NOTE,
            Self::Client => 0,
            Self::ClientAndLog => abi::ME_ERROR_LOG,
        };
        c_ulong::from(flags)
    }
}

/// Hands `text` to the server; where there is none, to the standard error.
pub(in crate::mariadb) fn print(target: Target, number: u32, text: &CStr) {
    let service = SERVICE.load(Ordering::Acquire);
    if service.is_null() {
        eprintln!("{}", text.to_string_lossy());
        return;
    }
    // SAFETY: the server wrote this address into the symbol of its message service; the service is
    // a static of the server's and outlives this library.
    let Some(function) = (unsafe { (*service).my_printf_error_func }) else { return };
    // SAFETY: the format takes one string, and `text` ends with NUL and lives to the end of the call.
    unsafe { function(c_uint::from(number), c"%s".as_ptr(), target.flags(), text.as_ptr()) };
}
