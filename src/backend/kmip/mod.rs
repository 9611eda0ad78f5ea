//! `kmip`: any server that speaks KMIP 1.0 to 1.4, 2.0 or 2.1 over TLS. It wraps the store key with a key that
//! stays there, or (`use = "serve"`) keeps the data keys themselves.
//!
//! A connection lasts for one operation; nothing outlives it. See `docs/adr/0065-kmip-of-our-own.md` for why.

#![forbid(unsafe_code)]

mod attributes;
mod calls;
mod client;
#[cfg(not(fuzzing))]
mod connection;
mod failure;
mod frame;
mod kek;
mod mechanism;
pub mod message;
mod requests;
mod returning;
#[cfg(fuzzing)]
pub mod scripted;
mod server;
mod settings;
mod setup;
mod tags;
pub mod ttlv;
mod wrapper;

use std::sync::Arc;

pub use self::failure::KeyAdvice;
#[cfg(fuzzing)]
use self::scripted as connection;
pub use self::server::KmipServer;
pub use self::settings::{
    Address, KeyChoice, ServerSettings, Settings, Use, WrapMechanism, WrapperSettings,
};
pub use self::wrapper::KmipWrapper;
use super::{Backend, Custody, Order};
use crate::config::Section;
use crate::env::Rng;
use crate::error::Result;
use crate::provider::{KekInfo, Provider};

/// `kmip` in the table of backends.
pub(super) static BACKEND: Backend = Backend {
    kind: "kmip",
    custody: Custody::Service,
    environment: &[],
    groups: &[],
    open,
    create_key: Some(create_key),
    set_up: None,
};

fn open(section: &Section, rng: &Arc<dyn Rng>) -> Result<Provider> {
    Ok(match Use::read(section)? {
        Use::Wrap => Provider::Wraps(Box::new(KmipWrapper::of(section, rng)?)),
        Use::Serve => {
            let settings = ServerSettings::read(section)?;
            Provider::Serves(Box::new(KmipServer::new(settings, Arc::clone(rng))))
        }
    })
}

fn create_key(section: &Section, order: &Order<'_>) -> Result<KekInfo> {
    match Use::read(section)? {
        Use::Wrap => KmipWrapper::of(section, order.rng)?.create_key(order.by),
        Use::Serve => Err(BACKEND.makes_no_key()),
    }
}

#[cfg(test)]
mod tests;
