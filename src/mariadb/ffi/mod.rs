//! The plugin ABI: the symbols that the server looks for and the functions that it calls.
//!
//! Each of those functions checks what it was given, calls safe code under [`guard`] and answers
//! with a code that the ABI has; no panic leaves this module.

#![allow(unsafe_code)]
// The server looks for symbols, not for paths.
#![allow(unreachable_pub)]

mod caller;
mod crypt;
mod environment;
mod keys;
pub(super) mod message;
mod status;
mod variables;

use std::cell::UnsafeCell;
use std::ffi::{CStr, OsStr, c_int, c_uint, c_void};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::open::Open;
use super::plugins;
use crate::compat::Plugin;
use variables::LoadedValues;

/// The server's declarations, as the installed headers have them.
#[allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    dead_code,
    unreachable_pub,
    clippy::upper_case_acronyms
)]
pub(in crate::mariadb) mod abi {
    include!(concat!(env!("OUT_DIR"), "/mariadb.rs"));
}

/// The version of the ABI that the declarations follow.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static _maria_plugin_interface_version_: c_int = abi::MARIA_PLUGIN_INTERFACE_VERSION as c_int;

/// The size of one declaration.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static _maria_sizeof_struct_st_plugin_: c_int = size_of::<abi::st_maria_plugin>() as c_int;

/// The one plugin of this library, and the zeros that end the list. [`on_load`] fills it in.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, private_interfaces)]
pub static _maria_plugin_declarations_: Shared<[abi::st_maria_plugin; 2]> =
    Shared::new([NO_PLUGIN; 2]);

const NO_PLUGIN: abi::st_maria_plugin = abi::st_maria_plugin {
    type_: 0,
    info: ptr::null_mut(),
    name: ptr::null(),
    author: ptr::null(),
    descr: ptr::null(),
    license: 0,
    init: None,
    deinit: None,
    version: 0,
    status_vars: ptr::null_mut(),
    system_vars: ptr::null_mut(),
    version_info: ptr::null(),
    maturity: 0,
};

/// The functions of an encryption plugin.
static ENCRYPTION: Shared<abi::st_mariadb_encryption> = Shared::new(abi::st_mariadb_encryption {
    interface_version: abi::MariaDB_ENCRYPTION_INTERFACE_VERSION as c_int,
    get_latest_key_version: Some(keys::get_latest_key_version),
    get_key: Some(keys::get_key),
    crypt_ctx_size: Some(crypt::crypt_ctx_size),
    crypt_ctx_init: Some(crypt::crypt_ctx_init),
    crypt_ctx_update: Some(crypt::crypt_ctx_update),
    crypt_ctx_finish: Some(crypt::crypt_ctx_finish),
    encrypted_length: Some(crypt::encrypted_len),
});

/// What is between init and deinit; null before and after.
static OPEN: AtomicPtr<Open> = AtomicPtr::new(ptr::null_mut());

/// The loader runs this when the library is opened, before the server looks at the declarations.
#[used]
#[unsafe(link_section = ".init_array")]
static ON_LOAD: extern "C" fn() = on_load;

extern "C" fn on_load() {
    guard("loading", (), || {
        message::declare_service();
        let plugin = plugin();
        let variables = variables::declare(plugin);
        let plugin = abi::st_maria_plugin {
            type_: abi::MariaDB_ENCRYPTION_PLUGIN as c_int,
            info: ENCRYPTION.get().cast(),
            name: plugin.name.as_ptr(),
            author: c"The keyward authors".as_ptr(),
            descr: plugin.description.as_ptr(),
            // The list of licences is short; this is the one of its kind.
            license: abi::PLUGIN_LICENSE_BSD as c_int,
            init: Some(init),
            deinit: Some(deinit),
            version: PLUGIN_VERSION,
            status_vars: status::variables(),
            system_vars: variables,
            version_info: VERSION_INFO.as_ptr(),
            maturity: if plugin.stable {
                abi::MariaDB_PLUGIN_MATURITY_STABLE
            } else {
                abi::MariaDB_PLUGIN_MATURITY_GAMMA
            },
        };
        // SAFETY: the loader runs constructors one after the other and nobody has the library's
        // symbols yet, so no other reference to the static exists; it is as long as this array.
        unsafe { _maria_plugin_declarations_.get().write([plugin, NO_PLUGIN]) };
    });
}

/// Major and minor version, as SHOW PLUGINS shows them.
const PLUGIN_VERSION: c_uint = 0x0001;

const VERSION_INFO: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(text) => text,
        Err(_) => c"",
    };

/// Which plugin this library is in this process. The file name cannot change while it is open.
fn plugin() -> &'static Plugin {
    static PLUGIN: OnceLock<&'static Plugin> = OnceLock::new();
    PLUGIN.get_or_init(|| plugins::of(&own_file_name().unwrap_or_default()))
}

/// The path under which this library was opened.
fn own_file_name() -> Option<PathBuf> {
    let mut found = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: the address is one of this library, and `found` is a place for one answer.
    let known = unsafe { libc::dladdr((&raw const OPEN).cast(), found.as_mut_ptr()) } != 0;
    if !known {
        return None;
    }
    // SAFETY: the answer was not 0, so the loader has filled it in.
    let name = unsafe { found.assume_init() }.dli_fname;
    if name.is_null() {
        return None;
    }
    // SAFETY: the loader's record of an open library's name ends with NUL and lives as long as the
    // library is open.
    let name = unsafe { CStr::from_ptr(name) };
    Some(PathBuf::from(OsStr::from_bytes(name.to_bytes())))
}

/// The server starts the plugin. 0 = it serves keys; anything else = it does not, and left nothing.
unsafe extern "C" fn init(_plugin: *mut c_void) -> c_int {
    message::take_service();
    let opened = guard("init", None, || Open::start(plugin(), &LoadedValues::of(plugin())));
    let Some(open) = opened else {
        message::release_service();
        return 1;
    };
    guard("init", 1, || {
        close(OPEN.swap(Box::into_raw(Box::new(open)), Ordering::AcqRel));
        0
    })
}

/// The server ends the plugin, after the last call of any of its other functions.
unsafe extern "C" fn deinit(_plugin: *mut c_void) -> c_int {
    guard("deinit", (), || close(OPEN.swap(ptr::null_mut(), Ordering::AcqRel)));
    message::release_service();
    0
}

fn close(open: *mut Open) {
    if !open.is_null() {
        // SAFETY: the pointer came out of `OPEN`, so `init` made it from a box, and nobody else can
        // take it out again. The server calls init and deinit one at a time and no function of the
        // plugin beside them: it holds the plugin's lock, and puts its own functions in the place
        // of ours before it calls deinit. So no reference from `open()` is left.
        unsafe { Box::from_raw(open) }.stop();
    }
}

/// What init has opened, while it is open.
pub(super) fn open() -> Option<&'static Open> {
    // SAFETY: a pointer in `OPEN` is null or from a box that only `close` frees, which runs when the
    // server has no call into the plugin left. Callers keep the reference for one such call.
    unsafe { OPEN.load(Ordering::Acquire).as_ref() }
}

/// Runs `body`; a panic in it becomes a line in the error log and the answer `otherwise`.
fn guard<T>(call: &str, otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        // Its destructor could panic as well.
        std::mem::forget(panic);
        let _ = catch_unwind(|| super::message::defect(call));
        otherwise
    })
}

/// A static that the server writes to as well.
#[repr(transparent)]
pub(super) struct Shared<T>(UnsafeCell<T>);

// SAFETY: this only lets the address be known to all threads. Who reads or writes through it says
// at that place why nobody else does at that moment.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    const fn get(&self) -> *mut T {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_code() {
        assert_eq!(guard("a test", 7, || panic!("on purpose")), 7);
        assert_eq!(guard("a test", 7, || 1), 1);
    }
}
