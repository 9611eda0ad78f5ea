//! The life of a key, from its making to its end: on real keystore files, with key stores that
//! count their calls and can be told to fail, and through the command.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod audit;
mod bench;
mod command;
mod continuity;
mod crash;
mod init;
mod moving;
mod mysql;
mod pinned;
mod policy;
mod processes;
mod report;
mod segments;
mod states;
mod undo;
mod witness;
mod wrappings;

#[path = "../common/key_store.rs"]
mod key_store;
#[allow(dead_code)]
#[path = "../common/sim_disk.rs"]
mod sim_disk;
