//! What MariaDB's own `hashicorp_key_management` is configured with, and what the options mean that
//! guides have beside its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{create_empty_keystore, make_missing_keys, start_keystore, trust_owner_of};
use crate::backend::http::Trust;
use crate::backend::vault::{
    self, KvServer, KvSettings, Login, Lookup, OriginalKeys, Place, RoleId,
};
use crate::config;
use crate::custodian::Custodian;
use crate::env::{Deadline, Env, Level};
use crate::error::{Error, Kind, Result};
use crate::key::{Cipher, PageMode};
use crate::secret::source::SecretSource;
use crate::source::{LookupOptions, LookupSource, NamedLookup, NamedWrapper, Reason, Role};

/// The name that errors and the keystore know this key store by.
const NAME: &str = "hashicorp_key_management";

/// The transit key where no prefix names one.
const TRANSIT_KEY: &str = "keyward";

/// What new keys of a keystore are for under this name, as for all others: what the server itself
/// encrypts with.
const CIPHER: Cipher = Cipher { mode: PageMode::Cbc, key_len: 32 };

/// Under a stand-in's name a rotation raises the version by one.
const VERSION_STEP: u32 = 1;

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

/// Begins to serve the keys of the Vault that `options` describe, asked as `terms` say. An engine
/// named by `vault_mount` may be transit: then the keys are in a keystore of ours, which is made at
/// the first start of a server.
pub fn from_hashicorp(
    options: &Hashicorp,
    terms: Arc<LookupOptions>,
    role: Role,
    env: Env,
) -> Result<Custodian> {
    let place = options.place()?;
    if options.mount.is_some() {
        let client = options.settings(&place).client(Arc::clone(&env.rng));
        let found = client.mounted(&place.mount, Deadline::after(terms.timeout()))?;
        if found.kind == "transit" {
            return from_transit(options, place, &terms, role, env);
        }
    }
    let store = Box::new(options.lookup(place, &env)?);
    let source = LookupSource::new(NamedLookup { name: NAME.to_owned(), store, options: terms });
    Custodian::start(source, role, env)
}

impl Hashicorp {
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
        let trust = Trust { ca_file: self.ca.clone(), as_original: true, ..Trust::default() };
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
    pub(super) fn all_keys(&self, env: &Env) -> Result<KvServer> {
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
    terms: &LookupOptions,
    role: Role,
    env: Env,
) -> Result<Custodian> {
    let vault = options.settings(&place);
    let key = options.prefix()?.unwrap_or_else(|| TRANSIT_KEY.to_owned());
    let settings = vault::TransitSettings { vault, mount: place.mount, key };
    let wrapper = || {
        let wrapper = vault::TransitWrapper::new(settings.clone(), Arc::clone(&env.rng));
        NamedWrapper { name: NAME.to_owned(), timeout: terms.timeout(), wrapper: Box::new(wrapper) }
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
    create_empty_keystore(path, std::slice::from_ref(wrapper), reason, env).map(|()| true)
}
