//! Plain binary logs, read event by event.

use crate::Result;

/// The event that says how the others look.
pub const FORMAT: u8 = 15;
/// The event that stands where an encrypted log said how it was encrypted.
pub const IGNORABLE: u8 = 28;

/// An event without its checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Where it begins.
    pub at: usize,
    /// How long it is, checksum and all.
    pub len: usize,
    /// Its type.
    pub kind: u8,
    /// Where it says that the next one begins.
    pub next: usize,
    /// What is behind its header.
    pub body: Vec<u8>,
}

/// The events of a plain log, whose end must be the end of an event.
pub fn events(log: &[u8]) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    let mut at = 4;
    let mut sum = 0;
    while at < log.len() {
        let number = |from: usize| -> Result<usize> {
            let bytes = log.get(at + from..).and_then(|rest| rest.first_chunk());
            let bytes = bytes.ok_or("the log ends within a header")?;
            Ok(u32::from_le_bytes(*bytes) as usize)
        };
        let (len, next) = (number(9)?, number(13)?);
        let event = log.get(at..at + len).ok_or("the log ends within an event")?;
        let kind = event[4];
        if kind == FORMAT {
            sum = if event[len - 5] == 1 { 4 } else { 0 };
        }
        let body = event.get(19..len - sum).ok_or("an event without a body")?.to_vec();
        events.push(Event { at, len, kind, next, body });
        at += len;
    }
    Ok(events)
}
