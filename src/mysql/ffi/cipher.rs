//! The service `keyring_aes`: the server has data encrypted with a key that it does not see.

use std::ffi::{c_char, c_int, c_uchar};

use super::{bytes, code, fill, guard, name, put, text};
use crate::error::{Error, Kind};
use crate::key::KeyName;
use crate::mysql::aes::{BLOCK, Direction, Mode};
use crate::mysql::{message, open};

/// `encrypt` and `decrypt`: data id, auth id, mode, key bits, IV, padding, data and its length, room
/// and its length, and where to write how much of it was used.
type Crypt = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    *const c_char,
    usize,
    *const c_uchar,
    bool,
    *const c_uchar,
    usize,
    *mut c_uchar,
    usize,
    *mut usize,
) -> c_int;

/// The service's functions, in the order of its header.
#[repr(C)]
pub(super) struct Functions {
    get_size: unsafe extern "C" fn(usize, *const c_char, usize, *mut usize) -> c_int,
    encrypt: Crypt,
    decrypt: Crypt,
}

pub(super) static FUNCTIONS: Functions =
    Functions { get_size, encrypt: crypt::<true>, decrypt: crypt::<false> };

unsafe extern "C" fn get_size(
    len: usize,
    mode: *const c_char,
    bits: usize,
    size: *mut usize,
) -> c_int {
    guard("keyring_aes get_size", 1, || {
        // SAFETY: the server passes a text that ends in NUL, or null, and stays for this call.
        let mode = unsafe { text(mode) }.and_then(|mode| Mode::named(mode, bits));
        let Some(needed) = mode.and_then(|mode| mode.encrypted_len(len)) else { return 1 };
        // SAFETY: the server passes a place for the size, for this call.
        code(unsafe { put(size, needed) })
    })
}

unsafe extern "C" fn crypt<const ENCRYPTS: bool>(
    data_id: *const c_char,
    auth_id: *const c_char,
    mode: *const c_char,
    bits: usize,
    iv: *const c_uchar,
    padding: bool,
    data: *const c_uchar,
    len: usize,
    out: *mut c_uchar,
    room: usize,
    used: *mut usize,
) -> c_int {
    let (name, direction) = match ENCRYPTS {
        true => ("keyring_aes encrypt", Direction::Encrypt),
        false => ("keyring_aes decrypt", Direction::Decrypt),
    };
    guard(name, 1, || {
        // SAFETY: the server passes texts that end in NUL or null, 16 bytes or null for the IV, and
        // `len` bytes of data, all of which stay for this call.
        let call = unsafe { Call::of(data_id, auth_id, mode, bits, iv, padding, data, len) };
        // SAFETY: the server passes `room` bytes, and a place for how many of them were used.
        unsafe { run(call, direction, out, room, used) }
    })
}

/// What was asked for, checked.
struct Call<'a> {
    name: KeyName,
    mode: Mode,
    iv: &'a [u8; BLOCK],
    padding: bool,
    data: &'a [u8],
}

impl Call<'_> {
    /// # Safety
    /// The texts are as for [`text`], `data` as for [`bytes`]; `iv` is null or has 16 bytes that
    /// stay.
    #[allow(clippy::too_many_arguments, reason = "they are the ABI's")]
    unsafe fn of(
        data_id: *const c_char,
        auth_id: *const c_char,
        mode: *const c_char,
        bits: usize,
        iv: *const c_uchar,
        padding: bool,
        data: *const c_uchar,
        len: usize,
    ) -> Result<Self, Error> {
        let wrong = |what| Error::new(Kind::Config, what);
        // SAFETY: this function's own condition, for all four.
        let (name, mode, iv, data) = unsafe {
            (
                name(data_id, auth_id),
                text(mode),
                iv.cast::<[u8; BLOCK]>().as_ref(),
                bytes(data, len),
            )
        };
        let mode = mode.and_then(|mode| Mode::named(mode, bits));
        Ok(Self {
            name: name.ok_or_else(|| wrong("the key's name is empty or not UTF-8"))?,
            mode: mode.ok_or_else(|| wrong("there is no such mode or key size"))?,
            iv: iv.ok_or_else(|| wrong("there is no initialisation vector"))?,
            padding,
            data: data.ok_or_else(|| wrong("there is no data"))?,
        })
    }
}

/// # Safety
/// `out` is as for [`fill`] and `used` as for [`put`].
unsafe fn run(
    call: Result<Call<'_>, Error>,
    direction: Direction,
    out: *mut c_uchar,
    room: usize,
    used: *mut usize,
) -> c_int {
    let done = call.and_then(|call| {
        open::crypt(&call.name, call.mode, direction, call.iv, call.padding, call.data)
    });
    let verb = if direction == Direction::Encrypt { "encrypt" } else { "decrypt" };
    let done = done.map_err(|error| message::failed(&format!("{verb} data"), &error));
    code(done.and_then(|done| {
        // SAFETY: this function's own condition.
        unsafe { fill(out, room, &done).and(put(used, done.len())) }
    }))
}
