//! What is to be written, gathered: an event that fits is held back until it is known to be right.

#![forbid(unsafe_code)]

use std::io::Write;

use crate::error::{Error, Kind, Result, io_cause};

/// How much there is room for, in bytes.
const ROOM: usize = 256 << 10;
/// How much is gathered, in bytes: half of what a pipe takes, so that its reader and this process work at
/// the same time.
const GATHERED: usize = 32 << 10;
/// The largest piece that can be asked for, in bytes.
pub(super) const PIECE: usize = ROOM / 2;

pub(super) struct Output<'a> {
    to: &'a mut dyn Write,
    bytes: Vec<u8>,
    /// How many of them are in use.
    len: usize,
    /// Where the event begins that is being put together.
    event: usize,
}

impl<'a> Output<'a> {
    pub(super) fn new(to: &'a mut dyn Write) -> Self {
        Self { to, bytes: vec![0; ROOM], len: 0, event: 0 }
    }

    /// Whole bytes of no event.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.room(bytes.len())?[..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
        self.end_event()
    }

    /// Room for `len` bytes, at most [`PIECE`], behind what is there.
    pub(super) fn room(&mut self, len: usize) -> Result<&mut [u8]> {
        while self.bytes.len() - self.len < len {
            // An event that is longer than all the room has to go out unfinished.
            let upto = if self.event > 0 { self.event } else { self.len };
            self.write(upto)?;
        }
        Ok(&mut self.bytes[self.len..])
    }

    /// Takes in `len` bytes of the room, and gives them.
    pub(super) fn take(&mut self, len: usize) -> &mut [u8] {
        let from = self.len;
        self.len += len;
        &mut self.bytes[from..from + len]
    }

    /// The last `len` bytes of the event that is being put together.
    pub(super) fn latest(&mut self, len: usize) -> &mut [u8] {
        let from = self.len.saturating_sub(len).max(self.event);
        &mut self.bytes[from..self.len]
    }

    /// The event is whole and right.
    pub(super) fn end_event(&mut self) -> Result<()> {
        self.event = self.len;
        if self.len < GATHERED { Ok(()) } else { self.write(self.len) }
    }

    /// Writes all that is right.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.write(self.event)?;
        self.to.flush().or_else(|cause| lost(&cause))
    }

    fn write(&mut self, upto: usize) -> Result<()> {
        self.to.write_all(&self.bytes[..upto]).or_else(|cause| lost(&cause))?;
        self.bytes.copy_within(upto..self.len, 0);
        self.len -= upto;
        self.event = self.event.saturating_sub(upto);
        Ok(())
    }
}

fn lost(cause: &std::io::Error) -> Result<()> {
    let what = format!("the plain log cannot be written: {}", io_cause(cause));
    Err(Error::new(Kind::Unknown, what))
}
