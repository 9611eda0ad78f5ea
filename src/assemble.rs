//! Builds a custodian from a configuration, for the doors and the command alike: opens the key stores,
//! reads the keystore, starts serving. Also makes keystores, imports keys and moves them.

#![forbid(unsafe_code)]

mod marked;
mod moving;
mod next_start;
mod providers;
mod served;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use marked::{
    Keeper, Marked, WAY_ROUND, from_file_for, notice_configuration, refuse_a_second_keystore,
    start_for,
};
use moving::named;
pub use moving::{MigrationReport, Target, import, migrate, read_keys};
pub use next_start::{ReadConfig, watch_restart};
pub use providers::{Standing, Trial, Tried, standings, try_out};
pub use served::{Compared, Returned, ServedKeys};

use crate::backend::{self, Order};
use crate::backup::Backup;
use crate::config::{self, Config, ProviderConfig};
use crate::custodian::{Custodian, Source};
use crate::env::{Deadline, Env, Level, Rng};
use crate::error::{Error, Kind, Result};
use crate::event::{Backlog, Event, Head, Limits, Record, Trail};
use crate::key::{Cipher, KeyId, KeyRef};
use crate::manager::{Manager, Restored, Rollback};
use crate::mark;
use crate::provider::{End, FreshLogin, KekInfo, KeyServer, Probe, Provider};
use crate::secret::DataKey;
use crate::sink::{self, Courier};
use crate::source::{
    LOCK_WAIT, NamedServer, NamedWrapper, Reason, Role, ServedSource, Stash, fingerprint_to_pin,
};
use crate::store::{Keystore, Revision, STORE_KEY_LEN, StoreFile, TrailAnchor};
use crate::trust;

/// How long `init` waits for the lock of a keystore that nobody else can know yet.
const INIT_LOCK_WAIT: Duration = Duration::from_secs(1);

/// The keys that a server needs from the start: 1 (system) and 2 (temporary files).
pub const FIRST_KEYS: [u32; 2] = [1, 2];

/// Reads the configuration at `path` and begins to serve its keys. A server checks from then on
/// whether it could do so again.
pub fn from_file(path: &Path, role: Role, env: Env) -> Result<Custodian> {
    let config = Config::load(path)?;
    trust_owner_of(&config.keystore.path);
    let custodian = start(&config, role, env.clone())?;
    let path = path.to_owned();
    watch_restart(&custodian, Box::new(move || Config::load(&path)), &env);
    Ok(custodian)
}

/// A program of root's that loads us, such as mariadb-backup, reads the keystore of whoever owns the
/// folder that root's own configuration names.
pub fn trust_owner_of(keystore: &Path) {
    if let Some(folder) = keystore.parent() {
        trust::work_for_owner_of(folder);
    }
}

/// Begins to serve the keys that `config` describes.
pub fn start(config: &Config, role: Role, env: Env) -> Result<Custodian> {
    sink::check(&config.sinks)?;
    let custodian = Custodian::start(source(config, &env)?, role, env.clone())?;
    if let Some(mut courier) = courier(config, custodian.backlog(), &env)? {
        if role == Role::Command {
            // Or the sink misses what this very call does; its last step tells why that failed.
            let _ = courier.begin();
        }
        // What cannot be told yet is told by the first delivery.
        let _ = courier.look();
        custodian.attend(Box::new(move || courier.deliver()));
    }
    Ok(custodian)
}

/// Who copies the audit trail, where that is wanted.
fn courier(config: &Config, backlog: Arc<Backlog>, env: &Env) -> Result<Option<Courier>> {
    if config.sinks.is_empty() {
        return Ok(None);
    }
    let (sinks, keystore) = (&config.sinks, &config.keystore.path);
    Courier::new(sinks, keystore, mark::host(), backlog, env.clone()).map(Some)
}

/// Copies what waits in the audit trail to the sinks of `config`, for at most `time`: a command's last step. What
/// is left is for the server, or for the next call.
pub fn deliver(config: &Config, time: Duration, env: &Env) -> Result<()> {
    let Some(mut courier) = courier(config, Arc::default(), env)? else { return Ok(()) };
    let until = Instant::now() + time;
    while courier.deliver() && Instant::now() < until {}
    Ok(())
}

/// A provider that was asked.
pub struct Probed {
    /// Its name.
    pub name: String,
    /// Its kind, as the configuration has it.
    pub kind: String,
    /// Where its keys are.
    pub custody: Option<Custody>,
    /// Whether it serves data keys; else it wraps the keystore. None where it cannot be set up.
    pub serves: Option<bool>,
    /// What it says of itself.
    pub answer: Result<Probe>,
    /// What its log-ins need and what ends by itself.
    pub ends: Vec<End>,
}

/// What each configured provider says of itself.
pub fn probe(config: &Config, env: &Env) -> Vec<Probed> {
    let ask = |provider: &ProviderConfig| {
        let (name, by) = (provider.name.clone(), Deadline::after(provider.timeout));
        let now = env.clock.now();
        let (serves, answer, ends) = match backend::open(&provider.section, &env.rng) {
            Ok(Provider::Serves(server)) => (Some(true), server.probe(by), server.ends(now)),
            Ok(Provider::Wraps(wrapper)) => (Some(false), wrapper.probe(by), wrapper.ends(now)),
            Err(error) => (None, Err(error), Vec::new()),
        };
        let backend = backend::of(&provider.section).ok();
        let kind = backend.map_or("", |backend| backend.kind).to_owned();
        let custody = backend.map(|backend| backend.custody);
        Probed { name, kind, custody, serves, answer, ends }
    };
    config.providers.iter().map(ask).collect()
}

/// The first provider that each log-in may cost a credential, and why: nothing that runs by itself, again
/// and again, may open it.
pub fn spends_credentials(config: &Config, env: &Env) -> Result<Option<(String, &'static str)>> {
    for provider in &config.providers {
        let login = match open(provider, env)? {
            Provider::Serves(server) => server.fresh_login(),
            Provider::Wraps(wrapper) => wrapper.fresh_login(),
        };
        if let FreshLogin::Spends(why) = login {
            return Ok(Some((provider.name.clone(), why)));
        }
    }
    Ok(None)
}

/// Makes a new wrapping key file for the provider `local`; never overwrites one.
pub fn create_key_file(path: &Path, rng: &dyn Rng) -> Result<()> {
    backend::local::create_key_file(path, rng).map(drop)
}

/// How a key store is prepared for a server by its administrator, and how the server logs in to it then.
pub use crate::backend::{Custody, ServerLogin, SetUp};

/// How a key store of type `kind` is prepared for a server.
pub fn set_up_of(kind: &str) -> Result<&'static SetUp> {
    backend::named(kind)?.set_up()
}

/// Prepares the key store of `config`'s only provider, which logs in as an administrator.
pub fn set_up(config: &Config, env: &Env) -> Result<ServerLogin> {
    let [provider] = config.providers.as_slice() else {
        return Err(Error::new(Kind::Internal, "one key store is prepared at a time"));
    };
    let set_up = backend::of(&provider.section)?.set_up()?;
    set_up
        .run(&provider.section, &order(provider, env))
        .map_err(|error| error.within(format!("provider {:?}", provider.name)))
}

/// The environment variables that the key stores' own libraries read, by name or, with a `*` at the
/// end, by how the name begins.
pub fn variables_of_key_stores() -> impl Iterator<Item = &'static str> {
    backend::BACKENDS.iter().flat_map(|backend| backend.environment.iter().copied())
}

/// The groups that let an account at a key store on this machine; units name them in
/// `SupplementaryGroups=`.
pub fn groups_of_key_stores() -> impl Iterator<Item = &'static str> {
    backend::BACKENDS.iter().flat_map(|backend| backend.groups.iter().copied())
}

/// Whether the configured key store keeps the data keys itself: then there is no keystore of ours.
pub fn serves(config: &Config, env: &Env) -> Result<bool> {
    for provider in &config.providers {
        if matches!(open(provider, env)?, Provider::Serves(_)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes keys 1 and 2 in the key store that serves them, where they are not there.
pub fn create_served_keys(config: &Config, reason: Reason<'_>, env: &Env) -> Result<()> {
    make_missing_keys(&start(config, Role::Command, env.clone())?, reason)
}

/// Makes keys 1 and 2 where they are not there. Of a key file that is kept by hand key 1 is enough: without
/// key 2 a server encrypts temporary files with that.
pub fn make_missing_keys(custodian: &Custodian, reason: Reason<'_>) -> Result<()> {
    let known = custodian.keys();
    for id in FIRST_KEYS.map(KeyId::try_from) {
        let id = id?;
        if !known.iter().any(|info| info.key.name == id.into()) {
            match custodian.create(id, None, reason) {
                Err(error) if error.kind() == Kind::Unsupported && id != KeyId::SYSTEM => {}
                created => drop(created?),
            }
        }
    }
    Ok(())
}

/// Begins to serve the keystore at `path`, whose store key `wrapper` opens, by the default policy.
pub fn start_keystore(
    path: &Path,
    wrapper: NamedWrapper,
    cipher: Cipher,
    version_step: u32,
    role: Role,
    env: &Env,
) -> Result<Custodian> {
    let file = StoreFile::at(path);
    let source = Manager::new(file, vec![wrapper], cipher, version_step, env.clone());
    Custodian::start(source, role, env.clone())
}

/// Has the key store of the configured provider `name` make a new wrapping key.
pub fn create_wrapping_key(config: &Config, name: &str, env: &Env) -> Result<KekInfo> {
    let provider = moving::named(config, name)?;
    let backend = backend::of(&provider.section)?;
    let made = backend.create_key(&provider.section, &order(provider, env));
    made.map_err(|error| error.within(format_args!("provider {name:?}")))
}

fn order<'a>(provider: &ProviderConfig, env: &'a Env) -> Order<'a> {
    Order { now: env.clock.now(), rng: &env.rng, by: Deadline::after(provider.timeout) }
}

/// Why a keystore was not made as it was wanted.
#[derive(Debug)]
pub struct NotMade {
    /// What failed.
    pub error: Error,
    /// Whether its file is on disk all the same: then nothing that opens it may be removed.
    pub stays: bool,
}

impl NotMade {
    /// Nothing is on disk.
    fn nothing(error: Error) -> Self {
        Self { error, stays: false }
    }
}

/// Makes the keystore that `config` describes, with keys 1 (system) and 2 (temporary files), its
/// store key wrapped by every configured provider.
pub fn create_keystore(config: &Config, reason: Reason<'_>, env: &Env) -> Result<()> {
    make_keystore(config, &FIRST_KEYS, reason, env).map(drop).map_err(|not_made| not_made.error)
}

/// Makes the keystore that `config` describes, with the keys `ids`, its store key wrapped by every
/// configured provider. Gives its fingerprint if the configuration must name that, because one of them wraps
/// by a public key.
pub fn make_keystore(
    config: &Config,
    ids: &[u32],
    reason: Reason<'_>,
    env: &Env,
) -> Result<Option<String>, NotMade> {
    let wrappers = wrappers(config, env).map_err(NotMade::nothing)?;
    let made = commit_empty_keystore(&config.keystore.path, &wrappers, reason, env)?;
    let pin = fingerprint_to_pin(&wrappers, made.contents());
    let make_keys = || -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let source = match &pin {
            None => source(config, env)?,
            Some(_) => just_made(config, self::wrappers(config, env)?, pin.as_ref(), env).into(),
        };
        let custodian = Custodian::start(source, Role::Command, env.clone())?;
        let make = |id: &u32| custodian.create(KeyId::try_from(*id)?, None, reason).map(drop);
        ids.iter().try_for_each(make)
    };
    make_keys().map_err(|error| NotMade { error, stays: true })?;
    Ok(pin)
}

/// Makes the keystore at `path` for MySQL, and the key file beside it that wraps its store key,
/// where there is none yet. Says whether it did.
pub fn ensure_keystore(path: &Path, reason: Reason<'_>, env: &Env) -> Result<bool> {
    let missing = |path: &Path| {
        let found = path.try_exists().map_err(|e| Error::io("cannot look for", path, &e));
        found.map(|found| !found)
    };
    if !missing(path)? {
        return Ok(false);
    }
    let key_file = config::key_file_beside(path);
    if missing(&key_file)? {
        create_key_file(&key_file, &*env.rng)?;
    }
    create_keystore_without_keys(&Config::of_keystore(path)?, reason, env)?;
    Ok(true)
}

/// Makes the keystore without any key: those of another key store are to come.
pub fn create_keystore_without_keys(config: &Config, reason: Reason<'_>, env: &Env) -> Result<()> {
    create_empty_keystore(&config.keystore.path, &wrappers(config, env)?, reason, env).map(drop)
}

/// Makes the keystore at `path` without any key, its store key wrapped by `wrappers`. Gives its fingerprint
/// if the configuration must name that, because one of them wraps by a public key.
pub fn create_empty_keystore(
    path: &Path,
    wrappers: &[NamedWrapper],
    reason: Reason<'_>,
    env: &Env,
) -> Result<Option<String>> {
    let made = commit_empty_keystore(path, wrappers, reason, env);
    let made = made.map_err(|not_made| not_made.error)?;
    Ok(fingerprint_to_pin(wrappers, made.contents()))
}

fn commit_empty_keystore(
    path: &Path,
    wrappers: &[NamedWrapper],
    reason: Reason<'_>,
    env: &Env,
) -> Result<Keystore, NotMade> {
    let keystore = new_keystore(wrappers, env).map_err(NotMade::nothing)?;
    let file = StoreFile::at(path);
    let lock = file.lock(Deadline::after(INIT_LOCK_WAIT)).map_err(NotMade::nothing)?;
    let tell = |event| {
        let (actor, reason) = (reason.actor, reason.text);
        let record = Record { event, keys: &[], generation: 1, actor, reason };
        Trail::beside(file.path()).append_after(None, &*env.clock, &record)
    };
    // A trail that cannot be written stops us while nothing is made yet.
    let Head { line, hash: head } = tell(Event::Intended).map_err(NotMade::nothing)?.head;
    let keystore = keystore.with_trail(TrailAnchor { line, head });
    let (made, _) = file.commit(&lock, &keystore, &*env.rng).map_err(|error| NotMade {
        stays: is_in_place(&file, keystore.contents().id(), &error),
        error,
    })?;
    let witness = file.write_witness(&made, &*env.rng);
    for outcome in [witness, tell(Event::KeystoreCreated).map(drop)] {
        if let Err(error) = outcome {
            // The keystore itself is on disk.
            env.log.log(Level::Warning, &error.to_string());
        }
    }
    Ok(made)
}

/// A keystore without keys, its store key wrapped by `wrappers`.
fn new_keystore(wrappers: &[NamedWrapper], env: &Env) -> Result<Keystore> {
    let store_key = DataKey::generate(STORE_KEY_LEN, &*env.rng)?;
    let id = Keystore::new_id(&*env.rng)?;
    let context = Keystore::first_context(&id);
    let wrappings = wrappers
        .iter()
        .map(|named| named.wrap(&store_key, &context))
        .collect::<Result<Vec<_>>>()?;
    Keystore::create(&id, store_key, wrappings, env.clock.now(), &*env.rng)
}

/// Whether the file is keystore `id` though its commit gave an error; a file that cannot be read may
/// be it, unless the commit found another before it wrote.
fn is_in_place(file: &StoreFile, id: &str, error: &Error) -> bool {
    match file.read() {
        Ok((sealed, _)) => sealed.unverified().id() == id,
        Err(unread) => unread.kind() != Kind::NotFound && error.kind() != Kind::Conflict,
    }
}

/// What accepting an older keystore would mean; see [`Manager::rollback`].
pub fn rollback(config: &Config, env: &Env) -> Result<Rollback> {
    keystore(config, wrappers(config, env)?, env).rollback()
}

/// Accepts the keystore as it is, though it is older than its rollback guard; see
/// [`Manager::accept_rollback`].
pub fn accept_rollback(
    config: &Config,
    lost: &[String],
    reason: Reason<'_>,
    env: &Env,
) -> Result<Revision> {
    keystore(config, wrappers(config, env)?, env).accept_rollback(lost, reason)
}

/// What reads the requests for approvals next to a keystore and takes approvals in, though its rollback guard
/// refuses it; see [`Manager::approve`].
pub fn approvals(config: &Config, env: &Env) -> Result<Manager> {
    Ok(keystore(config, wrappers(config, env)?, env))
}

/// Makes the keystore that `config` describes again from `backup`; without a `reason`, checks only whether
/// that can be done. See [`Manager::restore`].
pub fn restore(
    config: &Config,
    backup: &Backup,
    replace: bool,
    reason: Option<Reason<'_>>,
    env: &Env,
) -> Result<Restored> {
    let manager = keystore(config, wrappers(config, env)?, env);
    match reason {
        None => manager.try_restore(backup, replace),
        Some(reason) => manager.as_role(Role::Command).restore(backup, replace, reason),
    }
}

/// Notes in the audit trail that somebody is about to read what `keys` keep secret: of the keystore, or of
/// where one would be if a key store serves the keys. Without such a folder there is nobody's trail.
pub fn note(
    config: &Config,
    custodian: &Custodian,
    event: Event,
    keys: &[KeyRef],
    reason: Reason<'_>,
    env: &Env,
) -> Result<()> {
    if let Ok(mut manager) = custodian.manager() {
        return manager.note(event, keys, reason);
    }
    let beside = StoreFile::at(&config.keystore.path);
    if !beside.path().parent().is_some_and(Path::is_dir) {
        return Ok(());
    }
    let Reason { actor, text } = reason;
    let record = Record { event, keys, generation: 0, actor, reason: text };
    let _lock = beside.lock(Deadline::after(LOCK_WAIT))?;
    trail(config).append(&*env.clock, &record)
}

/// The audit trail of `config`, to be written.
fn trail(config: &Config) -> Trail {
    Trail::beside(&config.keystore.path).with_limits(limits(config))
}

fn limits(config: &Config) -> Limits {
    let policy = &config.audit.trail;
    Limits { size: policy.segment_size, age: policy.segment_age }
}

/// Either all providers wrap the key of our own keystore, or one serves keys, and the others seal
/// its stash.
fn source(config: &Config, env: &Env) -> Result<Source> {
    let Opened { wrappers, served } = open_all(config, env)?;
    match served {
        Some((provider, server)) => served_source(provider, server, wrappers, config, env),
        None => Ok(keystore(config, wrappers, env).into()),
    }
}

/// The configured providers, none of them called yet.
struct Opened<'a> {
    wrappers: Vec<NamedWrapper>,
    served: Option<(&'a ProviderConfig, NamedServer)>,
}

fn open_all<'a>(config: &'a Config, env: &Env) -> Result<Opened<'a>> {
    let mut wrappers = Vec::new();
    let mut served = None;
    for provider in &config.providers {
        let (name, timeout) = (provider.name.clone(), provider.timeout);
        match open(provider, env)? {
            Provider::Wraps(wrapper) => wrappers.push(NamedWrapper { name, timeout, wrapper }),
            Provider::Serves(_) if served.is_some() => {
                let refused =
                    provider.section.wrong("type", "another provider serves keys already");
                return Err(refused.advise("leave one [[provider]] that serves"));
            }
            Provider::Serves(server) => {
                let refresh = server.refresh();
                served = Some((provider, NamedServer { name, timeout, refresh, server }));
            }
        }
    }
    match (&served, &config.stash) {
        (None, Some(stash)) => {
            let what = format!("{} is for keys that a provider serves", stash.path.display());
            Err(Error::new(Kind::Config, what)
                .advise("remove [stash]: the keystore is on this machine already"))
        }
        _ => Ok(Opened { wrappers, served }),
    }
}

fn served_source(
    provider: &ProviderConfig,
    server: NamedServer,
    wrappers: Vec<NamedWrapper>,
    config: &Config,
    env: &Env,
) -> Result<Source> {
    let stash = stash_of(provider, &*server.server, config, wrappers, env)?;
    let mut source = ServedSource::new(server, config.keystore.cipher, env.clone());
    // `init` makes the folder; without it there is nobody's trail to write.
    let beside = StoreFile::at(&config.keystore.path);
    if beside.path().parent().is_some_and(Path::is_dir) {
        source = source.with_trail(beside, limits(config));
    }
    Ok(match stash {
        Some(stash) => source.with_stash(stash).into(),
        None => source.into(),
    })
}

/// The stash of what `provider` serves, where one is configured.
fn stash_of(
    provider: &ProviderConfig,
    server: &dyn KeyServer,
    config: &Config,
    wrappers: Vec<NamedWrapper>,
    env: &Env,
) -> Result<Option<Stash>> {
    match (&config.stash, wrappers.is_empty()) {
        (None, true) => Ok(None),
        (None, false) => Err(serves_alone(provider)),
        (Some(stash), true) => {
            let what = format!("nothing seals the stash {}", stash.path.display());
            Err(Error::new(Kind::Config, what)
                .advise("add a [[provider]] that wraps, such as type = \"local\""))
        }
        (Some(stash), false) => {
            let words = format!("{} {}", provider.section.required("type")?, server.identity());
            let file = StoreFile::at(&stash.path);
            Ok(Some(Stash::new(file, wrappers, &words, stash.max_age, env.clone())))
        }
    }
}

fn serves_alone(provider: &ProviderConfig) -> Error {
    let what = "this provider serves keys; others beside it can only seal a stash of them";
    provider
        .section
        .wrong("type", what)
        .advise("add [stash], or leave one [[provider]], or only such as wrap")
}

fn keystore(config: &Config, wrappers: Vec<NamedWrapper>, env: &Env) -> Manager {
    Manager::new(
        StoreFile::at(&config.keystore.path),
        wrappers,
        config.keystore.cipher,
        config.policy.version_step,
        env.clone(),
    )
    .with_policy(config.policy.clone())
    .with_fingerprint(config.keystore.fingerprint.clone())
    .with_checkpoints(config.audit.checkpoints)
    .with_trail_policy(config.audit.trail)
}

/// The keystore that this process has just made, of the fingerprint `pin` if it has one that `config` does
/// not name yet.
fn just_made(
    config: &Config,
    wrappers: Vec<NamedWrapper>,
    pin: Option<&String>,
    env: &Env,
) -> Manager {
    let made = keystore(config, wrappers, env);
    match pin {
        Some(pin) => made.with_fingerprint(Some(pin.clone())),
        None => made,
    }
}

fn wrappers(config: &Config, env: &Env) -> Result<Vec<NamedWrapper>> {
    let wraps = |provider| wrapper(provider, env)?.ok_or_else(|| serves_alone(provider));
    config.providers.iter().map(wraps).collect()
}

/// The provider that a section describes; none where it serves keys.
fn wrapper(provider: &ProviderConfig, env: &Env) -> Result<Option<NamedWrapper>> {
    let (name, timeout) = (provider.name.clone(), provider.timeout);
    Ok(match open(provider, env)? {
        Provider::Wraps(wrapper) => Some(NamedWrapper { name, timeout, wrapper }),
        Provider::Serves(_) => None,
    })
}

fn open(provider: &ProviderConfig, env: &Env) -> Result<Provider> {
    backend::open(&provider.section, &env.rng)
}
