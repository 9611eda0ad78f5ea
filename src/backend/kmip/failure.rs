//! What a server's refusals mean for the operator (OASIS KMIP 1.4, section 11.2 and table "Result
//! Reason Enumeration"). Its own words are never shown: they can hold what was sent.

#![forbid(unsafe_code)]

use std::fmt;

use super::message::Operation;
use crate::error::{Error, Kind};

/// Result reasons that are told apart.
pub(super) const ITEM_NOT_FOUND: u32 = 0x01;
const RESPONSE_TOO_LARGE: u32 = 0x02;
const AUTHENTICATION_NOT_SUCCESSFUL: u32 = 0x03;
pub(super) const INVALID_MESSAGE: u32 = 0x04;
pub(super) const OPERATION_NOT_SUPPORTED: u32 = 0x05;
const MISSING_DATA: u32 = 0x06;
const INVALID_FIELD: u32 = 0x07;
const FEATURE_NOT_SUPPORTED: u32 = 0x08;
const CRYPTOGRAPHIC_FAILURE: u32 = 0x0A;
const ILLEGAL_OPERATION: u32 = 0x0B;
const PERMISSION_DENIED: u32 = 0x0C;
const OBJECT_ARCHIVED: u32 = 0x0D;
const NAMESPACE_NOT_SUPPORTED: u32 = 0x0F;
const SENSITIVE: u32 = 0x16;
const NOT_EXTRACTABLE: u32 = 0x17;
const OBJECT_ALREADY_EXISTS: u32 = 0x18;
const NON_UNIQUE_NAME: u32 = 0x35;
const OBJECT_DESTROYED: u32 = 0x36;
const OBJECT_NOT_FOUND: u32 = 0x37;
const WRONG_STATE: u32 = 0x43;
const GENERAL_FAILURE: u32 = 0x100;

/// What later releases say instead of an invalid field: invalid data type, unsupported attribute, bad
/// cryptographic parameters, invalid attribute and its value, unknown enumeration and tag, unsupported
/// cryptographic parameters.
const LATER_UNSUPPORTED: [u32; 8] = [0x1C, 0x1F, 0x24, 0x2C, 0x2D, 0x3B, 0x3D, 0x3E];
/// And instead of a denied permission: not authorised.
const NOT_AUTHORISED: u32 = 0x39;

/// Why something was not done.
#[derive(Debug)]
pub(super) enum CallError {
    /// The server refused it.
    Refused(ServerError),
    /// It never came to that, or we refused to go on.
    Ours(Error),
}

/// What the server refused, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServerError {
    pub(super) operation: Operation,
    pub(super) reason: u32,
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl CallError {
    /// As our own error: `place` names the server, `on` the object.
    pub(super) fn told(self, place: impl fmt::Display, on: impl fmt::Display) -> Error {
        match self {
            Self::Refused(refusal) => refusal.told(place, on),
            Self::Ours(error) => error,
        }
    }

    fn reason(&self) -> Option<u32> {
        match self {
            Self::Refused(refusal) => Some(refusal.reason),
            Self::Ours(_) => None,
        }
    }

    /// Whether there is no such object.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self.reason(), Some(ITEM_NOT_FOUND | OBJECT_NOT_FOUND | OBJECT_DESTROYED))
    }

    /// Whether there is one of that name already.
    pub(super) fn is_taken(&self) -> bool {
        matches!(self.reason(), Some(OBJECT_ALREADY_EXISTS | NON_UNIQUE_NAME))
    }

    /// Whether the server does not know an attribute, a mode or an operation: without it, it might do.
    pub(super) fn is_unsupported(&self) -> bool {
        let known = matches!(
            self.reason(),
            Some(
                INVALID_MESSAGE
                    | OPERATION_NOT_SUPPORTED
                    | MISSING_DATA
                    | INVALID_FIELD
                    | FEATURE_NOT_SUPPORTED
                    | CRYPTOGRAPHIC_FAILURE
                    | NAMESPACE_NOT_SUPPORTED
                    | GENERAL_FAILURE
            )
        );
        known || self.reason().is_some_and(|reason| LATER_UNSUPPORTED.contains(&reason))
    }

    /// Whether it may come of a key's state or of the rights on it.
    pub(super) fn may_be_the_keys_state(&self) -> bool {
        matches!(
            self.reason(),
            Some(PERMISSION_DENIED | NOT_AUTHORISED | ILLEGAL_OPERATION | WRONG_STATE)
        )
    }
}

impl ServerError {
    fn told(self, place: impl fmt::Display, on: impl fmt::Display) -> Error {
        let Self { operation, reason } = self;
        let error = |kind, words: &str, advice: &str| {
            let what = format!("{place} refuses {operation} of {on}: {words}");
            Error::new(kind, what).advise(advice)
        };
        match reason {
            ITEM_NOT_FOUND | OBJECT_NOT_FOUND => error(
                Kind::NotFound,
                "there is no such object",
                "it was destroyed, or belongs to another user: name the right key and certificate",
            ),
            OBJECT_DESTROYED => error(
                Kind::NotFound,
                "it was destroyed",
                "restore it in the KMIP server from that one's backup",
            ),
            RESPONSE_TOO_LARGE => error(
                Kind::Unsupported,
                "the answer would be too large",
                "raise the server's limit, or spread the keys over several prefixes",
            ),
            AUTHENTICATION_NOT_SUCCESSFUL => error(
                Kind::Denied,
                "it does not know whose our client certificate is",
                "register the certificate there; it must be for client authentication",
            ),
            INVALID_MESSAGE => error(
                Kind::Unsupported,
                "it does not understand the message",
                "set `version` to a KMIP release that it speaks: version = \"1.2\"",
            ),
            OPERATION_NOT_SUPPORTED | FEATURE_NOT_SUPPORTED => {
                error(Kind::Unsupported, "it cannot do that", instead_of(operation))
            }
            PERMISSION_DENIED | NOT_AUTHORISED => error(
                Kind::Denied,
                "permission denied",
                "give the owner of our client certificate that right on it",
            ),
            ILLEGAL_OPERATION | WRONG_STATE => error(
                Kind::State,
                "the object's state does not allow it",
                "look at the object's state in the KMIP server; only an active key wraps",
            ),
            OBJECT_ARCHIVED => {
                error(Kind::State, "it is archived", "recover it there from the archive")
            }
            SENSITIVE | NOT_EXTRACTABLE => error(
                Kind::Denied,
                "it is not given out",
                "leave `mechanism` out, so that the key wraps there",
            ),
            OBJECT_ALREADY_EXISTS | NON_UNIQUE_NAME => error(
                Kind::Conflict,
                "there is one of that name already",
                "somebody else has made it: look again",
            ),
            CRYPTOGRAPHIC_FAILURE => error(
                Kind::Unsupported,
                "its cryptography fails",
                "the log of the KMIP server has the reason",
            ),
            MISSING_DATA | INVALID_FIELD | NAMESPACE_NOT_SUPPORTED => error(
                Kind::Unsupported,
                "it does not accept a field or an attribute",
                "the log of the KMIP server has the reason",
            ),
            GENERAL_FAILURE => error(
                Kind::Denied,
                "it gives no reason",
                "the log of the KMIP server has the reason",
            ),
            other => error(
                Kind::Denied,
                &format!("result reason 0x{other:02X}"),
                "the log of the KMIP server has the reason",
            ),
        }
    }
}

/// What to do where a server cannot do `operation`.
fn instead_of(operation: Operation) -> &'static str {
    match operation {
        Operation::Encrypt | Operation::Decrypt => {
            "have the key fetched instead (mechanism = \"get\"), or keep the data keys there \
             (use = \"serve\")"
        }
        _ => "use a KMIP server that can",
    }
}

/// What to do about a wrapping key, in the words of the place where it is named.
#[derive(Debug)]
pub struct KeyAdvice {
    /// Where there is none of that name.
    pub missing: &'static str,
    /// Where it is another one than the keystore was wrapped by.
    pub other: &'static str,
    /// Where there is none of its id, as far as we may see.
    pub gone: &'static str,
    /// Where it is no key for AES.
    pub not_aes: &'static str,
}

/// The words for a `[[provider]]` section.
pub(super) static FOR_SECTIONS: KeyAdvice = KeyAdvice {
    missing: "correct `key`, or use the certificate of the key's owner; for a new keystore have it \
              made: keyward init --create-key",
    other: "it is another key: point `server` and `key` at the right one",
    gone: "it was destroyed there, or belongs to another server or user: point `server` at the right one, \
           or restore that server from a backup; a new key cannot open the keystore:",
    not_aes: "name one that is, or have one made: keyward init --create-key",
};

/// The right key, and something else than it made.
pub(super) fn changed(what: &str) -> Error {
    Error::new(Kind::Corrupt, what)
        .advise("the right wrapping key, a changed keystore: restore that from a backup")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_line_and_advice() {
        let mut lines = std::collections::BTreeSet::new();
        let reasons = [
            (ITEM_NOT_FOUND, Kind::NotFound),
            (OBJECT_DESTROYED, Kind::NotFound),
            (RESPONSE_TOO_LARGE, Kind::Unsupported),
            (AUTHENTICATION_NOT_SUCCESSFUL, Kind::Denied),
            (INVALID_MESSAGE, Kind::Unsupported),
            (OPERATION_NOT_SUPPORTED, Kind::Unsupported),
            (INVALID_FIELD, Kind::Unsupported),
            (CRYPTOGRAPHIC_FAILURE, Kind::Unsupported),
            (ILLEGAL_OPERATION, Kind::State),
            (PERMISSION_DENIED, Kind::Denied),
            (OBJECT_ARCHIVED, Kind::State),
            (NOT_EXTRACTABLE, Kind::Denied),
            (OBJECT_ALREADY_EXISTS, Kind::Conflict),
            (GENERAL_FAILURE, Kind::Denied),
            (0x77, Kind::Denied),
        ];
        for (reason, kind) in reasons {
            let refusal = ServerError { operation: Operation::Encrypt, reason };
            let error = CallError::Refused(refusal).told("KMIP server kms:5696", "key \"kek\"");
            assert_eq!(error.kind(), kind, "{error}");
            let head = "KMIP server kms:5696 refuses Encrypt of key \"kek\": ";
            assert!(error.what().starts_with(head), "{error}");
            assert!(error.advice().is_some_and(|advice| advice.len() > 20), "{error}");
            assert!(lines.insert(error.what().to_owned()), "said twice: {error}");
        }
    }
}
