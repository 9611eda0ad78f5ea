//! What a server tells of an object, and how it is told what an object is (OASIS KMIP 1.4, section 3).

use super::tags::{
    ALGORITHM_AES, APPLICATION_DATA, APPLICATION_NAMESPACE, ATTRIBUTE, ATTRIBUTE_NAME,
    ATTRIBUTE_VALUE, NAME_TYPE, NAME_UNINTERPRETED, NAME_VALUE, OBJECT_SYMMETRIC_KEY,
    USAGE_ENCRYPT_DECRYPT,
};
use super::ttlv::{Item, Tag, Writer};
use crate::env::Timestamp;

/// Our name space among the notes that applications leave with an object.
const NAMESPACE: &str = "keyward";

/// The attributes that keyward knows, by the names of KMIP 1.x.
pub(super) struct Names {
    pub(super) name: &'static str,
    pub(super) object_type: &'static str,
    pub(super) algorithm: &'static str,
    pub(super) length: &'static str,
    pub(super) usage: &'static str,
    pub(super) state: &'static str,
    pub(super) created: &'static str,
    pub(super) group: &'static str,
    pub(super) application: &'static str,
    pub(super) sensitive: &'static str,
    pub(super) extractable: &'static str,
}

pub(super) const NAMES: Names = Names {
    name: "Name",
    object_type: "Object Type",
    algorithm: "Cryptographic Algorithm",
    length: "Cryptographic Length",
    usage: "Cryptographic Usage Mask",
    state: "State",
    created: "Initial Date",
    group: "Object Group",
    application: "Application Specific Information",
    sensitive: "Sensitive",
    extractable: "Extractable",
};

impl Names {
    /// Those that are asked for. A server leaves out what it does not know.
    pub(super) fn all(&self) -> [&'static str; 10] {
        let Self { name, object_type, algorithm, usage, state, created, application, .. } = *self;
        let [group, sensitive, extractable] = [self.group, self.sensitive, self.extractable];
        let first = [name, object_type, algorithm, usage, state, created];
        let [a, b, c, d, e, f] = first;
        [a, b, c, d, e, f, application, group, sensitive, extractable]
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
    pub(super) fn read(payload: &Item<'_>) -> Self {
        let mut told = Self { is_aes: true, may_wrap: true, ..Self::default() };
        for attribute in payload.all(ATTRIBUTE) {
            let name = attribute.get(ATTRIBUTE_NAME).and_then(Item::text);
            if let (Some(name), Some(value)) = (name, attribute.get(ATTRIBUTE_VALUE)) {
                told.add(name, value);
            }
        }
        told
    }

    fn add(&mut self, name: &str, value: &Item<'_>) {
        let text = |tag: Tag| value.get(tag).and_then(Item::text);
        if name == NAMES.name {
            self.names.extend(text(NAME_VALUE).map(str::to_owned));
        } else if name == NAMES.object_type {
            self.is_aes &= value.enumeration() == Some(OBJECT_SYMMETRIC_KEY);
        } else if name == NAMES.algorithm {
            self.is_aes &= value.enumeration() == Some(ALGORITHM_AES);
        } else if name == NAMES.usage {
            let has = |mask: i32| mask & USAGE_ENCRYPT_DECRYPT == USAGE_ENCRYPT_DECRYPT;
            self.may_wrap = value.integer().is_some_and(has);
        } else if name == NAMES.state {
            self.state = value.enumeration().and_then(State::of);
        } else if name == NAMES.created {
            let seconds = value.seconds().and_then(|seconds| u64::try_from(seconds).ok());
            self.created = seconds.map(Timestamp::from_unix);
        } else if name == NAMES.application && text(APPLICATION_NAMESPACE) == Some(NAMESPACE) {
            self.note = text(APPLICATION_DATA).map(str::to_owned);
        } else if name == NAMES.sensitive {
            self.sensitive = value.boolean() == Some(true);
        } else if name == NAMES.extractable {
            self.extractable = value.boolean();
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

/// Writes an attribute with the value that `value` writes.
pub(super) fn attribute(to: &mut Writer, name: &str, value: impl FnOnce(&mut Writer)) {
    to.structure(ATTRIBUTE, |to| {
        to.text(ATTRIBUTE_NAME, name);
        value(to);
    });
}

pub(super) fn text_attribute(to: &mut Writer, name: &str, text: &str) {
    attribute(to, name, |to| to.text(ATTRIBUTE_VALUE, text));
}

pub(super) fn name(to: &mut Writer, text: &str) {
    attribute(to, NAMES.name, |to| {
        to.structure(ATTRIBUTE_VALUE, |to| {
            to.text(NAME_VALUE, text);
            to.enumeration(NAME_TYPE, NAME_UNINTERPRETED);
        });
    });
}

/// Writes a note in our own name space.
pub(super) fn application(to: &mut Writer, note: &str) {
    attribute(to, NAMES.application, |to| {
        to.structure(ATTRIBUTE_VALUE, |to| {
            to.text(APPLICATION_NAMESPACE, NAMESPACE);
            to.text(APPLICATION_DATA, note);
        });
    });
}
