//! Copies of the audit trail elsewhere: journald, syslog, a webhook. The trail itself is the queue: each sink has a
//! cursor file next to it, and lines are delivered in their order by a thread that no key waits for.

#![forbid(unsafe_code)]

mod courier;
mod cursor;
mod journald;
mod syslog;
mod webhook;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use courier::Courier;

use crate::config::{Section, SinkConfig};
use crate::env::{Deadline, Timestamp};
use crate::error::Result;
use crate::key::KeyRef;

/// The longest list of keys in a message, in bytes; the trail has all of them.
const MAX_KEYS: usize = 4096;

/// Where copies of lines go.
trait Sink: Send {
    /// Delivers one line. `Ok` where the receiver has it, as far as its protocol can tell.
    fn deliver(&mut self, line: &Told<'_>, by: Deadline) -> Result<()>;
}

/// A sink with what its section says of all kinds of sinks.
struct Configured {
    name: String,
    timeout: Duration,
    max_waiting: u64,
    /// Those that are wanted; all where there are none.
    events: Vec<String>,
    sink: Box<dyn Sink>,
}

/// A line to be told, of a keystore on a host.
struct Told<'a> {
    line: Line,
    /// As it is in the trail.
    text: &'a str,
    keystore: &'a Path,
    host: &'a str,
}

/// A line of the trail, whatever release wrote it.
#[derive(Deserialize, Serialize)]
struct Line {
    number: u64,
    at: Timestamp,
    event: String,
    #[serde(default)]
    keys: Vec<KeyRef>,
    #[serde(default)]
    generation: u64,
    #[serde(default)]
    actor: String,
    #[serde(default)]
    reason: String,
}

/// Reads the sections `[[sink]]` to their ends.
fn read(sinks: &[SinkConfig]) -> Result<Vec<Configured>> {
    sinks.iter().map(Configured::read).collect()
}

/// Checks the sections `[[sink]]` without calling anybody.
pub fn check(sinks: &[SinkConfig]) -> Result<()> {
    read(sinks).map(drop)
}

impl Configured {
    fn read(config: &SinkConfig) -> Result<Self> {
        let section = &config.section;
        let sink = open(section)?;
        let max_waiting = match section.number("max_waiting")? {
            None => 10_000,
            Some(number) => u64::try_from(number)
                .ok()
                .filter(|number| (1..=1_000_000).contains(number))
                .ok_or_else(|| section.wrong("max_waiting", "must be from 1 to 1000000"))?,
        };
        let events = section.texts("events")?.unwrap_or_default();
        section.done()?;
        let (name, timeout) = (config.name.clone(), config.timeout);
        Ok(Self { name, timeout, max_waiting, events, sink })
    }

    fn wants(&self, line: &Line) -> bool {
        self.events.is_empty() || self.events.contains(&line.event)
    }
}

/// The sink that a section describes.
fn open(section: &Section) -> Result<Box<dyn Sink>> {
    match section.required("type")?.as_str() {
        "journald" => Ok(Box::new(journald::Journald::read(section)?)),
        "syslog" => Ok(Box::new(syslog::Syslog::read(section)?)),
        "webhook" => Ok(Box::new(webhook::Webhook::read(section)?)),
        _ => Err(section
            .wrong("type", "is no kind of sink")
            .advise("use journald or syslog or webhook")),
    }
}

impl Told<'_> {
    /// The line for people: `rotated: key 1 version 3, by root on db1: quarterly`.
    fn sentence(&self) -> String {
        let Line { event, actor, reason, .. } = &self.line;
        let mut text = event.replace('-', " ");
        let keys = self.keys();
        if !keys.is_empty() {
            let _ = write!(text, ": {keys}");
        }
        let _ = write!(text, ", by {actor}");
        if !reason.is_empty() {
            let _ = write!(text, ": {reason}");
        }
        text
    }

    /// Its keys, and how many more there are where they would be too many for a message.
    fn keys(&self) -> String {
        let mut text = String::new();
        for (n, key) in self.line.keys.iter().enumerate() {
            if text.len() > MAX_KEYS {
                let _ = write!(text, " and {} more", self.line.keys.len() - n);
                break;
            }
            let _ = write!(text, "{}{key}", if n == 0 { "" } else { ", " });
        }
        text
    }
}

/// The cursor of the sink `name` of the keystore at `keystore`.
fn cursor_path(keystore: &Path, name: &str) -> PathBuf {
    keystore.with_file_name(format!("audit.sink-{name}"))
}

#[cfg(test)]
mod tests;
