//! The configured providers one by one: how each stands to the keystore, and a trial of it.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use super::open;
use crate::config::{Config, ProviderConfig};
use crate::env::{Deadline, Env};
use crate::error::{Error, Kind, Result};
use crate::provider::{FreshLogin, KeyServer, KeyWrapper, Provider, WrapContext};
use crate::secret::DataKey;
use crate::store::{Keystore, STORE_KEY_LEN, StoreFile};

/// A provider that is configured, or wraps the keystore, or both.
pub struct Standing {
    /// Its name.
    pub name: String,
    /// Its type; none where it is not configured.
    pub kind: Option<String>,
    /// Whether it serves data keys; else it wraps. None where its section does not tell.
    pub serves: Option<bool>,
    /// Whether it wraps the keystore; none where it serves, or where there is no keystore.
    pub wraps: Option<bool>,
    /// Why its section cannot be used.
    pub failure: Option<Error>,
}

/// What a trial of a provider showed.
pub struct Trial {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// How long it took.
    pub took: Duration,
    /// What it did, or why not.
    pub outcome: Result<Tried>,
}

/// What a provider did.
pub enum Tried {
    /// It wrapped a random key, and unwrapped it again.
    Wraps {
        /// Where its wrapping key is.
        place: String,
    },
    /// It listed what it has.
    Serves {
        /// How many key versions.
        versions: usize,
        /// Where they are.
        place: String,
    },
    /// Nothing, as a log-in may use something up: why.
    Spared(&'static str),
}

/// How the providers of `config` stand, and after them those that wrap its keystore without being configured.
/// Nobody is asked.
pub fn standings(config: &Config, env: &Env) -> Result<Vec<Standing>> {
    let wrapped_by = wrapped_by(config)?;
    let is_in = |name: &str| wrapped_by.as_ref().map(|names| names.iter().any(|one| one == name));
    let configured = config.providers.iter().map(|provider| {
        let kind = provider.section.required("type").ok();
        let (serves, failure) = match open(provider, env) {
            Ok(Provider::Serves(_)) => (Some(true), None),
            Ok(Provider::Wraps(_)) => (Some(false), None),
            Err(error) => (None, Some(error)),
        };
        let name = provider.name.clone();
        let wraps = if serves == Some(true) { None } else { is_in(&name) };
        Standing { name, kind, serves, wraps, failure }
    });
    let is_configured = |name: &&String| config.providers.iter().any(|one| one.name == **name);
    let others = wrapped_by.iter().flatten().filter(|name| !is_configured(name)).map(|name| {
        let (name, wraps) = (name.clone(), Some(true));
        Standing { name, kind: None, serves: None, wraps, failure: None }
    });
    Ok(configured.chain(others).collect())
}

/// Tries the provider called `name`, or each: one that wraps does so with a random key, one that serves lists its
/// keys. Nothing of it stays anywhere. Where nobody has named it, one whose log-in may use something up is spared.
pub fn try_out(config: &Config, name: Option<&str>, env: &Env) -> Result<Vec<Trial>> {
    let context = context(config, env)?;
    let chosen = match name {
        Some(name) => vec![super::named(config, name)?],
        None => config.providers.iter().collect(),
    };
    let one = |provider: &ProviderConfig| {
        let began = Instant::now();
        let outcome = try_one(provider, &context, name.is_some(), env);
        let kind = provider.section.required("type").unwrap_or_default();
        Trial { name: provider.name.clone(), kind, took: began.elapsed(), outcome }
    };
    Ok(chosen.into_iter().map(one).collect())
}

fn try_one(
    provider: &ProviderConfig,
    context: &WrapContext,
    is_named: bool,
    env: &Env,
) -> Result<Tried> {
    let by = Deadline::after(provider.timeout);
    let opened = open(provider, env)?;
    let login = match &opened {
        Provider::Serves(server) => server.fresh_login(),
        Provider::Wraps(wrapper) => wrapper.fresh_login(),
    };
    match (login, opened) {
        (FreshLogin::Spends(why), _) if !is_named => Ok(Tried::Spared(why)),
        (_, Provider::Serves(server)) => list(&*server, by),
        (_, Provider::Wraps(wrapper)) => wrap(&*wrapper, context, by, env),
    }
}

fn list(server: &dyn KeyServer, by: Deadline) -> Result<Tried> {
    let versions = server.list(by)?.len();
    Ok(Tried::Serves { versions, place: server.place() })
}

fn wrap(wrapper: &dyn KeyWrapper, context: &WrapContext, by: Deadline, env: &Env) -> Result<Tried> {
    let random = DataKey::generate(STORE_KEY_LEN, &*env.rng)?;
    let wrapped = wrapper.wrap(&random, context, by)?;
    if !wrapper.unwrap(&wrapped, context, by)?.same_as(&random) {
        return Err(Error::new(Kind::Corrupt, "unwrapping gives another key than was wrapped"));
    }
    Ok(Tried::Wraps { place: wrapper.describe(by)?.place })
}

/// The names of those that wrap the keystore of `config`; none where it is not there.
fn wrapped_by(config: &Config) -> Result<Option<Vec<String>>> {
    match StoreFile::at(&config.keystore.path).read() {
        Ok((sealed, _)) => {
            let wrappings = sealed.unverified().wrappings().iter();
            Ok(Some(wrappings.map(|one| one.provider.clone()).collect()))
        }
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the store key is bound to, since a key store may allow nothing else; of a new keystore where there is none.
fn context(config: &Config, env: &Env) -> Result<WrapContext> {
    match StoreFile::at(&config.keystore.path).read() {
        Ok((sealed, _)) => Ok(sealed.unverified().wrap_context()),
        Err(_) => Ok(Keystore::first_context(&Keystore::new_id(&*env.rng)?)),
    }
}
