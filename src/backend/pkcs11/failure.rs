//! What a module's return codes mean for the operator (PKCS#11 3.1, section 5.1).

#![forbid(unsafe_code)]

use std::fmt;

use cryptoki::context::Function;
use cryptoki::error::{Error as Call, RvError};

use crate::error::{Error, Kind};

/// Why work at a token ended.
#[derive(Debug)]
pub(super) enum TokenError {
    /// The module refused a call.
    Call(Call),
    /// We refused to go on.
    Ours(Error),
    /// The token, or the key on it, is not where it was: worth a second look.
    Lost(Error),
}

impl From<Call> for TokenError {
    fn from(call: Call) -> Self {
        Self::Call(call)
    }
}

impl From<Error> for TokenError {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl TokenError {
    /// Whether a new session, on a token that was looked for again, may help.
    pub(super) fn is_loss(&self) -> bool {
        match self {
            Self::Call(Call::Pkcs11(code, _)) => is_loss(*code),
            Self::Call(_) | Self::Ours(_) => false,
            Self::Lost(_) => true,
        }
    }

    /// As our own error, in which `place` names token and module.
    pub(super) fn told(self, place: impl fmt::Display) -> Error {
        match self {
            Self::Call(call) => of_call(&call, place),
            Self::Ours(error) | Self::Lost(error) => error,
        }
    }
}

fn is_loss(code: RvError) -> bool {
    use RvError as R;
    matches!(
        code,
        R::CryptokiNotInitialized
            | R::DeviceError
            | R::DeviceMemory
            | R::DeviceRemoved
            | R::FunctionCanceled
            | R::FunctionFailed
            | R::GeneralError
            | R::HostMemory
            | R::KeyHandleInvalid
            | R::ObjectHandleInvalid
            | R::OperationActive
            | R::SessionClosed
            | R::SessionCount
            | R::SessionHandleInvalid
            | R::SlotIdInvalid
            | R::TokenNotPresent
            | R::TokenNotRecognized
            | R::UnwrappingKeyHandleInvalid
            | R::UserNotLoggedIn
            | R::WrappingKeyHandleInvalid
    )
}

/// The right key, and something else than it made.
pub(super) fn changed(what: &str) -> Error {
    Error::new(Kind::Corrupt, what)
        .advise("the right wrapping key, a changed keystore: restore that from a backup")
}

/// Whether `call` says that what we asked to be opened is not what the key made. Some modules have
/// no word of their own for it: [`may_mean_changed`].
pub(super) fn means_changed(call: &Call) -> bool {
    use RvError as R;
    let Call::Pkcs11(code, _) = call else { return false };
    matches!(
        code,
        R::DataInvalid
            | R::DataLenRange
            | R::EncryptedDataInvalid
            | R::EncryptedDataLenRange
            | R::SignatureInvalid
            | R::WrappedKeyInvalid
            | R::WrappedKeyLenRange
    )
}

/// Whether `call`, which was given what is to be opened, may say so, or something else: then a trial
/// with the same key tells.
pub(super) fn may_mean_changed(call: &Call) -> bool {
    use RvError as R;
    let Call::Pkcs11(code, Function::Decrypt | Function::UnwrapKey) = call else { return false };
    matches!(
        code,
        R::ArgumentsBad
            | R::AttributeValueInvalid
            | R::DeviceError
            | R::FunctionFailed
            | R::GeneralError
            | R::KeySizeRange
            | R::TemplateInconsistent
            | R::UnknownErrorCode(_)
            | R::VendorDefined(_)
    )
}

/// Whether `call` says that token or key cannot do this: another mechanism may.
pub(super) fn means_cannot(call: &Call) -> bool {
    use RvError as R;
    match call {
        Call::Pkcs11(code, _) => matches!(
            code,
            R::ArgumentsBad
                | R::ActionProhibited
                | R::AttributeReadOnly
                | R::AttributeSensitive
                | R::AttributeTypeInvalid
                | R::AttributeValueInvalid
                | R::DataLenRange
                | R::FunctionNotSupported
                | R::FunctionRejected
                | R::KeyFunctionNotPermitted
                | R::KeyNotWrappable
                | R::KeySizeRange
                | R::KeyTypeInconsistent
                | R::KeyUnextractable
                | R::MechanismInvalid
                | R::MechanismParamInvalid
                | R::TemplateIncomplete
                | R::TemplateInconsistent
                | R::UnwrappingKeyTypeInconsistent
                | R::WrappingKeySizeRange
                | R::WrappingKeyTypeInconsistent
        ),
        Call::NullFunctionPointer | Call::NotSupported => true,
        _ => false,
    }
}

/// The error that a call at `place` was refused: function, code, what it means.
pub(super) fn of_call(call: &Call, place: impl fmt::Display) -> Error {
    let Call::Pkcs11(code, function) = call else {
        let what = format!("{place}: {}", of_library(call));
        return Error::new(Kind::Unsupported, what)
            .advise("is it a PKCS#11 module, for this machine?");
    };
    let (kind, advice) = meaning(*code);
    // The crate shows the function's name only this way.
    let what = format!("{place}: C_{function:?} said {}", name(*code));
    Error::new(kind, what).advise(advice)
}

fn of_library(call: &Call) -> &'static str {
    match call {
        Call::MissingSymbol(_) => "the module has no C_GetFunctionList",
        Call::NullFunctionPointer => "the module lacks a function that is needed",
        Call::LibraryLoading(_) => "the module cannot be loaded",
        _ => "the module answers in a way that cannot be read",
    }
}

/// The code as the standard spells it: `CKR_PIN_INCORRECT`.
pub(super) fn name(code: RvError) -> String {
    let (RvError::VendorDefined(number) | RvError::UnknownErrorCode(number)) = code else {
        let mut name = "CKR".to_owned();
        // The variants are the standard's names in camel case.
        for letter in format!("{code:?}").chars() {
            if letter.is_ascii_uppercase() {
                name.push('_');
            }
            name.push(letter.to_ascii_uppercase());
        }
        return name;
    };
    format!("code {number:#010x}, which is the vendor's own")
}

/// Whose fault a code is, and what to do about it.
fn meaning(code: RvError) -> (Kind, &'static str) {
    use RvError as R;
    match code {
        R::PinIncorrect | R::PinInvalid | R::PinLenRange => (
            Kind::Denied,
            "the PIN is wrong; correct it where it is read from before it is tried again",
        ),
        R::PinLocked => (
            Kind::Denied,
            "too many wrong PINs have locked the token: its security officer must set a new one",
        ),
        R::PinExpired | R::NewPinMode | R::PinTooWeak => {
            (Kind::Denied, "set a new PIN with the token's own tool, then give it to keyward")
        }
        R::UserPinNotInitialized => {
            (Kind::Config, "the token has no user PIN yet: its security officer must set one")
        }
        R::UserNotLoggedIn => {
            (Kind::Denied, "the token wants a log-in; give the PIN by `pin_file`")
        }
        R::UserAnotherAlreadyLoggedIn | R::UserTooManyTypes | R::SessionReadWriteSoExists => {
            (Kind::Denied, "somebody else is logged in to the token from this process")
        }
        R::TokenNotPresent | R::TokenNotRecognized | R::DeviceRemoved | R::SlotIdInvalid => {
            (Kind::Unavailable, "put the token back, or look at the HSM's network client")
        }
        R::DeviceError | R::DeviceMemory | R::FipsSelfTestFailed => {
            (Kind::Unavailable, "the HSM is in trouble: see its own log")
        }
        R::GeneralError | R::FunctionFailed | R::FunctionCanceled | R::Cancel => (
            Kind::Unavailable,
            "the module gives no reason: see its own log, and its configuration",
        ),
        R::HostMemory => (Kind::Unavailable, "free memory on this machine"),
        R::SessionCount => (
            Kind::Unavailable,
            "the token has no session left: close those of other programs, or raise its limit",
        ),
        R::SessionClosed | R::SessionHandleInvalid | R::CryptokiNotInitialized => {
            (Kind::Unavailable, "the connection to the token was lost; it is made again")
        }
        R::OperationActive | R::KeyHandleInvalid | R::ObjectHandleInvalid => {
            (Kind::Unavailable, "the token lost what was begun; try again")
        }
        R::TokenWriteProtected | R::SessionReadOnly | R::ActionProhibited => {
            (Kind::Denied, "the token cannot be written; make the key with its own tool")
        }
        R::FunctionRejected => (Kind::Denied, "the token's policy forbids it"),
        R::KeyFunctionNotPermitted => (
            Kind::Config,
            "the key may not be used for this: it needs CKA_ENCRYPT and CKA_DECRYPT, or CKA_WRAP \
             and CKA_UNWRAP",
        ),
        R::KeyTypeInconsistent
        | R::KeySizeRange
        | R::WrappingKeyTypeInconsistent
        | R::WrappingKeySizeRange
        | R::UnwrappingKeyTypeInconsistent
        | R::UnwrappingKeySizeRange => {
            (Kind::Config, "the key is of another kind: use AES with 256 bits, or RSA")
        }
        R::MechanismInvalid | R::MechanismParamInvalid | R::FunctionNotSupported => {
            (Kind::Unsupported, "the token cannot do it; leave `mechanism` out, or use another key")
        }
        R::CantLock | R::NeedToCreateThreads => {
            (Kind::Unsupported, "the module cannot be used by several threads")
        }
        R::EncryptedDataInvalid
        | R::EncryptedDataLenRange
        | R::WrappedKeyInvalid
        | R::WrappedKeyLenRange
        | R::DataInvalid
        | R::DataLenRange => (
            Kind::Corrupt,
            "the right wrapping key, a changed keystore: restore that from a backup",
        ),
        R::AttributeSensitive | R::KeyUnextractable | R::InformationSensitive => {
            (Kind::Unsupported, "the token gives out no key, not even one that it unwrapped")
        }
        R::AttributeReadOnly
        | R::AttributeTypeInvalid
        | R::AttributeValueInvalid
        | R::TemplateIncomplete
        | R::TemplateInconsistent => {
            (Kind::Unsupported, "the token makes no such key; make it with the token's own tool")
        }
        _ => (Kind::Unavailable, "see the module's own documentation and log"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every code that an operator may meet, with the kind that scripts and the custodian go by.
    const CODES: &[(RvError, &str, Kind)] = &[
        (RvError::PinIncorrect, "CKR_PIN_INCORRECT", Kind::Denied),
        (RvError::PinInvalid, "CKR_PIN_INVALID", Kind::Denied),
        (RvError::PinLenRange, "CKR_PIN_LEN_RANGE", Kind::Denied),
        (RvError::PinLocked, "CKR_PIN_LOCKED", Kind::Denied),
        (RvError::PinExpired, "CKR_PIN_EXPIRED", Kind::Denied),
        (RvError::UserPinNotInitialized, "CKR_USER_PIN_NOT_INITIALIZED", Kind::Config),
        (RvError::UserNotLoggedIn, "CKR_USER_NOT_LOGGED_IN", Kind::Denied),
        (RvError::UserAnotherAlreadyLoggedIn, "CKR_USER_ANOTHER_ALREADY_LOGGED_IN", Kind::Denied),
        (RvError::TokenNotPresent, "CKR_TOKEN_NOT_PRESENT", Kind::Unavailable),
        (RvError::TokenNotRecognized, "CKR_TOKEN_NOT_RECOGNIZED", Kind::Unavailable),
        (RvError::TokenWriteProtected, "CKR_TOKEN_WRITE_PROTECTED", Kind::Denied),
        (RvError::DeviceRemoved, "CKR_DEVICE_REMOVED", Kind::Unavailable),
        (RvError::DeviceError, "CKR_DEVICE_ERROR", Kind::Unavailable),
        (RvError::DeviceMemory, "CKR_DEVICE_MEMORY", Kind::Unavailable),
        (RvError::SlotIdInvalid, "CKR_SLOT_ID_INVALID", Kind::Unavailable),
        (RvError::GeneralError, "CKR_GENERAL_ERROR", Kind::Unavailable),
        (RvError::FunctionFailed, "CKR_FUNCTION_FAILED", Kind::Unavailable),
        (RvError::HostMemory, "CKR_HOST_MEMORY", Kind::Unavailable),
        (RvError::SessionCount, "CKR_SESSION_COUNT", Kind::Unavailable),
        (RvError::SessionClosed, "CKR_SESSION_CLOSED", Kind::Unavailable),
        (RvError::SessionHandleInvalid, "CKR_SESSION_HANDLE_INVALID", Kind::Unavailable),
        (RvError::SessionReadOnly, "CKR_SESSION_READ_ONLY", Kind::Denied),
        (RvError::CryptokiNotInitialized, "CKR_CRYPTOKI_NOT_INITIALIZED", Kind::Unavailable),
        (RvError::KeyHandleInvalid, "CKR_KEY_HANDLE_INVALID", Kind::Unavailable),
        (RvError::KeyFunctionNotPermitted, "CKR_KEY_FUNCTION_NOT_PERMITTED", Kind::Config),
        (RvError::KeyTypeInconsistent, "CKR_KEY_TYPE_INCONSISTENT", Kind::Config),
        (RvError::KeySizeRange, "CKR_KEY_SIZE_RANGE", Kind::Config),
        (RvError::KeyUnextractable, "CKR_KEY_UNEXTRACTABLE", Kind::Unsupported),
        (RvError::MechanismInvalid, "CKR_MECHANISM_INVALID", Kind::Unsupported),
        (RvError::MechanismParamInvalid, "CKR_MECHANISM_PARAM_INVALID", Kind::Unsupported),
        (RvError::FunctionNotSupported, "CKR_FUNCTION_NOT_SUPPORTED", Kind::Unsupported),
        (RvError::FunctionRejected, "CKR_FUNCTION_REJECTED", Kind::Denied),
        (RvError::CantLock, "CKR_CANT_LOCK", Kind::Unsupported),
        (RvError::EncryptedDataInvalid, "CKR_ENCRYPTED_DATA_INVALID", Kind::Corrupt),
        (RvError::WrappedKeyInvalid, "CKR_WRAPPED_KEY_INVALID", Kind::Corrupt),
        (RvError::TemplateInconsistent, "CKR_TEMPLATE_INCONSISTENT", Kind::Unsupported),
        (RvError::FipsSelfTestFailed, "CKR_FIPS_SELF_TEST_FAILED", Kind::Unavailable),
        (RvError::SessionReadWriteSoExists, "CKR_SESSION_READ_WRITE_SO_EXISTS", Kind::Denied),
    ];

    #[test]
    fn a_code_is_named_as_the_standard_spells_it_with_what_to_do() {
        for (code, name, kind) in CODES {
            let call = Call::Pkcs11(*code, Function::DecryptInit);
            let error = of_call(&call, "token \"t\"");
            assert_eq!(error.what(), format!("token \"t\": C_DecryptInit said {name}"));
            assert_eq!(error.kind(), *kind, "{name}");
            assert!(error.advice().is_some_and(|advice| advice.len() > 20), "{name}");
        }
        let vendor =
            of_call(&Call::Pkcs11(RvError::VendorDefined(0x8000_0042), Function::Login), "t");
        assert_eq!(vendor.what(), "t: C_Login said code 0x80000042, which is the vendor's own");
    }

    #[test]
    fn a_lost_token_is_told_from_a_wrong_pin_and_a_changed_blob() {
        for (code, _, kind) in CODES {
            let fault = TokenError::Call(Call::Pkcs11(*code, Function::Decrypt));
            let transient = *kind == Kind::Unavailable;
            let helped_by_a_session = transient || matches!(code, RvError::UserNotLoggedIn);
            if fault.is_loss() {
                assert!(helped_by_a_session, "{code:?} is no loss");
            }
            assert!(!(*kind == Kind::Denied && code_of_pin(*code) && fault.is_loss()), "{code:?}");
        }
    }

    fn code_of_pin(code: RvError) -> bool {
        matches!(code, RvError::PinIncorrect | RvError::PinLocked | RvError::PinExpired)
    }
}
