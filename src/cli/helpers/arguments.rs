//! Keys, versions and times as people write them in a call.

#![forbid(unsafe_code)]

use std::time::Duration;

use crate::config::size;
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

/// A number of bytes from the command line, written as in the configuration.
pub(in crate::cli) fn parse_size(text: &str) -> Result<u64, String> {
    size(text).ok_or_else(|| "write it as 500MiB or 20GiB".to_owned())
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
        assert_eq!(parse_size("3KiB"), Ok(3 << 10));
        assert_eq!(parse_size("20 GiB"), Ok(20 << 30));
        for wrong in ["", "7", "GiB", "1.5GiB", "-1MiB", "20GB", "99999999TiB"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
