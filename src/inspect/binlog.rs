//! Binary and relay logs: an encrypted one says so in its second event, and names its key version.

#![forbid(unsafe_code)]

use std::io;

use super::bytes::{Source, head, le32};
use super::{Kind, Report, Tally, Use};
use crate::key::KeyId;

/// What every binary log begins with.
pub(super) const MAGIC: &[u8] = b"\xfebin";
/// The length of an event's header.
const HEADER: usize = 19;
/// The first event.
const FORMAT_DESCRIPTION: u8 = 15;
/// Scheme (1 byte), key version (4, little end first), nonce (12).
const START_ENCRYPTION: u8 = 164;

/// Reads the first two events.
pub(super) fn parse(source: &(impl Source + ?Sized)) -> io::Result<Report> {
    let head = head(source, 4096)?;
    let mut report = Report::new(Kind::BinaryLog);
    let unclear = |why: &str| Ok(Report::unclear(Kind::BinaryLog, why));
    let Some((kind, len)) = event(&head, MAGIC.len()) else {
        // A crash may leave one with nothing in it but the magic number.
        return if head.len() == MAGIC.len() { Ok(report) } else { unclear("is cut off") };
    };
    if !head.starts_with(MAGIC) || kind != FORMAT_DESCRIPTION {
        return unclear("does not begin with a format description");
    }
    let second = MAGIC.len().saturating_add(len);
    if second > head.len() {
        return unclear("its format description is too long");
    }
    let Some((kind, len)) = event(&head, second) else {
        let nothing_more = source.len()? == second as u64;
        return if nothing_more { Ok(report) } else { unclear("is cut off") };
    };
    if kind != START_ENCRYPTION {
        report.format = "not encrypted".to_owned();
        return Ok(report);
    }
    let body = second + HEADER;
    if len < HEADER + 17 || head.get(body) != Some(&1) {
        return unclear("is encrypted by a scheme that is not known here");
    }
    report.format = "encrypted".to_owned();
    let mut tally = Tally::default();
    match tally.add(KeyId::SYSTEM.get(), le32(&head, body + 1), Use::InUse, 0) {
        Some(()) => report.needs = tally.into_needs(),
        None => report.unknown.push("names an impossible key version".to_owned()),
    }
    Ok(report)
}

/// Type and length of the event at `at`.
fn event(head: &[u8], at: usize) -> Option<(u8, usize)> {
    let header = head.get(at..at.checked_add(HEADER)?)?;
    let len = usize::try_from(le32(header, 9)).ok().filter(|len| *len >= HEADER)?;
    Some((header[4], len))
}
