//! What is at the same place in every event of both servers, and the first event of a log.

#![forbid(unsafe_code)]

/// The length of an event's header: time (4 bytes), type, server (4), length (4), position of the next
/// event (4), flags (2), little end first.
pub(super) const HEADER: usize = 19;
/// Where the length stands.
pub(super) const LEN_AT: usize = 9;
/// Where the flags stand.
pub(super) const FLAGS_AT: usize = 17;
/// The length of a checksum, at an event's end.
pub(super) const SUM: usize = 4;
/// The first event, which says how the others look.
pub(super) const FORMAT_DESCRIPTION: u8 = 15;
/// MariaDB's event that says how those after it are encrypted.
pub(super) const START_ENCRYPTION: u8 = 164;
/// An event that means nothing.
pub(super) const IGNORABLE: u8 = 28;
/// The flag by which a reader may skip what it does not know.
pub(super) const MAY_IGNORE: u16 = 0x80;
/// The flag of the first event of a relay log.
pub(super) const RELAY: u16 = 0x40;
/// The flag of a log that is being written: it counts in no checksum.
pub(super) const IN_USE: u8 = 1;
/// Where a format description has a byte for each type of event: behind its header, the format (2 bytes),
/// the server (50), the time (4) and the length of headers (1).
const TYPES_AT: usize = HEADER + 57;
/// The number of CRC-32 in a format description.
const CRC32: u8 = 1;

/// An event's header, in plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) len: u32,
    /// Where the next event begins, in the log that it was written to first, or 0.
    pub(super) next: u32,
    pub(super) flags: u16,
}

impl Header {
    /// The header at `at`; nothing where there is none, or it says that it is longer than its event.
    pub(super) fn at(bytes: &[u8], at: usize) -> Option<Self> {
        let bytes = bytes.get(at..)?.get(..HEADER)?;
        let len = length(bytes)?;
        let next = bytes.get(LEN_AT + 4..)?.first_chunk().map(|next| u32::from_le_bytes(*next))?;
        let flags = u16::from_le_bytes([bytes[FLAGS_AT], bytes[FLAGS_AT + 1]]);
        (len as usize >= HEADER).then_some(Self { kind: bytes[4], len, next, flags })
    }
}

/// The length that an event's header names; it is never encrypted.
pub(super) fn length(header: &[u8]) -> Option<u32> {
    header.get(LEN_AT..)?.first_chunk().map(|len| u32::from_le_bytes(*len))
}

/// How the events after a format description look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    /// Whether each ends with a CRC-32 of itself.
    pub(super) summed: bool,
    /// The highest type that there is.
    pub(super) types: u8,
}

impl Format {
    /// What a format description, header and all, says.
    pub(super) fn of(event: &[u8]) -> Option<Self> {
        // For each type the length of its header; then the kind of checksum, and always one of this event.
        let types = event.get(TYPES_AT..event.len().checked_sub(1 + SUM)?)?;
        let summed = *event.get(TYPES_AT + types.len())? == CRC32;
        Some(Self { summed, types: u8::try_from(types.len()).ok()? })
    }
}
