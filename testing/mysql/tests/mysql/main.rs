//! keyward as MySQL's keyring, on a real server.

mod binlog;
mod command;
mod configuration;
mod crash;
mod drill;
mod functions;
mod inspect;
mod migrate;
mod outage;
mod parity;
mod planted;
mod policy;
mod report;
mod rescue;
mod restore;
mod stores;
mod story;
