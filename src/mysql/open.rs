//! The keyring between load and unload, in the server's terms: keys by name.
//!
//! The server holds one lock around all of these calls, so they answer from memory; only a change
//! of a key waits for the disk. It may fork between load and the first use (`--daemonize`), and
//! what a key store's library holds, such as a thread or a session, does not outlive that: the
//! first call in another process opens everything again.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use nix::unistd::geteuid;
use zeroize::Zeroizing;

use super::NAME;
use super::aes::{self, Direction, Mode};
use super::message::{self, ServerLog};
use crate::assemble;
use crate::config::component::{Component, FILE_NAME};
use crate::config::{Config, Section};
use crate::custodian::Custodian;
use crate::env::{Env, Level, Log};
use crate::error::{Error, Kind, Result};
use crate::event::metrics::{self, Cell, Facts, Renderer, ServerFacts, Shown, Value};
use crate::key::KeyName;
use crate::ring::NamedKey;
use crate::secret::{self, DataKey};
use crate::source::{Reason, Role};
use crate::trust;

/// Who changes keys, as history and audit trail have it, where the server does so by itself.
const ACTOR: &str = "mysqld";

/// The longest key id and the longest user of a new key, in bytes: what the columns of
/// `performance_schema.keyring_keys` hold.
const MAX_NAME_LEN: usize = 255;

/// The types that MySQL's manual lists for keyring keys, written in any case.
const TYPES: [&str; 4] = ["AES", "RSA", "DSA", "SECRET"];

/// The provider that runs nobody else's code and calls nobody.
const LOCAL: &str = "local";

static STATE: RwLock<State> =
    RwLock::new(State { folders: None, open: None, cause: None, failure: None });

struct State {
    /// Library and instance: where the server said that configuration is.
    folders: Option<(PathBuf, PathBuf)>,
    open: Option<Arc<Open>>,
    /// Why the last load failed.
    cause: Option<String>,
    /// Why the last change failed, where the keyring was at fault and not the one who asked.
    failure: Option<String>,
}

/// A keyring that serves.
struct Open {
    custodian: Custodian,
    mark: Option<Arc<assemble::Keeper>>,
    data_file: PathBuf,
    read_only: bool,
    /// Whether there is a configuration of keyward's own, so that others may change the keystore.
    configured: bool,
    /// The process that opened it.
    pid: u32,
}

/// Reads the configuration again and opens what it names. On failure all stays as it was: a keyring
/// that served goes on with what it had.
pub(super) fn load(library: PathBuf, instance: PathBuf) -> Result<()> {
    let before = STATE.read().unwrap_or_else(PoisonError::into_inner).open.clone();
    let opened = Open::start(&library, &instance, before.as_deref());
    if let Ok(open) = &opened {
        message::started(&open.custodian.status());
    }
    drop(before);
    let mut state = state_mut();
    state.folders = Some((library, instance));
    state.cause = opened.as_ref().err().map(ToString::to_string);
    if opened.is_ok() {
        state.failure = None;
    }
    // Ended outside the lock: its worker may be waiting for a key store.
    let before = state.open.take();
    state.open = opened.as_ref().ok().cloned().or_else(|| before.clone());
    drop(state);
    opened.map(drop)
}

/// Ends everything; afterwards no thread of ours is left.
pub(super) fn unload() {
    let open = state_mut().open.take();
    if let Some(open) = open {
        open.custodian.stop();
    }
}

/// Whether keys are served.
pub(super) fn is_open() -> bool {
    STATE.read().unwrap_or_else(PoisonError::into_inner).open.is_some()
}

/// Whether a MySQL server has loaded the component into this process.
pub(crate) fn is_loaded() -> bool {
    STATE.read().unwrap_or_else(PoisonError::into_inner).folders.is_some()
}

/// Asks the keys that are served.
pub(crate) fn serving<T>(ask: impl FnOnce(&Custodian) -> T) -> Result<T> {
    Ok(ask(&open()?.custodian))
}

/// All metrics of the keyring.
pub(crate) fn metrics() -> Vec<Shown> {
    STATE.read().unwrap_or_else(PoisonError::into_inner).all_metrics()
}

/// The key called `name`, if there is one.
pub(super) fn key(name: &KeyName) -> Result<Option<Arc<NamedKey>>> {
    let open = open()?;
    let key = open.custodian.named(name)?;
    if let (Some(_), Some(mark)) = (&key, &open.mark) {
        mark.asked(open.custodian.ring());
    }
    Ok(key)
}

/// The names of all keys.
pub(super) fn names() -> Result<Vec<KeyName>> {
    Ok(open()?.custodian.all_named().names().cloned().collect())
}

/// Stores a key for `client`; when this returns, it is on disk.
pub(super) fn store(
    client: Option<&str>,
    name: &KeyName,
    kind: &str,
    data: &DataKey,
) -> Result<()> {
    check_new(name, kind)?;
    change(client, "stored", |custodian, reason| {
        custodian.manager()?.store_named(name, kind, data, reason)
    })
}

/// Makes and stores a random key of `len` bytes.
pub(super) fn generate(client: Option<&str>, name: &KeyName, kind: &str, len: usize) -> Result<()> {
    check_new(name, kind)?;
    change(client, "generated", |custodian, reason| {
        custodian.manager()?.generate_named(name, kind, len, reason)
    })?;
    // The key is stored: a keyring that was closed meanwhile makes no failure of that.
    if let Ok(open) = open() {
        open.tell_of_rotation(name);
    }
    Ok(())
}

/// Removes a key for ever.
pub(super) fn remove(client: Option<&str>, name: &KeyName) -> Result<()> {
    change(client, "removed", |custodian, reason| custodian.manager()?.remove_named(name, reason))
}

/// Writes all keys in memory into a new keystore, unless the present one has them; how many versions
/// were written. Without a configuration the wrapping key is keyward's own to make, should it be lost
/// as well.
pub(super) fn rescue(client: Option<&str>) -> Result<usize> {
    let open = open()?;
    open.refuse_if_read_only()?;
    let key_file = crate::config::key_file_beside(&open.data_file);
    if !open.configured && !key_file.exists() {
        let env = Env::system(Arc::new(ServerLog));
        assemble::create_key_file(&key_file, &*env.rng)?;
        let line = format!("made wrapping key {}: back it up", key_file.display());
        ServerLog.log(Level::Note, &line);
    }
    let reason = Reason { actor: client.unwrap_or(ACTOR), text: "keyward_rescue()" };
    let rescued = open.custodian.rescue(reason)?;
    state_mut().failure = None;
    Ok(rescued.versions)
}

/// Encrypts or decrypts `data` with the key called `name`, which must be of type AES.
pub(super) fn crypt(
    name: &KeyName,
    mode: Mode,
    direction: Direction,
    iv: &[u8; 16],
    padding: bool,
    data: &[u8],
) -> Result<Zeroizing<Vec<u8>>> {
    let none = || Error::new(Kind::NotFound, format!("there is no key {name}"));
    let key = key(name)?.ok_or_else(none)?;
    if !key.kind().eq_ignore_ascii_case("AES") {
        let what = format!("key {name} is of type {}, not AES", key.kind());
        return Err(Error::new(Kind::Config, what));
    }
    aes::crypt(key.data(), mode, direction, iv, padding, data)
}

/// What `performance_schema.keyring_component_status` shows: the rows that the stock component has, and
/// our metrics.
pub(super) fn describe() -> Vec<(String, String)> {
    let state = STATE.read().unwrap_or_else(PoisonError::into_inner);
    let open = state.open.as_deref();
    let yes_or_no = |yes| if yes { "Yes" } else { "No" }.to_owned();
    let data_file = open.map(|open| open.data_file.display().to_string());
    let read_only = open.map(|open| yes_or_no(open.read_only));
    let unknown = || "<NOT APPLICABLE>".to_owned();
    let stock = [
        ("Component_name", NAME.to_owned()),
        ("Author", "The keyward authors".to_owned()),
        ("License", "MIT OR Apache-2.0".to_owned()),
        ("Implementation_name", NAME.to_owned()),
        ("Version", env!("CARGO_PKG_VERSION").to_owned()),
        ("Component_status", if open.is_some() { "Active" } else { "Disabled" }.to_owned()),
        ("Data_file", data_file.unwrap_or_else(unknown)),
        ("Read_only", read_only.unwrap_or_else(unknown)),
    ];
    let stock = stock.into_iter().map(|(name, value)| (name.to_owned(), value));
    stock.chain(state.metrics().iter().map(row)).collect()
}

/// A metric as one of the table's rows, whose names begin with a capital.
fn row(shown: &Shown) -> (String, String) {
    let mut name = shown.metric.name().to_owned();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let value = match shown.cell() {
        Cell::Number(number) => number.to_string(),
        Cell::Text(text) => text,
    };
    (name, value)
}

/// Whether a metric says that something is to be put right.
fn is_wrong(shown: &Shown) -> bool {
    match shown.metric.name() {
        "degraded_reason" | "last_error" => shown.value != Value::Nothing,
        "memory_locked" => shown.value == Value::Flag(false),
        "library_replaced" => shown.value == Value::Flag(true),
        _ => false,
    }
}

impl State {
    /// All metrics with keyward's own configuration; else, where the table is to look like the stock
    /// component's, what went wrong.
    fn metrics(&self) -> Vec<Shown> {
        let mut metrics = self.all_metrics();
        if !self.open.as_ref().is_some_and(|open| open.configured) {
            metrics.retain(is_wrong);
        }
        metrics
    }

    fn all_metrics(&self) -> Vec<Shown> {
        let open = self.open.as_deref();
        let last_error = self.cause.as_ref().or(self.failure.as_ref());
        let mark = open.and_then(|open| open.mark.as_ref());
        let server = ServerFacts {
            mark: mark.map_or_else(String::new, |mark| mark.state()),
            last_error: last_error.cloned().unwrap_or_default(),
        };
        let keys = open.map(|open| open.custodian.status());
        let facts = Facts { keys: keys.as_ref(), server: Some(&server), ..Facts::default() };
        metrics::shown(Renderer::MySql, facts)
    }
}

impl Open {
    /// In the place of `before`, if that serves. The server loads us as root and becomes another user
    /// afterwards. Until then that user, who owns the data directory, chooses no code that runs here: ADR 88.
    fn start(library: &Path, instance: &Path, before: Option<&Self>) -> Result<Arc<Self>> {
        let of = |read| Self::of(read, library, instance, before);
        if !geteuid().is_root() {
            return of(read(library, instance)?);
        }
        trust::work_for(0);
        match read(library, instance) {
            Ok((component, config)) => {
                let folder = config.keystore.path.parent().unwrap_or(Path::new("/"));
                let owner = trust::work_for_owner_of(folder);
                match component {
                    Component::Config(_) => of((component, config)),
                    _ => trust::acting_as(owner.0, owner.1, || of((component, config))),
                }
            }
            // Root alone is not behind it: it counts as the data directory's owner's.
            Err(not_roots) => {
                let owner = trust::work_for_owner_of(instance);
                if owner.0 == 0 {
                    return Err(not_roots);
                }
                trust::acting_as(owner.0, owner.1, || {
                    let (component, config) = read(library, instance)?;
                    refuse_all_but_local(&config, owner.0)?;
                    of((component, config))
                })
            }
        }
    }

    fn of(
        (component, config): (Component, Config),
        library: &Path,
        instance: &Path,
        before: Option<&Self>,
    ) -> Result<Arc<Self>> {
        let env = Env::system(Arc::new(ServerLog));
        let read_only = match &component {
            Component::Keystore { path, read_only: false } => {
                refuse_to_lose(before, path)?;
                make_where_missing(path, instance, &env)?;
                false
            }
            Component::Keystore { read_only, .. } => *read_only,
            Component::Config(_) | Component::Local => false,
        };
        let role = if read_only { Role::Reader } else { Role::Daemon };
        // Only a configuration has a place for the way round.
        let way_round = matches!(component, Component::Config(_)).then_some(assemble::WAY_ROUND);
        let assemble::Marked { custodian, mark } =
            assemble::start_for(&config, instance, way_round, role, env.clone())?;
        refuse_without_master_keys(before, &custodian, &config.keystore.path)?;
        let (library, instance) = (library.to_owned(), instance.to_owned());
        let read = move || Component::find(&library, &instance)?.config(&library.join(FILE_NAME));
        assemble::watch_restart(&custodian, Box::new(read), &env);
        if let Component::Config(path) = &component {
            assemble::notice_configuration(&custodian, path);
        }
        Ok(Arc::new(Self {
            custodian,
            mark,
            data_file: config.keystore.path,
            read_only,
            configured: matches!(component, Component::Config(_)),
            pid: std::process::id(),
        }))
    }

    /// A master key is rotated under a new name, which has a line where the server had one before.
    fn tell_of_rotation(&self, name: &KeyName) {
        let Some(new) = name.master_key() else { return };
        let named = self.custodian.all_named();
        let older = named.names().filter_map(KeyName::master_key).filter(|one| {
            (one.kind, one.server) == (new.kind, new.server) && one.number < new.number
        });
        if let Some(former) = older.map(|one| one.number).max() {
            let (kind, number) = (new.kind, new.number);
            let line = format!("rotated: {kind} master key from number {former} to {number}");
            message::of_its_life(&line);
        }
    }

    fn refuse_if_read_only(&self) -> Result<()> {
        match self.read_only {
            true => Err(Error::new(Kind::Unsupported, "the keyring is read-only")
                .advise(format!("set \"read_only\": false in {FILE_NAME}"))),
            false => Ok(()),
        }
    }
}

/// Refuses what no key of a server's has: the bounds are for new keys alone, so that one that is in
/// the keystore already stays readable and can be removed.
fn check_new(name: &KeyName, kind: &str) -> Result<()> {
    let KeyName::Named { data_id, auth_id } = name else { return Ok(()) };
    if data_id.len().max(auth_id.len()) > MAX_NAME_LEN {
        return Err(Error::new(Kind::Config, "its name is longer than 255 bytes")
            .advise("choose a shorter one"));
    }
    if !TYPES.iter().any(|known| known.eq_ignore_ascii_case(kind)) {
        return Err(Error::new(Kind::Config, "its type is none that a keyring keeps")
            .advise("use AES, RSA, DSA or SECRET"));
    }
    Ok(())
}

/// Changes a key, and remembers for the status why that failed: the server tells its client only
/// that it did.
fn change(
    client: Option<&str>,
    text: &'static str,
    work: impl FnOnce(&Custodian, Reason<'_>) -> Result<()>,
) -> Result<()> {
    let open = open()?;
    open.refuse_if_read_only()?;
    let outcome = work(&open.custodian, Reason { actor: client.unwrap_or(ACTOR), text });
    let failure = match &outcome {
        Err(error) if message::asked_in_vain(error) => return outcome,
        Err(error) => Some(error.to_string()),
        Ok(()) => None,
    };
    state_mut().failure = failure;
    outcome
}

/// The open keyring, awake, and opened by this very process.
fn open() -> Result<Arc<Open>> {
    let state = STATE.read().unwrap_or_else(PoisonError::into_inner);
    let Some(open) = &state.open else {
        let cause = state.cause.as_deref().unwrap_or("it was never loaded");
        return Err(Error::new(Kind::State, format!("the keyring is disabled: {cause}"))
            .advise("correct that, then run ALTER INSTANCE RELOAD KEYRING"));
    };
    let open = Arc::clone(open);
    drop(state);
    let open = if open.pid == std::process::id() { open } else { reopen(open) };
    // A keystore of this server alone needs nobody to look whether others changed it.
    if open.configured {
        open.custodian.wake();
    }
    Ok(open)
}

/// Opens again after a fork. If that fails, the keys loaded before the fork are still served.
fn reopen(before: Arc<Open>) -> Arc<Open> {
    secret::relock_after_fork();
    let mut state = state_mut();
    match &state.open {
        Some(open) if open.pid == std::process::id() => return Arc::clone(open),
        _ => {}
    }
    let Some((library, instance)) = state.folders.clone() else { return before };
    match Open::start(&library, &instance, Some(&*before)) {
        Ok(open) => {
            state.open = Some(Arc::clone(&open));
            open
        }
        Err(error) => {
            let line = format!("the keys of before the fork are served: {error}");
            ServerLog.log(Level::Warning, &line);
            before
        }
    }
}

/// What the server's folders say.
fn read(library: &Path, instance: &Path) -> Result<(Component, Config)> {
    let component = Component::find(library, instance)?;
    let config = component.config(&library.join(FILE_NAME))?;
    Ok((component, config))
}

/// A configuration of the data directory's owner, read by root, may open a keystore and nothing more.
fn refuse_all_but_local(config: &Config, owner: u32) -> Result<()> {
    let is_local = |section: &Section| section.required("type").map(|kind| kind == LOCAL);
    // A sink would read files and call others.
    let mut refused = config.sinks.first().map(|sink| &sink.section);
    for provider in &config.providers {
        if !is_local(&provider.section)? {
            refused = Some(&provider.section);
        }
    }
    let Some(section) = refused else { return Ok(()) };
    let refused = section.wrong("type", "may be used by root's configuration only");
    Err(refused.advise(format!(
        "the server still is root here, and user {owner} can write this file: chown root it and its \
         folder, or start the server as that user"
    )))
}

/// Refuses to begin with an empty keystore at `path` while `before` serves keys: nobody would have them
/// any more.
fn refuse_to_lose(before: Option<&Open>, path: &Path) -> Result<()> {
    let in_use = before.is_some_and(|open| !open.custodian.all_named().is_empty());
    if !in_use || path.try_exists().unwrap_or(true) {
        return Ok(());
    }
    let what = format!(
        "there is no keystore at {}, and keys of the one before are in use",
        path.display()
    );
    Err(Error::new(Kind::NotFound, what).advise(
        "put it back, or name its place; if it is lost, SELECT keyward_rescue() writes the keys in the \
         server's memory into a new one: do not stop the server before",
    ))
}

/// Refuses another keystore that lacks a master key in memory, or has another one under its name: the
/// server's data need it, though maybe nothing on the disk says so yet.
fn refuse_without_master_keys(before: Option<&Open>, now: &Custodian, path: &Path) -> Result<()> {
    let Some(before) = before else { return Ok(()) };
    if before.custodian.keystore_id() == now.keystore_id() {
        return Ok(());
    }
    let (in_use, there) = (before.custodian.all_named(), now.all_named());
    let is_there = |name: &KeyName, key: &NamedKey| {
        there.get(name).is_some_and(|other| other.data().same_as(key.data()))
    };
    let mut lost = in_use
        .for_files()
        .filter(|(name, key)| name.master_key().is_some() && !is_there(name, key));
    let Some((name, _)) = lost.next() else { return Ok(()) };
    let what =
        format!("{} is another keystore and lacks key {name}, which is in use", path.display());
    Err(Error::new(Kind::Conflict, what).advise(format!(
        "name the place of the one before, {}; to change to another, copy all keys into it first, by \
         mysql_migrate_keyring",
        before.data_file.display()
    )))
}

fn make_where_missing(path: &Path, instance: &Path, env: &Env) -> Result<()> {
    assemble::refuse_a_second_keystore(path, instance, env)?;
    let reason = Reason { actor: ACTOR, text: "first start" };
    if assemble::ensure_keystore(path, reason, env)? {
        let key = crate::config::key_file_beside(path);
        let (path, key) = (path.display(), key.display());
        let line = format!("made keystore {path} and its wrapping key {key}: back up both, apart");
        ServerLog.log(Level::Note, &line);
    }
    Ok(())
}

fn state_mut() -> std::sync::RwLockWriteGuard<'static, State> {
    // Every change behind this lock is made in one step.
    STATE.write().unwrap_or_else(PoisonError::into_inner)
}
