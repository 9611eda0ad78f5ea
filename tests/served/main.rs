//! Keys that a key store serves: what happens while it is away, with a stash and without; on a key
//! store that counts its calls and can be told to fail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bench;
mod config;
mod continuity;
mod crash;
mod look_ups;
mod restart;
mod stash;

#[path = "../common/key_store.rs"]
mod key_store;
#[allow(dead_code)]
#[path = "../common/sim_disk.rs"]
mod sim_disk;
