//! keyward as MySQL's keyring, on a real server.

mod crash;
mod features;
mod migrate;
mod outage;
