//! What went wrong, in words for an operator, by the names that Azure gives errors. Of an answer's text some
//! words are looked for, and nothing is shown.

#![forbid(unsafe_code)]

use super::super::http::{Url, place};
use super::name::KeyName;
use super::refusal::{OfEntra, Refusal};
use super::settings::{Algorithm, KeyType};
use crate::env::Timestamp;
use crate::error::{Error, Kind};

/// What is done with a key, which permission that takes, and which role has it.
#[derive(PartialEq, Eq)]
pub(super) struct Step {
    doing: &'static str,
    /// The last part of the address; empty where the step has none.
    path: &'static str,
    /// As access policies and a key's own list of operations call it.
    permission: &'static str,
    /// The role in a vault, and in a Managed HSM.
    roles: [&'static str; 2],
}

/// Reads, wraps and unwraps.
const ENCRYPTION_USER: [&str; 2] =
    ["Key Vault Crypto Service Encryption User", "Managed HSM Crypto Service Encryption User"];

/// Does all that keys do.
const USER: [&str; 2] = ["Key Vault Crypto User", "Managed HSM Crypto User"];

/// Makes keys.
const OFFICER: [&str; 2] = ["Key Vault Crypto Officer", "Managed HSM Crypto User"];

pub(super) static WRAP: Step =
    Step { doing: "wrap with", path: "wrapkey", permission: "wrapKey", roles: ENCRYPTION_USER };
pub(super) static UNWRAP: Step = Step {
    doing: "unwrap with",
    path: "unwrapkey",
    permission: "unwrapKey",
    roles: ENCRYPTION_USER,
};
pub(super) static ENCRYPT: Step =
    Step { doing: "encrypt with", path: "encrypt", permission: "encrypt", roles: USER };
pub(super) static DECRYPT: Step =
    Step { doing: "decrypt with", path: "decrypt", permission: "decrypt", roles: USER };
pub(super) static DESCRIBE: Step =
    Step { doing: "read", path: "", permission: "get", roles: ENCRYPTION_USER };
pub(super) static LOOK_DELETED: Step =
    Step { doing: "look for a deleted", path: "", permission: "get", roles: OFFICER };
pub(super) static MAKE: Step =
    Step { doing: "make", path: "create", permission: "create", roles: OFFICER };

impl Step {
    pub(super) fn path(&self) -> &'static str {
        self.path
    }
}

/// What was being done.
pub(super) struct CallContext<'a> {
    pub(super) step: &'static Step,
    pub(super) key: &'a KeyName,
    /// The version of the key, where one is meant.
    pub(super) version: Option<&'a str>,
    /// Where.
    pub(super) place: &'a str,
    /// As whom, if that is known.
    pub(super) account: Option<&'a str>,
}

/// What an answer of a vault means that is no success.
pub(super) fn refused(context: &CallContext<'_>, status: u16, refusal: &Refusal) -> Error {
    let CallContext { step, key, place, .. } = context;
    match status {
        429 | 500.. => away(place, status),
        401 => not_accepted(context, refusal),
        403 => forbidden(context, refusal),
        404 if !refusal.is_foreign() => not_found(context),
        409 if refusal.tells_of("ObjectIsDeletedButRecoverable") || refusal.says("deleted but recoverable") => {
            deleted(key, None)
        }
        409 if !refusal.is_foreign() => {
            Error::new(Kind::Conflict, format!("{key} is being changed by somebody else"))
                .advise("try again in a minute")
        }
        _ if refusal.is_foreign() => {
            let what =
                format!("{place} answers something else than a vault of Azure (status {status})");
            Error::new(Kind::Unavailable, what).advise("is `key` the right address?")
        }
        400 if **step == UNWRAP || **step == DECRYPT => changed(),
        400 => Error::new(
            Kind::Config,
            format!("{place} cannot {} {key} in this way ({})", step.doing, refusal.name()),
        )
        .advise("do `algorithm` and `key_type` fit the key? RSA-HSM needs the Premium tier, oct-HSM a Managed HSM"),
        _ => Error::new(
            Kind::Denied,
            format!("{place} refuses to {} {key} ({})", step.doing, refusal.name()),
        )
        .advise("the vault's diagnostic log (AuditEvent) has the reason"),
    }
}

/// The service is out of order.
pub(super) fn away(place: &str, status: u16) -> Error {
    match status {
        429 => Error::new(
            Kind::Unavailable,
            format!("{place} asks us to come back later: too many requests"),
        )
        .advise("it passes; the limits of a vault count all of its callers: give this key a vault of its own"),
        _ => Error::new(Kind::Unavailable, format!("{place} fails (status {status})"))
            .advise("it may pass; azure.status.microsoft shows outages"),
    }
}

/// The machine's metadata service, or Azure Arc's agent, is out of order; or a new identity is not there yet.
pub(super) fn machine_away(who: &str, status: u16) -> Error {
    Error::new(Kind::Unavailable, format!("{who} gives no token yet (status {status})")).advise(
        "it may pass, an identity that was just assigned takes some minutes; `az vm identity show`, or on a \
         machine of Azure Arc's `azcmagent show`, has its state",
    )
}

/// An answer that is none of a vault's.
pub(super) fn foreign(place: &str) -> Error {
    let what = format!("{place} answers something else than a vault of Azure");
    Error::new(Kind::Unavailable, what).advise("is `key` the right address?")
}

/// What opened is not what was wrapped.
pub(super) fn changed() -> Error {
    Error::new(Kind::Corrupt, "it was changed, or belongs to another keystore")
        .advise("restore the keystore from a backup")
}

/// Who answers is no vault: none takes a call without a token.
pub(super) fn no_challenge(vault: &Url) -> Error {
    let what = format!("{} does not ask for a token as a vault of Azure does", place(vault));
    Error::new(Kind::Untrusted, what).advise("is `key` the right address?")
}

/// Who answers wants a token for something else, which is not given away; nor is shown what they call it.
pub(super) fn wrong_resource(vault: &Url) -> Error {
    let what = format!("{} asks for a token for another resource than its own", place(vault));
    Error::new(Kind::Untrusted, what).advise("no token was sent; is `key` the right address?")
}

pub(super) fn other_tenant(vault: &Url, tenant: &str) -> Error {
    Error::new(Kind::Config, format!("{} belongs to the tenant {tenant}", place(vault)))
        .advise("correct `tenant`, or leave it out")
}

fn not_accepted(context: &CallContext<'_>, refusal: &Refusal) -> Error {
    let CallContext { place, key, .. } = context;
    if refusal.says("AKV10032") {
        let what = format!("{place} does not accept a token of our tenant");
        return Error::new(Kind::Denied, what).advise(format!(
            "use an identity of the vault's tenant: az keyvault show --name={} \
             --query=properties.tenantId",
            key.vault_name()
        ));
    }
    Error::new(Kind::Denied, format!("{place} does not accept our token")).advise(
        "is the clock of this machine right, the identity enabled, and the token in `access_token_file` \
         new?",
    )
}

fn forbidden(context: &CallContext<'_>, refusal: &Refusal) -> Error {
    let CallContext { step, key, place, version, .. } = context;
    let denied = |what: String, advice: String| Error::new(Kind::Denied, what).advise(advice);
    let named = |version: &Option<&str>| version.unwrap_or("its version").to_owned();
    let (vault, permission) = (key.vault_name(), step.permission);
    if refusal.has("KeyDisabled") {
        return disabled(key, *version);
    }
    if refusal.has("KeyNotYetValid") {
        return not_yet(key, &named(version), None);
    }
    if refusal.has("KeyExpired") {
        return expired(key, &named(version), None);
    }
    if refusal.has("KeyOperationForbidden") {
        return Error::new(
            Kind::State,
            format!("{key} is not for {permission}: its own list of operations leaves it out"),
        )
        .advise(format!(
            "az keyvault key set-attributes {} --ops wrapKey unwrapKey",
            key.for_az()
        ));
    }
    if let Some(error) = kept_out(context, refusal) {
        return error;
    }
    if refusal.is_foreign() {
        return denied(
            format!("{place} refuses to {} {key} (status 403)", step.doing),
            "is `key` the right address, and does a proxy refuse it?".to_owned(),
        );
    }
    let what = format!("Azure denies {permission} on {key}");
    if refusal.has("AccessDenied") && !key.is_in_hsm() {
        // The vault goes by access policies.
        let who = context.account.unwrap_or("CLIENT-ID");
        let all =
            if **step == MAKE { "get create wrapKey unwrapKey" } else { "get wrapKey unwrapKey" };
        return denied(
            what,
            format!("az keyvault set-policy --name={vault} --spn={who} --key-permissions {all}"),
        );
    }
    denied(what, grant(context))
}

/// The error where it is the network that is not let in.
fn kept_out(context: &CallContext<'_>, refusal: &Refusal) -> Option<Error> {
    let (place, vault) = (context.place, context.key.vault_name());
    let denied = |what: String, advice: String| Some(Error::new(Kind::Denied, what).advise(advice));
    if refusal.has("ForbiddenByFirewall") {
        return denied(
            format!("the firewall of {place} lets nobody in from here"),
            format!("az keyvault network-rule add --name={vault} --ip-address=OURS"),
        );
    }
    if refusal.has("ForbiddenByConnection") {
        return denied(
            format!("{place} is closed to this network: it takes private endpoints alone"),
            format!(
                "give this network one (az network private-endpoint create), or az keyvault update \
                 --name={vault} --public-network-access=Enabled"
            ),
        );
    }
    None
}

/// How to get the right to do a step.
fn grant(context: &CallContext<'_>) -> String {
    let CallContext { step, key, account, .. } = context;
    let [in_vault, in_hsm] = step.roles;
    let (who, vault, name) = (account.unwrap_or("OBJECT-ID"), key.vault_name(), &key.name);
    match key.is_in_hsm() {
        true => format!(
            "az keyvault role assignment create --hsm-name={vault} --role=\"{in_hsm}\" \
             --assignee={who} --scope=/keys/{name}"
        ),
        false => format!(
            "az role assignment create --role=\"{in_vault}\" --assignee={who} \
             --scope=\"$(az keyvault show --name={vault} --query=id --output=tsv)/keys/{name}\""
        ),
    }
}

/// A vault drops no single version of a key: one that unwraps nothing is another key's of the same name.
fn not_found(context: &CallContext<'_>) -> Error {
    let CallContext { step, key, place, version, .. } = context;
    let vault = key.vault_name();
    let option = if key.is_in_hsm() { "hsm-name" } else { "vault-name" };
    let what = match version {
        Some(version) => format!("{place} has no version {version} of {key}"),
        None => format!("{place} has no key {key}"),
    };
    match **step == UNWRAP || **step == DECRYPT {
        true => Error::new(Kind::NotMine, what).advise(format!(
            "was the key purged? az keyvault key list-deleted --{option}={vault} shows those that can be \
             recovered; else put it back from a backup (az keyvault key restore)"
        )),
        false => Error::new(Kind::NotFound, what).advise(format!(
            "correct `key`; az keyvault key list --{option}={vault} shows them, and az keyvault key \
             list-deleted --{option}={vault} those that can be recovered"
        )),
    }
}

/// It was deleted, and is still to be had.
pub(super) fn deleted(key: &KeyName, ends: Option<Timestamp>) -> Error {
    let until = ends.map(|ends| format!(" until {ends}")).unwrap_or_default();
    Error::new(Kind::State, format!("{key} was deleted, and can be recovered{until}"))
        .advise(format!("at once: az keyvault key recover {}", key.for_az()))
}

pub(super) fn disabled(key: &KeyName, version: Option<&str>) -> Error {
    let (of, option) = match version {
        Some(version) => (format!("version {version} of "), format!(" --version={version}")),
        None => (String::new(), String::new()),
    };
    Error::new(Kind::State, format!("{of}{key} is disabled"))
        .advise(format!("az keyvault key set-attributes {}{option} --enabled=true", key.for_az()))
}

/// It unwraps, but wraps nothing before this moment.
pub(super) fn not_yet(key: &KeyName, version: &str, begins: Option<Timestamp>) -> Error {
    let when = begins.map(|when| format!(" before {when}")).unwrap_or_default();
    Error::new(Kind::State, format!("version {version} of {key} wraps nothing yet{when}")).advise(
        format!(
            "compare the clocks, or az keyvault key set-attributes {} --version={version} \
             --not-before=$(date -u +%FT%TZ)",
            key.for_az()
        ),
    )
}

/// It unwraps, but wraps nothing after this moment.
pub(super) fn expired(key: &KeyName, version: &str, ended: Option<Timestamp>) -> Error {
    let when = ended.map(|when| format!(" since {when}")).unwrap_or_default();
    Error::new(
        Kind::State,
        format!("version {version} of {key} has expired and wraps nothing{when}; it still unwraps"),
    )
    .advise(format!(
        "make a new version: keyward keystore rewrap --new-kek, or az keyvault key rotate {}",
        key.for_az()
    ))
}

/// Who may purge can make the keystore unreadable for ever.
pub(super) fn purgeable(key: &KeyName) -> Error {
    let vault = key.vault_name();
    let advice = match key.is_in_hsm() {
        true => format!("az keyvault update-hsm --hsm-name={vault} --enable-purge-protection=true"),
        false => format!("az keyvault update --name={vault} --enable-purge-protection=true"),
    };
    Error::new(
        Kind::State,
        format!("{key} can be purged for ever: its vault has no purge protection"),
    )
    .advise(format!("{advice}; to accept that, set allow_purge = true"))
}

pub(super) fn cannot_wrap(key: &KeyName, kind: &str) -> Error {
    Error::new(Kind::Config, format!("{key} is of the kind {kind}, which wraps nothing"))
        .advise("use one of the kind RSA or RSA-HSM, or in a Managed HSM oct-HSM")
}

pub(super) fn wrong_algorithm(key: &KeyName, kind: KeyType, algorithm: Algorithm) -> Error {
    let (kind, algorithm) = (kind.name(), algorithm.name());
    Error::new(Kind::Config, format!("{key} is of the kind {kind} and has no {algorithm}"))
        .advise("correct `algorithm`, or leave it out")
}

/// Wrapped by another key than the one that is configured.
pub(super) fn not_mine(key: &KeyName, made_by: &str) -> Error {
    let made_by = made_by.escape_default();
    Error::new(Kind::NotMine, format!("made by {made_by}, and this is {key}")).advise(
        "name the key that made it; to change keys, add the new one as a [[provider]] of its own and \
         run `keyward keystore rewrap`",
    )
}

/// Entra ID gives the application no token.
pub(super) fn not_logged_in(client_id: &str, file: &str, tenant: &str, error: &OfEntra) -> Error {
    let name = error.name();
    let has = |numbers: &[u64]| numbers.iter().any(|number| error.has(*number));
    let (what, advice) = if has(&[7_000_215, 7_000_222]) {
        (
            format!("Entra ID does not accept the secret in {file}, or it has ended"),
            format!("az ad app credential reset --id {client_id} --append makes another"),
        )
    } else if has(&[700_027, 7_000_214, 700_021]) {
        (
            format!("Entra ID does not know the certificate in {file}, or it has ended"),
            format!("az ad app credential reset --id {client_id} --append --cert @CERTIFICATE"),
        )
    } else if has(&[70_021, 700_211, 700_212, 700_213]) {
        (
            format!("Entra ID has no federated credential for the token in {file}"),
            "its issuer, subject and audience must be those of one: az identity federated-credential \
             list, or az ad app federated-credential list"
                .to_owned(),
        )
    } else if has(&[700_024, 700_023, 500_133]) {
        (
            format!("the proof by {file} is for another time"),
            "is the clock of this machine right, and is the file still written?".to_owned(),
        )
    } else if has(&[700_016, 90_002, 700_005]) {
        (
            format!("the tenant {tenant} has no application {client_id}"),
            format!("correct `client_id`; az ad sp create --id {client_id} brings it there"),
        )
    } else if has(&[53_003, 53_000, 50_105]) {
        (
            format!("a conditional access policy keeps {client_id} out"),
            "the sign-in log of Entra ID names the policy".to_owned(),
        )
    } else {
        (
            format!("Entra ID does not accept the log-in by {file}"),
            format!(
                "look {name} up in the sign-in log of Entra ID, or at https://login.microsoftonline.com/error"
            ),
        )
    };
    Error::new(Kind::Denied, format!("{what} ({name})")).advise(advice)
}

/// The machine has no identity, or not this one.
pub(super) fn machine_without_identity(client_id: Option<&str>) -> Error {
    let what = match client_id {
        Some(id) => format!("this machine does not have the managed identity {id}"),
        None => "this machine has no managed identity, or several and none is named".to_owned(),
    };
    Error::new(Kind::Denied, what).advise(
        "az vm identity assign --resource-group=GROUP --name=VM (with --identities=ID for a user-assigned \
         one, of which `client_id` is set)",
    )
}

/// Nobody gave any.
pub(super) fn no_credentials() -> Error {
    Error::new(
        Kind::Unavailable,
        "there are no credentials for Azure: none are named, and no metadata service answers",
    )
    .advise(
        "set client_id with client_secret_file or client_certificate_file, or give the machine a managed \
         identity",
    )
}

#[cfg(test)]
mod tests;
