//! An event's checksum, computed while the event goes by: CRC-32 as in zlib (RFC 1952 section 8) of all
//! bytes but the last four, which are the checksum.

#![forbid(unsafe_code)]

use crc32fast::Hasher;

use super::event::SUM;

pub(super) struct Check {
    hasher: Hasher,
    /// How many bytes are still to be summed.
    left: usize,
    sum: [u8; SUM],
    /// How many of the sum's bytes there are.
    got: usize,
}

impl Check {
    /// Of an event of `len` bytes.
    pub(super) fn new(len: usize) -> Self {
        Self { hasher: Hasher::new(), left: len.saturating_sub(SUM), sum: [0; SUM], got: 0 }
    }

    /// Takes the next bytes of the event.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let (body, end) = bytes.split_at(bytes.len().min(self.left));
        self.hasher.update(body);
        self.left -= body.len();
        for byte in end.iter().take(SUM - self.got) {
            self.sum[self.got] = *byte;
            self.got += 1;
        }
    }

    /// Whether the event is what its checksum says.
    pub(super) fn holds(self) -> bool {
        self.got == SUM && self.hasher.finalize() == u32::from_le_bytes(self.sum)
    }
}

/// Writes the checksum of `event` to its last four bytes.
pub(super) fn seal(event: &mut [u8]) {
    if let Some((body, sum)) = event.split_last_chunk_mut::<SUM>() {
        *sum = crc32fast::hash(body).to_le_bytes();
    }
}
