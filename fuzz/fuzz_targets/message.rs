// A message as the fuzzer makes it, and what became of it.
use std::mem::MaybeUninit;

use keyward::cipher::{CipherError, Context, Direction, Kernel, Mode, Padding};

#[derive(arbitrary::Arbitrary, Debug)]
pub struct Message {
    pub mode: u8,
    pub decrypt: bool,
    pub pad: bool,
    pub key: Vec<u8>,
    pub iv: [u8; 16],
    pub pieces: Vec<Vec<u8>>,
}

pub type Way = (Mode, Direction, Padding);
pub type Outcome = Result<Vec<u8>, CipherError>;

impl Message {
    pub fn way(&self) -> Way {
        let mode = [Mode::Cbc, Mode::Ctr, Mode::Gcm][usize::from(self.mode % 3)];
        let direction = if self.decrypt { Direction::Decrypt } else { Direction::Encrypt };
        (mode, direction, if self.pad { Padding::Pkcs7 } else { Padding::None })
    }

    /// Cut or stretched to the nearest AES key size nine times in ten.
    pub fn key(&self) -> Vec<u8> {
        let mut key = self.key.clone();
        if key.len() % 10 > 0 {
            key.resize([16, 24, 32][key.len() % 3], 7);
        }
        key
    }

    pub fn by_us(&self, kernel: Kernel) -> Outcome {
        let ((mode, direction, padding), mut slot) = (self.way(), MaybeUninit::uninit());
        let (key, iv) = (self.key(), &self.iv);
        let context = Context::init_with(kernel, &mut slot, mode, direction, padding, &key, iv)?;
        let mut out = Vec::new();
        for piece in &self.pieces {
            let mut room = vec![MaybeUninit::new(0); context.update_len(piece.len())];
            context.update(piece, &mut room)?;
            out.extend(room.iter().map(|byte| unsafe { byte.assume_init() }));
        }
        out.extend_from_slice(&context.finish()?);
        Ok(out)
    }
}
