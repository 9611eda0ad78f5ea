//! What happened and how things stand: the audit trail of a keystore, and the metrics that servers and
//! command show.

#![forbid(unsafe_code)]

mod library;
pub mod metrics;
mod status;
mod trail;

pub use status::{Answer, Degraded, RestartSafe, StashState, Status};
pub use trail::{Event, Line, Record, Trail};
