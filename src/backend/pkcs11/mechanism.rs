//! The ways in which a key on a token wraps, and what they make of a key.
//!
//! AES-GCM takes the binding as its AAD. The others have no place for one, so it goes inside, as a
//! hash beside the key: see [`Payload`].

#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cryptoki::error::Error as Call;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::types::Ulong;
use zeroize::{Zeroize as _, Zeroizing};

use super::super::mechanism_called;
use super::client::LoggedInSession;
use super::failure::{TokenError, changed, may_mean_changed, means_cannot, means_changed, of_call};
use super::kek::{Kek, Pair};
use super::payload::Payload;
use crate::env::Rng;
use crate::error::{Error, Kind, Result};
use crate::secret::DataKey;
use crate::secret::aead::{NONCE_LEN, TAG_LEN};

/// The first byte of what is made; any other is refused.
const FORMAT: u8 = 1;

/// What is wrapped for a trial: as long as a store key.
const TRIAL_LEN: usize = 32;

/// How a key wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrapMechanism {
    /// AES-256-GCM by C_Encrypt.
    Gcm,
    /// AES key wrap with padding (RFC 5649) by C_WrapKey.
    Kwp,
    /// AES key wrap (RFC 3394) by C_WrapKey.
    Kw,
    /// RSA-OAEP with SHA-256.
    OaepSha256,
    /// RSA-OAEP with SHA-1, which is all that some tokens have; its strength does not rest on SHA-1's
    /// resistance to collisions.
    OaepSha1,
}

impl WrapMechanism {
    /// All of them, the best first: only GCM neither brings the key onto the token as an object nor
    /// reads it back as one.
    pub(super) const ALL: [Self; 5] =
        [Self::Gcm, Self::Kwp, Self::Kw, Self::OaepSha256, Self::OaepSha1];

    /// Its name in a wrapped key and in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gcm => "aes-256-gcm",
            Self::Kwp => "aes-256-kwp",
            Self::Kw => "aes-256-kw",
            Self::OaepSha256 => "rsa-oaep-sha256",
            Self::OaepSha1 => "rsa-oaep-sha1",
        }
    }

    pub(super) fn fits(self, key: Pair) -> bool {
        match key {
            Pair::Aes(_) => matches!(self, Self::Gcm | Self::Kwp | Self::Kw),
            Pair::Rsa { .. } => matches!(self, Self::OaepSha256 | Self::OaepSha1),
        }
    }

    fn offered_as(self) -> MechanismType {
        match self {
            Self::Gcm => MechanismType::AES_GCM,
            Self::Kwp => MechanismType::AES_KEY_WRAP_PAD,
            Self::Kw => MechanismType::AES_KEY_WRAP,
            Self::OaepSha256 | Self::OaepSha1 => MechanismType::RSA_PKCS_OAEP,
        }
    }

    /// Wraps `data` with `kek`, bound to `binding`.
    pub(super) fn wrap(
        self,
        session: &Session,
        kek: &Kek,
        data: &[u8],
        binding: &[u8],
        rng: &dyn Rng,
    ) -> Result<Vec<u8>, TokenError> {
        let made = match (self, kek.key) {
            (Self::Gcm, Pair::Aes(key)) => gcm_wrap(session, key, data, binding, rng)?,
            (_, Pair::Aes(key)) => {
                let payload = Payload::seal(data, binding, rng)?;
                wrap_object(session, key, &self.plain_mechanism(), payload.bytes())?
            }
            (_, Pair::Rsa { public, .. }) => {
                let payload = Payload::seal(data, binding, rng)?;
                session.encrypt(&self.plain_mechanism(), public, payload.bytes())?
            }
        };
        Ok([&[FORMAT][..], &made].concat())
    }

    /// Opens what [`wrap`](Self::wrap) made.
    pub(super) fn unwrap(
        self,
        session: &Session,
        kek: &Kek,
        blob: &[u8],
        binding: &[u8],
    ) -> Result<DataKey, TokenError> {
        let Some((&FORMAT, made)) = blob.split_first() else {
            return Err(changed("it has an unknown format").into());
        };
        let opened = match (self, kek.key) {
            (Self::Gcm, Pair::Aes(key)) => {
                return Ok(DataKey::copy_of(&gcm_open(session, key, made, binding)?)?);
            }
            (_, Pair::Aes(key)) => {
                // What cannot be AES key wrap at all some modules take for a broken call of ours.
                if made.len() < 16 || !made.len().is_multiple_of(8) {
                    return Err(changed("it was cut short").into());
                }
                unwrap_object(session, key, &self.plain_mechanism(), made)?
            }
            (_, Pair::Rsa { private, .. }) => {
                Zeroizing::new(session.decrypt(&self.plain_mechanism(), private, made)?)
            }
        };
        Ok(Payload::open(&opened, binding)?)
    }

    /// The mechanism, where it takes no AAD.
    fn plain_mechanism(self) -> Mechanism<'static> {
        let oaep = |hash, mgf| {
            Mechanism::RsaPkcsOaep(PkcsOaepParams::new(hash, mgf, PkcsOaepSource::empty()))
        };
        match self {
            // GCM never comes here: it has its parameters made for each call.
            Self::Kwp | Self::Gcm => Mechanism::AesKeyWrapPad,
            Self::Kw => Mechanism::AesKeyWrap,
            Self::OaepSha256 => oaep(MechanismType::SHA256, PkcsMgfType::MGF1_SHA256),
            Self::OaepSha1 => oaep(MechanismType::SHA1, PkcsMgfType::MGF1_SHA1),
        }
    }

    /// Wraps and unwraps something that is no key, to see whether token and key can do it.
    pub(super) fn trial(
        self,
        session: &Session,
        kek: &Kek,
        rng: &dyn Rng,
    ) -> Result<(), TokenError> {
        let data = DataKey::generate(TRIAL_LEN, rng)?;
        let blob = self.wrap(session, kek, data.expose(), b"trial", rng)?;
        let opened = self.unwrap(session, kek, &blob, b"trial")?;
        match opened.expose() == data.expose() {
            true => Ok(()),
            false => Err(TokenError::Ours(
                Error::new(Kind::Internal, format!("{self} on the token gives back other bytes"))
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

/// The way in which `kek` wraps: `wanted`, or the first that the token offers and that works.
pub(super) fn choose(
    desk: &LoggedInSession<'_>,
    kek: &Kek,
    wanted: Option<WrapMechanism>,
    rng: &dyn Rng,
) -> Result<WrapMechanism, TokenError> {
    let offered = desk.open.pkcs11.get_mechanism_list(desk.slot)?;
    let mut refusals = Vec::new();
    for way in
        WrapMechanism::ALL.into_iter().filter(|way| wanted.is_none_or(|wanted| wanted == *way))
    {
        if !way.fits(kek.key) {
            continue;
        }
        if !offered.contains(&way.offered_as()) {
            refusals.push(format!("{way}: the token does not offer it"));
            continue;
        }
        desk.go_on()?;
        // A session of its own, so that what a refused call leaves behind ends with it.
        match way.trial(&desk.another()?, kek, rng) {
            Ok(()) => return Ok(way),
            Err(TokenError::Call(call)) if means_cannot(&call) => {
                refusals.push(of_call(&call, way).what().to_owned());
            }
            Err(fault) => return Err(fault),
        }
    }
    let what = match refusals.is_empty() {
        true => format!("key {} of the token is of another kind than `mechanism`", kek.name),
        false => format!("key {} of the token cannot wrap: {}", kek.name, refusals.join("; ")),
    };
    // One that we have made has all rights, and so has the next.
    let advice = match kek.key {
        _ if refusals.is_empty() => "leave `mechanism` out",
        Pair::Aes(_) => {
            "it needs CKA_ENCRYPT and CKA_DECRYPT, or CKA_WRAP and CKA_UNWRAP; where the token cannot \
             wrap with AES at all, have its own tool make an RSA pair (pkcs11-tool --module MODULE \
             --login --keypairgen --key-type rsa:3072 --label NAME --id 01), and name that as `key`, \
             without --create-key"
        }
        Pair::Rsa { .. } => "the private key needs CKA_DECRYPT, the public one CKA_ENCRYPT",
    };
    Err(TokenError::Ours(Error::new(Kind::Unsupported, what).advise(advice)))
}

/// What a failed unwrap means: a changed blob, or trouble at the token. Many modules have one code
/// for both. Then a trial with the same key, and a second try, tell; that may even go well.
pub(super) fn judge(
    desk: &LoggedInSession<'_>,
    unwrap: impl Fn(&Session) -> Result<DataKey, TokenError>,
    trial: impl FnOnce(&Session) -> Result<(), TokenError>,
    fault: TokenError,
) -> Result<DataKey, TokenError> {
    let changed = || changed("it was changed, or belongs to another keystore or store key").into();
    match &fault {
        TokenError::Call(call) if means_changed(call) => Err(changed()),
        TokenError::Call(call) if may_mean_changed(call) => {
            if desk.another().and_then(|session| trial(&session)).is_err() {
                return Err(fault);
            }
            desk.another().and_then(|session| unwrap(&session)).map_err(|again| match &again {
                TokenError::Call(call) if means_changed(call) || may_mean_changed(call) => {
                    changed()
                }
                _ => again,
            })
        }
        _ => Err(fault),
    }
}

fn gcm_wrap(
    session: &Session,
    key: ObjectHandle,
    data: &[u8],
    binding: &[u8],
    rng: &dyn Rng,
) -> Result<Vec<u8>, TokenError> {
    let mut nonce = [0; NONCE_LEN];
    rng.fill(&mut nonce)?;
    let encrypted = session.encrypt(&Mechanism::AesGcm(gcm(&mut nonce, binding)?), key, data)?;
    // A token that insists on a nonce of its own has written it over ours.
    Ok([&nonce[..], &encrypted].concat())
}

fn gcm_open(
    session: &Session,
    key: ObjectHandle,
    made: &[u8],
    binding: &[u8],
) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    let Some((nonce, encrypted)) = made.split_first_chunk::<NONCE_LEN>() else {
        return Err(changed("it was cut short").into());
    };
    if encrypted.len() <= TAG_LEN {
        return Err(changed("it was cut short").into());
    }
    let mut nonce = *nonce;
    let mechanism = Mechanism::AesGcm(gcm(&mut nonce, binding)?);
    Ok(Zeroizing::new(session.decrypt(&mechanism, key, encrypted)?))
}

fn gcm<'a>(nonce: &'a mut [u8], binding: &'a [u8]) -> Result<GcmParams<'a>, Call> {
    GcmParams::new(nonce, binding, Ulong::new(8 * TAG_LEN as u64))
}

/// Brings `secret` onto the token for as long as it takes to wrap it.
fn wrap_object(
    session: &Session,
    key: ObjectHandle,
    mechanism: &Mechanism<'_>,
    secret: &[u8],
) -> Result<Vec<u8>, TokenError> {
    let mut template = [
        Attribute::Value(secret.to_vec()),
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(false),
        Attribute::Sensitive(true),
        Attribute::Extractable(true),
    ];
    let object = session.create_object(&template);
    wipe(&mut template);
    let object = object?;
    let wrapped = session.wrap_key(mechanism, key, object);
    let gone = session.destroy_object(object);
    let wrapped = wrapped?;
    gone?;
    Ok(wrapped)
}

/// Unwraps onto the token, reads the secret and removes it there.
fn unwrap_object(
    session: &Session,
    key: ObjectHandle,
    mechanism: &Mechanism<'_>,
    wrapped: &[u8],
) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(false),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
    ];
    let object = session.unwrap_key(mechanism, key, wrapped, &template)?;
    let found = session.get_attributes(object, &[AttributeType::Value]);
    let gone = session.destroy_object(object);
    let mut secret = None;
    for attribute in found? {
        if let Attribute::Value(bytes) = attribute {
            secret = Some(Zeroizing::new(bytes));
        }
    }
    gone?;
    secret.ok_or_else(|| {
        let what = "the token does not give out what it unwrapped";
        TokenError::Ours(
            Error::new(Kind::Unsupported, what).advise("use mechanism = \"aes-256-gcm\""),
        )
    })
}

fn wipe(template: &mut [Attribute]) {
    for attribute in template {
        if let Attribute::Value(bytes) = attribute {
            bytes.zeroize();
        }
    }
}
