//! What happened and how things stand: the audit trail of a keystore, and the metrics that servers and
//! command show.

#![forbid(unsafe_code)]

pub mod checkpoint;
mod follow;
mod library;
pub mod metrics;
mod newest;
mod noticed;
mod ocsf;
pub mod prometheus;
mod replace;
mod status;
mod trail;
mod verify;

pub use follow::Follower;
pub use newest::NewestCheckpoint;
pub use noticed::{Noticed, NoticedFile};
pub use status::{Answer, Backlog, Degraded, RestartSafe, StashState, Status};
pub use trail::{Appended, Event, Head, Line, Record, Trail};
pub use verify::{Fault, Known, Verdict};
