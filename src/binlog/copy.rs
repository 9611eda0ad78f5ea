//! A log, event by event, from a stream to an output.

#![forbid(unsafe_code)]

use std::rc::Rc;

use super::check::{self, Check};
use super::event::{
    FLAGS_AT, FORMAT_DESCRIPTION, Format, HEADER, Header, IGNORABLE, IN_USE, LEN_AT, MAY_IGNORE,
    RELAY, START_ENCRYPTION, SUM, length,
};
use super::output::{Output, PIECE};
use super::page::{self, Cipher, Start};
use super::stream::{Stream, WINDOW, failed};
use super::{LogKey, MAGIC, Torn, Written, another_key};
use crate::cipher::Message;
use crate::error::{Error, Kind, Result};
use crate::inspect::Source;

/// How much of an event has to be at hand for its header to come out of the cipher: blocks of 16 bytes,
/// the first of which begins with the fifth byte.
const FIRST: usize = 64;
/// The longest event that says how others look, or are encrypted.
const SMALL: u32 = 4096;

pub(super) struct Copy<'a, S: ?Sized> {
    stream: Stream<'a, S>,
    key: LogKey<'a>,
    out: Output<'a>,
    window: Window,
    /// How long the log was when that was looked at last.
    len: u64,
    format: Format,
    /// How the events from here on are encrypted.
    cipher: Option<Rc<Cipher>>,
    /// Whether one of them has been found right.
    proven: bool,
    /// Whether it is a relay log, whose events are another log's.
    relay: bool,
    written: Written,
}

/// A part of the log in memory.
struct Window {
    bytes: Vec<u8>,
    /// Which of them are not yet used.
    from: usize,
    to: usize,
    /// Where in the log the first of these is.
    at: u64,
}

/// An event on its way.
#[derive(Clone, Copy)]
struct Event {
    at: u64,
    len: u32,
}

/// What the header of an event is like that was decrypted with the right key.
#[derive(Clone, Copy)]
struct Expected {
    types: u8,
    /// Whether it may say that it ends elsewhere.
    anywhere: bool,
}

impl<'a, S: Source + ?Sized> Copy<'a, S> {
    pub(super) fn new(stream: Stream<'a, S>, key: LogKey<'a>, out: Output<'a>) -> Self {
        let window = Window { bytes: vec![0; WINDOW], from: 0, to: 0, at: MAGIC.len() as u64 };
        let format = Format { summed: false, types: FORMAT_DESCRIPTION };
        let written = Written::default();
        let (cipher, proven, relay) = (None, false, false);
        Self { stream, key, out, window, len: 0, format, cipher, proven, relay, written }
    }

    /// Everything up to the end of the log, or to where it is cut off.
    pub(super) fn all(&mut self) -> Result<Written> {
        while let Some(event) = self.next()? {
            self.event(event).map_err(|error| self.at_event(event, error))?;
            self.written.events += 1;
            self.out.end_event()?;
        }
        Ok(self.written.clone())
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        self.out.flush()
    }

    /// The next whole event.
    fn next(&mut self) -> Result<Option<Event>> {
        let at = self.window.at;
        let left = self.left(HEADER)?;
        let torn = Torn { at, len: left };
        if left < HEADER as u64 {
            self.written.torn = (left > 0).then_some(torn);
            return Ok(None);
        }
        self.window.fill(HEADER, &mut self.stream)?;
        let len = length(self.window.rest()).unwrap_or_default();
        if (len as usize) < HEADER {
            if self.stream.is_zero_from(at)? {
                self.written.torn = Some(torn);
                return Ok(None);
            }
            return Err(damaged("names a length that cannot be").within(place(at)));
        }
        let left = self.left(len as usize)?;
        if u64::from(len) > left {
            self.written.torn = Some(Torn { at, len: left });
            return Ok(None);
        }
        Ok(Some(Event { at, len }))
    }

    /// How much of the log is left, looked at again where that is not known to be `len` bytes.
    fn left(&mut self, len: usize) -> Result<u64> {
        if self.len < self.window.at.saturating_add(len as u64) {
            self.len = self.stream.len()?;
        }
        Ok(self.len.saturating_sub(self.window.at))
    }

    /// Whether the key is wrong, or the event damaged, is known by what was right before.
    fn at_event(&self, event: Event, error: Error) -> Error {
        match error.kind() {
            Kind::Corrupt if self.cipher.is_some() && !self.proven => another_key(),
            Kind::Corrupt => error.within(place(event.at)),
            _ => error,
        }
    }

    fn event(&mut self, event: Event) -> Result<()> {
        let first = self.window.fill((event.len as usize).min(FIRST), &mut self.stream)?;
        if first < HEADER {
            return Err(cut_meanwhile());
        }
        match self.cipher.clone() {
            Some(cipher) => self.encrypted(event, &cipher),
            None => self.plain(event),
        }
    }

    fn plain(&mut self, event: Event) -> Result<()> {
        let header = Header::at(self.window.rest(), 0).ok_or_else(|| damaged("has no header"))?;
        if matches!(header.kind, FORMAT_DESCRIPTION | START_ENCRYPTION) {
            return self.small(event, header);
        }
        let mut check = Check::new(event.len as usize);
        let mut left = event.len as usize;
        while left > 0 {
            let len = self.window.piece(left, &mut self.stream)?;
            let piece = &self.window.rest()[..len];
            self.out.room(len)?[..len].copy_from_slice(piece);
            let copied = self.out.take(len);
            if self.format.summed {
                check.add(copied);
            }
            self.window.used(len);
            left -= len;
        }
        self.judge(check)
    }

    /// An event that says something of those after it, and is copied in one piece.
    fn small(&mut self, event: Event, header: Header) -> Result<()> {
        let len = event.len as usize;
        if event.len > SMALL || self.window.fill(len, &mut self.stream)? < len {
            return Err(damaged("is too long for what it says"));
        }
        self.out.room(len)?;
        let copied = self.out.take(len);
        copied.copy_from_slice(&self.window.rest()[..len]);
        self.window.used(len);
        self.learn(event, header)
    }

    /// Learns from the event that was copied last how the next ones look.
    fn learn(&mut self, event: Event, header: Header) -> Result<()> {
        let copied = self.out.latest(event.len as usize);
        match header.kind {
            FORMAT_DESCRIPTION => {
                self.format = Format::of(copied).ok_or_else(|| damaged("is cut short"))?;
                self.relay |= self.written.events == 0 && header.flags & RELAY != 0;
                let mut check = Check::new(copied.len());
                let flags = copied[FLAGS_AT] & !IN_USE;
                check.add(&copied[..FLAGS_AT]);
                check.add(&[flags]);
                check.add(&copied[FLAGS_AT + 1..]);
                self.judge(check)
            }
            _ => {
                let second = self.written.events == 1;
                let start = second.then(|| Start::of(&copied[HEADER..])).transpose()?;
                make_ignorable(copied, header, self.format.summed);
                match start {
                    Some(start) => self.begin(start),
                    None => Ok(()),
                }
            }
        }
    }

    /// From here on, events are encrypted.
    fn begin(&mut self, start: Start) -> Result<()> {
        match self.key {
            LogKey::Pages(version, key, mode) if version == start.version => {
                // Only a key of a length that is none of AES's is refused.
                let cipher = Cipher::new(start, key, mode).map_err(|_| another_key())?;
                self.cipher = Some(Rc::new(cipher));
                Ok(())
            }
            _ => Err(Error::new(Kind::Conflict, "another log has taken its place meanwhile")),
        }
    }

    fn encrypted(&mut self, event: Event, cipher: &Cipher) -> Result<()> {
        let mut message = cipher.begin(event.at);
        page::gather(self.window.rest());
        // The first that is decrypted shows whether the key is the right one.
        let anywhere = self.proven || self.relay;
        let expected = Expected { types: self.format.types, anywhere };
        let mut check = Check::new(event.len as usize);
        let (mut left, mut header) = (event.len as usize, None);
        while left > 0 {
            let len = self.window.piece(left, &mut self.stream)?;
            left -= len;
            let from = if header.is_none() { 4 } else { 0 };
            let came = self.decrypt(&mut message, from, len, left == 0)?;
            let piece = self.out.take(came);
            if header.is_none() {
                page::arrange(piece, event.len);
                header = Header::at(piece, 0);
                let known = header.is_some_and(|header| expected.allows(event, &header));
                known.then_some(()).ok_or_else(|| damaged("is none that a server writes"))?;
            }
            if self.format.summed {
                check.add(piece);
            }
            self.window.used(len);
        }
        match header {
            Some(header) if matches!(header.kind, FORMAT_DESCRIPTION | START_ENCRYPTION) => {
                self.whole(event)?;
                self.learn(event, header)?;
            }
            _ => self.judge(check)?,
        }
        self.proven = true;
        Ok(())
    }

    /// Decrypts the next `len` bytes but the first `skipped`, which keep their room, to the output's room;
    /// how many came out.
    fn decrypt(
        &mut self,
        message: &mut Message<'_>,
        skipped: usize,
        len: usize,
        last: bool,
    ) -> Result<usize> {
        // The cipher may give up to a block that it held back.
        let room = &mut self.out.room(len + 16)?[skipped..];
        let piece = &self.window.rest()[skipped..len];
        let mut came = message.update_over(piece, room).map_err(|cause| failed(&cause))?;
        if last {
            let tail = message.finish().map_err(|cause| failed(&cause))?;
            room[came..came + tail.len()].copy_from_slice(&tail);
            came += tail.len();
        }
        Ok(skipped + came)
    }

    fn whole(&self, event: Event) -> Result<()> {
        if event.len > SMALL { Err(damaged("is too long for what it says")) } else { Ok(()) }
    }

    fn judge(&self, check: Check) -> Result<()> {
        if self.format.summed && !check.holds() {
            return Err(damaged("has a wrong checksum"));
        }
        Ok(())
    }
}

impl Expected {
    fn allows(self, event: Event, header: &Header) -> bool {
        let end = (event.at + u64::from(event.len)) as u32;
        let in_place = self.anywhere || [0, end].contains(&header.next);
        (1..=self.types).contains(&header.kind) && in_place
    }
}

impl Window {
    /// What is at hand.
    fn rest(&mut self) -> &mut [u8] {
        &mut self.bytes[self.from..self.to]
    }

    fn used(&mut self, len: usize) {
        self.from += len;
        self.at += len as u64;
    }

    /// Sees to it that `len` bytes are at hand, or all that there are; how many are.
    fn fill<S: Source + ?Sized>(
        &mut self,
        len: usize,
        stream: &mut Stream<'_, S>,
    ) -> Result<usize> {
        if self.to - self.from < len {
            self.bytes.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
            self.to += stream.read(self.at + self.to as u64, &mut self.bytes[self.to..])?;
        }
        Ok(self.to - self.from)
    }

    /// The next piece of an event of which `left` bytes are left: how long it is, never 0.
    fn piece<S: Source + ?Sized>(
        &mut self,
        left: usize,
        stream: &mut Stream<'_, S>,
    ) -> Result<usize> {
        let wanted = left.min(PIECE - FIRST);
        match self.fill(wanted.min(FIRST), stream)?.min(wanted) {
            0 => Err(cut_meanwhile()),
            len => Ok(len),
        }
    }
}

/// Makes the event one that every reader skips, of the same length.
fn make_ignorable(event: &mut [u8], header: Header, summed: bool) {
    event[LEN_AT - 5] = IGNORABLE;
    let flags = header.flags | MAY_IGNORE;
    event[FLAGS_AT..HEADER].copy_from_slice(&flags.to_le_bytes());
    event[HEADER..].fill(0);
    if summed && event.len() >= HEADER + SUM {
        check::seal(event);
    }
}

fn place(at: u64) -> String {
    format!("the event at byte {at} is damaged")
}

fn damaged(how: &str) -> Error {
    Error::new(Kind::Corrupt, format!("it {how}"))
        .advise("all events before it are written: take another copy of the log for the rest")
}

/// The file was as long as its event a moment ago.
fn cut_meanwhile() -> Error {
    Error::new(Kind::Conflict, "it was cut off while it was read")
}
