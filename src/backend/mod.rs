//! Key stores, one file or folder each. They know the nouns and the joint, and not one another.

pub mod file;
pub mod local;

use std::sync::Arc;

use crate::env::Rng;
use crate::error::Result;
use crate::provider::Provider;

/// The settings of one provider; its `type` in the configuration chooses the variant.
pub enum Settings {
    /// `file`: a key file as MariaDB's `file_key_management` reads it.
    File(file::Settings),
    /// `local`: a wrapping key on this machine.
    Local(local::Settings),
}

/// The provider that `settings` describe: the only place that chooses code by vendor. Nothing is
/// read or called yet, so a key store that is away cannot keep the others from opening.
pub fn open(settings: Settings, rng: &Arc<dyn Rng>) -> Result<Provider> {
    Ok(match settings {
        Settings::File(settings) => Provider::Serves(Box::new(file::FileServer::new(settings)?)),
        Settings::Local(settings) => {
            Provider::Wraps(Box::new(local::LocalWrapper::new(settings, Arc::clone(rng))?))
        }
    })
}
