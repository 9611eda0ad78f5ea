//! journald, by its native protocol (systemd's "Native Journal Protocol"): a datagram of fields.

#![forbid(unsafe_code)]

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use super::{Sink, Told};
use crate::config::Section;
use crate::env::Deadline;
use crate::error::{Error, Result};

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// Of all our messages, for `journalctl MESSAGE_ID=...` and catalogs.
const MESSAGE_ID: &str = "5b1f6f8b6d1e4b7c9a2f3c0e7d94a1b6";

/// `notice` of syslog(3).
const PRIORITY: &str = "5";

/// journald on this machine.
pub(super) struct Journald {
    socket: PathBuf,
}

impl Journald {
    pub(super) fn read(section: &Section) -> Result<Self> {
        Ok(Self { socket: section.path("socket")?.unwrap_or_else(|| SOCKET.into()) })
    }
}

impl Sink for Journald {
    fn deliver(&mut self, told: &Told<'_>, by: Deadline) -> Result<()> {
        let failed = |e: std::io::Error| Error::io("cannot tell journald at", &self.socket, &e);
        let line = &told.line;
        let mut fields = Vec::new();
        for (name, value) in [
            ("MESSAGE", told.sentence()),
            ("MESSAGE_ID", MESSAGE_ID.to_owned()),
            ("PRIORITY", PRIORITY.to_owned()),
            ("SYSLOG_IDENTIFIER", "keyward".to_owned()),
            ("KEYWARD_KEYSTORE", told.keystore.display().to_string()),
            ("KEYWARD_NUMBER", line.number.to_string()),
            ("KEYWARD_AT", line.at.to_string()),
            ("KEYWARD_EVENT", line.event.clone()),
            ("KEYWARD_KEYS", told.keys()),
            ("KEYWARD_GENERATION", line.generation.to_string()),
            ("KEYWARD_ACTOR", line.actor.clone()),
            ("KEYWARD_REASON", line.reason.clone()),
        ] {
            push(&mut fields, name, &value);
        }
        let socket = UnixDatagram::unbound().map_err(failed)?;
        socket.set_write_timeout(Some(by.left("telling journald")?)).map_err(failed)?;
        socket.send_to(&fields, &self.socket).map(drop).map_err(failed)
    }
}

/// A value of several lines has its length before it: it could be another field otherwise.
fn push(fields: &mut Vec<u8>, name: &str, value: &str) {
    fields.extend(name.as_bytes());
    if value.contains('\n') {
        fields.push(b'\n');
        fields.extend((value.len() as u64).to_le_bytes());
    } else {
        fields.push(b'=');
    }
    fields.extend(value.as_bytes());
    fields.push(b'\n');
}
