//! `pkcs11`: wraps with a key in a hardware security module, by any PKCS#11 module.
//!
//! All calls into the module are made on threads of its own (`worker_pool`), bounded by the caller's
//! deadline. Nothing is loaded before the first call.

#![forbid(unsafe_code)]

mod client;
mod failure;
mod kek;
mod mechanism;
mod module;
pub mod payload;
mod settings;
mod setup;
pub mod uri;
mod worker_pool;
mod wrapper;

pub use self::client::TokenChoice;
pub use self::kek::KeyChoice;
pub use self::mechanism::WrapMechanism;
pub use self::settings::Settings;
pub use self::wrapper::Pkcs11Wrapper;
use super::{Backend, Custody};
use crate::provider::Provider;

/// `pkcs11` in the table of backends.
pub(super) static BACKEND: Backend = Backend {
    kind: "pkcs11",
    custody: Custody::Token,
    // Modules of SoftHSM, Kryoptic, Utimaco, Thales, Entrust, Yubico.
    environment: &[
        "SOFTHSM2_CONF",
        "KRYOPTIC_CONF",
        "CS_PKCS11_R2_CFG",
        "CS_PKCS11_R3_CFG",
        "ChrystokiConfigurationPath",
        "NFAST_HOME",
        "YUBIHSM_PKCS11_CONF",
    ],
    groups: &["softhsm", "hsmusers"],
    open: |section, rng| Ok(Provider::Wraps(Box::new(Pkcs11Wrapper::of(section, rng)?))),
    create_key: Some(|section, order| {
        Pkcs11Wrapper::of(section, order.rng)?.create_key(order.now, order.by)
    }),
    set_up: None,
};

#[cfg(test)]
mod tests;
