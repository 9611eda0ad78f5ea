//! The five functions by which the server encrypts: size of a context, init, update, finish, and
//! the length of what comes out. They replace the server's own cipher together or not at all.
//!
//! A context lies in memory of the server's, often on its stack and at any address, from a
//! successful init to finish.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_uchar, c_uint, c_void};
use std::mem::{MaybeUninit, align_of, size_of};
use std::ptr;

use zeroize::Zeroizing;

use super::{abi, guard, open};
use crate::cipher::{CipherError, Context, Direction, Mode, Padding, encrypted_length};
use crate::key::PageMode;

const SUCCESS: c_int = 0;
const FAILED: c_int = abi::MY_AES_OPENSSL_ERROR;

/// How many bytes the server has to give for a context. The same for all keys, so that it does not
/// matter whether this one is known; with room to align the context in it.
pub(super) unsafe extern "C" fn crypt_ctx_size(_key_id: c_uint, _version: c_uint) -> c_uint {
    const { (size_of::<Context>() + align_of::<Context>() - 1) as c_uint }
}

/// Begins to encrypt or decrypt. After a failure the server does not call finish, so that a failed
/// init owns nothing.
pub(super) unsafe extern "C" fn crypt_ctx_init(
    memory: *mut c_void,
    key: *const c_uchar,
    key_length: c_uint,
    iv: *const c_uchar,
    iv_length: c_uint,
    flags: c_int,
    key_id: c_uint,
    version: c_uint,
) -> c_int {
    guard("crypt_ctx_init", FAILED, || {
        let page_mode = open().and_then(|open| open.mode(key_id, version));
        let (Some(page_mode), false) = (page_mode, memory.is_null()) else { return FAILED };
        // SAFETY: the server gives as many bytes of key and of iv as it says, and leaves them alone
        // until this returns.
        let (key, iv) = unsafe { (bytes(key, key_length), bytes(iv, iv_length)) };
        let (Some(key), Some(iv)) = (key, iv) else { return FAILED };
        let (mode, direction, padding) = choose(page_mode, flags as c_uint);
        // SAFETY: the memory is as large as `crypt_ctx_size` said and nobody else's; `place` keeps
        // within it, and any bytes are a `MaybeUninit`.
        let context = unsafe { &mut *place(memory).cast::<MaybeUninit<Context>>() };
        Context::init(context, mode, direction, padding, key, iv)
            .map_or_else(CipherError::code, |_| SUCCESS)
    })
}

/// Encrypts or decrypts a piece. How much came out is always written to `*length`, which holds
/// nothing on entry; the server adds it up even after a failure.
pub(super) unsafe extern "C" fn crypt_ctx_update(
    memory: *mut c_void,
    source: *const c_uchar,
    source_length: c_uint,
    target: *mut c_uchar,
    length: *mut c_uint,
) -> c_int {
    // SAFETY: null, or the server's place for one number.
    unsafe { tell(length, 0) };
    guard("crypt_ctx_update", FAILED, || {
        // SAFETY: null, or the memory in which `crypt_ctx_init` made a context, for this call alone.
        let Some(context) = (unsafe { made(memory) }) else { return FAILED };
        let room = context.update_len(source_length as usize);
        let in_place = overlap(source, source_length as usize, target, room);
        // SAFETY: null, or as many bytes as the server says.
        let Some(source) = (unsafe { bytes(source, source_length) }) else { return FAILED };
        let copy = Zeroizing::new(if in_place { source.to_vec() } else { Vec::new() });
        let source = if in_place { &copy } else { source };
        // SAFETY: null, or room for what `encrypted_length` says of all bytes of this context
        // together; `room` is the part of it that these bytes need. `source` is elsewhere, or a copy
        // of what is here: the original is not looked at any more.
        let Some(target) = (unsafe { space(target, room) }) else { return FAILED };
        if length.is_null() {
            return FAILED;
        }
        match context.update(source, target) {
            // SAFETY: not null, as just seen.
            Ok(written) => unsafe { tell(length, written) },
            Err(error) => error.code(),
        }
    })
}

/// Whether the server works in place: InnoDB does for compressed pages in `IMPORT TABLESPACE`. The
/// cipher reads ahead of what it writes and must not find its own output there.
fn overlap(source: *const c_uchar, source_len: usize, target: *mut c_uchar, room: usize) -> bool {
    let (source, target) = (source.addr(), target.addr());
    source < target.saturating_add(room) && target < source.saturating_add(source_len)
}

/// Writes what is left and ends the context, also where it fails.
pub(super) unsafe extern "C" fn crypt_ctx_finish(
    memory: *mut c_void,
    target: *mut c_uchar,
    length: *mut c_uint,
) -> c_int {
    // SAFETY: null, or the server's place for one number.
    unsafe { tell(length, 0) };
    guard("crypt_ctx_finish", FAILED, || {
        // SAFETY: null, or the memory in which `crypt_ctx_init` made a context, for this call alone.
        let Some(context) = (unsafe { made(memory) }) else { return FAILED };
        // This wipes the context, also where it fails. A context owns nothing outside its memory, so
        // there is nothing left to drop.
        let tail = context.finish();
        if target.is_null() || length.is_null() {
            return FAILED;
        }
        match tail {
            // SAFETY: not null, as just seen; the server gives room for the rest of what
            // `encrypted_length` says of all bytes of this context together.
            Ok(tail) => unsafe {
                ptr::copy_nonoverlapping(tail.as_ptr(), target, tail.len());
                tell(length, tail.len())
            },
            Err(error) => error.code(),
        }
    })
}

/// How long `source_length` bytes are when they are encrypted with padding. For a key that is not
/// known, the length that suffices whatever its cipher is.
pub(super) unsafe extern "C" fn encrypted_len(
    source_length: c_uint,
    key_id: c_uint,
    version: c_uint,
) -> c_uint {
    let most = source_length.saturating_add(abi::MY_AES_BLOCK_SIZE);
    guard("encrypted_length", most, || {
        let mode = match open().and_then(|open| open.mode(key_id, version)) {
            Some(PageMode::Cbc) => Mode::Cbc,
            Some(PageMode::Ctr) | None => Mode::Gcm,
        };
        c_uint::try_from(encrypted_length(mode, source_length as usize)).unwrap_or(c_uint::MAX)
    })
}

/// CBC keys encrypt everything with CBC, as the built-in cipher does. CTR keys encrypt with CTR
/// what must keep its length, and with GCM what may grow.
fn choose(page_mode: PageMode, flags: c_uint) -> (Mode, Direction, Padding) {
    let keep_length = flags & abi::ENCRYPTION_FLAG_NOPAD != 0;
    let mode = match page_mode {
        PageMode::Cbc => Mode::Cbc,
        PageMode::Ctr if keep_length => Mode::Ctr,
        PageMode::Ctr => Mode::Gcm,
    };
    let encrypt = flags & abi::ENCRYPTION_FLAG_ENCRYPT != 0;
    let direction = if encrypt { Direction::Encrypt } else { Direction::Decrypt };
    let padding = if keep_length { Padding::None } else { Padding::Pkcs7 };
    (mode, direction, padding)
}

/// The first address in `memory` at which a context may lie.
fn place(memory: *mut c_void) -> *mut Context {
    memory.map_addr(|at| at.next_multiple_of(align_of::<Context>())).cast()
}

/// # Safety
/// `memory` is null, or a successful init made a context there that is not finished yet, and
/// nobody else uses it while the answer lives.
unsafe fn made<'a>(memory: *mut c_void) -> Option<&'a mut Context> {
    // SAFETY: not null, so the context that init made is at its place.
    (!memory.is_null()).then(|| unsafe { &mut *place(memory) })
}

/// `length` bytes at `start`; `None` where they are nowhere.
///
/// # Safety
/// `start` is null or has that many bytes, which do not change while the answer lives.
unsafe fn bytes<'a>(start: *const c_uchar, length: c_uint) -> Option<&'a [u8]> {
    match length {
        0 => Some(&[]),
        _ if start.is_null() => None,
        // SAFETY: not null, so the caller's promise holds.
        _ => Some(unsafe { std::slice::from_raw_parts(start, length as usize) }),
    }
}

/// Room for `length` bytes at `start`; `None` where it is nowhere.
///
/// # Safety
/// `start` is null or has room for that many bytes, which nobody else uses while the answer lives.
unsafe fn space<'a>(start: *mut c_uchar, length: usize) -> Option<&'a mut [MaybeUninit<u8>]> {
    match length {
        0 => Some(&mut []),
        _ if start.is_null() => None,
        // SAFETY: not null, so the caller's promise holds; any bytes are `MaybeUninit`s.
        _ => Some(unsafe { std::slice::from_raw_parts_mut(start.cast(), length) }),
    }
}

/// Writes how many bytes came out.
///
/// # Safety
/// `place` is null or one number that may be written to.
unsafe fn tell(place: *mut c_uint, length: usize) -> c_int {
    let Ok(length) = c_uint::try_from(length) else { return FAILED };
    if !place.is_null() {
        // SAFETY: not null, so it may be written to.
        unsafe { place.write(length) };
    }
    SUCCESS
}
