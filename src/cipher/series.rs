//! Many messages under one key. It is expanded once: a short message costs less than that.

#![forbid(unsafe_code)]

use super::cbc::Cbc;
use super::ctr::Ctr;
use super::engine::Engine;
use super::kernel::{Kernel, kernel};
use super::{Block, CipherError, Direction, KeySize, Mode, Padding, Stream, Tail, holes};
use crate::secret::{Locked, scrubbed};

/// Decrypts messages of one key, without padding. The expanded key is in locked memory.
pub struct Series {
    mode: Mode,
    keys: Locked<Keys>,
}

/// A key, expanded.
struct Keys {
    /// As the mode decrypts with it.
    engine: Engine,
    /// For encryption, which CBC's last bytes take.
    forward: Engine,
}

/// One message under way; its end, and drop, wipe it.
pub struct Message<'a> {
    engine: &'a Engine,
    stream: Stream,
    ended: bool,
}

impl Series {
    /// Expands `key`, for this process's [`kernel()`].
    ///
    /// # Errors
    /// [`Unsupported`](CipherError::Unsupported) for GCM, which has no message without padding;
    /// [`BadKeySize`](CipherError::BadKeySize).
    pub fn new(mode: Mode, key: &[u8]) -> Result<Self, CipherError> {
        Self::new_with(kernel(), mode, key)
    }

    /// The same with a kernel of the caller's choice.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn new_with(kernel: Kernel, mode: Mode, key: &[u8]) -> Result<Self, CipherError> {
        if mode == Mode::Gcm {
            return Err(CipherError::Unsupported);
        }
        let size = KeySize::of(key)?;
        let (engine, forward) = (Engine::idle(kernel, size), Engine::idle(kernel, size));
        let mut keys = Locked::new(Keys { engine, forward });
        scrubbed(|| match mode {
            Mode::Cbc => {
                keys.engine.expand_inverse(key, &mut [0; 16]);
                keys.forward.expand(key);
            }
            _ => keys.engine.expand(key),
        });
        Ok(Self { mode, keys })
    }

    /// Begins a message.
    #[must_use]
    pub fn begin(&self, iv: &Block) -> Message<'_> {
        let stream = match self.mode {
            Mode::Cbc => {
                let mut cbc = Cbc::new(Direction::Decrypt, Padding::None, iv);
                cbc.encrypt_mask(&self.keys.forward);
                Stream::Cbc(cbc)
            }
            _ => Stream::Ctr(Ctr::new(iv)),
        };
        Message { engine: &self.keys.engine, stream, ended: false }
    }
}

impl Message<'_> {
    /// Takes more of the message, as [`Context::update_over`](super::Context::update_over) does.
    ///
    /// # Errors
    /// As there.
    pub fn update_over(&mut self, src: &[u8], dst: &mut [u8]) -> Result<usize, CipherError> {
        if self.ended {
            return Err(CipherError::Unsupported);
        }
        self.stream.update(self.engine, src, holes(dst))
    }

    /// Ends the message. The tail belongs behind what the updates wrote.
    ///
    /// # Errors
    /// As [`Context::finish`](super::Context::finish).
    pub fn finish(&mut self) -> Result<Tail, CipherError> {
        if self.ended {
            return Err(CipherError::Unsupported);
        }
        let tail = self.stream.finish(self.engine);
        self.wipe();
        tail
    }

    fn wipe(&mut self) {
        self.ended = true;
        self.stream.wipe();
        zeroize::optimization_barrier(&self.stream);
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.wipe();
        }
    }
}
