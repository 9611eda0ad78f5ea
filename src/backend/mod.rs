//! Key stores, one file or folder each. They know the nouns and the joint, and not one another.

pub mod file;
pub mod http;
pub mod local;
pub mod vault;

use std::sync::Arc;

use crate::config::Section;
use crate::env::{Deadline, Rng};
use crate::error::Result;
use crate::provider::Provider;

/// The words that `type` may be.
const KINDS: &[&str] = &["file", "local", "vault-kv", "vault-transit"];

/// The provider that a `[[provider]]` section describes: the only place that chooses code by
/// vendor. The section is read to its end, so a misspelt option is an error; the key store itself is
/// not called yet, so one that is away cannot keep the others from opening.
pub fn open(section: &Section, rng: &Arc<dyn Rng>) -> Result<Provider> {
    let kind = section.required("type")?;
    let provider = match kind.as_str() {
        "file" => {
            Provider::Serves(Box::new(file::FileServer::new(file::Settings::read(section)?)?))
        }
        "local" => {
            let settings = local::Settings::read(section)?;
            Provider::Wraps(Box::new(local::LocalWrapper::new(settings, Arc::clone(rng))?))
        }
        "vault-kv" => {
            let settings = vault::KvSettings::read(section)?;
            Provider::Serves(Box::new(vault::KvServer::new(settings, Arc::clone(rng))))
        }
        "vault-transit" => {
            let settings = vault::TransitSettings::read(section)?;
            Provider::Wraps(Box::new(vault::TransitWrapper::new(settings, Arc::clone(rng))))
        }
        _ => {
            let what = format!("there is no provider {kind:?}");
            return Err(section.wrong("type", &what).advise(format!("use {}", KINDS.join(" or "))));
        }
    };
    section.done()?;
    Ok(provider)
}

/// Sets up the Vault that `section` describes, which logs in there as an administrator: engine, key,
/// policy, and the role that is given back.
pub fn set_up_vault(section: &Section, rng: &Arc<dyn Rng>, by: Deadline) -> Result<vault::Role> {
    let kind = section.required("type")?;
    let role = match kind.as_str() {
        "vault-transit" => {
            let settings = vault::TransitSettings::read(section)?;
            vault::TransitWrapper::new(settings, Arc::clone(rng)).set_up(by)?
        }
        "vault-kv" => {
            let settings = vault::KvSettings::read(section)?;
            vault::KvServer::new(settings, Arc::clone(rng)).set_up(by)?
        }
        _ => return Err(section.wrong("type", "is no provider of Vault's")),
    };
    Ok(role)
}
