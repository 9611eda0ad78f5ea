//! What happened and how things stand: the audit trail of a keystore, and the metrics that servers and
//! command show.

#![forbid(unsafe_code)]

pub mod checkpoint;
#[cfg(test)]
mod dice;
mod follow;
mod library;
mod line;
mod lines;
pub mod metrics;
mod newest;
mod noticed;
mod ocsf;
pub mod prometheus;
mod replace;
mod retention;
mod segments;
#[cfg(test)]
mod segments_tests;
mod status;
mod trail;
mod verify;

pub use follow::Follower;
pub use line::{Event, Head, Line, Record};
pub use lines::Lines;
pub use newest::NewestCheckpoint;
pub use noticed::{Noticed, NoticedFile};
pub use retention::Outlived;
pub use status::{Answer, Backlog, Degraded, RestartSafe, StashState, Status};
pub use trail::{Appended, Limits, Stamp, Trail};
pub use verify::{Fault, Known, Verdict};
