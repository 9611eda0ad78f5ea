//! The stand-in for MariaDB's `hashicorp_key_management`: keys in a KV engine of Vault's, looked up
//! when the server wants them.
//!
//! Names, types, defaults and error texts are those of the original, and what its cache promises:
//! the newest version is asked for again when what was said is older than `cache_version_timeout`.
//! One thing differs: the original ends the server (an assertion of InnoDB's) where Vault is away and
//! `use_cache_on_timeout` is OFF. Here what is in memory goes on serving.

#![forbid(unsafe_code)]

use std::ffi::CStr;
use std::sync::Arc;
use std::time::Duration;

use super::{Face, Size, Started, Values, Variable, VariableKind};
use crate::env::{Env, Level};
use crate::error::{Error, Kind, Result};
use crate::mariadb::core::{Hashicorp, HashicorpLogin, LookupOptions, Role, from_hashicorp};
use crate::mariadb::ffi::environment;
use crate::secret::source::{Given, SecretSource};

/// `ER_UNKNOWN_ERROR`, which the original answers with.
const NO_NUMBER: u32 = 1105;

/// The variable of the environment that the original takes for the token, and that
/// `mariadb-backup`, which is not told the option, has to be given.
const TOKEN: &str = "VAULT_TOKEN";

/// What a timeout of 0 means: curl's own.
const CURL_TIMEOUT: Duration = Duration::from_secs(300);

pub(super) static FACE: Face = Face {
    name: c"hashicorp_key_management",
    description: c"Keys in HashiCorp Vault or OpenBao (keyward)",
    stable: true,
    variables: &[
        Variable::new(
            c"vault_url",
            c"Where the keys are: https://HOST:PORT/v1/MOUNT",
            VariableKind::Text { default: c"" },
        ),
        Variable::new(
            c"token",
            c"The token to log in with; better in the environment, as VAULT_TOKEN",
            VariableKind::Text { default: c"" },
        )
        .hidden(),
        Variable::new(
            c"vault_ca",
            c"A file of the authorities to trust, in PEM; without it those of the system",
            VariableKind::Text { default: c"" },
        ),
        Variable::new(c"timeout", c"Seconds that a call may take", int(15, 86_400)).dynamic(),
        Variable::new(
            c"max_retries",
            c"How often a call that failed for now is repeated",
            int(3, i32::MAX as i64),
        )
        .dynamic(),
        Variable::new(
            c"caching_enabled",
            c"Whether keys and versions in memory answer without Vault being asked",
            VariableKind::Switch { default: true },
        )
        .dynamic(),
        Variable::new(
            c"cache_timeout",
            c"Milliseconds after which Vault is asked for a key again",
            milliseconds(i64::MAX),
        )
        .dynamic()
        .deprecated(),
        Variable::new(
            c"cache_version_timeout",
            c"Milliseconds after which Vault is asked for the newest version of a key again",
            milliseconds(60_000),
        )
        .dynamic(),
        Variable::new(
            c"use_cache_on_timeout",
            c"Of the original. What is in memory goes on serving when Vault is away, ON or OFF",
            VariableKind::Switch { default: true },
        )
        .dynamic(),
        Variable::new(
            c"check_kv_version",
            c"Whether to refuse a KV engine of version 1 at the start",
            VariableKind::Switch { default: true },
        )
        .dynamic(),
        Variable::new(c"retries", c"The same as max_retries; -1 = as that says", RETRIES).hidden(),
        Variable::new(
            c"role_id",
            c"The AppRole to log in as, in place of a token",
            VariableKind::Text { default: c"" },
        )
        .hidden(),
        Variable::new(
            c"secret_id",
            c"Its secret, or FILE: and the file that has it",
            VariableKind::Text { default: c"" },
        )
        .hidden(),
        Variable::new(
            c"vault_mount",
            c"Where the engine is; vault_url then is an address alone, and the engine may be transit",
            VariableKind::Text { default: c"" },
        )
        .hidden(),
        Variable::new(
            c"vault_prefix",
            c"The folder of the keys in that engine; the key's name where it is transit",
            VariableKind::Text { default: c"" },
        )
        .hidden(),
    ],
    start,
    error_number: |_| NO_NUMBER,
    original_texts: true,
};

const RETRIES: VariableKind =
    VariableKind::Number { size: Size::Int, default: -1, min: -1, max: i32::MAX as i64 };

const fn int(default: i64, max: i64) -> VariableKind {
    VariableKind::Number { size: Size::Int, default, min: 0, max }
}

const fn milliseconds(default: i64) -> VariableKind {
    VariableKind::Number { size: Size::BigInt, default, min: 0, max: i64::MAX }
}

fn start(values: &dyn Values, role: Role, env: Env) -> Result<Started> {
    let options = Hashicorp {
        url: values.text(c"vault_url"),
        ca: given(values, c"vault_ca").map(Into::into),
        login: login(values, role, &env)?,
        check_version: values.switch(c"check_kv_version"),
        mount: handed_on(values, c"vault_mount", "HASHICORP_KEY_MANAGEMENT_VAULT_MOUNT", role),
        prefix: handed_on(values, c"vault_prefix", "HASHICORP_KEY_MANAGEMENT_VAULT_PREFIX", role),
    };
    if options.prefix.is_some() && options.mount.is_none() {
        let what = "hashicorp: vault_prefix is set, and vault_mount is not";
        return Err(Error::new(Kind::Config, what)
            .advise("name the engine as vault_mount, and leave vault_url without a path"));
    }
    let terms = Arc::new(LookupOptions::default());
    take_over(values, &terms);
    let custodian = from_hashicorp(&options, Arc::clone(&terms), role, env)?;
    let changed = Box::new(move |values: &dyn Values| take_over(values, &terms));
    Ok(Started { custodian, mark: None, changed: Some(changed) })
}

/// Goes by the variables that may be SET at any time.
fn take_over(values: &dyn Values, terms: &LookupOptions) {
    let timeout = match u64::try_from(values.number(c"timeout")) {
        Ok(seconds @ 1..) => Duration::from_secs(seconds),
        _ => CURL_TIMEOUT,
    };
    let retries = u32::try_from(values.number(c"retries"))
        .or_else(|_| u32::try_from(values.number(c"max_retries")));
    terms.set_patience(timeout, retries.unwrap_or_default());
    let age = |name| match values.switch(c"caching_enabled") {
        true => Duration::from_millis(u64::try_from(values.number(name)).unwrap_or_default()),
        false => Duration::ZERO,
    };
    terms.set_ages(age(c"cache_version_timeout"), age(c"cache_timeout"));
}

fn login(values: &dyn Values, role: Role, env: &Env) -> Result<HashicorpLogin> {
    let role_id = handed_on(values, c"role_id", "HASHICORP_KEY_MANAGEMENT_ROLE_ID", role);
    if let Some(role_id) = role_id {
        let secret_id = handed_on(values, c"secret_id", "HASHICORP_KEY_MANAGEMENT_SECRET_ID", role);
        let secret_id = secret_id.ok_or_else(|| {
            let what = "hashicorp: role_id is set, and secret_id is not";
            Error::new(Kind::Config, what)
                .advise("set hashicorp_key_management_secret_id, best to FILE:/path/of/the/file")
        })?;
        let secret_id = match secret_id.strip_prefix("FILE:") {
            Some(path) => SecretSource::File(path.into()),
            None => {
                SecretSource::Option(Given::new("hashicorp_key_management_secret_id", &secret_id))
            }
        };
        return Ok(HashicorpLogin::AppRole { role_id, secret_id });
    }
    let name = "hashicorp_key_management_token";
    let token = match (given(values, c"token"), variable(TOKEN)) {
        (Some(option), variable) => {
            match variable {
                None if role == Role::Server => environment::set(TOKEN, &option),
                Some(variable) if variable != option => env.log.log(Level::Warning, DIFFERS),
                _ => {}
            }
            Given::new(name, &option)
        }
        (None, Some(variable)) => Given::new("environment variable VAULT_TOKEN", &variable),
        (None, None) => return Err(Error::new(Kind::Config, NO_TOKEN)),
    };
    Ok(HashicorpLogin::Token(SecretSource::Option(token)))
}

const NO_TOKEN: &str = "hashicorp: The --hashicorp-key-management-token option value or the value \
    of the corresponding parameter in the configuration file must be specified, otherwise the \
    VAULT_TOKEN environment variable must be set";

const DIFFERS: &str = "hashicorp: The --hashicorp-key-management-token option value or the value \
    of the corresponding parameter is not equal to the value of the VAULT_TOKEN environment variable";

/// An option that is no variable of the server's: `mariadb-backup`, which is not told of it, takes it
/// from the environment, and so do programs that the server starts.
fn handed_on(values: &dyn Values, name: &CStr, in_env: &str, role: Role) -> Option<String> {
    let option = given(values, name);
    if let (Some(value), Role::Server) = (&option, role) {
        environment::set(in_env, value);
    }
    option.or_else(|| variable(in_env))
}

/// A text that was set to something.
fn given(values: &dyn Values, name: &CStr) -> Option<String> {
    Some(values.text(name)).filter(|text| !text.is_empty())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}
