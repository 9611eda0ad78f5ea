//! The services that list rows of two texts: `keyring_component_metadata_query`, what the component
//! says of itself, and `keyring_keys_metadata_iterator`, the names of all keys.

use std::ffi::{c_char, c_int};

use super::{code, fill, guard, put};
use crate::key::KeyName;
use crate::mysql::{message, open};

/// Two texts, in the server's own bytes.
type Row = (Vec<u8>, Vec<u8>);

/// Rows, and the one it is at.
pub(super) struct Listing {
    rows: Vec<Row>,
    at: usize,
}

/// What the server holds while it lists: a box, which `deinit` takes back; or null.
type Handle = *mut Listing;

/// The functions of either service, in the order of its header.
#[repr(C)]
pub(super) struct Functions {
    init: unsafe extern "C" fn(*mut Handle) -> c_int,
    deinit: unsafe extern "C" fn(Handle) -> c_int,
    is_valid: unsafe extern "C" fn(Handle) -> c_int,
    next: unsafe extern "C" fn(Handle) -> c_int,
    get_length: unsafe extern "C" fn(Handle, *mut usize, *mut usize) -> c_int,
    get: unsafe extern "C" fn(Handle, *mut c_char, usize, *mut c_char, usize) -> c_int,
}

/// Its lengths count the NUL.
pub(super) static DESCRIPTION: Functions = functions(describe, get_length::<1>);

/// Its lengths do not count the NUL, for which there must be room all the same.
pub(super) static KEYS: Functions = functions(list_keys, get_length::<0>);

const fn functions(
    init: unsafe extern "C" fn(*mut Handle) -> c_int,
    get_length: unsafe extern "C" fn(Handle, *mut usize, *mut usize) -> c_int,
) -> Functions {
    Functions { init, deinit, is_valid, next, get_length, get }
}

impl Listing {
    fn row(&self) -> Option<&Row> {
        self.rows.get(self.at)
    }
}

unsafe extern "C" fn describe(handle: *mut Handle) -> c_int {
    guard("keyring_component_metadata_query init", 1, || {
        let bytes = |(name, value): (String, String)| (name.into_bytes(), value.into_bytes());
        let rows = open::describe().into_iter().map(bytes).collect();
        // SAFETY: the server passes a place for the handle, for this call.
        unsafe { begin(handle, rows) }
    })
}

unsafe extern "C" fn list_keys(handle: *mut Handle) -> c_int {
    guard("keyring_keys_metadata_iterator init", 1, || {
        let split = |name| match name {
            KeyName::Named { data_id, auth_id } => {
                Some((data_id.as_bytes().to_vec(), auth_id.as_bytes().to_vec()))
            }
            KeyName::Id(_) => None,
        };
        match open::names() {
            // SAFETY: the server passes a place for the handle, for this call.
            Ok(names) => unsafe { begin(handle, names.into_iter().filter_map(split).collect()) },
            Err(error) => {
                message::failed("list the keys", &error);
                1
            }
        }
    })
}

/// # Safety
/// `handle` is null or can be written.
unsafe fn begin(handle: *mut Handle, rows: Vec<Row>) -> c_int {
    let listing = Box::into_raw(Box::new(Listing { rows, at: 0 }));
    // SAFETY: this function's own condition.
    let put = unsafe { put(handle, listing) };
    if put.is_err() {
        // SAFETY: it was made above and nobody has it.
        drop(unsafe { Box::from_raw(listing) });
    }
    code(put)
}

unsafe extern "C" fn deinit(handle: Handle) -> c_int {
    guard("listing deinit", 1, || {
        if !handle.is_null() {
            // SAFETY: a handle comes from `begin`, where a box became it, and the server gives it
            // back once, here.
            drop(unsafe { Box::from_raw(handle) });
        }
        0
    })
}

/// Not 0 = there is a row.
unsafe extern "C" fn is_valid(handle: Handle) -> c_int {
    guard("listing is_valid", 0, || {
        // SAFETY: a handle is null or from `begin` and not yet given back; one thread uses it.
        c_int::from(unsafe { handle.as_ref() }.and_then(Listing::row).is_some())
    })
}

/// 1 = it was at the end.
unsafe extern "C" fn next(handle: Handle) -> c_int {
    guard("listing next", 1, || {
        // SAFETY: a handle is null or from `begin` and not yet given back; one thread uses it.
        let Some(listing) = (unsafe { handle.as_mut() }) else { return 1 };
        if listing.row().is_none() {
            return 1;
        }
        listing.at += 1;
        0
    })
}

unsafe extern "C" fn get_length<const NUL: usize>(
    handle: Handle,
    first: *mut usize,
    second: *mut usize,
) -> c_int {
    guard("listing get_length", 1, || {
        // SAFETY: a handle is null or from `begin` and not yet given back; one thread uses it.
        let Some(row) = unsafe { handle.as_ref() }.and_then(Listing::row) else { return 1 };
        // SAFETY: the server passes a place for each length, for this call.
        code(unsafe { put(first, row.0.len() + NUL).and(put(second, row.1.len() + NUL)) })
    })
}

unsafe extern "C" fn get(
    handle: Handle,
    first: *mut c_char,
    first_room: usize,
    second: *mut c_char,
    second_room: usize,
) -> c_int {
    guard("listing get", 1, || {
        // SAFETY: a handle is null or from `begin` and not yet given back; one thread uses it.
        let Some(row) = unsafe { handle.as_ref() }.and_then(Listing::row) else { return 1 };
        // SAFETY: the server passes two buffers of the lengths that it says, for this call.
        code(unsafe {
            fill_text(first, first_room, &row.0)
                .and_then(|()| fill_text(second, second_room, &row.1))
        })
    })
}

/// Fills `room` with `text` and at least one NUL.
///
/// # Safety
/// As for [`fill`].
unsafe fn fill_text(room: *mut c_char, len: usize, text: &[u8]) -> Result<(), ()> {
    if text.len() >= len || room.is_null() {
        return Err(());
    }
    // SAFETY: this function's own condition.
    unsafe { fill(room.cast(), len, text) }
}
