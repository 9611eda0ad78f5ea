//! Where a message in a stream of bytes begins and ends.

#![forbid(unsafe_code)]

use std::io::{self, Read};

use zeroize::Zeroizing;

use super::super::http::{TlsAdvice, broken_off};
use super::message::Response;
use super::tags::RESPONSE_MESSAGE;
use super::ttlv::{HEAD_LEN, MAX_MESSAGE, head};
use crate::error::{Error, Kind, Result};

/// How much of an answer is made room for at a time, in bytes: what it says of its length is believed
/// only as far as it comes.
const CHUNK: usize = 64 << 10;

/// A whole message; nothing where it is none of KMIP's.
pub(super) fn read(from: &mut impl Read) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut first = [0; HEAD_LEN];
    from.read_exact(&mut first)?;
    let (tag, kind, len) = head(&first);
    if tag != RESPONSE_MESSAGE || kind != 1 || len > MAX_MESSAGE - HEAD_LEN {
        return Ok(None);
    }
    let mut bytes = Zeroizing::new(first.to_vec());
    let whole = HEAD_LEN + len;
    while bytes.len() < whole {
        let start = bytes.len();
        bytes.resize(whole.min(start + CHUNK), 0);
        from.read_exact(&mut bytes[start..])?;
    }
    Ok(Some(bytes))
}

/// The response in what was read from `place`.
pub(super) fn understood(
    place: &str,
    advice: &TlsAdvice,
    read: io::Result<Option<Zeroizing<Vec<u8>>>>,
) -> Result<Response> {
    match read {
        Ok(Some(bytes)) => Ok(Response::new(bytes)),
        Ok(None) => {
            Err(Error::new(Kind::Unavailable, format!("{place} answers something else than KMIP"))
                .advise("is it the right address and port?"))
        }
        Err(cause) => Err(broken_off(place, &cause, advice)),
    }
}
