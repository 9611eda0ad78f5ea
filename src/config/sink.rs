//! The sections `[[sink]]`.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::Section;
use crate::error::Result;

/// How long a sink may take for a line when the configuration does not say; what a server
/// that stops waits for is twice that.
const DEFAULT_SINK_TIMEOUT: Duration = Duration::from_secs(5);

/// One `[[sink]]`. Its own options stay in `section`, for the sink to read.
pub struct SinkConfig {
    /// Its name, for people and for its cursor file.
    pub name: String,
    /// How long it may take for a line.
    pub timeout: Duration,
    /// All of it, for the sink that its `type` chooses.
    pub section: Section,
}

impl SinkConfig {
    pub(super) fn read(section: Section) -> Result<Self> {
        let kind = section.required("type")?;
        let name = section.text("name")?.unwrap_or(kind);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            let wrong = section.wrong("name", "is part of a file's name");
            return Err(wrong.advise("use letters, digits, -, _ and . of ASCII, at most 64"));
        }
        let timeout = section.duration("timeout")?.unwrap_or(DEFAULT_SINK_TIMEOUT);
        Ok(Self { name, timeout, section })
    }
}

pub(super) fn refuse_same_names(sinks: &[SinkConfig]) -> Result<()> {
    for (n, sink) in sinks.iter().enumerate() {
        if sinks[..n].iter().any(|other| other.name == sink.name) {
            return Err(sink.section.wrong("name", "two sinks have this name"));
        }
    }
    Ok(())
}
