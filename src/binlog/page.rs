//! MariaDB's encryption of events, scheme 1.
//!
//! Encrypted is the event from its fifth byte on, with the time, its first four bytes, in the place of the
//! length. What has come of those four bytes then goes to the front, and the length stands in the clear. The
//! initialisation vector is the log's nonce and the event's position in the file.

#![forbid(unsafe_code)]

use super::event::LEN_AT;
use crate::cipher::{CipherError, Message, Mode, Series};
use crate::error::{Error, Kind, Result};
use crate::key::{KeyVersion, PageMode};
use crate::secret::DataKey;

/// The only scheme that there is.
const SCHEME: u8 = 1;
/// The length of a log's nonce.
const NONCE: usize = 12;

/// What an event of type `START_ENCRYPTION` says behind its header: scheme (1 byte), key version (4),
/// nonce (12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) version: KeyVersion,
    nonce: [u8; NONCE],
}

impl Start {
    pub(super) fn of(body: &[u8]) -> Result<Self> {
        let unknown = |what: &str| Error::new(Kind::Unsupported, format!("it is encrypted {what}"));
        let (&[SCHEME], rest) = body.split_at_checked(1).unwrap_or_default() else {
            return Err(unknown("by a scheme that is not known here"));
        };
        let (version, rest) = rest.split_first_chunk().ok_or_else(|| unknown("and cut off"))?;
        let version = KeyVersion::try_from(u32::from_le_bytes(*version))
            .map_err(|_| unknown("with a key version that cannot be"))?;
        let nonce = *rest.first_chunk().ok_or_else(|| unknown("and cut off"))?;
        Ok(Self { version, nonce })
    }
}

/// How the events of one log are encrypted.
pub(super) struct Cipher {
    nonce: [u8; NONCE],
    series: Series,
}

impl Cipher {
    pub(super) fn new(start: Start, key: &DataKey, mode: PageMode) -> Result<Self, CipherError> {
        let mode = match mode {
            PageMode::Cbc => Mode::Cbc,
            PageMode::Ctr => Mode::Ctr,
        };
        Ok(Self { nonce: start.nonce, series: Series::new(mode, key.expose())? })
    }

    /// Begins with the event at `at`.
    pub(super) fn begin(&self, at: u64) -> Message<'_> {
        let mut iv = [0; 16];
        iv[..NONCE].copy_from_slice(&self.nonce);
        // The server's own counter has 32 bits.
        iv[NONCE..].copy_from_slice(&(at as u32).to_le_bytes());
        self.series.begin(&iv)
    }
}

/// Takes the first four bytes of an encrypted event to where the cipher expects them.
pub(super) fn gather(event: &mut [u8]) {
    event.copy_within(..4, LEN_AT);
}

/// Puts the time and the length of a decrypted event where they belong.
pub(super) fn arrange(event: &mut [u8], len: u32) {
    event.copy_within(LEN_AT..LEN_AT + 4, 0);
    event[LEN_AT..LEN_AT + 4].copy_from_slice(&len.to_le_bytes());
}
