//! Key stores, one file or folder each. They know the nouns and the joint, and not one another.

#[cfg(feature = "aws-kms")]
pub mod aws_kms;
pub mod file;
pub mod http;
pub mod kmip;
pub mod local;
#[cfg(feature = "pkcs11")]
pub mod pkcs11;
pub mod vault;

use std::sync::Arc;

use crate::config::Section;
use crate::env::{Deadline, Rng, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::key::PageMode;
use crate::provider::{KekInfo, Provider};

/// The words that `type` may be.
const KINDS: &[&str] = &[
    #[cfg(feature = "aws-kms")]
    "aws-kms",
    "file",
    "kmip",
    "local",
    #[cfg(feature = "pkcs11")]
    "pkcs11",
    "vault-kv",
    "vault-transit",
];

/// The provider that a `[[provider]]` section describes: the only place that chooses code by
/// vendor. The section is read to its end, so a misspelt option is an error; the key store itself is
/// not called yet, so one that is away cannot keep the others from opening.
pub fn open(section: &Section, rng: &Arc<dyn Rng>) -> Result<Provider> {
    let kind = section.required("type")?;
    let provider = match kind.as_str() {
        "file" => {
            Provider::Serves(Box::new(file::FileServer::new(file::Settings::read(section)?)?))
        }
        "kmip" => match kmip::Use::read(section)? {
            kmip::Use::Wrap => {
                let settings = kmip::WrapperSettings::read(section)?;
                Provider::Wraps(Box::new(kmip::KmipWrapper::new(settings, Arc::clone(rng))))
            }
            kmip::Use::Serve => {
                let settings = kmip::ServerSettings::read(section)?;
                Provider::Serves(Box::new(kmip::KmipServer::new(settings, Arc::clone(rng))))
            }
        },
        "local" => {
            let settings = local::Settings::read(section)?;
            Provider::Wraps(Box::new(local::LocalWrapper::new(settings, Arc::clone(rng))?))
        }
        #[cfg(feature = "aws-kms")]
        "aws-kms" => {
            let settings = aws_kms::Settings::read(section)?;
            Provider::Wraps(Box::new(aws_kms::KmsWrapper::new(settings, Arc::clone(rng))))
        }
        #[cfg(feature = "pkcs11")]
        "pkcs11" => {
            let settings = pkcs11::Settings::read(section)?;
            Provider::Wraps(Box::new(pkcs11::Pkcs11Wrapper::new(settings, Arc::clone(rng))))
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

/// How a server encrypts pages with served keys that do not say.
fn page_mode(section: &Section) -> Result<PageMode> {
    match section.text("mode")?.as_deref() {
        None | Some("ctr") => Ok(PageMode::Ctr),
        Some("cbc") => Ok(PageMode::Cbc),
        Some(_) => Err(section.wrong("mode", "must be \"ctr\" or \"cbc\"")),
    }
}

/// The one of `ways` to wrap that a wrapped key or the configuration calls `text`.
fn way_called<W: Copy>(text: &str, ways: &[W], name: fn(W) -> &'static str) -> Result<W> {
    ways.iter().copied().find(|way| name(*way) == text).ok_or_else(|| {
        let names: Vec<_> = ways.iter().map(|way| name(*way)).collect();
        Error::new(Kind::Config, format!("{text:?} is not a way to wrap"))
            .advise(format!("use one of {}", names.join(", ")))
    })
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

/// Makes a new wrapping key, the newest from then on, in the key store that a `[[provider]]` section
/// describes; `Unsupported` where that is not for us to do.
#[cfg_attr(not(feature = "pkcs11"), expect(unused_variables, reason = "a token alone dates it"))]
pub fn create_wrapping_key(
    section: &Section,
    now: Timestamp,
    rng: &Arc<dyn Rng>,
    by: Deadline,
) -> Result<KekInfo> {
    match section.required("type")?.as_str() {
        #[cfg(feature = "aws-kms")]
        "aws-kms" => {
            let settings = aws_kms::Settings::read(section)?;
            aws_kms::KmsWrapper::new(settings, Arc::clone(rng)).create_key(by)
        }
        #[cfg(feature = "pkcs11")]
        "pkcs11" => {
            let settings = pkcs11::Settings::read(section)?;
            pkcs11::Pkcs11Wrapper::new(settings, Arc::clone(rng)).create_key(now, by)
        }
        "kmip" if matches!(kmip::Use::read(section)?, kmip::Use::Wrap) => {
            let settings = kmip::WrapperSettings::read(section)?;
            kmip::KmipWrapper::new(settings, Arc::clone(rng)).create_key(by)
        }
        "vault-transit" => {
            let settings = vault::TransitSettings::read(section)?;
            vault::TransitWrapper::new(settings, Arc::clone(rng)).create_key(by)
        }
        kind => {
            let what = format!("keyward makes no wrapping key in a key store of type {kind:?}");
            Err(Error::new(Kind::Unsupported, what).advise(
                "make it with the key store's own tool; `keyward rewrap --to-latest` follows it",
            ))
        }
    }
}
