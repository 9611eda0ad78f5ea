//! Bytes written as hex digits, in lower case.

#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Error, Kind, Result};

/// `N` bytes: a check over a file, a public key, a signature.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hex<const N: usize = 32>(pub [u8; N]);

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<const N: usize> fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> FromStr for Hex<N> {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Error::new(Kind::Corrupt, format!("not {} hex digits", 2 * N)));
        }
        let mut bytes = [0; N];
        decode_into(&mut bytes, text.as_bytes());
        Ok(Self(bytes))
    }
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// `bytes` as digits.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The two digits of a byte that is secret: no other copy of them is made.
#[must_use]
pub fn digits(byte: u8) -> [u8; 2] {
    [byte >> 4, byte & 15].map(|four| b"0123456789abcdef"[usize::from(four)])
}

/// Writes the bytes that the digits `hex`, of either case, stand for straight into `to`: into locked
/// memory where they are secret. The caller has looked at the digits: of others the result means nothing.
pub fn decode_into(to: &mut [u8], hex: &[u8]) {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20).wrapping_sub(b'a' - 10) & 0xf,
    };
    for (byte, pair) in to.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = nibble(pair[0]) << 4 | nibble(pair[1]);
    }
}
