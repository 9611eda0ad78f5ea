//! The ways in which a key of a KMIP server wraps, and what they make of a key.

#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use super::super::mechanism_called;
use super::client::Exchange;
use super::failure::{CallError, changed};
use super::kek::Kek;
use super::message::Version;
use super::requests::Mode;
use super::settings::WrapMechanism;
use crate::error::{Error, Kind, Result};
use crate::secret::DataKey;
use crate::secret::aead::{NONCE_LEN, TAG_LEN, open, seal};

/// The first byte of a blob; any other is refused.
const FORMAT: u8 = 1;

/// The key that a server which has only CBC encrypts in the store key's place, and its IV.
const ONCE_LEN: usize = 32;

const IV_LEN: usize = 16;

/// The length of that key with PKCS#5's padding: one block more.
const ENCRYPTED_ONCE_LEN: usize = ONCE_LEN + 16;

/// What is wrapped for a trial: as long as a store key.
const TRIAL_LEN: usize = 32;

impl WrapMechanism {
    const ALL: [Self; 3] = [Self::Gcm, Self::Cbc, Self::Get];

    /// Its name in a wrapped key and in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gcm => "aes-gcm",
            Self::Cbc => "aes-cbc",
            Self::Get => "get",
        }
    }

    const fn since(self) -> Version {
        match self {
            Self::Gcm => Version::new(1, 4),
            Self::Cbc => Version::new(1, 2),
            Self::Get => Version::new(1, 0),
        }
    }

    /// Wraps `data` with `kek`, bound to `binding`.
    pub(super) fn wrap(
        self,
        exchange: &mut Exchange<'_>,
        kek: &Kek,
        data: &DataKey,
        binding: &[u8],
    ) -> Result<Vec<u8>, CallError> {
        let (mut nonce, mut iv) = ([0; NONCE_LEN], [0; IV_LEN]);
        exchange.rng().fill(&mut nonce)?;
        let made = match self {
            Self::Gcm => {
                let mode = Mode::Gcm { nonce: &nonce, aad: binding };
                [&nonce[..], &exchange.encrypt(&kek.id, &mode, data.expose())?].concat()
            }
            Self::Cbc => {
                exchange.rng().fill(&mut iv)?;
                let once = DataKey::generate(ONCE_LEN, exchange.rng())?;
                let encrypted = exchange.encrypt(&kek.id, &Mode::Cbc { iv: &iv }, once.expose())?;
                // The key is used once, and so is every nonce with it.
                let sealed = seal(&once, &[0; NONCE_LEN], binding, data.expose())?;
                [&iv[..], &encrypted, &sealed].concat()
            }
            Self::Get => {
                let key = exchange.get(&kek.id)?;
                let not_aes = |error: Error| error.advise(exchange.advice().not_aes);
                let sealed = seal(&key, &nonce, binding, data.expose()).map_err(not_aes)?;
                [&nonce[..], &sealed].concat()
            }
        };
        Ok([&[FORMAT][..], &made].concat())
    }

    /// Opens what [`wrap`](Self::wrap) made with the key `id`.
    pub(super) fn unwrap(
        self,
        exchange: &mut Exchange<'_>,
        id: &str,
        blob: &[u8],
        binding: &[u8],
    ) -> Result<DataKey, CallError> {
        let cut = || CallError::Ours(changed("it was cut short"));
        let Some((&FORMAT, made)) = blob.split_first() else {
            return Err(changed("it has an unknown format").into());
        };
        let opened = match self {
            Self::Gcm => {
                let (nonce, sealed) = made.split_first_chunk::<NONCE_LEN>().ok_or_else(cut)?;
                if sealed.len() <= TAG_LEN {
                    return Err(cut());
                }
                return exchange.decrypt(id, &Mode::Gcm { nonce, aad: binding }, sealed);
            }
            Self::Cbc => {
                let (iv, rest) = made.split_first_chunk::<IV_LEN>().ok_or_else(cut)?;
                let (encrypted, sealed) =
                    rest.split_first_chunk::<ENCRYPTED_ONCE_LEN>().ok_or_else(cut)?;
                let once = exchange.decrypt(id, &Mode::Cbc { iv }, encrypted)?;
                if once.expose().len() != ONCE_LEN {
                    return Err(changed("what it opens to is none that keyward wraps").into());
                }
                open(&once, &[0; NONCE_LEN], binding, sealed)?
            }
            Self::Get => {
                let (nonce, sealed) = made.split_first_chunk::<NONCE_LEN>().ok_or_else(cut)?;
                let key = exchange.get(id)?;
                let not_aes = |error: Error| error.advise(exchange.advice().not_aes);
                open(&key, nonce, binding, sealed).map_err(not_aes)?
            }
        };
        opened.ok_or_else(|| {
            changed("it was changed, or belongs to another keystore or store key").into()
        })
    }

    /// Wraps and unwraps something that is no key, to see whether server and key can do it.
    pub(super) fn trial(self, exchange: &mut Exchange<'_>, kek: &Kek) -> Result<(), CallError> {
        let data = DataKey::generate(TRIAL_LEN, exchange.rng())?;
        let blob = self.wrap(exchange, kek, &data, b"trial")?;
        let opened = self.unwrap(exchange, &kek.id, &blob, b"trial")?;
        match opened.expose() == data.expose() {
            true => Ok(()),
            false => Err(CallError::Ours(
                Error::new(
                    Kind::Internal,
                    format!("{} gives back other bytes by {self}", exchange.place()),
                )
                .advise("choose another `mechanism`"),
            )),
        }
    }
}

impl fmt::Display for WrapMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for WrapMechanism {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        mechanism_called(text, &Self::ALL, Self::name)
    }
}

/// The way in which `kek` wraps: `wanted`, or the first that works.
pub(super) fn choose(
    exchange: &mut Exchange<'_>,
    kek: &Kek,
    wanted: Option<WrapMechanism>,
) -> Result<WrapMechanism> {
    let (version, _) = exchange.versions()?;
    let mut refusals = Vec::new();
    for way in WrapMechanism::ALL {
        if wanted.is_some_and(|wanted| wanted != way) {
            continue;
        }
        if version < way.since() {
            refusals.push(format!("{way}: not in KMIP {version}, which is spoken here"));
            continue;
        }
        // The key leaves the server only where that is asked for.
        if way == WrapMechanism::Get && wanted.is_none() {
            continue;
        }
        match way.trial(exchange, kek) {
            Ok(()) => return Ok(way),
            Err(fault) if fault.is_unsupported() => {
                let error = fault.told(exchange.place(), format_args!("key {}", kek.name));
                refusals.push(format!("{way}: {}", error.what()));
            }
            Err(fault) => {
                return Err(fault.told(exchange.place(), format_args!("key {}", kek.name)));
            }
        }
    }
    let what = format!("key {} cannot wrap: {}", kek.name, refusals.join("; "));
    Err(Error::new(Kind::Unsupported, what).advise(
        "have the key fetched instead (mechanism = \"get\"), or keep the data keys there (use = \
         \"serve\")",
    ))
}
