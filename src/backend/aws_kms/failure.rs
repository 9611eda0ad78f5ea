//! What went wrong, in words for an operator: told by the name that AWS gives the error, whatever its
//! status. Nothing of an answer's text is shown.

#![forbid(unsafe_code)]

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};

use super::super::http::{TlsAdvice, told};
use crate::error::{Error, Kind};

/// What was being done.
pub(super) struct CallContext<'a> {
    /// What a policy must allow: `kms:Decrypt`.
    pub(super) action: &'a str,
    /// Which key it was to be done with, as the configuration names it.
    pub(super) key: &'a str,
    /// Where.
    pub(super) place: &'a str,
}

/// What `error` means in this `context`.
pub(super) fn failed<E>(context: &CallContext<'_>, error: &SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let place = context.place;
    let away =
        |words: &str| Error::new(Kind::Unavailable, format!("cannot reach {place}: {words}"));
    match error {
        SdkError::ServiceError(answer) => {
            let meta = answer.err().meta();
            let status = answer.raw().status().as_u16();
            refused(
                context,
                meta.code().unwrap_or_default(),
                meta.message().unwrap_or_default(),
                status,
            )
        }
        SdkError::ResponseError(answer) => senseless(place, answer.raw().status().as_u16()),
        SdkError::TimeoutError(_) => away("no connection in time"),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => away("no connection in time"),
        other => told(place, other, &FOR_AWS).unwrap_or_else(|| match other {
            SdkError::DispatchFailure(failure) if failure.is_io() => away("no connection")
                .advise("is the region's name right, and the proxy, where HTTPS_PROXY names one?"),
            SdkError::DispatchFailure(failure) if !failure.is_user() => {
                away("the connection broke off")
            }
            _ => Error::new(Kind::Config, format!("no request to {place} can be made"))
                .advise("look at `region`, `endpoint`, `fips` and the AWS profile"),
        }),
    }
}

/// The SDK trusts the system's authorities, shows no certificate of ours, and has the name in the address.
static FOR_AWS: TlsAdvice = TlsAdvice {
    authority: "add that authority to the system's own, or name its file as SSL_CERT_FILE in the environment",
    no_authority: "install the system's authorities",
    name: "use the name in the certificate, as `endpoint`",
    client: "use an `endpoint` that wants none",
    client_key: "use an `endpoint` that wants none",
    certified: false,
};

/// What it means that AWS answered with the error called `code`. Of its `message` one word is
/// looked for, and nothing shown.
fn refused(context: &CallContext<'_>, code: &str, message: &str, status: u16) -> Error {
    let CallContext { action, key, place } = context;
    match code {
        "AccessDeniedException" | "AccessDenied" | "NotAuthorized" => denied(action, key),
        "NotFoundException" => {
            let what = format!("{place} has no key {key}");
            Error::new(Kind::NotFound, what)
                .advise("is it of this region and account? `aws kms list-aliases` shows them")
        }
        "DisabledException" => disabled(key),
        "KMSInvalidStateException" | "KMSInvalidState" => match message {
            text if text.contains("pending deletion") || text.contains("PendingDeletion") => {
                pending_deletion(key)
            }
            text if text.contains("is disabled") => disabled(key),
            _ => unusable(key, "in a state that does not allow it"),
        },
        "InvalidCiphertextException" => {
            Error::new(Kind::Corrupt, "it was changed, or belongs to another keystore")
                .advise("restore the keystore from a backup")
        }
        "IncorrectKeyException" => not_mine(key, "another key"),
        "InvalidKeyUsageException" => not_symmetric(key),
        "AlreadyExistsException" => {
            Error::new(Kind::Conflict, format!("{key} was made by somebody else at this moment"))
                .advise("try again")
        }
        "UnsupportedOperationException" => {
            Error::new(Kind::Unsupported, format!("key {key} cannot do {action}")).advise(
                "keys with imported material or in a key store of one's own have limits here",
            )
        }
        _ => credentials_refused(code).unwrap_or_else(|| by_service(context, code, status)),
    }
}

/// What has to do with who we are.
fn credentials_refused(code: &str) -> Option<Error> {
    let (what, advice) = match code {
        "ExpiredTokenException" | "ExpiredToken" => (
            "the session token of the AWS credentials has expired",
            "renew them (`aws sso login`), or give the machine a role, whose credentials renew themselves",
        ),
        "UnrecognizedClientException" | "InvalidClientTokenId" | "InvalidAccessKeyId" => (
            "AWS does not know the access key of the credentials",
            "is it active, and the region one that the account has enabled?",
        ),
        "MissingAuthenticationToken" | "MissingAuthenticationTokenException" => {
            ("AWS found no signature on the request", "does a proxy strip headers?")
        }
        "InvalidSignatureException" | "SignatureDoesNotMatch" | "IncompleteSignature" => (
            "AWS does not accept the signature of the request",
            "is the secret access key the one of the access key, and the clock right?",
        ),
        "RequestExpired" | "RequestTimeTooSkewed" => {
            ("AWS takes the request for an old one", "set the clock of this machine")
        }
        "OptInRequired" | "SubscriptionRequiredException" => {
            ("the AWS account is not signed up for KMS here", "enable the region in the account")
        }
        _ => return None,
    };
    Some(Error::new(Kind::Denied, what).advise(advice))
}

/// What has to do with how the service is.
fn by_service(context: &CallContext<'_>, code: &str, status: u16) -> Error {
    let CallContext { action, key, place } = context;
    let away = |what: &str| Error::new(Kind::Unavailable, format!("{place} {what}"));
    match code {
        "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "SlowDown" => away("asks us to come back later: too many requests of this account")
            .advise("see the quotas of KMS in this region"),
        "LimitExceededException" => Error::new(
            Kind::State,
            format!("{key}: a quota of KMS does not allow {action} any more"),
        )
        .advise("raise the quota, or use a new key"),
        "KeyUnavailableException" => away(&format!("has no access to key {key} at the moment"))
            .advise("is its custom key store connected?"),
        "ValidationException" => {
            Error::new(Kind::Config, format!("{place} takes {key} for no name of a key"))
                .advise("write its ARN, its id, or alias/NAME")
        }
        _ if status < 400 => senseless(place, status),
        _ if status >= 500
            || code.starts_with("KMSInternal")
            || code.starts_with("DependencyTimeout") =>
        {
            away(&format!("fails (status {status})"))
        }
        _ => {
            let plain: String = code.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
            let name = if plain.is_empty() { format!("status {status}") } else { plain };
            Error::new(Kind::Denied, format!("{place} refuses {action} with key {key} ({name})"))
                .advise("CloudTrail has the reason")
        }
    }
}

fn senseless(place: &str, status: u16) -> Error {
    let what = format!("{place} answers something else than KMS's API has (status {status})");
    Error::new(Kind::Unavailable, what).advise("is `endpoint` the right address?")
}

fn denied(action: &str, key: &str) -> Error {
    Error::new(Kind::Denied, format!("AWS denies {action} on {key}")).advise(format!(
        "allow \"{action}\" on that key in the IAM policy of these credentials, unless the key's own \
         policy forbids it; `aws sts get-caller-identity` shows whose they are"
    ))
}

pub(super) fn disabled(key: &str) -> Error {
    let id = id_of(key);
    Error::new(Kind::State, format!("key {key} is disabled"))
        .advise(format!("aws kms enable-key --key-id {id}"))
}

pub(super) fn pending_deletion(key: &str) -> Error {
    let id = id_of(key);
    Error::new(Kind::State, format!("key {key} is going to be deleted")).advise(format!(
        "at once: aws kms cancel-key-deletion --key-id {id}, then aws kms enable-key --key-id {id}"
    ))
}

/// The key as a shell gives it to what takes no alias.
fn id_of(key: &str) -> String {
    match key.starts_with("alias/") || key.contains(":alias/") {
        true => {
            format!("$(aws kms describe-key --key-id {key} --query KeyMetadata.Arn --output text)")
        }
        false => key.to_owned(),
    }
}

pub(super) fn unusable(key: &str, state: &str) -> Error {
    Error::new(Kind::State, format!("key {key} is {state}"))
        .advise(format!("aws kms describe-key --key-id {key}"))
}

pub(super) fn not_symmetric(key: &str) -> Error {
    Error::new(Kind::Config, format!("key {key} is none that encrypts and decrypts symmetrically"))
        .advise("use one of the usage ENCRYPT_DECRYPT and the spec SYMMETRIC_DEFAULT")
}

/// Wrapped by another key than the one that is configured.
pub(super) fn not_mine(key: &str, made_by: &str) -> Error {
    let made_by = made_by.escape_default();
    Error::new(Kind::NotMine, format!("made by {made_by}, and this is key {key}")).advise(
        "name the key that made it; to change keys, add the new one as a [[provider]] of its own and \
         run `keyward keystore rewrap`",
    )
}

/// The deadline passed while KMS was to answer.
pub(super) fn late(place: &str) -> Error {
    Error::new(Kind::Timeout, format!("calling {place}: no answer in time"))
}

/// A request that was not sent.
pub(super) fn in_the_clear(place: &str) -> Error {
    let what = format!("{place} is not https: the key would cross the network in the clear");
    Error::new(Kind::Config, what).advise(
        "look at AWS_ENDPOINT_URL_KMS, AWS_ENDPOINT_URL and endpoint_url in the AWS profile",
    )
}

pub(super) fn no_region() -> Error {
    Error::new(Kind::Config, "there is no AWS region")
        .advise("set `region`, name the key by its ARN, or set AWS_REGION")
}

pub(super) fn no_provider() -> Error {
    Error::new(Kind::Internal, "the AWS SDK has no credential chain")
}

/// The chain asks the instance's metadata last, and waits for it.
pub(super) fn slow_credentials() -> Error {
    Error::new(Kind::Timeout, "looking for AWS credentials: nobody gave any in time")
        .advise("see `keyward help aws-kms` for where they are looked for; or raise `timeout`")
}

/// Why the credential chain gave none.
pub(super) fn no_credentials(error: &CredentialsError, profile: Option<&str>) -> Error {
    let (kind, what, advice) = match error {
        CredentialsError::CredentialsNotLoaded(_) => (
            Kind::Denied,
            "there are no AWS credentials",
            "give the machine a role, or name a `credentials_file`",
        ),
        CredentialsError::ProviderTimedOut(_) => (
            Kind::Unavailable,
            "who gives the AWS credentials does not answer in time",
            "is the metadata service or the identity provider in reach?",
        ),
        CredentialsError::InvalidConfiguration(_) => (
            Kind::Config,
            "the AWS profile cannot be used",
            "look at `profile`, and at the AWS files of the server's user",
        ),
        _ => (
            Kind::Denied,
            "the AWS credentials could not be had",
            "run `aws sts get-caller-identity` as the server's user, with the same profile",
        ),
    };
    let error = Error::new(kind, what);
    match profile {
        Some(name) => error.advise(format!("is profile {name:?} in the AWS files? {advice}")),
        None => error.advise(advice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd";

    fn sorted(code: &str, message: &str, status: u16) -> Error {
        let place = "https://kms.eu-central-1.amazonaws.com";
        refused(&CallContext { action: "kms:Decrypt", key: KEY, place }, code, message, status)
    }

    #[test]
    fn a_key_that_is_named_by_an_alias_is_enabled_by_its_arn() {
        let of =
            |key| [disabled(key), pending_deletion(key)].map(|error| error.to_string()).join("\n");
        assert!(of(KEY).contains(&format!("enable-key --key-id {KEY}")));
        for alias in ["alias/db", "arn:aws:kms:eu-central-1:111122223333:alias/db"] {
            let id = format!(
                "--key-id $(aws kms describe-key --key-id {alias} --query KeyMetadata.Arn --output text)"
            );
            assert_eq!(of(alias).matches(&id).count(), 3, "{}", of(alias));
        }
    }

    #[test]
    fn every_name_has_its_kind_and_its_advice() {
        for (code, message, kind, words) in [
            ("AccessDeniedException", "User x is not", Kind::Denied, "\"kms:Decrypt\""),
            ("NotFoundException", "", Kind::NotFound, KEY),
            ("DisabledException", "", Kind::State, "enable-key"),
            (
                "KMSInvalidStateException",
                "x is pending deletion.",
                Kind::State,
                "cancel-key-deletion",
            ),
            ("KMSInvalidStateException", "x is disabled.", Kind::State, "enable-key"),
            ("KMSInvalidStateException", "x", Kind::State, "describe-key"),
            ("InvalidCiphertextException", "", Kind::Corrupt, "another keystore"),
            ("IncorrectKeyException", "", Kind::NotMine, "keyward keystore rewrap"),
            ("InvalidKeyUsageException", "", Kind::Config, "ENCRYPT_DECRYPT"),
            ("ThrottlingException", "Rate exceeded", Kind::Unavailable, "too many requests"),
            ("ExpiredTokenException", "", Kind::Denied, "sso login"),
            ("UnrecognizedClientException", "", Kind::Denied, "access key"),
            ("InvalidSignatureException", "", Kind::Denied, "clock"),
            ("RequestExpired", "", Kind::Denied, "clock"),
            ("KMSInternalException", "", Kind::Unavailable, "fails"),
            ("DependencyTimeoutException", "", Kind::Unavailable, "fails"),
            ("LimitExceededException", "", Kind::State, "quota"),
            ("ValidationException", "", Kind::Config, "alias/NAME"),
            ("UnsupportedOperationException", "", Kind::Unsupported, "kms:Decrypt"),
        ] {
            let error = sorted(code, message, 400);
            assert_eq!(error.kind(), kind, "{code}");
            let text = error.to_string();
            assert!(text.contains(words), "{code}: {text}");
            assert!(!text.contains(code) && !text.contains("User x"), "{code}: {text}");
        }
    }

    #[test]
    fn what_nobody_foresaw_is_told_by_its_name_and_status() {
        let named = sorted("Brand new\nException!", "a secret", 400).to_string();
        assert!(named.contains("(BrandnewException)") && !named.contains("a secret"), "{named}");
        assert!(sorted("", "", 418).to_string().contains("(status 418)"));
        assert_eq!(sorted("", "", 503).kind(), Kind::Unavailable);
    }

    #[test]
    fn each_way_to_have_no_credentials_has_its_advice() {
        let said = |error: &CredentialsError| no_credentials(error, None).to_string();
        assert!(said(&CredentialsError::not_loaded_no_source()).contains("credentials_file"));
        let timed_out = CredentialsError::provider_timed_out(std::time::Duration::from_secs(5));
        assert!(said(&timed_out).contains("in reach"));
        assert!(said(&CredentialsError::invalid_configuration("secret")).contains("`profile`"));
        let failed = said(&CredentialsError::provider_error("a secret"));
        assert!(failed.contains("get-caller-identity") && !failed.contains("a secret"));
        let named = no_credentials(&CredentialsError::not_loaded_no_source(), Some("db"));
        assert!(named.to_string().contains("is profile \"db\" in the AWS files?"), "{named}");
    }
}
