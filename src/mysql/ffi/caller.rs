//! The client on whose behalf the server calls us, as its services tell.
//!
//! Each service is looked up in the server's registry for one question and given back: a keyring is
//! loaded before the server has them, and `mysql_migrate_keyring` never does. Only the first functions
//! of each are used, whose places have not changed since the services exist (MySQL 8.0,
//! components/services/registry.h, mysql_current_thread_reader.h, security_context.h).

use std::ffi::{CStr, c_char, c_int, c_uchar, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::source::actor_of;

/// Where the loader puts the functions of `registry`.
pub(super) static REGISTRY: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// `registry`. All return 0 for done.
#[repr(C)]
struct Registry {
    acquire: unsafe extern "C" fn(*const c_char, *mut *mut c_void) -> c_int,
    acquire_related: unsafe extern "C" fn(*const c_char, *mut c_void, *mut *mut c_void) -> c_int,
    release: unsafe extern "C" fn(*mut c_void) -> c_int,
}

/// `mysql_current_thread_reader`.
#[repr(C)]
struct CurrentThread {
    get: unsafe extern "C" fn(*mut *mut c_void) -> c_int,
}

/// The beginning of `mysql_thd_security_context`.
#[repr(C)]
struct ThreadContext {
    get: unsafe extern "C" fn(*mut c_void, *mut *mut c_void) -> c_int,
}

/// The beginning of `mysql_security_context_options`.
#[repr(C)]
struct ContextOptions {
    get: unsafe extern "C" fn(*mut c_void, *const c_char, *mut c_void) -> c_int,
}

/// `global_grants_check`: whether a security context has a privilege that is granted for all.
#[repr(C)]
struct GlobalGrants {
    has: unsafe extern "C" fn(*mut c_void, *const c_char, usize) -> c_uchar,
}

/// `MYSQL_LEX_CSTRING`.
#[repr(C)]
struct Text {
    start: *const c_char,
    len: usize,
}

/// A service of the server's, until it is dropped.
struct Service<'a> {
    registry: &'a Registry,
    functions: *mut c_void,
}

/// The account that the present statement runs as and the client's address, such as
/// `dba@% from 192.0.2.7`; none where no client is at work.
pub(in crate::mysql) fn client() -> Option<String> {
    // SAFETY: the loader wrote the address of the server's table, which stays, or nothing.
    let registry = unsafe { REGISTRY.load(Ordering::Acquire).cast::<Registry>().as_ref() }?;
    let context = context(registry)?;
    let options = Service::named(registry, c"mysql_security_context_options")?;
    let said = |name: &CStr| {
        // SAFETY: the service of that name begins with these functions.
        let options = unsafe { &*options.functions.cast::<ContextOptions>() };
        // SAFETY: the context is that of the thread that runs this, and lives as long as its statement.
        unsafe { text(options, context, name) }
    };
    let user = said(c"priv_user").filter(|user| !user.is_empty())?;
    let account = format!("{user}@{}", said(c"priv_host").unwrap_or_default());
    let address = said(c"ip").filter(|address| !address.is_empty());
    Some(match address {
        Some(address) => actor_of(&format!("{account} from {address}")),
        None => actor_of(&account),
    })
}

/// Whether the client whose statement this is has `privilege`; nobody has one where that cannot be asked.
pub(in crate::mysql) fn client_has(privilege: &str) -> bool {
    let has = || {
        // SAFETY: the loader wrote the address of the server's table, which stays, or nothing.
        let registry = unsafe { REGISTRY.load(Ordering::Acquire).cast::<Registry>().as_ref() }?;
        let context = context(registry)?;
        let grants = Service::named(registry, c"global_grants_check")?;
        // SAFETY: the service of that name has this function.
        let grants = unsafe { &*grants.functions.cast::<GlobalGrants>() };
        // SAFETY: the context is that of the thread that runs this; the name is there for so many bytes.
        Some(unsafe { (grants.has)(context, privilege.as_ptr().cast(), privilege.len()) })
    };
    has().is_some_and(|answer| answer != 0)
}

/// The security context of the thread that runs this.
fn context(registry: &Registry) -> Option<*mut c_void> {
    let mut thread = ptr::null_mut();
    let current = Service::named(registry, c"mysql_current_thread_reader")?;
    // SAFETY: the service of that name begins with this function, which writes a pointer.
    let failed = unsafe { ((*current.functions.cast::<CurrentThread>()).get)(&raw mut thread) };
    if failed != 0 || thread.is_null() {
        return None;
    }
    let mut context = ptr::null_mut();
    let contexts = Service::named(registry, c"mysql_thd_security_context")?;
    // SAFETY: as before; `thread` is the server's own.
    let failed =
        unsafe { ((*contexts.functions.cast::<ThreadContext>()).get)(thread, &raw mut context) };
    (failed == 0 && !context.is_null()).then_some(context)
}

/// A text that `context` has under `name`.
///
/// # Safety
/// `context` is a security context of the server's that stays for this call.
unsafe fn text(options: &ContextOptions, context: *mut c_void, name: &CStr) -> Option<String> {
    let mut text = Text { start: ptr::null(), len: 0 };
    // SAFETY: this function's own condition; each name that is asked for gives a text.
    let failed = unsafe { (options.get)(context, name.as_ptr(), (&raw mut text).cast()) };
    if failed != 0 || text.start.is_null() {
        return None;
    }
    // SAFETY: the server says that so many bytes are there, and they stay with the context.
    let bytes = unsafe { std::slice::from_raw_parts(text.start.cast::<u8>(), text.len) };
    Some(String::from_utf8_lossy(bytes).into_owned())
}

impl<'a> Service<'a> {
    fn named(registry: &'a Registry, name: &CStr) -> Option<Self> {
        let mut functions = ptr::null_mut();
        // SAFETY: a name that ends with NUL, and a place for a pointer.
        let failed = unsafe { (registry.acquire)(name.as_ptr(), &raw mut functions) };
        (failed == 0 && !functions.is_null()).then_some(Self { registry, functions })
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        // SAFETY: it was acquired here, and nobody else has it.
        unsafe { (self.registry.release)(self.functions) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_server_there_is_no_client() {
        assert_eq!(client(), None);
    }
}
