//! What a server tells of an object, and how it is told what an object is (OASIS KMIP 1.4, section 3;
//! KMIP 2.1, section 4).
//!
//! KMIP 1 calls an attribute by a name in text and has its value beside that; KMIP 2 has the value alone,
//! under the attribute's own tag. Which of them is written is known here and nowhere else; both are read.

#![forbid(unsafe_code)]

use super::message::Version;
use super::tags::{
    ALGORITHM_AES, APPLICATION_DATA, APPLICATION_NAMESPACE, APPLICATION_SPECIFIC_INFORMATION,
    ATTRIBUTE, ATTRIBUTE_NAME, ATTRIBUTE_REFERENCE, ATTRIBUTE_VALUE, ATTRIBUTES,
    CRYPTOGRAPHIC_ALGORITHM, CRYPTOGRAPHIC_LENGTH, CRYPTOGRAPHIC_USAGE_MASK, EXTRACTABLE,
    INITIAL_DATE, NAME, NAME_TYPE, NAME_UNINTERPRETED, NAME_VALUE, OBJECT_GROUP,
    OBJECT_SYMMETRIC_KEY, OBJECT_TYPE, SENSITIVE, STATE, TEMPLATE_ATTRIBUTE, USAGE_ENCRYPT_DECRYPT,
};
use super::ttlv::{Item, Tag, Writer};
use crate::env::Timestamp;

/// Our name space among the notes that applications leave with an object.
const NAMESPACE: &str = "keyward";

/// The attributes that keyward knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Name,
    ObjectType,
    Algorithm,
    Length,
    Usage,
    State,
    Created,
    Application,
    Group,
    Sensitive,
    Extractable,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Name,
        Self::ObjectType,
        Self::Algorithm,
        Self::Length,
        Self::Usage,
        Self::State,
        Self::Created,
        Self::Application,
        Self::Group,
        Self::Sensitive,
        Self::Extractable,
    ];

    /// Its tag, and its name in KMIP 1.
    const fn spelt(self) -> (Tag, &'static str) {
        match self {
            Self::Name => (NAME, "Name"),
            Self::ObjectType => (OBJECT_TYPE, "Object Type"),
            Self::Algorithm => (CRYPTOGRAPHIC_ALGORITHM, "Cryptographic Algorithm"),
            Self::Length => (CRYPTOGRAPHIC_LENGTH, "Cryptographic Length"),
            Self::Usage => (CRYPTOGRAPHIC_USAGE_MASK, "Cryptographic Usage Mask"),
            Self::State => (STATE, "State"),
            Self::Created => (INITIAL_DATE, "Initial Date"),
            Self::Application => {
                (APPLICATION_SPECIFIC_INFORMATION, "Application Specific Information")
            }
            Self::Group => (OBJECT_GROUP, "Object Group"),
            Self::Sensitive => (SENSITIVE, "Sensitive"),
            Self::Extractable => (EXTRACTABLE, "Extractable"),
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.spelt().1 == name)
    }

    fn tagged(tag: Tag) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.spelt().0 == tag)
    }
}

/// What a key is to be, or is to be found by.
pub(super) enum Attribute<'a> {
    SymmetricKey,
    Aes,
    /// Its length in bits.
    Length(i32),
    EncryptsAndDecrypts,
    Name(&'a str),
    Group(&'a str),
    /// In our own name space.
    Note(&'a str),
    /// Never given out.
    Sensitive,
}

impl Attribute<'_> {
    const fn kind(&self) -> Kind {
        match self {
            Self::SymmetricKey => Kind::ObjectType,
            Self::Aes => Kind::Algorithm,
            Self::Length(_) => Kind::Length,
            Self::EncryptsAndDecrypts => Kind::Usage,
            Self::Name(_) => Kind::Name,
            Self::Group(_) => Kind::Group,
            Self::Note(_) => Kind::Application,
            Self::Sensitive => Kind::Sensitive,
        }
    }

    fn write(&self, to: &mut Writer, version: Version) {
        let (tag, name) = self.kind().spelt();
        if are_tagged(version) {
            return self.write_value(to, tag);
        }
        to.structure(ATTRIBUTE, |to| {
            to.text(ATTRIBUTE_NAME, name);
            self.write_value(to, ATTRIBUTE_VALUE);
        });
    }

    fn write_value(&self, to: &mut Writer, tag: Tag) {
        match self {
            Self::SymmetricKey => to.enumeration(tag, OBJECT_SYMMETRIC_KEY),
            Self::Aes => to.enumeration(tag, ALGORITHM_AES),
            Self::Length(bits) => to.integer(tag, *bits),
            Self::EncryptsAndDecrypts => to.integer(tag, USAGE_ENCRYPT_DECRYPT),
            Self::Name(text) => to.structure(tag, |to| {
                to.text(NAME_VALUE, text);
                to.enumeration(NAME_TYPE, NAME_UNINTERPRETED);
            }),
            Self::Group(text) => to.text(tag, text),
            Self::Note(text) => to.structure(tag, |to| {
                to.text(APPLICATION_NAMESPACE, NAMESPACE);
                to.text(APPLICATION_DATA, text);
            }),
            Self::Sensitive => to.boolean(tag, true),
        }
    }
}

/// Whether attributes go by their tags in this release.
fn are_tagged(version: Version) -> bool {
    version.major >= 2
}

/// Writes what a new object is to be.
pub(super) fn write_new(to: &mut Writer, version: Version, all: &[Attribute<'_>]) {
    let tag = if are_tagged(version) { ATTRIBUTES } else { TEMPLATE_ATTRIBUTE };
    to.structure(tag, |to| all.iter().for_each(|attribute| attribute.write(to, version)));
}

/// Writes what objects are to be found by.
pub(super) fn write_wanted(to: &mut Writer, version: Version, all: &[Attribute<'_>]) {
    match are_tagged(version) {
        true => write_new(to, version, all),
        false => all.iter().for_each(|attribute| attribute.write(to, version)),
    }
}

/// Writes which attributes are asked for. A server leaves out what it does not know.
pub(super) fn write_asked(to: &mut Writer, version: Version) {
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Length) {
        let (tag, name) = kind.spelt();
        match are_tagged(version) {
            true => to.enumeration(ATTRIBUTE_REFERENCE, tag.0),
            false => to.text(ATTRIBUTE_NAME, name),
        }
    }
}

/// Where an object stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Made, and not to be used before somebody activates it.
    PreActive,
    Active,
    /// Decrypts, never encrypts.
    Deactivated,
    Compromised,
    /// Its material is gone.
    Destroyed,
}

impl State {
    fn of(code: u32) -> Option<Self> {
        Some(match code {
            1 => Self::PreActive,
            2 => Self::Active,
            3 => Self::Deactivated,
            4 => Self::Compromised,
            5 | 6 => Self::Destroyed,
            _ => return None,
        })
    }

    /// As the protocol's text has it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::PreActive => "Pre-Active",
            Self::Active => "Active",
            Self::Deactivated => "Deactivated",
            Self::Compromised => "Compromised",
            Self::Destroyed => "Destroyed",
        }
    }
}

/// What a server tells of an object.
#[derive(Default)]
pub(super) struct Attributes {
    pub(super) names: Vec<String>,
    pub(super) state: Option<State>,
    pub(super) created: Option<Timestamp>,
    /// What our own name space has noted with it.
    pub(super) note: Option<String>,
    is_aes: bool,
    may_wrap: bool,
    sensitive: bool,
    extractable: Option<bool>,
}

impl Attributes {
    /// Those that stand in `payload`, as either KMIP writes them.
    pub(super) fn read(payload: &Item<'_>) -> Self {
        let mut told = Self { is_aes: true, may_wrap: true, ..Self::default() };
        for attribute in payload.all(ATTRIBUTE) {
            let name = attribute.get(ATTRIBUTE_NAME).and_then(Item::text);
            let kind = name.and_then(Kind::named);
            if let (Some(kind), Some(value)) = (kind, attribute.get(ATTRIBUTE_VALUE)) {
                told.add(kind, value);
            }
        }
        for value in payload.all(ATTRIBUTES).flat_map(Item::items) {
            if let Some(kind) = Kind::tagged(value.tag) {
                told.add(kind, value);
            }
        }
        told
    }

    fn add(&mut self, kind: Kind, value: &Item<'_>) {
        let text = |tag: Tag| value.get(tag).and_then(Item::text);
        match kind {
            Kind::Name => self.names.extend(text(NAME_VALUE).map(str::to_owned)),
            Kind::ObjectType => self.is_aes &= value.enumeration() == Some(OBJECT_SYMMETRIC_KEY),
            Kind::Algorithm => self.is_aes &= value.enumeration() == Some(ALGORITHM_AES),
            Kind::Usage => {
                let has = |mask: i32| mask & USAGE_ENCRYPT_DECRYPT == USAGE_ENCRYPT_DECRYPT;
                self.may_wrap = value.integer().is_some_and(has);
            }
            Kind::State => self.state = value.enumeration().and_then(State::of),
            Kind::Created => {
                let seconds = value.seconds().and_then(|seconds| u64::try_from(seconds).ok());
                self.created = seconds.map(Timestamp::from_unix);
            }
            Kind::Application => {
                if text(APPLICATION_NAMESPACE) == Some(NAMESPACE) {
                    self.note = text(APPLICATION_DATA).map(str::to_owned);
                }
            }
            Kind::Sensitive => self.sensitive = value.boolean() == Some(true),
            Kind::Extractable => self.extractable = value.boolean(),
            // What they say is known already, or decides nothing.
            Kind::Group | Kind::Length => {}
        }
    }

    /// Whether it is an AES key, as far as the server tells.
    pub(super) const fn is_aes(&self) -> bool {
        self.is_aes
    }

    /// Whether it may encrypt and decrypt, as far as the server tells.
    pub(super) const fn may_wrap(&self) -> bool {
        self.may_wrap
    }

    /// Whether anybody with the right to it is given the key itself.
    pub(super) fn is_exportable(&self) -> bool {
        !self.sensitive && self.extractable != Some(false)
    }
}

#[cfg(test)]
mod tests;
