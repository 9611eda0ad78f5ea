//! The client on whose behalf the server calls us, by functions that the server exports to its own plugins.
//!
//! MariaDB's headers do not declare them all; each is looked up by its name, and where one is missing less is said.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_ulong, c_void};

use super::abi;
use crate::source::actor_of;

/// The account that the present statement runs as and the client's address, such as
/// `dba@% from 192.0.2.7`; else the number of its connection.
pub(super) fn client(thd: abi::MYSQL_THD) -> String {
    if thd.is_null() {
        return "a client of the server".to_owned();
    }
    // SAFETY: the server gave us its thread for the time of this call.
    let (account, address, number) = unsafe { (account(thd), address(thd), number(thd)) };
    match (account, address, number) {
        (Some(account), Some(address), _) => actor_of(&format!("{account} from {address}")),
        (Some(account), None, _) => actor_of(&account),
        (None, _, Some(number)) => format!("connection {number} of the server"),
        (None, _, None) => "a client of the server".to_owned(),
    }
}

/// # Safety
/// `thd` is a thread of the server's that stays for this call.
unsafe fn account(thd: abi::MYSQL_THD) -> Option<String> {
    type Name = unsafe extern "C" fn(abi::MYSQL_THD, *mut usize) -> *const c_char;
    let text = |function: *mut c_void| {
        // SAFETY: the server defines the functions that are asked for below with this type.
        let function = unsafe { std::mem::transmute::<*mut c_void, Name>(function) };
        let mut len = 0;
        // SAFETY: the outer function's own condition; `len` is a place for one number.
        let name = unsafe { function(thd, &raw mut len) };
        // SAFETY: null, or a text of the thread's that ends with NUL.
        unsafe { owned(name) }
    };
    let user = text(exported(c"thd_priv_user")?).filter(|user| !user.is_empty())?;
    let host = exported(c"thd_priv_host").and_then(text).unwrap_or_default();
    Some(format!("{user}@{host}"))
}

/// # Safety
/// As for [`account`].
unsafe fn address(thd: abi::MYSQL_THD) -> Option<String> {
    type Address = unsafe extern "C" fn(abi::MYSQL_THD) -> *const c_char;
    let function = exported(c"thd_client_ip")?;
    // SAFETY: the server defines the function of that name with this type.
    let function = unsafe { std::mem::transmute::<*mut c_void, Address>(function) };
    // SAFETY: this function's own condition; null, or a text of the thread's that ends with NUL.
    unsafe { owned(function(thd)) }.filter(|address| !address.is_empty())
}

/// # Safety
/// As for [`account`].
unsafe fn number(thd: abi::MYSQL_THD) -> Option<c_ulong> {
    type ThreadId = unsafe extern "C" fn(abi::MYSQL_THD) -> c_ulong;
    let function = exported(c"thd_get_thread_id")?;
    // SAFETY: the server's headers declare the function of that name with this type.
    let function = unsafe { std::mem::transmute::<*mut c_void, ThreadId>(function) };
    // SAFETY: this function's own condition.
    Some(unsafe { function(thd) })
}

/// A function that the server exports.
fn exported(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: a look-up by a name that ends with NUL, in everything that the process has loaded.
    let function = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!function.is_null()).then_some(function)
}

/// # Safety
/// `text` is null or ends with NUL and stays for this call.
unsafe fn owned(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null, so by this function's own condition it ends with NUL and stays.
    Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}
