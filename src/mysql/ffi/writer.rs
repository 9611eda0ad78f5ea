//! The services `keyring_writer` and `keyring_generator`. Done means on disk.

use std::ffi::{c_char, c_int, c_uchar};

use super::{bytes, caller, code, guard, name, text};
use crate::error::{Error, Kind, Result};
use crate::key::KeyName;
use crate::mysql::{message, open};
use crate::secret::DataKey;

/// How much of a key's name a line in the log shows, in characters.
const MAX_SHOWN: usize = 255;

/// `keyring_writer`, in the order of its header.
#[repr(C)]
pub(super) struct Writer {
    store: unsafe extern "C" fn(
        *const c_char,
        *const c_char,
        *const c_uchar,
        usize,
        *const c_char,
    ) -> c_int,
    remove: unsafe extern "C" fn(*const c_char, *const c_char) -> c_int,
}

/// `keyring_generator`.
#[repr(C)]
pub(super) struct Generator {
    generate: unsafe extern "C" fn(*const c_char, *const c_char, *const c_char, usize) -> c_int,
}

pub(super) static WRITER: Writer = Writer { store, remove };
pub(super) static GENERATOR: Generator = Generator { generate };

unsafe extern "C" fn store(
    data_id: *const c_char,
    auth_id: *const c_char,
    data: *const c_uchar,
    len: usize,
    kind: *const c_char,
) -> c_int {
    guard("keyring_writer store", 1, || {
        // SAFETY: the server passes texts that end in NUL or null, and stay for this call.
        let (name, kind) = unsafe { (name(data_id, auth_id), text(kind)) };
        // SAFETY: the server passes `len` bytes of key, or null, that stay for this call.
        let data = unsafe { bytes(data, len) };
        run("store", name, |name, client| {
            let none = || Error::new(Kind::Config, format!("its {len} bytes are at no address"));
            let data = data.ok_or_else(none)?;
            let data = DataKey::of_keyring(data.len(), |to| {
                to.copy_from_slice(data);
                Ok(())
            })?;
            open::store(client, name, kind_of(kind)?, &data)
        })
    })
}

unsafe extern "C" fn remove(data_id: *const c_char, auth_id: *const c_char) -> c_int {
    guard("keyring_writer remove", 1, || {
        // SAFETY: the server passes texts that end in NUL or null, and stay for this call.
        run("remove", unsafe { name(data_id, auth_id) }, |name, client| open::remove(client, name))
    })
}

unsafe extern "C" fn generate(
    data_id: *const c_char,
    auth_id: *const c_char,
    kind: *const c_char,
    len: usize,
) -> c_int {
    guard("keyring_generator generate", 1, || {
        // SAFETY: the server passes texts that end in NUL or null, and stay for this call.
        let (name, kind) = unsafe { (name(data_id, auth_id), text(kind)) };
        run("generate", name, |name, client| open::generate(client, name, kind_of(kind)?, len))
    })
}

/// Does the work on the key called `name`, for the client who asks.
fn run(
    verb: &str,
    name: Option<KeyName>,
    work: impl FnOnce(&KeyName, Option<&str>) -> Result<()>,
) -> c_int {
    let nameless = || Error::new(Kind::Config, "its name is empty or not UTF-8");
    let called = name.as_ref().map(ToString::to_string).unwrap_or_default();
    // Whoever may store a key may not fill the log with its name.
    let called: String = called.chars().take(MAX_SHOWN).collect();
    let client = caller::client();
    let named = name.as_ref().ok_or_else(nameless);
    let outcome = named.and_then(|name| work(name, client.as_deref()));
    code(outcome.map_err(|error| message::failed(&format!("{verb} key {called}"), &error)))
}

fn kind_of(kind: Option<&str>) -> Result<&str> {
    kind.ok_or_else(|| Error::new(Kind::Config, "it has no type"))
}
