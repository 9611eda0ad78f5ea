//! What went wrong, in words for an operator, by the names that Google gives errors. Of an answer's text
//! some words are looked for, and nothing is shown.

#![forbid(unsafe_code)]

use serde::Deserialize;

use super::super::http::Reply;
use super::name::KeyName;
use crate::error::{Error, Kind};

/// What is done with a key, which permission that takes, and which role has it.
#[derive(PartialEq, Eq)]
pub(super) struct Step {
    doing: &'static str,
    permission: &'static str,
    role: &'static str,
}

pub(super) static ENCRYPT: Step = Step {
    doing: "encrypt with",
    permission: "cloudkms.cryptoKeyVersions.useToEncrypt",
    role: "roles/cloudkms.cryptoKeyEncrypterDecrypter",
};
pub(super) static DECRYPT: Step = Step {
    doing: "decrypt with",
    permission: "cloudkms.cryptoKeyVersions.useToDecrypt",
    role: "roles/cloudkms.cryptoKeyDecrypter",
};
pub(super) static DESCRIBE: Step = Step {
    doing: "describe",
    permission: "cloudkms.cryptoKeys.get",
    role: "roles/cloudkms.viewer",
};
pub(super) static ASK_RIGHTS: Step =
    Step { doing: "tell our rights on", permission: "none", role: "roles/cloudkms.viewer" };
pub(super) static MAKE_RING: Step = Step {
    doing: "make the key ring of",
    permission: "cloudkms.keyRings.create",
    role: "roles/cloudkms.admin",
};
pub(super) static MAKE_KEY: Step =
    Step { doing: "make", permission: "cloudkms.cryptoKeys.create", role: "roles/cloudkms.admin" };
pub(super) static MAKE_VERSION: Step = Step {
    doing: "make a version of",
    permission: "cloudkms.cryptoKeyVersions.create",
    role: "roles/cloudkms.admin",
};
pub(super) static SHOW_VERSION: Step = Step {
    doing: "describe a version of",
    permission: "cloudkms.cryptoKeyVersions.get",
    role: "roles/cloudkms.viewer",
};
pub(super) static CHOOSE_PRIMARY: Step = Step {
    doing: "choose the primary version of",
    permission: "cloudkms.cryptoKeys.update",
    role: "roles/cloudkms.admin",
};

impl Step {
    /// The permission that it takes.
    pub(super) fn permission(&self) -> &'static str {
        self.permission
    }
}

/// The states of a version in which it cannot be used. Some begin as others do.
const STATES: [&str; 9] = [
    "DESTROY_SCHEDULED",
    "DESTROYED",
    "DISABLED",
    "PENDING_GENERATION",
    "GENERATION_FAILED",
    "PENDING_IMPORT",
    "IMPORT_FAILED",
    "PENDING_EXTERNAL_DESTRUCTION",
    "EXTERNAL_DESTRUCTION_FAILED",
];

/// What was being done.
pub(super) struct CallContext<'a> {
    pub(super) step: &'static Step,
    pub(super) key: &'a KeyName,
    /// The version of the key, where one is meant.
    pub(super) version: Option<u64>,
    /// Where.
    pub(super) place: &'a str,
    /// As whom, if that is known.
    pub(super) account: Option<&'a str>,
    /// The project that the call is counted for, where that is not the key's.
    pub(super) quota_project: Option<&'a str>,
}

/// An error as Google's APIs answer it (`google.rpc.Status`). None of it is shown.
#[derive(Default)]
pub(super) struct Refusal {
    status: String,
    message: String,
    /// The reasons and the kinds of violations in its details.
    names: Vec<String>,
}

#[derive(Deserialize)]
struct Body {
    error: Status,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    status: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Vec<Detail>,
}

#[derive(Deserialize)]
struct Detail {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    violations: Vec<Violation>,
}

#[derive(Deserialize)]
struct Violation {
    #[serde(rename = "type", default)]
    kind: String,
}

impl Refusal {
    pub(super) fn of(reply: &Reply) -> Self {
        let Ok(Body { error }) = serde_json::from_slice(&reply.body) else {
            return Self::default();
        };
        let of_detail = |detail: Detail| {
            let kinds = detail.violations.into_iter().map(|violation| violation.kind);
            kinds.chain([detail.reason])
        };
        Self {
            status: error.status,
            message: error.message,
            names: error.details.into_iter().flat_map(of_detail).collect(),
        }
    }

    /// Whether it is none of Google's.
    fn is_foreign(&self) -> bool {
        self.status.is_empty()
    }

    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    /// Whether a word of it, or of its details, is this one of the states of a version.
    fn tells_of(&self, state: &str) -> bool {
        let is = |text: &String| {
            text.split(|c: char| c != '_' && !c.is_ascii_alphanumeric())
                .any(|word| word == state || word.strip_prefix("KEY_") == Some(state))
        };
        self.names.iter().chain([&self.message]).any(is)
    }
}

/// What a `reply` of Cloud KMS means that is no success.
pub(super) fn refused(context: &CallContext<'_>, reply: &Reply) -> Error {
    let CallContext { step, key, place, .. } = context;
    let refusal = Refusal::of(reply);
    match (reply.status, refusal.status.as_str()) {
        (429, _) | (_, "RESOURCE_EXHAUSTED") => {
            let what =
                format!("{place} asks us to come back later: too many requests of the project");
            Error::new(Kind::Unavailable, what)
                .advise("see the quotas of Cloud KMS, or use a `quota_project` of your own")
        }
        (500.., _) => away(place, reply.status),
        (401, _) => not_accepted(context),
        (403, _) => forbidden(context, &refusal),
        (404, "NOT_FOUND") => not_found(context, &refusal),
        (409, "ALREADY_EXISTS" | "ABORTED") => {
            Error::new(Kind::Conflict, format!("{key} was made by somebody else at this moment"))
                .advise("try again")
        }
        (_, "FAILED_PRECONDITION") => impossible(context, &refusal),
        (_, "INVALID_ARGUMENT") if refusal.message.contains("checksum") => damaged(place),
        (_, "INVALID_ARGUMENT") => invalid(context),
        (status, _) if refusal.is_foreign() => {
            let what =
                format!("{place} answers something else than Cloud KMS has (status {status})");
            Error::new(Kind::Unavailable, what).advise("is `endpoint` the right address?")
        }
        (_, name) => {
            let name = plain(name);
            let what = format!("{place} refuses to {} {key} ({name})", step.doing);
            Error::new(Kind::Denied, what).advise("Cloud Audit Logs have the reason")
        }
    }
}

/// The letters of an error's name.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphabetic() || *c == '_').take(40).collect()
}

/// The service is out of order.
pub(super) fn away(place: &str, status: u16) -> Error {
    match status {
        429 => Error::new(Kind::Unavailable, format!("{place} asks us to come back later"))
            .advise("see the quotas of its project"),
        _ => Error::new(Kind::Unavailable, format!("{place} fails (status {status})"))
            .advise("it may pass; status.cloud.google.com shows outages"),
    }
}

/// Bytes changed on the way, or there.
pub(super) fn damaged(place: &str) -> Error {
    let what = format!("{place}: a checksum shows that bytes were changed on the way");
    Error::new(Kind::Unavailable, what).advise("does a proxy change what passes it?")
}

/// An answer that is none of Cloud KMS's.
pub(super) fn foreign(place: &str) -> Error {
    let what = format!("{place} answers something else than Cloud KMS has");
    Error::new(Kind::Unavailable, what).advise("is `endpoint` the right address?")
}

fn not_accepted(context: &CallContext<'_>) -> Error {
    let what = format!("{} does not accept our token", context.place);
    let error = Error::new(Kind::Denied, what);
    match context.account {
        Some(account) => error.advise(format!(
            "is the clock of this machine right, the account enabled, and its key still there? \
             gcloud iam service-accounts keys list --iam-account={account}"
        )),
        None => error.advise("is the clock of this machine right, and the log-in not revoked?"),
    }
}

fn forbidden(context: &CallContext<'_>, refusal: &Refusal) -> Error {
    let CallContext { step, key, place, quota_project, account, .. } = context;
    let project = quota_project.unwrap_or(&key.project);
    let denied = |what: String, advice: String| Error::new(Kind::Denied, what).advise(advice);
    if refusal.has("SERVICE_DISABLED") {
        return denied(
            "the Cloud KMS API is off in the project of our credentials".to_owned(),
            format!("gcloud services enable cloudkms.googleapis.com --project={project}"),
        );
    }
    if refusal.has("ACCESS_TOKEN_SCOPE_INSUFFICIENT") {
        return denied(
            "the scopes of our token leave Cloud KMS out".to_owned(),
            "stop the machine, then gcloud compute instances set-service-account INSTANCE \
             --scopes=cloud-platform"
                .to_owned(),
        );
    }
    if refusal.has("USER_PROJECT_DENIED") {
        return denied(
            format!("our calls may not be counted for the project {project}"),
            format!(
                "gcloud projects add-iam-policy-binding {project} --member={} \
                 --role=roles/serviceusage.serviceUsageConsumer, or leave `quota_project` out",
                member(*account)
            ),
        );
    }
    if refusal.has("SECURITY_POLICY_VIOLATED") {
        return denied(
            format!("a perimeter of VPC Service Controls forbids to {} {key}", step.doing),
            "let these credentials and this network through the perimeter".to_owned(),
        );
    }
    if refusal.has("BILLING_DISABLED") {
        return denied(
            format!("billing is off in the project {project}"),
            format!("gcloud billing projects link {project} --billing-account=ACCOUNT"),
        );
    }
    if refusal.is_foreign() {
        return denied(
            format!("{place} refuses to {} {key} (status 403)", step.doing),
            "is `endpoint` the right address, and does a proxy refuse it?".to_owned(),
        );
    }
    denied(
        format!("Google denies {} on {key}, or there is no such key", step.permission),
        grant(step, key, *account),
    )
}

/// How to get the right to do `step`.
fn grant(step: &Step, key: &KeyName, account: Option<&str>) -> String {
    let (member, role) = (member(account), step.role);
    match step.role {
        "roles/cloudkms.admin" => {
            let project = &key.project;
            format!(
                "gcloud projects add-iam-policy-binding {project} --member={member} --role={role}"
            )
        }
        _ => format!(
            "gcloud kms keys add-iam-policy-binding {} --member={member} --role={role}",
            key.for_gcloud()
        ),
    }
}

/// The error where `step` is not allowed, as far as Google tells our rights.
pub(super) fn lacks(step: &Step, key: &KeyName, account: Option<&str>) -> Error {
    Error::new(Kind::Denied, format!("our credentials lack {} on {key}", step.permission))
        .advise(grant(step, key, account))
}

/// As `gcloud` takes it.
fn member(account: Option<&str>) -> String {
    match account {
        Some(account) => format!("serviceAccount:{account}"),
        None => "MEMBER".to_owned(),
    }
}

fn not_found(context: &CallContext<'_>, refusal: &Refusal) -> Error {
    let CallContext { key, place, .. } = context;
    let (location, project) = (&key.location, &key.project);
    // "The request concerns location 'a' but was sent to location 'b'."
    if refusal.message.contains("misrouted") || refusal.message.contains("sent to location") {
        let what = format!("{place} does not serve keys of the location {location}");
        return Error::new(Kind::Config, what).advise(format!(
            "correct the location in `key`, or `endpoint`; gcloud kms locations list --project={project} \
             shows the locations"
        ));
    }
    let what = format!("{place} has no key {key}");
    Error::new(Kind::NotFound, what).advise(format!(
        "correct `key`; gcloud kms keys list --keyring={} --location={location} --project={project} \
         shows them",
        key.ring
    ))
}

/// A version is not in a state to be used, or the key has none.
fn impossible(context: &CallContext<'_>, refusal: &Refusal) -> Error {
    let state = STATES.into_iter().find(|state| refusal.tells_of(state));
    match (state, context.version) {
        (state, Some(version)) => unusable(context.key, version, state.unwrap_or_default()),
        (_, None) => no_primary(context.key),
    }
}

/// Version `version` of `key` cannot be used, since it is in this `state`, of which a name that Google
/// does not have is not shown.
pub(super) fn unusable(key: &KeyName, version: u64, state: &str) -> Error {
    let of_gcloud = key.version_for_gcloud(version);
    let known = STATES.into_iter().find(|known| *known == state);
    let words = match known {
        Some("DESTROY_SCHEDULED") => "scheduled for destruction".to_owned(),
        Some("PENDING_GENERATION") => "still being made".to_owned(),
        Some(state @ ("DISABLED" | "DESTROYED")) => state.to_ascii_lowercase(),
        Some(state) => format!("in the state {state}"),
        None => "in a state in which it cannot be used".to_owned(),
    };
    let advice = match known {
        Some("DISABLED") => format!("gcloud kms keys versions enable {of_gcloud}"),
        Some("DESTROY_SCHEDULED") => format!(
            "at once: gcloud kms keys versions restore {of_gcloud}, then gcloud kms keys versions \
             enable {of_gcloud}"
        ),
        Some("DESTROYED") => {
            "nobody can restore it: open the keystore by another of its providers, \
                              or restore a backup that another version wrapped"
                .to_owned()
        }
        _ => format!("gcloud kms keys versions describe {of_gcloud}"),
    };
    let kind = match known {
        Some("PENDING_GENERATION") => Kind::Unavailable,
        _ => Kind::State,
    };
    Error::new(kind, format!("version {version} of {key} is {words}")).advise(advice)
}

/// The key has no version to encrypt with.
pub(super) fn no_primary(key: &KeyName) -> Error {
    Error::new(Kind::State, format!("{key} has no primary version that encrypts"))
        .advise(format!("gcloud kms keys versions create --primary --key={}", key.for_gcloud()))
}

fn invalid(context: &CallContext<'_>) -> Error {
    let CallContext { step, key, place, .. } = context;
    if **step == DECRYPT {
        return Error::new(Kind::Corrupt, "it was changed, or belongs to another keystore")
            .advise("restore the keystore from a backup");
    }
    if **step == ENCRYPT {
        return not_symmetric(key);
    }
    Error::new(Kind::Config, format!("{place} finds a part of {key} that it cannot be called"))
        .advise("correct `key`; gcloud kms locations list shows the locations")
}

pub(super) fn not_symmetric(key: &KeyName) -> Error {
    Error::new(Kind::Config, format!("{key} is no key that encrypts and decrypts symmetrically"))
        .advise("use one of the purpose ENCRYPT_DECRYPT (`gcloud kms keys create --purpose=encryption`)")
}

/// Wrapped by another key than the one that is configured.
pub(super) fn not_mine(key: &KeyName, made_by: &str) -> Error {
    let made_by = made_by.escape_default();
    Error::new(Kind::NotMine, format!("made by {made_by}, and this is {key}")).advise(
        "name the key that made it; to change keys, add the new one as a [[provider]] of its own and \
         run `keyward keystore rewrap`",
    )
}

/// A person's log-in gives no token.
pub(super) fn log_in_over(place: &str, code: &str) -> Error {
    let code = plain(code);
    Error::new(Kind::Denied, format!("Google does not accept the log-in in {place} ({code})"))
        .advise(
            "run `gcloud auth application-default login` again; for a server use a service account",
        )
}

/// The token of somebody whom Google should trust gives none of Google's.
pub(super) fn not_federated(place: &str, code: &str) -> Error {
    let code = plain(code);
    let what = format!("Google does not accept the token that {place} leads to ({code})");
    Error::new(Kind::Denied, what).advise(
        "is it still valid, and are its issuer, audience and subject those of the pool's provider? \
         gcloud iam workload-identity-pools providers describe shows them",
    )
}

/// Who is to give the token of somebody whom Google trusts gives none.
pub(super) fn no_subject(place: &str, status: u16) -> Error {
    Error::new(Kind::Denied, format!("{place} gives no token for Google (status {status})"))
        .advise("look at credential_source in the file of credentials")
}

/// Our credentials do not let us become `account`.
pub(super) fn not_impersonated(account: &str, source: Option<&str>, refusal: &Refusal) -> Error {
    if refusal.has("SERVICE_DISABLED") {
        return Error::new(Kind::Denied, "the IAM Service Account Credentials API is off")
            .advise("gcloud services enable iamcredentials.googleapis.com");
    }
    let what = match refusal.status.as_str() {
        "NOT_FOUND" => format!("there is no service account {account}"),
        _ => format!("Google does not let our credentials become {account}"),
    };
    Error::new(Kind::Denied, what).advise(format!(
        "gcloud iam service-accounts add-iam-policy-binding {account} --member={} \
         --role=roles/iam.serviceAccountTokenCreator",
        member(source)
    ))
}

/// The machine has no service account, or none that gives tokens.
pub(super) fn machine_without_account() -> Error {
    Error::new(Kind::Denied, "this machine has no service account that gives a token").advise(
        "gcloud compute instances set-service-account INSTANCE --service-account=ACCOUNT \
         --scopes=cloud-platform, or name a `credentials_file`",
    )
}

/// Nobody gave any.
pub(super) fn no_credentials(kind: Kind) -> Error {
    Error::new(
        kind,
        "there are no Google credentials: no file has any, and no metadata service answers",
    )
    .advise("name a `credentials_file`, or give the machine a service account")
}

#[cfg(test)]
mod tests;
