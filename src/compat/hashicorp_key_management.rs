//! The stand-in for MariaDB's `hashicorp_key_management`: keys in a KV engine of Vault's, looked up
//! when the server wants them.
//!
//! Names, types, defaults and error texts are those of the original, and what its cache promises:
//! the newest version is asked for again when what was said is older than `cache_version_timeout`.
//! One thing differs: the original ends the server (an assertion of InnoDB's) where Vault is away and
//! `use_cache_on_timeout` is OFF. Here what is in memory goes on serving.

#![forbid(unsafe_code)]

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::my_cnf::{self, Options};
use super::plugin::{Plugin, Size, Started, Values, Variable, VariableKind};
use crate::assemble::{
    self, create_empty_keystore, make_missing_keys, start_keystore, trust_owner_of,
};
use crate::backend::http::TlsConfig;
use crate::backend::vault::{
    self, KvServer, KvSettings, Login, Lookup, OriginalKeys, Place, RoleId,
};
use crate::config;
use crate::custodian::Custodian;
use crate::env::{Deadline, Env, Level};
use crate::error::{Error, Kind, Result};
use crate::key::{Cipher, PageMode};
use crate::manager::ExportedKey;
use crate::secret::source::{Given, SecretSource};
use crate::source::{LookupOptions, LookupSource, NamedLookup, NamedWrapper, Reason, Role};

/// The name that errors and the keystore know this key store by.
pub(super) const NAME: &str = "hashicorp_key_management";

/// The transit key where no prefix names one.
const TRANSIT_KEY: &str = "keyward";

/// What new keys of a keystore are for under this name, as for all others: what the server itself
/// encrypts with.
const CIPHER: Cipher = Cipher { mode: PageMode::Cbc, key_len: 32 };

/// Under a stand-in's name a rotation raises the version by one.
const VERSION_STEP: u32 = 1;

/// How long it may take to read all keys of a Vault, each of which is a call or two.
const VAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// `ER_UNKNOWN_ERROR`, which the original answers with.
const NO_NUMBER: u32 = 1105;

/// The variable of the environment that the original takes for the token, and that
/// `mariadb-backup`, which is not told the option, has to be given.
const TOKEN: &str = "VAULT_TOKEN";

/// What a timeout of 0 means: curl's own.
const CURL_TIMEOUT: Duration = Duration::from_secs(300);

pub(super) static PLUGIN: Plugin = Plugin {
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

/// The variables of `hashicorp_key_management` that say where the keys are.
pub struct Hashicorp {
    /// `vault_url`.
    pub url: String,
    /// `vault_ca`.
    pub ca: Option<PathBuf>,
    /// `token`, or `role_id` and `secret_id`.
    pub login: HashicorpLogin,
    /// `check_kv_version`.
    pub check_version: bool,
    /// `vault_mount`.
    pub mount: Option<String>,
    /// `vault_prefix`.
    pub prefix: Option<String>,
}

/// How to log in.
pub enum HashicorpLogin {
    /// With a token.
    Token(SecretSource),
    /// As an AppRole.
    AppRole {
        /// Which role.
        role_id: String,
        /// Its secret.
        secret_id: SecretSource,
    },
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
    let lookup_options = Arc::new(LookupOptions::default());
    take_over(values, &lookup_options);
    let custodian = serve(&options, Arc::clone(&lookup_options), role, env)?;
    let changed = Box::new(move |values: &dyn Values| take_over(values, &lookup_options));
    Ok(Started { custodian, mark: None, changed: Some(changed) })
}

/// Goes by the variables that may be SET at any time.
fn take_over(values: &dyn Values, lookup_options: &LookupOptions) {
    let timeout = match u64::try_from(values.number(c"timeout")) {
        Ok(seconds @ 1..) => Duration::from_secs(seconds),
        _ => CURL_TIMEOUT,
    };
    let retries = u32::try_from(values.number(c"retries"))
        .or_else(|_| u32::try_from(values.number(c"max_retries")));
    lookup_options.set_patience(timeout, retries.unwrap_or_default());
    let age = |name| match values.switch(c"caching_enabled") {
        true => Duration::from_millis(u64::try_from(values.number(name)).unwrap_or_default()),
        false => Duration::ZERO,
    };
    lookup_options.set_ages(age(c"cache_version_timeout"), age(c"cache_timeout"));
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
                None if role == Role::Server => values.hand_on(TOKEN, &option),
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
        values.hand_on(in_env, value);
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

/// Begins to serve the keys of the Vault that `options` describe, asked as `lookup_options` say. An engine
/// named by `vault_mount` may be transit: then the keys are in a keystore of ours, which is made at
/// the first start of a server.
fn serve(
    options: &Hashicorp,
    lookup_options: Arc<LookupOptions>,
    role: Role,
    env: Env,
) -> Result<Custodian> {
    let place = options.place()?;
    if options.mount.is_some() {
        let client = options.settings(&place).client(Arc::clone(&env.rng));
        let found = client.mounted(&place.mount, Deadline::after(lookup_options.timeout()))?;
        if found.kind == "transit" {
            return from_transit(options, place, &lookup_options, role, env);
        }
    }
    let store = Box::new(options.lookup(place, &env)?);
    let source =
        LookupSource::new(NamedLookup { name: NAME.to_owned(), store, options: lookup_options });
    Custodian::start(source, role, env)
}

impl Hashicorp {
    /// What an option file at `path` says of it.
    pub(super) fn configured(options: &Options, path: &Path) -> Result<Self> {
        let text = |name| options.get(NAME, name).filter(|text| !text.is_empty());
        let login = match (text("role_id"), text("secret_id")) {
            (Some(role_id), Some(secret_id)) => HashicorpLogin::AppRole {
                role_id: role_id.to_owned(),
                secret_id: match secret_id.strip_prefix("FILE:") {
                    Some(file) => SecretSource::File(file.into()),
                    None => SecretSource::Option(Given::new("secret_id", secret_id)),
                },
            },
            _ => {
                let token = text("token").map(str::to_owned).or_else(|| variable(TOKEN));
                let Some(token) = token else {
                    return my_cnf::refused(
                        path,
                        format!("there is no {NAME}_token in it, and no VAULT_TOKEN"),
                        "set VAULT_TOKEN to a token that may list and read the keys",
                    );
                };
                let source = SecretSource::Option(Given::new("the plugin's token", &token));
                HashicorpLogin::Token(source)
            }
        };
        Ok(Self {
            url: text("vault_url").unwrap_or_default().to_owned(),
            ca: text("vault_ca").map(PathBuf::from),
            login,
            check_version: true,
            mount: text("vault_mount").map(str::to_owned),
            prefix: text("vault_prefix").map(str::to_owned),
        })
    }

    /// All of its keys with all of their versions.
    pub(super) fn keys(&self, env: &Env) -> Result<Vec<ExportedKey>> {
        let mut keys = assemble::read_keys(&self.all_keys(env)?, VAULT_TIMEOUT)?;
        if keys.is_empty() {
            let what = "the Vault has no keys where the option file says".to_owned();
            return Err(Error::new(Kind::NotFound, what).advise("is vault_url the right one?"));
        }
        // The server itself encrypted with them, whatever is noted beside them.
        for ExportedKey { info, data } in &mut keys {
            let cipher = Cipher { mode: PageMode::Cbc, key_len: data.expose().len() };
            info.purpose = cipher.into();
        }
        Ok(keys)
    }

    fn place(&self) -> Result<Place> {
        match &self.mount {
            None => Place::of_url(&self.url),
            Some(mount) => Place::of_base(&self.url, mount),
        }
    }

    fn settings(&self, place: &Place) -> vault::Settings {
        let login = match &self.login {
            HashicorpLogin::Token(source) => Login::Token(source.clone()),
            HashicorpLogin::AppRole { role_id, secret_id } => Login::AppRole {
                mount: "approle".to_owned(),
                role_id: RoleId::Given(role_id.clone()),
                secret_id: secret_id.clone(),
                wrapped: false,
            },
        };
        let trust =
            TlsConfig { ca_file: self.ca.clone(), as_original: true, ..TlsConfig::default() };
        vault::Settings { addresses: vec![place.address.clone()], namespace: None, trust, login }
    }

    fn prefix(&self) -> Result<Option<String>> {
        let prefix = self.prefix.as_deref().map(|prefix| prefix.trim_matches('/'));
        match prefix.filter(|prefix| !prefix.is_empty()) {
            Some(prefix) if !vault::is_path(prefix) => {
                let what = format!("hashicorp: vault_prefix {prefix:?} is no path");
                Err(Error::new(Kind::Config, what).advise("name a folder within the engine"))
            }
            prefix => Ok(prefix.map(str::to_owned)),
        }
    }

    /// All of the keys with all of their versions, to be taken elsewhere.
    fn all_keys(&self, env: &Env) -> Result<KvServer> {
        let place = self.place()?;
        let settings = KvSettings {
            vault: self.settings(&place),
            mount: place.mount,
            prefix: self.prefix()?.unwrap_or_default(),
            mode: PageMode::Cbc,
            refresh: Duration::MAX,
        };
        Ok(KvServer::new(settings, Arc::clone(&env.rng)))
    }

    fn lookup(&self, place: Place, env: &Env) -> Result<Lookup> {
        let settings = self.settings(&place);
        let prefix = self.prefix()?;
        let keys = OriginalKeys { place, prefix, check_version: self.check_version };
        Ok(Lookup::new(settings, keys, Arc::clone(&env.rng)))
    }
}

fn from_transit(
    options: &Hashicorp,
    place: Place,
    lookup_options: &LookupOptions,
    role: Role,
    env: Env,
) -> Result<Custodian> {
    let vault = options.settings(&place);
    let key = options.prefix()?.unwrap_or_else(|| TRANSIT_KEY.to_owned());
    let settings = vault::TransitSettings { vault, mount: place.mount, key };
    let wrapper = || {
        let wrapper = vault::TransitWrapper::new(settings.clone(), Arc::clone(&env.rng));
        NamedWrapper {
            name: NAME.to_owned(),
            timeout: lookup_options.timeout(),
            wrapper: Box::new(wrapper),
        }
    };
    let path = Path::new(config::DEFAULT_KEYSTORE);
    trust_owner_of(path);
    let new = make_keystore(path, &wrapper(), role, &env)?;
    let custodian = start_keystore(path, wrapper(), CIPHER, VERSION_STEP, role, &env)?;
    if new {
        make_missing_keys(&custodian, Reason { actor: NAME, text: "first start" })?;
    }
    Ok(custodian)
}

/// Makes the keystore where there is none; whether it did.
fn make_keystore(path: &Path, wrapper: &NamedWrapper, role: Role, env: &Env) -> Result<bool> {
    let there = path.try_exists().map_err(|cause| Error::io("cannot look for", path, &cause))?;
    if there || role != Role::Server {
        return Ok(false);
    }
    let folder = path.parent().unwrap_or(path);
    if !folder.is_dir() {
        let what = format!("there is no folder {} for the keystore", folder.display());
        return Err(Error::new(Kind::Config, what).advise(format!(
            "make it: install -d -o mysql -g mysql -m 0700 {}",
            folder.display()
        )));
    }
    let line = format!("making a keystore at {}: back it up", path.display());
    env.log.log(Level::Note, &line);
    let reason = Reason { actor: NAME, text: "first start" };
    create_empty_keystore(path, std::slice::from_ref(wrapper), reason, env).map(|_| true)
}
