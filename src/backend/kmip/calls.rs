//! The operations that keyward uses, each as a call (OASIS KMIP 1.4, section 4).

use super::attributes::{Attributes, NAMES, application, attribute, name, text_attribute};
use super::client::Desk;
use super::failure::{Fault, Refusal};
use super::message::{Asked, Operation};
use super::tags::{
    ADDITIONAL_DATA, ALGORITHM_AES, ATTRIBUTE_NAME, ATTRIBUTE_VALUE, AUTHENTICATION_TAG,
    BLOCK_CIPHER_MODE, CRYPTOGRAPHIC_ALGORITHM, CRYPTOGRAPHIC_LENGTH, CRYPTOGRAPHIC_PARAMETERS,
    DATA, FORMAT_RAW, IV_COUNTER_NONCE, KEY_BLOCK, KEY_FORMAT_TYPE, KEY_MATERIAL, KEY_VALUE,
    KEY_WRAPPING_DATA, MODE_CBC, MODE_GCM, OBJECT_SYMMETRIC_KEY, OBJECT_TYPE, PADDING_METHOD,
    PADDING_PKCS5, REASON_CESSATION, REVOCATION_REASON, REVOCATION_REASON_CODE, SYMMETRIC_KEY,
    TAG_LENGTH, TEMPLATE_ATTRIBUTE, UNIQUE_IDENTIFIER, USAGE_ENCRYPT_DECRYPT,
};
use super::ttlv::{Item, Writer};
use crate::error::Result;
use crate::secret::DataKey;

/// Bytes of AES-GCM's tag.
pub(super) const TAG_LEN: usize = 16;

/// How many things are asked for in one message.
const BATCH: usize = 32;

/// What a new key is called, and what stands beside it.
pub(super) struct NewKey<'a> {
    pub(super) name: &'a str,
    pub(super) group: &'a str,
    /// What an application of the name space `keyward` notes with it.
    pub(super) note: Option<&'a str>,
}

/// What to look for; all that is given must fit.
#[derive(Default)]
pub(super) struct Wanted<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) group: Option<&'a str>,
}

/// A block cipher's mode, and what it needs beside key and data.
pub(super) enum Mode<'a> {
    /// CBC with PKCS#5 padding, and its IV.
    Cbc { iv: &'a [u8] },
    /// GCM with a tag of 16 bytes, its nonce and the additional data.
    Gcm { nonce: &'a [u8], aad: &'a [u8] },
}

impl Desk<'_> {
    /// Has the server make an AES key of 256 bits; gives its id.
    pub(super) fn create(&mut self, key: &NewKey<'_>, sensitive: bool) -> Result<String, Fault> {
        let asked = Asked::new(Operation::Create, |to| {
            to.enumeration(OBJECT_TYPE, OBJECT_SYMMETRIC_KEY);
            to.structure(TEMPLATE_ATTRIBUTE, |to| {
                attribute(to, NAMES.algorithm, |to| {
                    to.enumeration(ATTRIBUTE_VALUE, ALGORITHM_AES);
                });
                attribute(to, NAMES.length, |to| to.integer(ATTRIBUTE_VALUE, 256));
                common(to, key);
                if sensitive {
                    attribute(to, NAMES.sensitive, |to| to.boolean(ATTRIBUTE_VALUE, true));
                }
            });
        });
        self.ask(asked, id_of)
    }

    /// Gives the server a key of ours to keep; gives its id.
    pub(super) fn register(&mut self, key: &NewKey<'_>, data: &DataKey) -> Result<String, Fault> {
        let bits = i32::try_from(data.expose().len() * 8).unwrap_or(i32::MAX);
        let asked = Asked::new(Operation::Register, |to| {
            to.enumeration(OBJECT_TYPE, OBJECT_SYMMETRIC_KEY);
            to.structure(TEMPLATE_ATTRIBUTE, |to| common(to, key));
            to.structure(SYMMETRIC_KEY, |to| {
                to.structure(KEY_BLOCK, |to| {
                    to.enumeration(KEY_FORMAT_TYPE, FORMAT_RAW);
                    to.structure(KEY_VALUE, |to| to.bytes(KEY_MATERIAL, data.expose()));
                    to.enumeration(CRYPTOGRAPHIC_ALGORITHM, ALGORITHM_AES);
                    to.integer(CRYPTOGRAPHIC_LENGTH, bits);
                });
            });
        });
        self.ask(asked, id_of)
    }

    /// Lets a key be used.
    pub(super) fn activate(&mut self, id: &str) -> Result<(), Fault> {
        self.ask(Asked::new(Operation::Activate, |to| to.text(UNIQUE_IDENTIFIER, id)), done)
    }

    /// Lets a key be used no more: without it, most servers destroy no active key.
    pub(super) fn revoke(&mut self, id: &str) -> Result<(), Fault> {
        let asked = Asked::new(Operation::Revoke, |to| {
            to.text(UNIQUE_IDENTIFIER, id);
            to.structure(REVOCATION_REASON, |to| {
                to.enumeration(REVOCATION_REASON_CODE, REASON_CESSATION);
            });
        });
        self.ask(asked, done)
    }

    /// Destroys a key for ever.
    pub(super) fn destroy(&mut self, id: &str) -> Result<(), Fault> {
        self.ask(Asked::new(Operation::Destroy, |to| to.text(UNIQUE_IDENTIFIER, id)), done)
    }

    /// The ids of the symmetric keys that fit.
    pub(super) fn locate(&mut self, wanted: &Wanted<'_>) -> Result<Vec<String>, Fault> {
        let asked = Asked::new(Operation::Locate, |to| {
            attribute(to, NAMES.object_type, |to| {
                to.enumeration(ATTRIBUTE_VALUE, OBJECT_SYMMETRIC_KEY);
            });
            if let Some(text) = wanted.name {
                name(to, text);
            }
            if let Some(group) = wanted.group {
                text_attribute(to, NAMES.group, group);
            }
        });
        self.ask(asked, |payload| {
            payload.all(UNIQUE_IDENTIFIER).map(|id| id.text().map(str::to_owned)).collect()
        })
    }

    /// What the server tells of a key.
    pub(super) fn attributes(&mut self, id: &str) -> Result<Attributes, Fault> {
        self.ask(describe(id), |payload| Some(Attributes::read(payload)))
    }

    /// The same of many keys; of those that are gone, or are not ours to see, nothing.
    pub(super) fn attributes_of(&mut self, ids: &[String]) -> Result<Vec<Option<Attributes>>> {
        let mut all = Vec::with_capacity(ids.len());
        for some in ids.chunks(BATCH) {
            let asked: Vec<_> = some.iter().map(|id| describe(id)).collect();
            let place = self.place();
            all.extend(self.ask_all(&asked, |n, outcome| match outcome {
                Ok(payload) => Ok(Some(Some(Attributes::read(payload)))),
                Err(refusal) => absent(refusal, &place, &some[n]).map(|()| Some(None)),
            })?);
        }
        Ok(all)
    }

    /// A key itself.
    pub(super) fn get(&mut self, id: &str) -> Result<DataKey, Fault> {
        self.ask(fetch(id), |payload| Some(material(payload)))?.map_err(Fault::Ours)
    }

    /// Many of them; of those that are gone, or are not ours to see, nothing.
    pub(super) fn get_all(&mut self, ids: &[String]) -> Result<Vec<Option<DataKey>>> {
        let mut all = Vec::with_capacity(ids.len());
        for some in ids.chunks(BATCH) {
            let asked: Vec<_> = some.iter().map(|id| fetch(id)).collect();
            let place = self.place();
            all.extend(self.ask_all(&asked, |n, outcome| match outcome {
                Ok(payload) => material(payload).map(|data| Some(Some(data))),
                Err(refusal) => absent(refusal, &place, &some[n]).map(|()| Some(None)),
            })?);
        }
        Ok(all)
    }

    /// Encrypts with a key that stays there; with GCM the tag stands at the end.
    pub(super) fn encrypt(
        &mut self,
        id: &str,
        mode: &Mode<'_>,
        data: &[u8],
    ) -> Result<Vec<u8>, Fault> {
        let asked = Asked::new(Operation::Encrypt, |to| {
            to.text(UNIQUE_IDENTIFIER, id);
            mode.write(to);
            to.bytes(DATA, data);
            mode.write_rest(to);
        });
        self.ask(asked, |payload| {
            let mut all = payload.get(DATA)?.bytes()?.to_vec();
            if let Mode::Gcm { .. } = mode {
                let tag = payload.get(AUTHENTICATION_TAG)?.bytes()?;
                (tag.len() == TAG_LEN).then(|| all.extend_from_slice(tag))?;
            }
            Some(all)
        })
    }

    /// Decrypts what [`encrypt`](Self::encrypt) gave.
    pub(super) fn decrypt(
        &mut self,
        id: &str,
        mode: &Mode<'_>,
        data: &[u8],
    ) -> Result<DataKey, Fault> {
        let (data, tag) = match mode {
            Mode::Gcm { .. } => data.split_at(data.len().saturating_sub(TAG_LEN)),
            Mode::Cbc { .. } => (data, &[][..]),
        };
        let asked = Asked::new(Operation::Decrypt, |to| {
            to.text(UNIQUE_IDENTIFIER, id);
            mode.write(to);
            to.bytes(DATA, data);
            mode.write_rest(to);
            if let Mode::Gcm { .. } = mode {
                to.bytes(AUTHENTICATION_TAG, tag);
            }
        });
        let opened = self.ask(asked, |payload| payload.get(DATA)?.bytes().map(DataKey::copy_of))?;
        opened.map_err(Fault::Ours)
    }
}

impl Mode<'_> {
    fn write(&self, to: &mut Writer) {
        to.structure(CRYPTOGRAPHIC_PARAMETERS, |to| match self {
            Self::Cbc { .. } => {
                to.enumeration(BLOCK_CIPHER_MODE, MODE_CBC);
                to.enumeration(PADDING_METHOD, PADDING_PKCS5);
                to.enumeration(CRYPTOGRAPHIC_ALGORITHM, ALGORITHM_AES);
            }
            Self::Gcm { .. } => {
                to.enumeration(BLOCK_CIPHER_MODE, MODE_GCM);
                to.enumeration(CRYPTOGRAPHIC_ALGORITHM, ALGORITHM_AES);
                to.integer(TAG_LENGTH, 16);
            }
        });
    }

    fn write_rest(&self, to: &mut Writer) {
        match self {
            Self::Cbc { iv } => to.bytes(IV_COUNTER_NONCE, iv),
            Self::Gcm { nonce, aad } => {
                to.bytes(IV_COUNTER_NONCE, nonce);
                to.bytes(ADDITIONAL_DATA, aad);
            }
        }
    }
}

/// The attributes that all keys of ours have.
fn common(to: &mut Writer, key: &NewKey<'_>) {
    attribute(to, NAMES.usage, |to| to.integer(ATTRIBUTE_VALUE, USAGE_ENCRYPT_DECRYPT));
    name(to, key.name);
    text_attribute(to, NAMES.group, key.group);
    if let Some(note) = key.note {
        application(to, note);
    }
}

fn describe(id: &str) -> Asked {
    Asked::new(Operation::GetAttributes, |to| {
        to.text(UNIQUE_IDENTIFIER, id);
        for name in NAMES.all() {
            to.text(ATTRIBUTE_NAME, name);
        }
    })
}

fn fetch(id: &str) -> Asked {
    Asked::new(Operation::Get, |to| to.text(UNIQUE_IDENTIFIER, id))
}

/// Another may destroy a key between our two looks at it.
fn absent(refusal: Refusal, place: &str, id: &str) -> Result<()> {
    let fault = Fault::Refused(refusal);
    match fault.is_not_found() || fault.may_be_the_keys_state() {
        true => Ok(()),
        false => Err(fault.told(place, format_args!("object {id:?}"))),
    }
}

/// The bytes of a symmetric key that came as they are.
fn material(payload: &Item<'_>) -> Result<DataKey> {
    let block = payload.get(SYMMETRIC_KEY).and_then(|key| key.get(KEY_BLOCK));
    let plain = block.filter(|block| block.get(KEY_WRAPPING_DATA).is_none());
    let value = plain.and_then(|block| block.get(KEY_VALUE));
    let bytes = value.and_then(|value| value.get(KEY_MATERIAL)).and_then(Item::bytes);
    DataKey::copy_of(bytes.ok_or_else(|| {
        use crate::error::{Error, Kind};
        Error::new(Kind::Unsupported, "the KMIP server gives no symmetric key in the clear")
            .advise("only raw symmetric keys, not wrapped by another key, can be served")
    })?)
}

fn id_of(payload: &Item<'_>) -> Option<String> {
    payload.get(UNIQUE_IDENTIFIER)?.text().map(str::to_owned)
}

fn done(payload: &Item<'_>) -> Option<()> {
    id_of(payload).map(drop)
}
