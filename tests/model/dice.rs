//! Repeatable numbers, of which sequences are made.

use crate::sequence::{Which, Who};

/// SplitMix64.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to `below` - 1.
    pub(crate) fn below(&mut self, below: usize) -> usize {
        (self.next() % below as u64) as usize
    }

    /// One of three keys.
    pub(crate) fn id(&mut self) -> u32 {
        1 + self.below(3) as u32
    }

    pub(crate) fn who(&mut self) -> Who {
        if self.below(2) == 0 { Who::Server } else { Who::Command }
    }

    pub(crate) fn which(&mut self) -> Which {
        [Which::Keystore, Which::Keystore, Which::Guard, Which::Guard, Which::Trail][self.below(5)]
    }
}
