//! The structures that the server and the library share, from the server's headers.

use std::ffi::{c_char, c_int, c_void};

#[repr(C)]
pub(crate) struct Component {
    pub(crate) name: *const c_char,
    pub(crate) provides: *const Service,
    pub(crate) requires: *const Placeholder,
    pub(crate) metadata: *const [*const c_char; 2],
    pub(crate) init: extern "C" fn() -> c_int,
    pub(crate) deinit: extern "C" fn() -> c_int,
}

#[repr(C)]
pub(crate) struct Service {
    pub(crate) name: *const c_char,
    pub(crate) functions: *const c_void,
}

#[repr(C)]
pub(crate) struct Placeholder {
    pub(crate) name: *const c_char,
    pub(crate) place: *mut *mut c_void,
}

#[repr(C)]
pub(crate) struct Load {
    pub(crate) load: unsafe extern "C" fn(*const c_char, *const c_char) -> c_int,
}

#[repr(C)]
pub(crate) struct Status {
    pub(crate) is_initialized: extern "C" fn() -> c_int,
}

#[repr(C)]
pub(crate) struct Reader {
    pub(crate) init: unsafe extern "C" fn(*const c_char, *const c_char, *mut *mut c_void) -> c_int,
    pub(crate) deinit: unsafe extern "C" fn(*mut c_void) -> c_int,
    pub(crate) fetch_length: unsafe extern "C" fn(*mut c_void, *mut usize, *mut usize) -> c_int,
    pub(crate) fetch: unsafe extern "C" fn(
        *mut c_void,
        *mut u8,
        usize,
        *mut usize,
        *mut c_char,
        usize,
        *mut usize,
    ) -> c_int,
}

#[repr(C)]
pub(crate) struct Writer {
    pub(crate) store: unsafe extern "C" fn(
        *const c_char,
        *const c_char,
        *const u8,
        usize,
        *const c_char,
    ) -> c_int,
    pub(crate) remove: unsafe extern "C" fn(*const c_char, *const c_char) -> c_int,
}

#[repr(C)]
pub(crate) struct Generator {
    pub(crate) generate:
        unsafe extern "C" fn(*const c_char, *const c_char, *const c_char, usize) -> c_int,
}

#[repr(C)]
pub(crate) struct Listing {
    pub(crate) init: unsafe extern "C" fn(*mut *mut c_void) -> c_int,
    pub(crate) deinit: unsafe extern "C" fn(*mut c_void) -> c_int,
    pub(crate) is_valid: unsafe extern "C" fn(*mut c_void) -> c_int,
    pub(crate) next: unsafe extern "C" fn(*mut c_void) -> c_int,
    pub(crate) get_length: unsafe extern "C" fn(*mut c_void, *mut usize, *mut usize) -> c_int,
    pub(crate) get:
        unsafe extern "C" fn(*mut c_void, *mut c_char, usize, *mut c_char, usize) -> c_int,
}

pub(crate) type Crypt = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    *const c_char,
    usize,
    *const u8,
    bool,
    *const u8,
    usize,
    *mut u8,
    usize,
    *mut usize,
) -> c_int;

#[repr(C)]
pub(crate) struct Aes {
    pub(crate) get_size: unsafe extern "C" fn(usize, *const c_char, usize, *mut usize) -> c_int,
    pub(crate) encrypt: Crypt,
    pub(crate) decrypt: Crypt,
}
