//! The loadable function `keyward_rescue`, which the server finds by its symbols:
//! `CREATE FUNCTION keyward_rescue RETURNS INTEGER SONAME 'component_keyring_keyward.so'`.
//!
//! The layouts are those of the server's `mysql/udf_registration_types.h`, as far as they are used.

#![allow(unsafe_code)]

use std::ffi::{c_char, c_longlong, c_uchar, c_uint, c_void};
use std::ptr;

use super::{caller, guard};
use crate::mysql::{message, open};

/// How long a message may be, with its NUL: `MYSQL_ERRMSG_SIZE`.
const MESSAGE_LEN: usize = 512;

/// The beginning of `UDF_ARGS`.
#[repr(C)]
pub(crate) struct Arguments {
    count: c_uint,
}

/// Before the first call of a statement: refuses arguments.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn keyward_rescue_init(
    _init: *mut c_void,
    arguments: *const Arguments,
    message: *mut c_char,
) -> bool {
    guard("keyward_rescue", true, || {
        // SAFETY: the server passes its arguments, or null, for the length of this call.
        let count = unsafe { arguments.as_ref() }.map_or(0, |arguments| arguments.count);
        if count > 0 && !message.is_null() {
            let text = c"keyward_rescue() takes no arguments".to_bytes_with_nul();
            debug_assert!(text.len() <= MESSAGE_LEN);
            // SAFETY: the server's buffer has room for MESSAGE_LEN bytes, and is nobody else's.
            unsafe { ptr::copy_nonoverlapping(text.as_ptr(), message.cast(), text.len()) };
        }
        count > 0
    })
}

/// After the last call of a statement.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn keyward_rescue_deinit(_init: *mut c_void) {}

/// How many key versions were written into a new keystore; 0 where the present one has them all, NULL
/// where it failed, and the log knows why.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn keyward_rescue(
    _init: *mut c_void,
    _arguments: *const Arguments,
    is_null: *mut c_uchar,
    error: *mut c_uchar,
) -> c_longlong {
    let failed = || {
        for flag in [is_null, error] {
            if !flag.is_null() {
                // SAFETY: not null, so it is the server's flag for this call.
                unsafe { flag.write(1) };
            }
        }
        0
    };
    let outcome = guard("keyward_rescue", None, || {
        let outcome = open::rescue(caller::client().as_deref())
            .map_err(|error| message::failed("rescue the keys", &error));
        outcome.ok()
    });
    outcome
        .map_or_else(failed, |versions| c_longlong::try_from(versions).unwrap_or(c_longlong::MAX))
}
