//! The wrapping key on a token: found by label or id, described.

#![forbid(unsafe_code)]

use std::fmt;

use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::client::LoggedInSession;
use super::failure::TokenError;
use crate::env::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::hex;

/// The length of the AES keys that wrap, in bytes.
pub(super) const KEK_LEN: u64 = 32;

/// The length of the ids that we give, in bytes: those of a UUID, version 7 (RFC 9562), which begin
/// with the time, so that the newest key has the highest.
pub(super) const ID_LEN: usize = 16;

/// Which key is meant: all that is said must be so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyChoice {
    /// Its CKA_LABEL. Of several with the same label, the one with the highest id wraps.
    pub label: Option<String>,
    /// Its CKA_ID.
    pub id: Option<Vec<u8>>,
}

/// A wrapping key.
#[derive(Clone, Debug)]
pub(super) struct Kek {
    /// What a wrapped key calls it: its id in hex, or its label where it has no id.
    pub(super) name: String,
    pub(super) id: Vec<u8>,
    pub(super) key: Pair,
    /// CKA_SENSITIVE, CKA_ALWAYS_SENSITIVE, CKA_EXTRACTABLE, CKA_NEVER_EXTRACTABLE; none where the
    /// token does not tell.
    pub(super) sensitive: [Option<bool>; 4],
}

/// The key itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pair {
    /// One key for both ways.
    Aes(ObjectHandle),
    /// A public key wraps, its private key unwraps.
    Rsa { public: ObjectHandle, private: ObjectHandle },
}

impl KeyChoice {
    fn template(&self, class: ObjectClass, kind: KeyType) -> Vec<Attribute> {
        let mut template = vec![Attribute::Class(class), Attribute::KeyType(kind)];
        template.extend(self.label.as_ref().map(|label| Attribute::Label(label.clone().into())));
        template.extend(self.id.as_ref().map(|id| Attribute::Id(id.clone())));
        template
    }

    /// All keys that are meant, the newest last; at least one.
    pub(super) fn find(&self, desk: &LoggedInSession<'_>) -> Result<Vec<Kek>, TokenError> {
        desk.go_on()?;
        let session = desk.session;
        let mut found = Vec::new();
        for key in session.find_objects(&self.template(ObjectClass::SECRET_KEY, KeyType::AES))? {
            found.push(Kek::aes(session, key)?);
        }
        for key in session.find_objects(&self.template(ObjectClass::PRIVATE_KEY, KeyType::RSA))? {
            found.push(self.rsa(session, key)?);
        }
        if found.is_empty() {
            let what = format!("the token has no {self}");
            return Err(TokenError::Lost(Error::new(Kind::NotFound, what).advise(
                "correct `key`, or have it made: `keyward init --provider pkcs11 --create-key`",
            )));
        }
        found.sort_by(|one, other| (age(&one.id), &one.name).cmp(&(age(&other.id), &other.name)));
        if let Some(twice) = found.windows(2).find(|two| two[0].name == two[1].name) {
            let what = format!("two keys of the token are {self} with id {:?}", twice[0].name);
            return Err(TokenError::Ours(
                Error::new(Kind::Config, what).advise("give each a CKA_ID of its own"),
            ));
        }
        Ok(found)
    }

    /// The newest of them.
    pub(super) fn newest(&self, desk: &LoggedInSession<'_>) -> Result<Kek, TokenError> {
        let none =
            || TokenError::Ours(Error::new(Kind::Internal, "no key was found, and none missed"));
        self.find(desk)?.pop().ok_or_else(none)
    }

    fn rsa(&self, session: &Session, private: ObjectHandle) -> Result<Kek, TokenError> {
        let (name, id) = name_of(session, private)?;
        let mut template =
            vec![Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::KeyType(KeyType::RSA)];
        template.push(match id.is_empty() {
            true => Attribute::Label(name.clone().into()),
            false => Attribute::Id(id.clone()),
        });
        match session.find_objects(&template)?[..] {
            [public] => {
                let sensitive = sensitive(session, private)?;
                Ok(Kek { name, id, key: Pair::Rsa { public, private }, sensitive })
            }
            _ => Err(TokenError::Ours(
                Error::new(Kind::Config, format!("RSA key {name} has not one public key"))
                    .advise("put its public key on the token under the same id"),
            )),
        }
    }
}

impl fmt::Display for KeyChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("key")?;
        if let Some(label) = &self.label {
            write!(f, " {label:?}")?;
        }
        match &self.id {
            Some(id) => write!(f, " with id {}", hex::text(id)),
            None => Ok(()),
        }
    }
}

impl Kek {
    pub(super) fn aes(session: &Session, key: ObjectHandle) -> Result<Self, TokenError> {
        let (name, id) = name_of(session, key)?;
        let len = session.get_attributes(key, &[AttributeType::ValueLen])?;
        let [Attribute::ValueLen(len)] = len[..] else {
            let what = format!("key {name} of the token does not tell its length");
            return Err(TokenError::Lost(
                Error::new(Kind::Unavailable, what).advise("try again; else use another key"),
            ));
        };
        if *len != KEK_LEN {
            return Err(TokenError::Ours(
                Error::new(
                    Kind::Config,
                    format!("key {name} of the token is no AES key of 256 bits"),
                )
                .advise("use one that is"),
            ));
        }
        let sensitive = sensitive(session, key)?;
        Ok(Self { name, id, key: Pair::Aes(key), sensitive })
    }

    /// When it was made, where its id is one of ours.
    pub(super) fn created(&self) -> Option<Timestamp> {
        created(&self.id)
    }

    /// Whether anybody could take it out of the token, as far as that tells.
    pub(super) fn is_exportable(&self) -> bool {
        self.sensitive[2] != Some(false)
    }
}

/// Orders keys from the oldest to the newest: by id, taken as a number.
fn age(id: &[u8]) -> (usize, &[u8]) {
    let zeros = id.iter().take_while(|byte| **byte == 0).count();
    (id.len() - zeros, &id[zeros..])
}

/// When a key was made, where its id is one of ours.
fn created(id: &[u8]) -> Option<Timestamp> {
    let is_ours = id.len() == ID_LEN && id[6] >> 4 == 7 && id[8] >> 6 == 0b10;
    is_ours.then(|| Timestamp::from_unix(millis(id) / 1000))
}

fn name_of(session: &Session, key: ObjectHandle) -> Result<(String, Vec<u8>), TokenError> {
    let (mut label, mut id) = (String::new(), Vec::new());
    for attribute in session.get_attributes(key, &[AttributeType::Label, AttributeType::Id])? {
        match attribute {
            Attribute::Label(bytes) => label = String::from_utf8_lossy(&bytes).into_owned(),
            Attribute::Id(bytes) => id = bytes,
            _ => {}
        }
    }
    let plain: String = label.chars().filter(|c| !c.is_control()).collect();
    Ok((if id.is_empty() { plain } else { hex::text(&id) }, id))
}

fn sensitive(session: &Session, key: ObjectHandle) -> Result<[Option<bool>; 4], TokenError> {
    let wanted = [
        AttributeType::Sensitive,
        AttributeType::AlwaysSensitive,
        AttributeType::Extractable,
        AttributeType::NeverExtractable,
    ];
    let mut found = [None; 4];
    for attribute in session.get_attributes(key, &wanted)? {
        match attribute {
            Attribute::Sensitive(value) => found[0] = Some(value),
            Attribute::AlwaysSensitive(value) => found[1] = Some(value),
            Attribute::Extractable(value) => found[2] = Some(value),
            Attribute::NeverExtractable(value) => found[3] = Some(value),
            _ => {}
        }
    }
    Ok(found)
}

/// The milliseconds since 1970 with which an id of ours begins.
pub(super) fn millis(id: &[u8]) -> u64 {
    id.iter().take(6).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::super::setup::new_id;
    use super::*;
    use crate::env::fake::FakeRng;

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

    #[test]
    fn the_highest_id_is_the_newest_whatever_its_length() {
        let ours = new_id(NOW, None, &FakeRng::new(1)).unwrap();
        let next = new_id(NOW, Some(&ours), &FakeRng::new(2)).unwrap();
        let sorted: [&[u8]; 6] = [&[], &[1], &[0, 2], &[1, 0], &ours, &next];
        for two in sorted.windows(2) {
            assert!(age(two[0]) < age(two[1]), "{two:?}");
        }
    }

    #[test]
    fn our_ids_tell_when_they_were_made_and_others_do_not() {
        let made = new_id(NOW, None, &FakeRng::new(1)).unwrap();
        assert_eq!(created(&made), Some(NOW));
        assert_eq!(created(&[1]), None);
        assert_eq!(created(&[0x42; ID_LEN]), None);
    }
}
