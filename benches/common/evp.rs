//! What the server does itself: its sequence of EVP calls for a message, on the system's OpenSSL.
//!
//! [`Server`] is that sequence: a context zeroed and reset for every message, the algorithm looked up
//! by each `EVP_CipherInit_ex`, a second message in ECB for the odd tail of CBC, the error queue
//! cleared at the end. [`Prefetched`] is the best that can be done with the same library: algorithms
//! looked up once, contexts reused.
#![allow(unsafe_code, dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::ffi::{CStr, c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};

use keyward::cipher::{CipherError, Direction, Mode, Padding};
use openssl_sys as ffi;

unsafe extern "C" {
    fn EVP_CIPHER_CTX_reset(ctx: *mut ffi::EVP_CIPHER_CTX) -> c_int;
    fn EVP_CipherFinal_ex(ctx: *mut ffi::EVP_CIPHER_CTX, out: *mut u8, len: *mut c_int) -> c_int;
    fn EVP_aes_128_ecb() -> *const ffi::EVP_CIPHER;
    fn EVP_aes_192_ecb() -> *const ffi::EVP_CIPHER;
    fn EVP_aes_256_ecb() -> *const ffi::EVP_CIPHER;
}

/// Room for an `EVP_CIPHER_CTX`, which has 168 bytes in OpenSSL 3.0 and 200 at most so far.
#[repr(C, align(16))]
struct Room([u8; 512]);

/// One message as the server does it.
pub struct Server {
    room: Room,
    mode: Mode,
    direction: Direction,
    padding: Padding,
    key: [u8; 32],
    key_len: usize,
    iv: [u8; 16],
    tail: [u8; 16],
    tail_len: usize,
    aad: Option<[u8; 4]>,
}

/// The version of the library in use.
pub fn version() -> String {
    // SAFETY: returns a pointer to a constant string.
    let text = unsafe { CStr::from_ptr(ffi::OpenSSL_version(ffi::OPENSSL_VERSION)) };
    text.to_string_lossy().into_owned()
}

/// The algorithm of a mode, as a name that is resolved again by each initialisation.
fn algorithm(mode: Mode, key_len: usize) -> Option<*const ffi::EVP_CIPHER> {
    // SAFETY: these return pointers to constants.
    unsafe {
        Some(match (mode, key_len) {
            (Mode::Cbc, 16) => ffi::EVP_aes_128_cbc(),
            (Mode::Cbc, 24) => ffi::EVP_aes_192_cbc(),
            (Mode::Cbc, 32) => ffi::EVP_aes_256_cbc(),
            (Mode::Ctr, 16) => ffi::EVP_aes_128_ctr(),
            (Mode::Ctr, 24) => ffi::EVP_aes_192_ctr(),
            (Mode::Ctr, 32) => ffi::EVP_aes_256_ctr(),
            (Mode::Gcm, 16) => ffi::EVP_aes_128_gcm(),
            (Mode::Gcm, 24) => ffi::EVP_aes_192_gcm(),
            (Mode::Gcm, 32) => ffi::EVP_aes_256_gcm(),
            _ => return None,
        })
    }
}

fn ecb(key_len: usize) -> *const ffi::EVP_CIPHER {
    // SAFETY: these return pointers to constants.
    unsafe {
        match key_len {
            16 => EVP_aes_128_ecb(),
            24 => EVP_aes_192_ecb(),
            _ => EVP_aes_256_ecb(),
        }
    }
}

impl Server {
    /// A message; `iv` has 16 bytes.
    pub fn init(
        mode: Mode,
        direction: Direction,
        padding: Padding,
        key: &[u8],
        iv: &[u8],
    ) -> Result<Self, CipherError> {
        if mode == Mode::Gcm && padding == Padding::None {
            return Err(CipherError::Unsupported);
        }
        let algorithm = algorithm(mode, key.len()).ok_or(CipherError::BadKeySize)?;
        let mut message = Self {
            room: Room([0; 512]),
            mode,
            direction,
            padding,
            key: [0; 32],
            key_len: key.len(),
            iv: [0; 16],
            tail: [0; 16],
            tail_len: 0,
            aad: None,
        };
        message.iv.copy_from_slice(&iv[..16]);
        message.key[..key.len()].copy_from_slice(key);
        if mode == Mode::Gcm {
            message.aad = iv.last_chunk().copied();
        }
        let encrypt = c_int::from(direction == Direction::Encrypt);
        // SAFETY: the context is zeroed and large enough, key and IV have the algorithm's lengths.
        unsafe {
            EVP_CIPHER_CTX_reset(message.ctx());
            let done = ffi::EVP_CipherInit_ex(
                message.ctx(),
                algorithm,
                null_mut(),
                key.as_ptr(),
                iv.as_ptr(),
                encrypt,
            );
            if done != 1 {
                return Err(CipherError::Unsupported);
            }
            if mode == Mode::Cbc && padding == Padding::None {
                ffi::EVP_CIPHER_CTX_set_padding(message.ctx(), 0);
            }
        }
        Ok(message)
    }

    fn ctx(&mut self) -> *mut ffi::EVP_CIPHER_CTX {
        (&raw mut self.room).cast()
    }

    /// More of it. `dst` has room for what comes.
    pub fn update(
        &mut self,
        src: &[u8],
        dst: &mut [MaybeUninit<u8>],
    ) -> Result<usize, CipherError> {
        let mut src = src;
        if self.mode == Mode::Cbc && self.padding == Padding::None {
            self.keep_tail(src);
        }
        let mut len = 0;
        // SAFETY: the context was initialised; `dst` has room by this function's contract.
        unsafe {
            if self.mode == Mode::Gcm {
                if self.direction == Direction::Decrypt {
                    let Some((text, tag)) = src.split_last_chunk::<16>() else {
                        return Err(CipherError::BadData);
                    };
                    src = text;
                    let tag = tag.as_ptr().cast_mut().cast::<c_void>();
                    if ffi::EVP_CIPHER_CTX_ctrl(self.ctx(), ffi::EVP_CTRL_GCM_SET_TAG, 16, tag) != 1
                    {
                        return Err(CipherError::Unsupported);
                    }
                }
                if let Some(aad) = self.aad.take() {
                    let done =
                        ffi::EVP_CipherUpdate(self.ctx(), null_mut(), &mut len, aad.as_ptr(), 4);
                    if done != 1 {
                        return Err(CipherError::Unsupported);
                    }
                }
            }
            let done = ffi::EVP_CipherUpdate(
                self.ctx(),
                dst.as_mut_ptr().cast(),
                &mut len,
                src.as_ptr(),
                src.len() as c_int,
            );
            if done != 1 {
                return Err(CipherError::Unsupported);
            }
        }
        Ok(len as usize)
    }

    /// The bytes after the last whole block, over all calls so far.
    fn keep_tail(&mut self, src: &[u8]) {
        let len = (self.tail_len + src.len()) % 16;
        let new = src.len().min(len);
        let old = len - new;
        self.tail.copy_within(self.tail_len - old..self.tail_len, 0);
        self.tail[old..len].copy_from_slice(&src[src.len() - new..]);
        self.tail_len = len;
    }

    /// The end of it.
    pub fn finish(mut self, dst: &mut [MaybeUninit<u8>]) -> Result<usize, CipherError> {
        if self.mode == Mode::Cbc && self.padding == Padding::None {
            return Ok(self.finish_tail(dst));
        }
        let mut last = [0_u8; 32];
        let mut len = 0;
        // SAFETY: the context was initialised; no mode ends with more than a block and a tag.
        let done = unsafe {
            let done = EVP_CipherFinal_ex(self.ctx(), last.as_mut_ptr(), &mut len);
            if self.mode == Mode::Gcm && self.direction == Direction::Encrypt {
                let tag = last.as_mut_ptr().cast();
                ffi::EVP_CIPHER_CTX_ctrl(self.ctx(), ffi::EVP_CTRL_GCM_GET_TAG, 16, tag);
                len = 16;
            }
            done
        };
        if done != 1 {
            return Err(CipherError::BadData);
        }
        for (to, byte) in dst.iter_mut().zip(&last[..len as usize]) {
            to.write(*byte);
        }
        Ok(len as usize)
    }

    fn finish_tail(&mut self, dst: &mut [MaybeUninit<u8>]) -> usize {
        if self.tail_len > 0 {
            let mut mask = [0_u8; 16];
            let mut room = Room([0; 512]);
            let ctx = (&raw mut room).cast();
            let mut len = 0;
            // SAFETY: the context is zeroed and large enough; one block goes in, one comes out.
            unsafe {
                EVP_CIPHER_CTX_reset(ctx);
                ffi::EVP_CipherInit_ex(
                    ctx,
                    ecb(self.key_len),
                    null_mut(),
                    self.key.as_ptr(),
                    null(),
                    1,
                );
                ffi::EVP_CIPHER_CTX_set_padding(ctx, 0);
                ffi::EVP_CipherUpdate(ctx, mask.as_mut_ptr(), &mut len, self.iv.as_ptr(), 16);
                EVP_CIPHER_CTX_reset(ctx);
                ffi::ERR_clear_error();
            }
            for i in 0..self.tail_len {
                dst[i].write(self.tail[i] ^ mask[i]);
            }
        }
        self.tail_len
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SAFETY: the context was reset before its first use and may be again.
        unsafe {
            EVP_CIPHER_CTX_reset(self.ctx());
            ffi::ERR_clear_error();
        }
    }
}

/// Contexts that were set up once, for one key length and direction.
pub struct Prefetched {
    mode: Mode,
    direction: Direction,
    main: *mut ffi::EVP_CIPHER_CTX,
    ecb: *mut ffi::EVP_CIPHER_CTX,
}

impl Prefetched {
    /// For messages of `mode` with keys of `key_len` bytes, without padding but for GCM.
    pub fn new(mode: Mode, direction: Direction, key_len: usize) -> Self {
        let name: &CStr = match (mode, key_len) {
            (Mode::Cbc, 16) => c"AES-128-CBC",
            (Mode::Cbc, _) => c"AES-256-CBC",
            (Mode::Ctr, 16) => c"AES-128-CTR",
            (Mode::Ctr, _) => c"AES-256-CTR",
            (Mode::Gcm, 16) => c"AES-128-GCM",
            (Mode::Gcm, _) => c"AES-256-GCM",
        };
        let ecb_name = if key_len == 16 { c"AES-128-ECB" } else { c"AES-256-ECB" };
        // SAFETY: null means the default library; the results are checked by the first use.
        unsafe {
            let fetch = |name: &CStr| ffi::EVP_CIPHER_fetch(null_mut(), name.as_ptr(), null());
            let (main, ecb) = (ffi::EVP_CIPHER_CTX_new(), ffi::EVP_CIPHER_CTX_new());
            let encrypt = c_int::from(direction == Direction::Encrypt);
            ffi::EVP_CipherInit_ex(main, fetch(name), null_mut(), null(), null(), encrypt);
            ffi::EVP_CipherInit_ex(ecb, fetch(ecb_name), null_mut(), null(), null(), 1);
            ffi::EVP_CIPHER_CTX_set_padding(main, 0);
            ffi::EVP_CIPHER_CTX_set_padding(ecb, 0);
            Self { mode, direction, main, ecb }
        }
    }

    /// One whole message into `dst`, which has room for it. Panics where a call fails.
    pub fn crypt(
        &mut self,
        key: &[u8],
        iv: &[u8],
        src: &[u8],
        dst: &mut [MaybeUninit<u8>],
    ) -> usize {
        let out = dst.as_mut_ptr().cast::<u8>();
        let mut len = 0;
        // SAFETY: both contexts are set up for these lengths; `dst` has room for the whole blocks,
        // the tail and the tag.
        unsafe {
            let done = ffi::EVP_CipherInit_ex(
                self.main,
                null(),
                null_mut(),
                key.as_ptr(),
                iv.as_ptr(),
                -1,
            );
            assert_eq!(done, 1);
            match self.mode {
                Mode::Gcm => self.gcm(iv, src, out),
                Mode::Ctr => {
                    let n = src.len() as c_int;
                    ffi::EVP_CipherUpdate(self.main, out, &mut len, src.as_ptr(), n);
                    len as usize
                }
                Mode::Cbc => {
                    let (whole, tail) = src.split_at(src.len() / 16 * 16);
                    let n = whole.len() as c_int;
                    ffi::EVP_CipherUpdate(self.main, out, &mut len, whole.as_ptr(), n);
                    if !tail.is_empty() {
                        let mut mask = [0_u8; 16];
                        let init = ffi::EVP_CipherInit_ex;
                        init(self.ecb, null(), null_mut(), key.as_ptr(), null(), -1);
                        ffi::EVP_CipherUpdate(
                            self.ecb,
                            mask.as_mut_ptr(),
                            &mut len,
                            iv.as_ptr(),
                            16,
                        );
                        for (i, byte) in tail.iter().enumerate() {
                            out.add(whole.len() + i).write(byte ^ mask[i]);
                        }
                    }
                    src.len()
                }
            }
        }
    }

    unsafe fn gcm(&mut self, iv: &[u8], src: &[u8], out: *mut u8) -> usize {
        let mut len = 0;
        // SAFETY: as the caller's.
        unsafe {
            let ctx = self.main;
            if self.direction == Direction::Encrypt {
                ffi::EVP_CipherUpdate(ctx, null_mut(), &mut len, iv[12..].as_ptr(), 4);
                ffi::EVP_CipherUpdate(ctx, out, &mut len, src.as_ptr(), src.len() as c_int);
                EVP_CipherFinal_ex(ctx, out.add(src.len()), &mut len);
                let tag = out.add(src.len()).cast();
                ffi::EVP_CIPHER_CTX_ctrl(ctx, ffi::EVP_CTRL_GCM_GET_TAG, 16, tag);
                src.len() + 16
            } else {
                let (text, tag) = src.split_at(src.len() - 16);
                let tag = tag.as_ptr().cast_mut().cast();
                ffi::EVP_CIPHER_CTX_ctrl(ctx, ffi::EVP_CTRL_GCM_SET_TAG, 16, tag);
                ffi::EVP_CipherUpdate(ctx, null_mut(), &mut len, iv[12..].as_ptr(), 4);
                ffi::EVP_CipherUpdate(ctx, out, &mut len, text.as_ptr(), text.len() as c_int);
                assert_eq!(EVP_CipherFinal_ex(ctx, out.add(text.len()), &mut len), 1);
                text.len()
            }
        }
    }
}

impl Drop for Prefetched {
    fn drop(&mut self) {
        // SAFETY: both were made by `EVP_CIPHER_CTX_new` and are used no more.
        unsafe {
            ffi::EVP_CIPHER_CTX_free(self.main);
            ffi::EVP_CIPHER_CTX_free(self.ecb);
        }
    }
}
