//! The server's structures and codes, from its headers.

use std::ffi::{c_char, c_int, c_uint, c_ulong, c_void};

pub(crate) const INVALID: c_uint = u32::MAX;
pub(crate) const TOO_SMALL: c_uint = 100;
pub(crate) const BAD_DATA: c_int = -100;
pub(crate) const FAILED: c_int = -101;
pub(crate) const BAD_KEY_SIZE: c_int = -102;
pub(crate) const DECRYPT: c_int = 0;
pub(crate) const ENCRYPT: c_int = 1;
pub(crate) const NOPAD: c_int = 2;

#[repr(C)]
pub(crate) struct Plugin {
    pub(crate) kind: c_int,
    pub(crate) info: *const Encryption,
    pub(crate) name: *const c_char,
    pub(crate) author: *const c_char,
    pub(crate) description: *const c_char,
    pub(crate) license: c_int,
    pub(crate) init: Option<unsafe extern "C" fn(*mut c_void) -> c_int>,
    pub(crate) deinit: Option<unsafe extern "C" fn(*mut c_void) -> c_int>,
    pub(crate) version: c_uint,
    pub(crate) status: *mut Show,
    pub(crate) variables: *mut *mut Variable,
    pub(crate) version_info: *const c_char,
    pub(crate) maturity: c_uint,
}

#[repr(C)]
pub(crate) struct Encryption {
    pub(crate) interface_version: c_int,
    pub(crate) latest: Option<unsafe extern "C" fn(c_uint) -> c_uint>,
    pub(crate) get_key:
        Option<unsafe extern "C" fn(c_uint, c_uint, *mut u8, *mut c_uint) -> c_uint>,
    pub(crate) ctx_size: Option<unsafe extern "C" fn(c_uint, c_uint) -> c_uint>,
    pub(crate) init: Option<Init>,
    pub(crate) update:
        Option<unsafe extern "C" fn(*mut c_void, *const u8, c_uint, *mut u8, *mut c_uint) -> c_int>,
    pub(crate) finish: Option<unsafe extern "C" fn(*mut c_void, *mut u8, *mut c_uint) -> c_int>,
    pub(crate) encrypted_length: Option<unsafe extern "C" fn(c_uint, c_uint, c_uint) -> c_uint>,
}

pub(crate) type Init = unsafe extern "C" fn(
    *mut c_void,
    *const u8,
    c_uint,
    *const u8,
    c_uint,
    c_int,
    c_uint,
    c_uint,
) -> c_int;

#[repr(C)]
pub(crate) struct Variable {
    pub(crate) flags: c_int,
    pub(crate) name: *const c_char,
    pub(crate) comment: *const c_char,
    pub(crate) check: Option<
        unsafe extern "C" fn(*mut c_void, *mut Variable, *mut c_void, *mut SetValue) -> c_int,
    >,
    pub(crate) update:
        Option<unsafe extern "C" fn(*mut c_void, *mut Variable, *mut c_void, *const c_void)>,
    pub(crate) value: *mut c_void,
    pub(crate) default: usize,
}

#[repr(C)]
pub(crate) struct Show {
    pub(crate) name: *const c_char,
    pub(crate) value: *mut c_void,
    pub(crate) kind: c_uint,
}

/// What a client SETs, as the server hands it to `check`; the number is the test's own.
#[repr(C)]
pub(crate) struct SetValue {
    pub(crate) kind: unsafe extern "C" fn(*mut SetValue) -> c_int,
    pub(crate) text: unsafe extern "C" fn(*mut SetValue, *mut c_char, *mut c_int) -> *const c_char,
    pub(crate) real: unsafe extern "C" fn(*mut SetValue, *mut f64) -> c_int,
    pub(crate) int: unsafe extern "C" fn(*mut SetValue, *mut i64) -> c_int,
    pub(crate) is_unsigned: unsafe extern "C" fn(*mut SetValue) -> c_int,
    pub(crate) number: i64,
}

#[repr(C)]
pub(crate) struct MessageService {
    pub(crate) error: *const c_void,
    pub(crate) printf: unsafe extern "C" fn(c_uint, *const c_char, c_ulong, *const c_char),
    pub(crate) printv: *const c_void,
}
