//! Binary logs as MariaDB writes them, plain and encrypted.

#![allow(dead_code, reason = "tests and benchmarks use different parts")]

use std::mem::MaybeUninit;

use keyward::cipher::{Context, Direction, Mode, Padding};

/// The types of events that a log of ours has besides these: the format description, and what is
/// encrypted.
pub(crate) const QUERY: u8 = 2;
const FORMAT: u8 = 15;
const IGNORABLE: u8 = 28;
const START: u8 = 164;

const NONCE: [u8; 12] = *b"not so often";

/// A log as the server encrypted it, and what it is in plain.
pub(crate) struct Pair {
    pub(crate) encrypted: Vec<u8>,
    pub(crate) plain: Vec<u8>,
}

/// How the events of a log are encrypted.
#[derive(Clone, Copy)]
pub(crate) struct Sealed<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) mode: Mode,
    pub(crate) version: u32,
    /// Whether each event has a checksum.
    pub(crate) summed: bool,
}

/// A log with events of type `QUERY` that have these bodies.
pub(crate) fn pair(sealed: Sealed<'_>, bodies: impl IntoIterator<Item = Vec<u8>>) -> Pair {
    let mut pair = Pair { encrypted: b"\xfebin".to_vec(), plain: b"\xfebin".to_vec() };
    let mut format = vec![0; 57];
    format[..2].copy_from_slice(&4_u16.to_le_bytes());
    format[56] = 19;
    format.extend([10; 171]);
    format.push(u8::from(sealed.summed));
    let at = pair.plain.len();
    // It has a checksum, whatever the others have.
    let first = event(at, FORMAT, 0, &format, true);
    pair.encrypted.extend(&first);
    pair.plain.extend(first);
    let mut start = vec![1];
    start.extend(sealed.version.to_le_bytes());
    start.extend(NONCE);
    let at = pair.plain.len();
    pair.encrypted.extend(event(at, START, 0, &start, sealed.summed));
    pair.plain.extend(event(at, IGNORABLE, 0x80, &[0; 17], sealed.summed));
    for body in bodies {
        let at = pair.plain.len();
        let event = event(at, QUERY, 0, &body, sealed.summed);
        pair.encrypted.extend(encrypted(at, &event, sealed));
        pair.plain.extend(event);
    }
    pair
}

fn event(at: usize, kind: u8, flags: u16, body: &[u8], summed: bool) -> Vec<u8> {
    let len = 19 + body.len() + if summed { 4 } else { 0 };
    let mut event = 1_700_000_000_u32.to_le_bytes().to_vec();
    event.push(kind);
    event.extend(1_u32.to_le_bytes());
    event.extend(u32::try_from(len).unwrap().to_le_bytes());
    event.extend(((at + len) as u32).to_le_bytes());
    event.extend(flags.to_le_bytes());
    event.extend(body);
    if summed {
        event.extend(crc32fast::hash(&event).to_le_bytes());
    }
    event
}

fn encrypted(at: usize, event: &[u8], sealed: Sealed<'_>) -> Vec<u8> {
    let mut moved = event.to_vec();
    moved.copy_within(..4, 9);
    let mut iv = NONCE.to_vec();
    iv.extend((at as u32).to_le_bytes());
    let mut slot = MaybeUninit::uninit();
    let (mode, direction) = (sealed.mode, Direction::Encrypt);
    let context =
        Context::init(&mut slot, mode, direction, Padding::None, sealed.key, &iv).unwrap();
    let mut out = vec![0; moved.len() - 4];
    let len = context.update_over(&moved[4..], &mut out).unwrap();
    out[len..].copy_from_slice(&context.finish().unwrap());
    moved[4..].copy_from_slice(&out);
    moved.copy_within(9..13, 0);
    moved[9..13].copy_from_slice(&event[9..13]);
    moved
}
