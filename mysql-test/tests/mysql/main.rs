//! keyward as MySQL's keyring, on a real server.

mod crash;
mod features;
mod inspect;
mod migrate;
mod outage;
