//! What keyward asks for: each operation's payload (OASIS KMIP 1.4, section 4; KMIP 2.1, section 6).

#![forbid(unsafe_code)]

use super::attributes::{Attribute, write_asked, write_new, write_wanted};
use super::message::{Asked, Operation, Version};
use super::tags::{
    ADDITIONAL_DATA, ALGORITHM_AES, AUTHENTICATION_TAG, BLOCK_CIPHER_MODE, CRYPTOGRAPHIC_ALGORITHM,
    CRYPTOGRAPHIC_LENGTH, CRYPTOGRAPHIC_PARAMETERS, DATA, FORMAT_RAW, IV_COUNTER_NONCE, KEY_BLOCK,
    KEY_FORMAT_TYPE, KEY_MATERIAL, KEY_VALUE, MODE_CBC, MODE_GCM, OBJECT_SYMMETRIC_KEY,
    OBJECT_TYPE, PADDING_METHOD, PADDING_PKCS5, REASON_CESSATION, REASON_COMPROMISE,
    REVOCATION_REASON, REVOCATION_REASON_CODE, SYMMETRIC_KEY, TAG_LENGTH, UNIQUE_IDENTIFIER,
};
use super::ttlv::Writer;
use crate::secret::DataKey;
use crate::secret::aead::TAG_LEN;

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

/// Which releases of ours the server speaks, too.
pub(super) fn discover() -> Asked<'static> {
    Asked::new(Operation::DiscoverVersions, |to, _| {
        Version::ALL.iter().for_each(|version| version.write(to));
    })
}

/// An AES key of 256 bits, made there.
pub(super) fn create<'a>(key: &'a NewKey<'_>, sensitive: bool) -> Asked<'a> {
    Asked::new(Operation::Create, move |to, version| {
        to.enumeration(OBJECT_TYPE, OBJECT_SYMMETRIC_KEY);
        let mut all = vec![Attribute::Aes, Attribute::Length(256)];
        all.extend(common(key));
        all.extend(sensitive.then_some(Attribute::Sensitive));
        write_new(to, version, &all);
    })
}

/// A key of ours, to be kept there.
pub(super) fn register<'a>(key: &'a NewKey<'_>, data: &'a DataKey) -> Asked<'a> {
    let bits = i32::try_from(data.expose().len() * 8).unwrap_or(i32::MAX);
    Asked::new(Operation::Register, move |to, version| {
        to.enumeration(OBJECT_TYPE, OBJECT_SYMMETRIC_KEY);
        write_new(to, version, &common(key));
        to.structure(SYMMETRIC_KEY, |to| {
            to.structure(KEY_BLOCK, |to| {
                to.enumeration(KEY_FORMAT_TYPE, FORMAT_RAW);
                to.structure(KEY_VALUE, |to| to.bytes(KEY_MATERIAL, data.expose()));
                to.enumeration(CRYPTOGRAPHIC_ALGORITHM, ALGORITHM_AES);
                to.integer(CRYPTOGRAPHIC_LENGTH, bits);
            });
        });
    })
}

/// What all keys of ours are.
fn common<'a>(key: &NewKey<'a>) -> Vec<Attribute<'a>> {
    let mut all = vec![Attribute::EncryptsAndDecrypts, Attribute::Name(key.name)];
    all.push(Attribute::Group(key.group));
    all.extend(key.note.map(Attribute::Note));
    all
}

pub(super) fn activate(id: &str) -> Asked<'_> {
    of(Operation::Activate, id)
}

pub(super) fn revoke(id: &str) -> Asked<'_> {
    revoke_for(id, REASON_CESSATION)
}

pub(super) fn compromise(id: &str) -> Asked<'_> {
    revoke_for(id, REASON_COMPROMISE)
}

fn revoke_for(id: &str, reason: u32) -> Asked<'_> {
    Asked::new(Operation::Revoke, move |to, _| {
        to.text(UNIQUE_IDENTIFIER, id);
        to.structure(REVOCATION_REASON, |to| {
            to.enumeration(REVOCATION_REASON_CODE, reason);
        });
    })
}

pub(super) fn destroy(id: &str) -> Asked<'_> {
    of(Operation::Destroy, id)
}

/// The ids of the symmetric keys that fit.
pub(super) fn locate<'a>(wanted: &'a Wanted<'_>) -> Asked<'a> {
    Asked::new(Operation::Locate, move |to, version| {
        let mut all = vec![Attribute::SymmetricKey];
        all.extend(wanted.name.map(Attribute::Name));
        all.extend(wanted.group.map(Attribute::Group));
        write_wanted(to, version, &all);
    })
}

/// What the server knows of a key.
pub(super) fn describe(id: &str) -> Asked<'_> {
    Asked::new(Operation::GetAttributes, move |to, version| {
        to.text(UNIQUE_IDENTIFIER, id);
        write_asked(to, version);
    })
}

pub(super) fn get(id: &str) -> Asked<'_> {
    of(Operation::Get, id)
}

pub(super) fn encrypt<'a>(id: &'a str, mode: &'a Mode<'_>, data: &'a [u8]) -> Asked<'a> {
    Asked::new(Operation::Encrypt, move |to, _| {
        to.text(UNIQUE_IDENTIFIER, id);
        mode.write(to);
        to.bytes(DATA, data);
        mode.write_rest(to);
    })
}

/// What [`encrypt`] gave; with GCM the tag stands at its end.
pub(super) fn decrypt<'a>(id: &'a str, mode: &'a Mode<'_>, data: &'a [u8]) -> Asked<'a> {
    Asked::new(Operation::Decrypt, move |to, _| {
        let (data, tag) = match mode {
            Mode::Gcm { .. } => data.split_at(data.len().saturating_sub(TAG_LEN)),
            Mode::Cbc { .. } => (data, &[][..]),
        };
        to.text(UNIQUE_IDENTIFIER, id);
        mode.write(to);
        to.bytes(DATA, data);
        mode.write_rest(to);
        if let Mode::Gcm { .. } = mode {
            to.bytes(AUTHENTICATION_TAG, tag);
        }
    })
}

/// What needs nothing but the object's id.
fn of(operation: Operation, id: &str) -> Asked<'_> {
    Asked::new(operation, move |to, _| to.text(UNIQUE_IDENTIFIER, id))
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

#[cfg(test)]
mod tests;
