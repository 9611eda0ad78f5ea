//! Page encryption: AES in CBC, CTR and GCM mode, byte for byte as MariaDB does it.
//!
//! A [`Context`] takes one message: [`init`](Context::init), any number of
//! [`update`](Context::update)s, [`finish`](Context::finish). It lives where the caller puts it, allocates
//! nothing and forgets the key in `finish`. [`crypt`] does all three. A [`Series`] keeps a key for many
//! messages. The modes differ from the textbook where MariaDB does:
//!
//! | mode | what comes out |
//! |---|---|
//! | CBC, [`Padding::None`] | whole blocks as in NIST SP 800-38A; what is over, 1 to 15 bytes, is xored with the encrypted IV |
//! | CBC, [`Padding::Pkcs7`] | PKCS#7 (RFC 5652 section 6.3) |
//! | CTR | the 16-byte IV is one big-endian counter; the padding is ignored |
//! | GCM | 12 bytes of IV are the nonce, the rest is authenticated; 16 bytes of tag follow the data |
//!
//! Which instructions are used is chosen once, by what the CPU has: see [`kernel()`].

mod cbc;
mod ctr;
mod engine;
mod gcm;
mod kernel;
mod series;
mod soft;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::fmt;
use std::mem::MaybeUninit;

use cbc::Cbc;
use ctr::Ctr;
use engine::Engine;
use gcm::Gcm;
pub use kernel::{Kernel, kernel};
pub use series::{Message, Series};

/// One AES block.
type Block = [u8; 16];

/// Room for one block of output.
type Hole = [MaybeUninit<u8>; 16];

/// How blocks are chained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Cipher block chaining.
    Cbc,
    /// A counter's key stream.
    Ctr,
    /// CTR with a tag that proves the data.
    Gcm,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Plaintext to ciphertext.
    Encrypt,
    /// Ciphertext to plaintext.
    Decrypt,
}

/// What becomes of the last bytes where they are no whole block. Matters to CBC only, yet GCM
/// refuses [`None`](Self::None), for its tag makes the data longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Padding {
    /// The length stays (the server's `ENCRYPTION_FLAG_NOPAD`).
    None,
    /// Filled up to a whole block, by 1 to 16 bytes.
    Pkcs7,
}

/// Why the cipher refused; the three codes of the server's ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CipherError {
    /// Wrong tag, wrong padding, or too short to be what it should.
    BadData,
    /// A combination that the mode does not have.
    Unsupported,
    /// A key that has not 16, 24 or 32 bytes.
    BadKeySize,
}

impl CipherError {
    /// The server's number for it (`MY_AES_BAD_DATA` and its neighbours).
    #[must_use]
    pub const fn code(self) -> i32 {
        match self {
            Self::BadData => -100,
            Self::Unsupported => -101,
            Self::BadKeySize => -102,
        }
    }
}

impl fmt::Display for CipherError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadData => "the data is damaged or was encrypted with another key",
            Self::Unsupported => "the cipher cannot do this",
            Self::BadKeySize => "an AES key has 16, 24 or 32 bytes",
        })
    }
}

impl std::error::Error for CipherError {}

/// AES's three key lengths.
#[derive(Clone, Copy)]
enum KeySize {
    Aes128,
    Aes192,
    Aes256,
}

impl KeySize {
    fn of(key: &[u8]) -> Result<Self, CipherError> {
        match key.len() {
            16 => Ok(Self::Aes128),
            24 => Ok(Self::Aes192),
            32 => Ok(Self::Aes256),
            _ => Err(CipherError::BadKeySize),
        }
    }
}

/// The end of a message: up to 16 bytes, as a slice.
pub struct Tail {
    bytes: Block,
    len: usize,
}

impl Tail {
    const EMPTY: Self = Self { bytes: [0; 16], len: 0 };

    fn new(bytes: Block, len: usize) -> Self {
        Self { bytes, len }
    }
}

impl std::ops::Deref for Tail {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// One message under way. All of its state is in here, the expanded key too; `finish` and drop wipe it.
#[repr(C, align(64))]
pub struct Context {
    engine: Engine,
    stream: Stream,
    /// Whether the message has ended: its key is gone.
    ended: bool,
}

enum Stream {
    Cbc(Cbc),
    Ctr(Ctr),
    Gcm(Gcm),
}

impl Context {
    /// Begins a message in `slot`, with this process's [`kernel()`].
    ///
    /// CBC and CTR take the first 16 bytes of `iv`; GCM takes 12 and authenticates what follows them.
    ///
    /// # Errors
    /// Tested in this order: [`Unsupported`](CipherError::Unsupported) for GCM without padding;
    /// [`BadKeySize`](CipherError::BadKeySize); `Unsupported` for a shorter `iv`. Nothing was written
    /// to `slot` then.
    pub fn init<'slot>(
        slot: &'slot mut MaybeUninit<Self>,
        mode: Mode,
        direction: Direction,
        padding: Padding,
        key: &[u8],
        iv: &[u8],
    ) -> Result<&'slot mut Self, CipherError> {
        Self::init_with(kernel(), slot, mode, direction, padding, key, iv)
    }

    /// The same with a kernel of the caller's choice.
    ///
    /// # Errors
    /// As [`init`](Self::init).
    pub fn init_with<'slot>(
        kernel: Kernel,
        slot: &'slot mut MaybeUninit<Self>,
        mode: Mode,
        direction: Direction,
        padding: Padding,
        key: &[u8],
        iv: &[u8],
    ) -> Result<&'slot mut Self, CipherError> {
        if mode == Mode::Gcm && padding == Padding::None {
            return Err(CipherError::Unsupported);
        }
        let size = KeySize::of(key)?;
        let start = iv.first_chunk().ok_or(CipherError::Unsupported);
        let (nonce, aad) = iv.split_first_chunk().ok_or(CipherError::Unsupported)?;
        // Each mode's state is written to its place at once: gathered on the way it would come in
        // pieces, and the CPU would wait for them.
        let engine = Engine::idle(kernel, size);
        let context = match mode {
            Mode::Cbc => {
                let stream = Stream::Cbc(Cbc::new(direction, padding, start?));
                slot.write(Self { engine, stream, ended: false })
            }
            Mode::Ctr => {
                let stream = Stream::Ctr(Ctr::new(start?));
                slot.write(Self { engine, stream, ended: false })
            }
            Mode::Gcm => {
                let stream = Stream::Gcm(Gcm::new(direction, nonce, aad));
                slot.write(Self { engine, stream, ended: false })
            }
        };
        match &mut context.stream {
            Stream::Cbc(cbc) => cbc.start(&mut context.engine, key),
            Stream::Ctr(_) => context.engine.expand(key),
            Stream::Gcm(gcm) => gcm.start(&mut context.engine, key, aad),
        }
        Ok(context)
    }

    /// How many bytes [`update`](Self::update) will write for `len` more bytes of input. Exact where it
    /// succeeds.
    #[must_use]
    pub fn update_len(&self, len: usize) -> usize {
        self.stream.update_len(len)
    }

    /// Takes more of the message and writes what can be written of it to the beginning of `dst`, which
    /// must have room for [`update_len`](Self::update_len) bytes. Returns how many it wrote; it
    /// touches no others.
    ///
    /// GCM decryption takes the tag from the last 16 bytes of each call, so the message comes in one.
    /// What it writes is proven only when `finish` succeeds.
    ///
    /// # Errors
    /// [`BadData`](CipherError::BadData) for GCM data that is shorter than a tag;
    /// [`Unsupported`](CipherError::Unsupported) where `dst` is too short, more than 64 GiB went
    /// through one GCM message, or the message has ended.
    pub fn update(
        &mut self,
        src: &[u8],
        dst: &mut [MaybeUninit<u8>],
    ) -> Result<usize, CipherError> {
        if self.ended {
            return Err(CipherError::Unsupported);
        }
        self.stream.update(&self.engine, src, dst)
    }

    /// As [`update`](Self::update), where `dst` has bytes already.
    ///
    /// # Errors
    /// As there.
    pub fn update_over(&mut self, src: &[u8], dst: &mut [u8]) -> Result<usize, CipherError> {
        self.update(src, holes(dst))
    }

    /// Ends the message and wipes the context. The tail belongs behind what the updates wrote.
    ///
    /// # Errors
    /// [`BadData`](CipherError::BadData) where padding or tag do not fit. The context is wiped all the
    /// same. [`Unsupported`](CipherError::Unsupported) where the message has ended before.
    pub fn finish(&mut self) -> Result<Tail, CipherError> {
        if self.ended {
            return Err(CipherError::Unsupported);
        }
        let tail = self.stream.finish(&self.engine);
        self.wipe();
        tail
    }

    fn wipe(&mut self) {
        self.ended = true;
        self.stream.wipe();
        self.engine.wipe();
        zeroize::optimization_barrier(self);
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl Stream {
    #[inline(always)]
    fn update_len(&self, len: usize) -> usize {
        match self {
            Self::Cbc(cbc) => cbc.update_len(len),
            Self::Ctr(_) => len,
            Self::Gcm(gcm) => gcm.update_len(len),
        }
    }

    #[inline(always)]
    fn update(
        &mut self,
        engine: &Engine,
        src: &[u8],
        dst: &mut [MaybeUninit<u8>],
    ) -> Result<usize, CipherError> {
        let len = self.update_len(src.len());
        let dst = dst.get_mut(..len).ok_or(CipherError::Unsupported)?;
        match self {
            Self::Cbc(cbc) => cbc.update(engine, src, dst),
            Self::Ctr(ctr) => ctr.update(engine, src, dst),
            Self::Gcm(gcm) => gcm.update(engine, src, dst)?,
        }
        Ok(len)
    }

    #[inline(always)]
    fn finish(&mut self, engine: &Engine) -> Result<Tail, CipherError> {
        match self {
            Self::Cbc(cbc) => cbc.finish(engine),
            Self::Ctr(_) => Ok(Tail::EMPTY),
            Self::Gcm(gcm) => gcm.finish(engine),
        }
    }

    #[inline(always)]
    fn wipe(&mut self) {
        match self {
            Self::Cbc(cbc) => cbc.wipe(),
            Self::Ctr(ctr) => ctr.wipe(),
            Self::Gcm(gcm) => gcm.wipe(),
        }
    }
}

/// How many bytes `len` bytes of plaintext become at most, and with [`Padding::Pkcs7`] exactly.
#[must_use]
pub const fn encrypted_length(mode: Mode, len: usize) -> usize {
    match mode {
        Mode::Cbc => (len / 16 + 1) * 16,
        Mode::Ctr => len,
        Mode::Gcm => len + gcm::TAG_LEN,
    }
}

/// A whole message at once. Returns how many bytes of `dst` it wrote, from its beginning on.
///
/// # Errors
/// As [`Context::init`], [`Context::update`] and [`Context::finish`].
pub fn crypt(
    mode: Mode,
    direction: Direction,
    padding: Padding,
    key: &[u8],
    iv: &[u8],
    src: &[u8],
    dst: &mut [MaybeUninit<u8>],
) -> Result<usize, CipherError> {
    let mut slot = MaybeUninit::uninit();
    let context = Context::init(&mut slot, mode, direction, padding, key, iv)?;
    let body = context.update(src, dst);
    let tail = context.finish();
    let (body, tail) = (body?, tail?);
    let to = dst.get_mut(body..body + tail.len()).ok_or(CipherError::Unsupported)?;
    write(to, &tail);
    Ok(body + tail.len())
}

/// `dst` as room that what is in this folder writes to.
#[allow(unsafe_code)]
fn holes(dst: &mut [u8]) -> &mut [MaybeUninit<u8>] {
    // SAFETY: a byte is a valid `MaybeUninit` of one, and this folder's code only ever writes bytes to it,
    // so that each is initialised afterwards as it was before.
    unsafe { &mut *(std::ptr::from_mut(dst) as *mut [MaybeUninit<u8>]) }
}

/// Copies `bytes` to `room`, which is as long.
#[inline(always)]
fn write(room: &mut [MaybeUninit<u8>], bytes: &[u8]) {
    for (to, byte) in std::iter::zip(room, bytes) {
        to.write(*byte);
    }
}

/// The server puts contexts on its threads' stacks.
const _: () = assert!(size_of::<Context>() <= 2048);
