//! The service `keyring_reader_with_status`.

use std::ffi::{c_char, c_int, c_uchar};
use std::ptr;
use std::sync::Arc;

use super::{code, fill, guard, name, put};
use crate::mysql::{message, open};
use crate::ring::NamedKey;

/// What the server holds while it reads: a key, counted as one more user of it; or null.
type Handle = *const NamedKey;

/// The service's functions, in the order of its header.
#[repr(C)]
pub(super) struct Functions {
    init: unsafe extern "C" fn(*const c_char, *const c_char, *mut Handle) -> c_int,
    deinit: unsafe extern "C" fn(Handle) -> c_int,
    fetch_length: unsafe extern "C" fn(Handle, *mut usize, *mut usize) -> c_int,
    fetch: unsafe extern "C" fn(
        Handle,
        *mut c_uchar,
        usize,
        *mut usize,
        *mut c_char,
        usize,
        *mut usize,
    ) -> c_int,
}

pub(super) static FUNCTIONS: Functions = Functions { init, deinit, fetch_length, fetch };

/// 0 with a null handle = there is no such key; 1 = nobody can say whether there is.
unsafe extern "C" fn init(
    data_id: *const c_char,
    auth_id: *const c_char,
    handle: *mut Handle,
) -> c_int {
    guard("keyring_reader init", 1, || {
        // SAFETY: the server passes texts that end in NUL or null, and stay for this call.
        let found = match unsafe { name(data_id, auth_id) } {
            Some(name) => open::key(&name)
                .map_err(|error| message::failed(&format!("read key {name}"), &error)),
            None => Ok(None),
        };
        let key = found.as_ref().ok().cloned().flatten().map_or(ptr::null(), Arc::into_raw);
        // SAFETY: the server passes a place for the handle, for this call.
        code(unsafe { put(handle, key) }.and(found.map(drop)))
    })
}

unsafe extern "C" fn deinit(handle: Handle) -> c_int {
    guard("keyring_reader deinit", 1, || {
        if !handle.is_null() {
            // SAFETY: a handle comes from `init`, where an `Arc` became it, and the server gives
            // it back once, here.
            drop(unsafe { Arc::from_raw(handle) });
        }
        0
    })
}

unsafe extern "C" fn fetch_length(
    handle: Handle,
    data_len: *mut usize,
    kind_len: *mut usize,
) -> c_int {
    guard("keyring_reader fetch_length", 1, || {
        // SAFETY: a handle is null or from `init` and not yet given back, so the key is alive.
        let Some(key) = (unsafe { handle.as_ref() }) else { return 1 };
        // SAFETY: the server passes a place for each length, for this call.
        let data = unsafe { put(data_len, key.data().expose().len()) };
        // SAFETY: as above.
        code(data.and(unsafe { put(kind_len, key.kind().len()) }))
    })
}

/// The room for the type is as long as the type: there is no NUL behind it.
unsafe extern "C" fn fetch(
    handle: Handle,
    data: *mut c_uchar,
    data_room: usize,
    data_len: *mut usize,
    kind: *mut c_char,
    kind_room: usize,
    kind_len: *mut usize,
) -> c_int {
    guard("keyring_reader fetch", 1, || {
        // SAFETY: a handle is null or from `init` and not yet given back, so the key is alive.
        let Some(key) = (unsafe { handle.as_ref() }) else { return 1 };
        let (bytes, type_name) = (key.data().expose(), key.kind().as_bytes());
        // The key goes out last, where nothing can fail any more.
        if data.is_null() || data_len.is_null() || bytes.len() > data_room {
            return 1;
        }
        // SAFETY: the server passes room of the length that it says, and a place for the length, for
        // this call.
        let told = unsafe {
            fill(kind.cast(), kind_room, type_name).and_then(|()| put(kind_len, type_name.len()))
        };
        // SAFETY: as above, for the key.
        code(told.and_then(|()| unsafe {
            put(data_len, bytes.len()).and_then(|()| fill(data, data_room, bytes))
        }))
    })
}
