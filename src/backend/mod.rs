//! Key stores, one folder each. They know the nouns and the traits in `provider`, and not one another.
//!
//! A new one is its folder and a line of [`BACKENDS`], the only place that knows their names.

#![forbid(unsafe_code)]

#[cfg(feature = "aws-kms")]
pub mod aws_kms;
#[cfg(feature = "azure-keyvault")]
pub mod azure_keyvault;
pub mod file;
#[cfg(feature = "gcp-kms")]
pub mod gcp_kms;
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
use crate::secret::SecretBytes;

/// Every kind of key store, by name.
pub const BACKENDS: &[&Backend] = &[
    #[cfg(feature = "aws-kms")]
    &aws_kms::BACKEND,
    #[cfg(feature = "azure-keyvault")]
    &azure_keyvault::BACKEND,
    &file::BACKEND,
    #[cfg(feature = "gcp-kms")]
    &gcp_kms::BACKEND,
    &kmip::BACKEND,
    &local::BACKEND,
    #[cfg(feature = "pkcs11")]
    &pkcs11::BACKEND,
    &vault::KV,
    &vault::TRANSIT,
];

/// A kind of key store.
pub struct Backend {
    /// The word for it in the configuration: `type`.
    pub kind: &'static str,
    /// Where its keys are.
    pub custody: Custody,
    /// The environment variables that its libraries read, by name or, with a `*` at the end, by how
    /// the name begins.
    pub environment: &'static [&'static str],
    /// The groups that let an account at it, where it is on this machine.
    pub groups: &'static [&'static str],
    /// The provider that a section describes. Calls nobody: a key store that is away cannot keep the
    /// others from opening.
    open: fn(&Section, &Arc<dyn Rng>) -> Result<Provider>,
    /// Makes a new wrapping key, the newest from then on; none where that is its administrator's job.
    create_key: Option<fn(&Section, &Order<'_>) -> Result<KekInfo>>,
    /// How an administrator has us prepare it for a server; none where there is nothing to prepare.
    set_up: Option<&'static SetUp>,
}

/// Where the keys of a key store are, as far as its kind tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Custody {
    /// In files of this machine, or in what unlocks them here.
    Machine,
    /// In a token: a module's on another machine, a card's, or files of a library's.
    Token,
    /// In a service that is called by network.
    Service,
}

/// What something is made with in a key store.
pub struct Order<'a> {
    /// Dates what the key store itself does not date.
    pub now: Timestamp,
    /// Randomness.
    pub rng: &'a Arc<dyn Rng>,
    /// When to give up.
    pub by: Deadline,
}

/// How a key store is prepared for a server, by its administrator.
pub struct SetUp {
    /// The setting that names the file with the administrator's token.
    pub token_file: &'static str,
    /// The setting that names the environment variable with it.
    pub token_env: &'static str,
    /// The name of the file, next to the configuration, that gets the server's secret.
    pub secret_name: &'static str,
    /// The setting that names this file.
    pub secret_file: &'static str,
    /// Prepares it. The section logs in as the administrator.
    run: fn(&Section, &Order<'_>) -> Result<ServerLogin>,
}

/// How a server logs in to a key store that was prepared for it.
pub struct ServerLogin {
    /// Settings and their values.
    pub settings: Vec<(&'static str, String)>,
    /// The secret.
    pub secret: SecretBytes,
}

/// The backend that a `[[provider]]` section names.
pub fn of(section: &Section) -> Result<&'static Backend> {
    let kind = section.required("type")?;
    find(&kind).ok_or_else(|| section.wrong("type", &unknown(&kind)).advise(kinds(&kind)))
}

/// The backend that the configuration calls `kind`.
pub fn named(kind: &str) -> Result<&'static Backend> {
    find(kind).ok_or_else(|| Error::new(Kind::Config, unknown(kind)).advise(kinds(kind)))
}

fn find(kind: &str) -> Option<&'static Backend> {
    BACKENDS.iter().copied().find(|backend| backend.kind == kind)
}

fn unknown(kind: &str) -> String {
    format!("there is no provider {kind:?}")
}

fn kinds(like: &str) -> String {
    let kinds: Vec<_> = BACKENDS.iter().map(|backend| backend.kind).collect();
    crate::config::nearest(like, &kinds)
}

/// The provider that a `[[provider]]` section describes.
pub fn open(section: &Section, rng: &Arc<dyn Rng>) -> Result<Provider> {
    let provider = (of(section)?.open)(section, rng)?;
    section.done()?;
    Ok(provider)
}

impl Backend {
    /// How it is prepared for a server.
    pub fn set_up(&self) -> Result<&'static SetUp> {
        self.set_up.ok_or_else(|| {
            let what = format!("keyward prepares no key store of type {:?}", self.kind);
            Error::new(Kind::Unsupported, what).advise("leave --admin-token-file out")
        })
    }

    /// Makes a new wrapping key, the newest from then on, in the key store that `section` describes.
    pub fn create_key(&self, section: &Section, order: &Order<'_>) -> Result<KekInfo> {
        let create = self.create_key.ok_or_else(|| self.makes_no_key())?;
        // A misspelt setting is an error before anything is made.
        open(section, order.rng)?;
        create(section, order)
    }

    fn makes_no_key(&self) -> Error {
        let what = format!("keyward makes no wrapping key in a key store of type {:?}", self.kind);
        Error::new(Kind::Unsupported, what).advise(
            "make it with the key store's own tool; `keyward keystore rewrap --to-latest` follows it",
        )
    }
}

impl SetUp {
    /// Prepares the key store that `section` describes, which logs in there as its administrator.
    pub fn run(&self, section: &Section, order: &Order<'_>) -> Result<ServerLogin> {
        // A misspelt setting is an error before anything is made.
        open(section, order.rng)?;
        (self.run)(section, order)
    }
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
fn mechanism_called<W: Copy>(text: &str, ways: &[W], name: fn(W) -> &'static str) -> Result<W> {
    ways.iter().copied().find(|way| name(*way) == text).ok_or_else(|| {
        let names: Vec<_> = ways.iter().map(|way| name(*way)).collect();
        Error::new(Kind::Config, format!("{text:?} is not a way to wrap"))
            .advise(format!("use one of {}", names.join(", ")))
    })
}
