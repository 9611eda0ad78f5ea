//! Makes a wrapping key on a token.

#![forbid(unsafe_code)]

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, KeyType, ObjectClass};

use super::client::LoggedInSession;
use super::failure::TokenError;
use super::kek::{ID_LEN, KEK_LEN, Kek, KeyChoice, Pair, millis};
use super::wrapper::Pkcs11Wrapper;
use crate::env::{Deadline, Rng, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::provider::KekInfo;

impl Pkcs11Wrapper {
    /// Makes a new key of the configured label on the token: AES with 256 bits, sensitive, never
    /// extractable. From then on it is the newest. `Conflict` where an id is configured that a key
    /// has; `Unsupported` where the token would make one that can be taken out.
    pub fn create_key(&self, now: Timestamp, by: Deadline) -> Result<KekInfo> {
        self.at_token("making a key", by, move |shared, desk| {
            let kek = shared.key.create(desk, now, &*shared.rng)?;
            match shared.way(desk, &kek) {
                Ok(way) => Ok(shared.info(&kek, way)),
                Err(fault) => Err(take_back(desk, &kek, fault)),
            }
        })
    }
}

impl KeyChoice {
    /// Makes a new AES key of this label (or id), which never leaves the token, and proves that the
    /// token says so.
    fn create(
        &self,
        desk: &LoggedInSession<'_>,
        now: Timestamp,
        rng: &dyn Rng,
    ) -> Result<Kek, TokenError> {
        let older = match self.find(desk) {
            Ok(found) => found,
            // There is none yet, so one is made.
            Err(TokenError::Lost(_)) => Vec::new(),
            Err(fault) => return Err(fault),
        };
        let session = desk.writing()?;
        let id = match &self.id {
            Some(_) if !older.is_empty() => {
                let what = format!("{self} is on the token already");
                return Err(TokenError::Ours(Error::new(Kind::Conflict, what).advise(
                    "choose keys by their label alone: then each new one has an id of its own",
                )));
            }
            Some(id) => id.clone(),
            None => new_id(now, older.last().map(|kek| kek.id.as_slice()), rng)?,
        };
        let mut template = vec![
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::ValueLen(KEK_LEN.into()),
            Attribute::Id(id),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Encrypt(true),
            Attribute::Decrypt(true),
            Attribute::Wrap(true),
            Attribute::Unwrap(true),
        ];
        template.extend(self.label.as_ref().map(|label| Attribute::Label(label.clone().into())));
        let made = session.generate_key(&Mechanism::AesKeyGen, &template)?;
        let kek = Kek::aes(&session, made)?;
        if kek.sensitive == [Some(true), Some(true), Some(false), Some(true)] {
            return Ok(kek);
        }
        // Nothing was wrapped with it yet.
        let gone = session.destroy_object(made).is_ok();
        let what = format!("the token made key {} so that it can be taken out of it", kek.name);
        let left = if gone { "it was destroyed again" } else { "destroy it" };
        Err(TokenError::Ours(Error::new(Kind::Unsupported, what).advise(format!(
            "{left}; make one with the token's own tool: sensitive, never extractable"
        ))))
    }
}

/// Destroys a key that was made and is of no use, because of `fault`: each further attempt would leave
/// another. Where that fails, the error names what is left.
fn take_back(desk: &LoggedInSession<'_>, kek: &Kek, fault: TokenError) -> TokenError {
    let Pair::Aes(made) = kek.key else { return fault };
    let gone = desk.writing().is_ok_and(|session| session.destroy_object(made).is_ok());
    match fault {
        TokenError::Ours(error) if !gone => {
            let left = format!("key {} is left on the token, destroy it", kek.name);
            let advice = error.advice().map_or(left.clone(), |advice| format!("{advice}; {left}"));
            TokenError::Ours(error.advise(advice))
        }
        fault => fault,
    }
}

/// An id that tells `now`, and is higher than that of the newest key there is.
pub(super) fn new_id(now: Timestamp, newest: Option<&[u8]>, rng: &dyn Rng) -> Result<Vec<u8>> {
    let mut id = vec![0; ID_LEN];
    rng.fill(&mut id)?;
    let before = newest.filter(|id| id.len() == ID_LEN).map_or(0, millis);
    let time = (now.as_unix() * 1000).max(before + 1);
    id[..6].copy_from_slice(&time.to_be_bytes()[2..]);
    id[6] = 0x70 | id[6] & 0x0f;
    id[8] = 0x80 | id[8] & 0x3f;
    Ok(id)
}
