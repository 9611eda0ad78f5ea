//! The component ABI: the one symbol that the server looks for, and the tables it finds behind it.
//!
//! The layouts are those of the server's `components/` headers (mysql/components/component_implementation.h
//! and services/keyring_*.h), which no distribution packages; they are plain C. Each function checks
//! what it was given, calls safe code under [`guard`] and answers 0 for done or 1 for failed; no
//! panic leaves this module.

#![allow(unsafe_code)]

mod caller;
mod cipher;
mod listing;
pub(super) mod log;
mod reader;
mod writer;

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::ptr;

pub(super) use self::caller::{client, client_has};
use super::{message, open};
use crate::key::KeyName;

/// `mysql_component_t`.
#[repr(C)]
pub(crate) struct Component {
    name: *const c_char,
    provides: *const Provided,
    requires: *const Required,
    metadata: *const Metadata,
    init: extern "C" fn() -> c_int,
    deinit: extern "C" fn() -> c_int,
}

// SAFETY: the pointers lead to statics of this module, which nobody writes to.
unsafe impl Sync for Component {}

/// `mysql_service_ref_t`: a service and its functions.
#[repr(C)]
struct Provided {
    name: *const c_char,
    functions: *const c_void,
}

// SAFETY: the pointers lead to a literal and to a static table, which nobody writes to.
unsafe impl Sync for Provided {}

/// `mysql_service_placeholder_ref_t`: a service and where the loader puts its functions.
#[repr(C)]
struct Required {
    name: *const c_char,
    place: *mut *mut c_void,
}

// SAFETY: the name leads to a literal; the place is inside an atomic static, which the loader
// writes once, before it calls init.
unsafe impl Sync for Required {}

/// `mysql_metadata_ref_t`.
#[repr(C)]
struct Metadata {
    key: *const c_char,
    value: *const c_char,
}

// SAFETY: both pointers lead to literals.
unsafe impl Sync for Metadata {}

static COMPONENT: Component = Component {
    name: c"component_keyring_keyward".as_ptr(),
    provides: PROVIDES.as_ptr(),
    requires: REQUIRES.as_ptr(),
    metadata: METADATA.as_ptr(),
    init,
    deinit,
};

/// Ends with a pair of nulls, as all three lists do.
static PROVIDES: [Provided; 9] = [
    provided(c"keyring_load.component_keyring_keyward", &LOAD),
    provided(c"keyring_component_status.component_keyring_keyward", &STATUS),
    provided(c"keyring_component_metadata_query.component_keyring_keyward", &listing::DESCRIPTION),
    provided(c"keyring_keys_metadata_iterator.component_keyring_keyward", &listing::KEYS),
    provided(c"keyring_reader_with_status.component_keyring_keyward", &reader::FUNCTIONS),
    provided(c"keyring_writer.component_keyring_keyward", &writer::WRITER),
    provided(c"keyring_generator.component_keyring_keyward", &writer::GENERATOR),
    provided(c"keyring_aes.component_keyring_keyward", &cipher::FUNCTIONS),
    Provided { name: ptr::null(), functions: ptr::null() },
];

static REQUIRES: [Required; 3] = [
    Required { name: c"registry".as_ptr(), place: caller::REGISTRY.as_ptr() },
    Required { name: c"log_builtins".as_ptr(), place: log::SERVICE.as_ptr() },
    Required { name: ptr::null(), place: ptr::null_mut() },
];

static METADATA: [Metadata; 3] = [
    Metadata { key: c"mysql.author".as_ptr(), value: c"The keyward authors".as_ptr() },
    Metadata { key: c"mysql.license".as_ptr(), value: c"MIT OR Apache-2.0".as_ptr() },
    Metadata { key: ptr::null(), value: ptr::null() },
];

const fn provided<T>(name: &'static CStr, functions: &'static T) -> Provided {
    Provided { name: name.as_ptr(), functions: ptr::from_ref(functions).cast() }
}

/// `keyring_load`.
#[repr(C)]
struct Load {
    load: unsafe extern "C" fn(*const c_char, *const c_char) -> c_int,
}

static LOAD: Load = Load { load };

/// `keyring_component_status`.
#[repr(C)]
struct Status {
    is_initialized: extern "C" fn() -> c_int,
}

static STATUS: Status = Status { is_initialized };

/// What the server calls first: the component of this library.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn list_components() -> *const Component {
    &raw const COMPONENT
}

extern "C" fn init() -> c_int {
    0
}

/// After the last call of any other function.
extern "C" fn deinit() -> c_int {
    guard("deinit", 0, || {
        open::unload();
        0
    })
}

/// Reads the configuration and opens the keystore; called at the start, whose outcome the server
/// does not look at, and by ALTER INSTANCE RELOAD KEYRING.
unsafe extern "C" fn load(library: *const c_char, instance: *const c_char) -> c_int {
    guard("keyring_load", 1, || {
        // SAFETY: the server passes NUL-terminated paths of its own, or null, for this call.
        let (library, instance) = unsafe { (path(library), path(instance)) };
        code(open::load(library, instance).map_err(|error| message::not_loaded(&error)))
    })
}

extern "C" fn is_initialized() -> c_int {
    guard("keyring_component_status", 0, || {
        log::print_early();
        c_int::from(open::is_open())
    })
}

/// Runs `body`; a panic in it becomes a line in the error log and the answer `otherwise`.
fn guard<T>(call: &str, otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        // Its destructor could panic as well.
        std::mem::forget(panic);
        let _ = catch_unwind(|| message::defect(call));
        otherwise
    })
}

/// 0 = done, 1 = failed, and the log knows why.
fn code(outcome: Result<(), ()>) -> c_int {
    c_int::from(outcome.is_err())
}

/// The bytes at `text`, up to its NUL; none where that is null.
///
/// # Safety
/// `text` is null, or ends in NUL and stays as it is while the result is in use.
unsafe fn before_nul<'a>(text: *const c_char) -> Option<&'a [u8]> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null, so by this function's own condition it ends in NUL and stays.
    Some(unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// The text at `text`; none where that is null or not UTF-8.
///
/// # Safety
/// As for [`before_nul`].
unsafe fn text<'a>(text: *const c_char) -> Option<&'a str> {
    // SAFETY: this function's own condition.
    str::from_utf8(unsafe { before_nul(text) }?).ok()
}

/// The path at `text`; the root where that is null.
///
/// # Safety
/// As for [`text`].
unsafe fn path(text: *const c_char) -> PathBuf {
    // SAFETY: this function's own condition.
    let bytes = unsafe { before_nul(text) }.unwrap_or(b"/");
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// The name of a key; none where no key can have it. A null `auth_id` is the server's own.
///
/// # Safety
/// As for [`text`], for both.
unsafe fn name(data_id: *const c_char, auth_id: *const c_char) -> Option<KeyName> {
    // SAFETY: this function's own condition.
    let data_id = unsafe { before_nul(data_id) }.filter(|id| !id.is_empty())?;
    // SAFETY: as before.
    let auth_id = unsafe { before_nul(auth_id) }.unwrap_or_default();
    Some(KeyName::named(data_id, auth_id))
}

/// The bytes that a caller passed; none for a null with a length.
///
/// # Safety
/// `data` is null, or has `len` bytes that stay as they are while the result is in use.
unsafe fn bytes<'a>(data: *const u8, len: usize) -> Option<&'a [u8]> {
    if len == 0 {
        return Some(&[]);
    }
    if data.is_null() {
        return None;
    }
    // SAFETY: not null, so by this function's own condition there are `len` bytes that stay.
    Some(unsafe { std::slice::from_raw_parts(data, len) })
}

/// Fills `room` with `data` and zeros behind it, where it fits.
///
/// # Safety
/// `room` is null or has `len` bytes that nobody else uses during this call.
unsafe fn fill(room: *mut u8, len: usize, data: &[u8]) -> Result<(), ()> {
    if room.is_null() || data.len() > len {
        return Err(());
    }
    // SAFETY: not null, so by this function's own condition there are `len` bytes, of which
    // `data.len()` are no more; `data` is ours, so the two do not overlap.
    unsafe {
        ptr::copy_nonoverlapping(data.as_ptr(), room, data.len());
        ptr::write_bytes(room.add(data.len()), 0, len - data.len());
    }
    Ok(())
}

/// Writes `value` where a caller wants it.
///
/// # Safety
/// `place` is null or can be written as a `T`, and nobody else uses it during this call.
unsafe fn put<T>(place: *mut T, value: T) -> Result<(), ()> {
    if place.is_null() {
        return Err(());
    }
    // SAFETY: not null, so by this function's own condition it can be written.
    unsafe { place.write(value) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::NAME;

    #[test]
    fn a_panic_becomes_a_code() {
        assert_eq!(guard("a test", 7, || panic!("on purpose")), 7);
        assert_eq!(guard("a test", 7, || 1), 1);
    }

    #[test]
    fn the_services_carry_the_components_name() {
        for service in &PROVIDES[..8] {
            // SAFETY: all but the last entry have a literal for a name.
            let name = unsafe { CStr::from_ptr(service.name) }.to_str().unwrap();
            assert_eq!(name.split_once('.').unwrap().1, NAME);
        }
    }
}
