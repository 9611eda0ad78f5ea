//! The server's service for messages.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_uint, c_ulong, c_void};
use std::mem;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::abi;
use crate::compat::Release;
use crate::env::Level;

/// The versions of the message service that there are: what the plugins of 10.11 carry, and those of
/// 11.8. The functions are the same. The second came with formats in which a letter behind `%s` counts,
/// and a server takes no version but its own. The numbers are not in the installed headers.
const PLAIN: *mut c_void = ptr::without_provenance_mut(0x0100);
const WITH_SUFFIXES: *mut c_void = ptr::without_provenance_mut(0x0200);

/// The server looks for this symbol when it loads the library: it checks the version in it and
/// writes the address of its service there, before it calls anything of ours.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, unreachable_pub)]
pub static my_print_error_service: AtomicPtr<c_void> = AtomicPtr::new(PLAIN);

/// The service that the server has given us; null without a server.
static SERVICE: AtomicPtr<abi::my_print_error_service_st> = AtomicPtr::new(ptr::null_mut());

/// Writes the version that this process's server has into the symbol, before the server looks.
pub(super) fn declare_service() {
    my_print_error_service.store(version(), Ordering::Relaxed);
}

/// Found out by having the server format something: it tells no plugin its own version before it has
/// checked the plugin's.
fn version() -> *mut c_void {
    if has_suffixes() { WITH_SUFFIXES } else { PLAIN }
}

/// The oldest release that the server can be. What `@@version` shows is no help: it can be set.
pub(super) fn release() -> Release {
    if has_suffixes() { Release(11, 8) } else { Release(10, 11) }
}

/// Whether `Q` behind `%s` puts quotes round the text; without a server, it does not.
fn has_suffixes() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(try_suffixes)
}

fn try_suffixes() -> bool {
    type Format = unsafe extern "C" fn(*mut c_char, usize, *const c_char, ...) -> usize;
    // SAFETY: the name ends with NUL; looked up are the symbols that the process has already.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"my_snprintf".as_ptr()) };
    if found.is_null() {
        return false;
    }
    // SAFETY: all servers that load this library export a function of that name and of this type, and
    // a pointer to a function is as long as one to data on every platform that has dlsym.
    let format = unsafe { mem::transmute::<*mut c_void, Format>(found) };
    let mut text: [c_char; 8] = [0; 8];
    // SAFETY: it writes at most as many bytes as it is told that there is room for; the format takes
    // one string, which ends with NUL.
    unsafe { format(text.as_mut_ptr(), text.len(), c"%sQ".as_ptr(), c"x".as_ptr()) };
    text[0] != c"x".to_bytes()[0].cast_signed()
}

/// Takes the service that the server has written into the symbol. Its address stays there while the
/// plugin is open: the server then refuses to load this library under a second name, because it
/// takes the address for a version that it does not know. Without that it would find a plugin that
/// is installed already, and MariaDB 10.11 crashes on an `INSTALL SONAME` that installs nothing.
pub(super) fn take_service() {
    let written = my_print_error_service.load(Ordering::Relaxed);
    if written != version() {
        SERVICE.store(written.cast(), Ordering::Release);
    }
}

/// Puts the version back once the plugin is closed, so that the library can be loaded again even
/// where it is still in memory.
pub(super) fn release_service() {
    my_print_error_service.store(version(), Ordering::Relaxed);
}

/// Who is to read a message.
#[derive(Clone, Copy)]
pub(in crate::mariadb) enum Target {
    /// The error log.
    Log(Level),
    /// The client whose statement is being worked on; without one, the error log.
    Client,
    /// Both, once where they are the same.
    ClientAndLog(Level),
}

impl Target {
    fn flags(self) -> c_ulong {
        let (readers, level) = match self {
            Self::Log(level) => (abi::ME_ERROR_LOG_ONLY, level),
            Self::Client => (0, Level::Error),
            Self::ClientAndLog(level) => (abi::ME_ERROR_LOG, level),
        };
        let flags = match level {
            Level::Error => readers,
            Level::Warning => readers | abi::ME_WARNING,
            Level::Note => readers | abi::ME_NOTE,
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
