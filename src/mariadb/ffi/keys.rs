//! The two functions by which the server asks for keys.

#![allow(unsafe_code)]

use std::ffi::{c_uchar, c_uint};
use std::ptr;

use super::{abi, guard, open};

/// "There is no such key". The header's macro is an expression that bindgen does not read.
const INVALID: c_uint = !0;
const SUCCESS: c_uint = 0;

/// The version that encrypts with key `key_id`, or INVALID. Called once for every page written.
pub(super) unsafe extern "C" fn get_latest_key_version(key_id: c_uint) -> c_uint {
    guard("get_latest_key_version", INVALID, || {
        open().and_then(|open| open.latest(key_id)).unwrap_or(INVALID)
    })
}

/// Copies a key out. 0, or INVALID where there is none, or `BUFFER_TOO_SMALL`; the length the key
/// has is written in either good case. Without a buffer it only tells the length.
pub(super) unsafe extern "C" fn get_key(
    key_id: c_uint,
    version: c_uint,
    buffer: *mut c_uchar,
    length: *mut c_uint,
) -> c_uint {
    guard("get_key", INVALID, || {
        let Some(key) = open().and_then(|open| open.key(key_id, version)) else { return INVALID };
        // SAFETY: the arguments are the server's, as `copy_out` wants them.
        unsafe { copy_out(key, buffer, length) }
    })
}

/// # Safety
/// `length` is null or one number that may be written to. If `buffer` is not null, `length` is
/// not null either and says how many bytes may be written there.
unsafe fn copy_out(key: &[u8], buffer: *mut c_uchar, length: *mut c_uint) -> c_uint {
    let Ok(needed) = c_uint::try_from(key.len()) else { return INVALID };
    if length.is_null() {
        return if buffer.is_null() { SUCCESS } else { INVALID };
    }
    // Who has no buffer need not have set its length: it is not read then.
    // SAFETY: the caller gave a buffer, so it has set the length of it.
    let too_small = !buffer.is_null() && unsafe { length.read() } < needed;
    // SAFETY: `length` is not null and may be written to.
    unsafe { length.write(needed) };
    if too_small {
        return abi::ENCRYPTION_KEY_BUFFER_TOO_SMALL;
    }
    if !buffer.is_null() {
        // SAFETY: the buffer has at least as many bytes as the key, and is the caller's own.
        unsafe { ptr::copy_nonoverlapping(key.as_ptr(), buffer, key.len()) };
    }
    SUCCESS
}
