//! Keys, versions and times as people write them in a call.

#![forbid(unsafe_code)]

use std::time::Duration;

use crate::env::Timestamp;
use crate::key::{KeyId, KeyVersion};

/// A key id from the command line.
pub(in crate::cli) fn parse_id(text: &str) -> Result<KeyId, String> {
    let number: u32 = text.parse().map_err(|_| not_a_number(text))?;
    KeyId::try_from(number).map_err(|error| error.to_string())
}

/// Whoever names a key of MySQL's is told who sees to it.
fn not_a_number(text: &str) -> String {
    let by = |what: &str| format!("key {text} is MySQL's own: ALTER INSTANCE ROTATE {what} KEY");
    match text {
        _ if text.starts_with("INNODBKey-") => by("INNODB MASTER") + " makes the next",
        _ if text.starts_with("MySQLReplicationKey_") => by("BINLOG MASTER") + " makes the next",
        _ => format!("{text:?} is not a key number"),
    }
}

/// A key version from the command line.
pub(in crate::cli) fn parse_version(text: &str) -> Result<KeyVersion, String> {
    let number: u32 = text.parse().map_err(|_| format!("{text:?} is not a key version"))?;
    KeyVersion::try_from(number).map_err(|error| error.to_string())
}

/// A length of time from the command line.
pub(in crate::cli) fn parse_time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "write it as 30s, 5m or 2h".to_owned())
}

/// A number of bytes from the command line, with `K`, `M`, `G` or `T` for powers of 1024.
pub(in crate::cli) fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'K' | 'k')) => (&text[..at], 10),
        Some((at, 'M' | 'm')) => (&text[..at], 20),
        Some((at, 'G' | 'g')) => (&text[..at], 30),
        Some((at, 'T' | 't')) => (&text[..at], 40),
        _ => (text, 0),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    number.ok_or_else(|| "write it as 500M or 20G".to_owned())
}

/// The end of a day from the command line.
pub(in crate::cli) fn parse_day(text: &str) -> Result<Timestamp, String> {
    let end = (text.len() == 10).then(|| format!("{text}T23:59:59Z").parse().ok()).flatten();
    end.ok_or_else(|| "write it as 2027-03-01".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_size("7"), Ok(7));
        assert_eq!(parse_size("3k"), Ok(3 << 10));
        assert_eq!(parse_size("20G"), Ok(20 << 30));
        for wrong in ["", "G", "1.5G", "-1", "20GB", "99999999T"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
