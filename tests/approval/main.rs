//! Dual control: what waits for the approvals of several people, made with the real `ssh-keygen`, and
//! everything that is no approval.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod authenticator;
mod bench;
mod command;
mod refused;
mod steps;
