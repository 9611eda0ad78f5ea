//! How long the files of an audit trail become, and how long its lines are kept.

#![forbid(unsafe_code)]

use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// The least time that lines are kept where they are not kept for ever: of the twelve months that PCI DSS 10.5.1 asks
/// for, three are to be at hand at once.
pub const MIN_KEEP: Duration = DAY.saturating_mul(90);

/// When a file is closed, and when it may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrailPolicy {
    /// How long a file becomes, in bytes.
    pub segment_size: u64,
    /// How old a file's first line becomes.
    pub segment_age: Duration,
    /// How long a closed file is kept after its newest line; none: for ever.
    pub keep: Option<Duration>,
}

impl TrailPolicy {
    /// With what the configuration gives. Where lines go, files are closed monthly unless it says otherwise: a file goes
    /// as a whole, once the newest of its lines is old enough.
    #[must_use]
    pub fn new(size: Option<u64>, age: Option<Duration>, keep: Option<Duration>) -> Self {
        let usual = DAY.saturating_mul(if keep.is_some() { 30 } else { 365 });
        Self { segment_size: size.unwrap_or(64 << 20), segment_age: age.unwrap_or(usual), keep }
    }
}

impl Default for TrailPolicy {
    fn default() -> Self {
        Self::new(None, None, None)
    }
}
