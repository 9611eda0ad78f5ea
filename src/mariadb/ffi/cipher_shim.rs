//! Stand-in for `crate::cipher`: CBC and CTR, slow, until the real one is here.
#![allow(unsafe_code, missing_docs)]
use std::mem::MaybeUninit;

use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Aes192, Aes256};
use aes_gcm::aead::{Aead, Payload, consts::U12};
use aes_gcm::{Aes128Gcm, Aes256Gcm, AesGcm, Nonce};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Cbc,
    Ctr,
    Gcm,
}
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Encrypt,
    Decrypt,
}
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Padding {
    None,
    Pkcs7,
}
pub(crate) enum CipherError {
    BadData,
    Unsupported,
    BadKeySize,
}
enum Aes {
    A(Aes128),
    B(Aes192),
    C(Aes256),
}
pub(crate) struct Context {
    aes: Aes,
    mode: Mode,
    encrypt: bool,
    pad: bool,
    iv: [u8; 16],
    chain: [u8; 16],
    buf: [u8; 16],
    n: usize,
    key: Vec<u8>,
    all: Vec<u8>,
}
pub(crate) fn encrypted_length(mode: Mode, len: usize) -> usize {
    match mode {
        Mode::Cbc => (len / 16 + 1) * 16,
        Mode::Ctr => len,
        Mode::Gcm => len + 16,
    }
}
impl Context {
    pub(crate) fn init<'a>(
        place: &'a mut MaybeUninit<Self>,
        mode: Mode,
        direction: Direction,
        padding: Padding,
        key: &[u8],
        iv: &[u8],
    ) -> Result<&'a mut Self, CipherError> {
        let aes = match key.len() {
            16 => Aes::A(Aes128::new_from_slice(key).map_err(|_| CipherError::BadKeySize)?),
            24 => Aes::B(Aes192::new_from_slice(key).map_err(|_| CipherError::BadKeySize)?),
            32 => Aes::C(Aes256::new_from_slice(key).map_err(|_| CipherError::BadKeySize)?),
            _ => return Err(CipherError::BadKeySize),
        };
        let iv: [u8; 16] = iv.try_into().map_err(|_| CipherError::BadData)?;
        Ok(place.write(Self {
            aes,
            mode,
            encrypt: direction == Direction::Encrypt,
            pad: padding == Padding::Pkcs7,
            iv,
            chain: iv,
            buf: [0; 16],
            n: 0,
            key: key.to_vec(),
            all: Vec::new(),
        }))
    }
    fn enc(&self, b: &mut [u8; 16]) {
        let mut x = (*b).into();
        match &self.aes {
            Aes::A(a) => a.encrypt_block(&mut x),
            Aes::B(a) => a.encrypt_block(&mut x),
            Aes::C(a) => a.encrypt_block(&mut x),
        }
        *b = x.into();
    }
    fn dec(&self, b: &mut [u8; 16]) {
        let mut x = (*b).into();
        match &self.aes {
            Aes::A(a) => a.decrypt_block(&mut x),
            Aes::B(a) => a.decrypt_block(&mut x),
            Aes::C(a) => a.decrypt_block(&mut x),
        }
        *b = x.into();
    }
    fn block(&mut self) -> [u8; 16] {
        let input = self.buf;
        let mut b = input;
        if self.encrypt {
            for (x, c) in b.iter_mut().zip(self.chain) {
                *x ^= c;
            }
            self.enc(&mut b);
            self.chain = b;
        } else {
            self.dec(&mut b);
            for (x, c) in b.iter_mut().zip(self.chain) {
                *x ^= c;
            }
            self.chain = input;
        }
        self.n = 0;
        b
    }
    pub(crate) unsafe fn update_raw(
        &mut self,
        src: *const u8,
        len: usize,
        dst: *mut u8,
    ) -> Result<usize, CipherError> {
        let mut out = 0;
        for i in 0..len {
            // SAFETY: stand-in.
            let byte = unsafe { *src.add(i) };
            if self.mode == Mode::Gcm {
                self.all.push(byte);
                continue;
            }
            if self.mode == Mode::Ctr {
                if self.n == 0 {
                    self.buf = self.chain;
                    let mut b = self.buf;
                    self.enc(&mut b);
                    self.buf = b;
                    self.chain = u128::from_be_bytes(self.chain).wrapping_add(1).to_be_bytes();
                }
                // SAFETY: stand-in.
                unsafe { *dst.add(i) = byte ^ self.buf[self.n] };
                self.n = (self.n + 1) % 16;
                out += 1;
                continue;
            }
            if self.n == 16 {
                let b = self.block();
                // SAFETY: stand-in.
                unsafe { dst.add(out).copy_from_nonoverlapping(b.as_ptr(), 16) };
                out += 16;
            }
            self.buf[self.n] = byte;
            self.n += 1;
            if self.n == 16 && (self.encrypt || !self.pad) {
                let b = self.block();
                // SAFETY: stand-in.
                unsafe { dst.add(out).copy_from_nonoverlapping(b.as_ptr(), 16) };
                out += 16;
            }
        }
        Ok(out)
    }
    pub(crate) unsafe fn finish_raw(&mut self, dst: *mut u8) -> Result<usize, CipherError> {
        if self.mode == Mode::Ctr {
            return Ok(0);
        }
        if self.mode == Mode::Gcm {
            let out = self.gcm().map_err(|_| CipherError::BadData)?;
            // SAFETY: stand-in.
            unsafe { dst.copy_from_nonoverlapping(out.as_ptr(), out.len()) };
            return Ok(out.len());
        }
        let mut b;
        let mut n = self.n;
        if !self.pad {
            b = self.iv;
            self.enc(&mut b);
            for i in 0..n {
                b[i] ^= self.buf[i];
            }
        } else if self.encrypt {
            let fill = 16 - n;
            self.buf[n..].fill(u8::try_from(fill).unwrap_or(16));
            b = self.block();
            n = 16;
        } else {
            if n != 16 {
                return Err(CipherError::BadData);
            }
            b = self.block();
            let fill = usize::from(b[15]);
            if fill == 0 || fill > 16 || b[16 - fill..].iter().any(|x| usize::from(*x) != fill) {
                return Err(CipherError::BadData);
            }
            n = 16 - fill;
        }
        // SAFETY: stand-in.
        unsafe { dst.copy_from_nonoverlapping(b.as_ptr(), n) };
        Ok(n)
    }
    fn gcm(&self) -> Result<Vec<u8>, aes_gcm::Error> {
        fn run<A: Aead<NonceSize = U12>>(a: &A, c: &Context) -> Result<Vec<u8>, aes_gcm::Error> {
            let payload = Payload { msg: &c.all, aad: &c.iv[12..] };
            let nonce = Nonce::<U12>::try_from(&c.iv[..12]).map_err(|_| aes_gcm::Error)?;
            if c.encrypt { a.encrypt(&nonce, payload) } else { a.decrypt(&nonce, payload) }
        }
        let bad = |_| aes_gcm::Error;
        match self.key.len() {
            16 => run(&Aes128Gcm::new_from_slice(&self.key).map_err(bad)?, self),
            24 => run(&AesGcm::<Aes192, U12>::new_from_slice(&self.key).map_err(bad)?, self),
            _ => run(&Aes256Gcm::new_from_slice(&self.key).map_err(bad)?, self),
        }
    }
}
