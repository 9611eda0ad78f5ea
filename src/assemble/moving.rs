//! Moving between key stores. Where both wrap, only wrappings change; else every key is taken
//! along under its id, version and cipher, and its check value proves that it arrived.

#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{create_empty_keystore, just_made, open, wrapper};
use crate::backend;
use crate::config::{Config, ProviderConfig};
use crate::custodian::Custodian;
use crate::env::{Deadline, Env};
use crate::error::{Error, Kind, Result};
use crate::key::{KeyInfo, KeyName, KeyRef, KeyState, KeyVersion, PageMode, Purpose};
use crate::manager::{ExportedKey, Manager, Rewrap, Rewrapped};
use crate::provider::{KeyServer, Provider};
use crate::secret::SecretBytes;
use crate::source::{NamedWrapper, Reason, Role};
use crate::trust;

/// How long a new key file may take to be read back.
const FILE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a move does, or would do.
#[derive(Default)]
pub struct MigrationReport {
    /// The wrappings that changed.
    pub wrappings: Vec<Rewrapped>,
    /// The keys that were taken along, all of them proven at their new place.
    pub keys: Vec<KeyInfo>,
    /// Those of them that were not there before.
    pub new: Vec<KeyRef>,
    /// Of a keystore that was made for it, if the configuration must name that.
    pub fingerprint: Option<String>,
}

/// Where keys go.
#[derive(Clone, Copy)]
pub enum Target<'a> {
    /// A configured provider.
    Provider(&'a str),
    /// A new key file, mode 0600, that the provider `file` serves.
    KeyFile(&'a Path),
}

/// Moves from one configured provider to another place. A dry run changes nothing.
pub fn migrate(
    config: &Config,
    from: &str,
    to: Target<'_>,
    dry_run: bool,
    reason: Reason<'_>,
    env: &Env,
) -> Result<MigrationReport> {
    let source = open(named(config, from)?, env)?;
    let target = match to {
        Target::Provider(name) => Some(named(config, name)?),
        Target::KeyFile(_) => None,
    };
    match (source, target) {
        (Provider::Wraps(_), None) => {
            let Target::KeyFile(path) = to else { return Err(no_target()) };
            to_key_file(config, path, dry_run, reason, env)
        }
        (Provider::Serves(_), None) => {
            let what =
                format!("provider {from:?} serves keys already; --to-file is for a keystore");
            Err(Error::new(Kind::Unsupported, what))
        }
        (Provider::Serves(server), Some(target)) => {
            let keys = read_keys(&*server, named(config, from)?.timeout)?;
            take_in(config, Some(target), keys, dry_run, reason, env)
        }
        (Provider::Wraps(_), Some(target)) => match open(target, env)? {
            Provider::Wraps(_) => rewrap(config, from, &target.name, dry_run, reason, env),
            Provider::Serves(server) => put(config, target, &*server, dry_run, reason, env),
        },
    }
}

pub(super) fn named<'a>(config: &'a Config, name: &str) -> Result<&'a ProviderConfig> {
    let found = config.providers.iter().find(|provider| provider.name == name);
    found.ok_or_else(|| {
        let names: Vec<_> = config.providers.iter().map(|one| one.name.as_str()).collect();
        let what = format!("there is no provider {name:?} in the configuration");
        Error::new(Kind::Config, what).advise(format!("it has {}", names.join(", ")))
    })
}

/// Takes `keys` of another key store into the keystore of `config`, which is made if it is not there,
/// wrapped by every configured provider.
pub fn import(
    config: &Config,
    keys: Vec<ExportedKey>,
    dry_run: bool,
    reason: Reason<'_>,
    env: &Env,
) -> Result<MigrationReport> {
    take_in(config, None, keys, dry_run, reason, env)
}

/// All keys of a key store that serves, by key and version.
pub fn read_keys(server: &dyn KeyServer, timeout: Duration) -> Result<Vec<ExportedKey>> {
    let by = Deadline::after(timeout);
    let mut infos = server.list(by)?;
    infos.retain(|info| info.state.decrypts());
    infos.sort_by(|one, other| one.key.cmp(&other.key));
    let fetch = |info: KeyInfo| {
        let data = server.fetch(&info.key, Deadline::after(timeout))?;
        ExportedKey::proven(info, data)
    };
    infos.into_iter().map(fetch).collect()
}

fn take_in(
    config: &Config,
    only: Option<&ProviderConfig>,
    keys: Vec<ExportedKey>,
    dry_run: bool,
    reason: Reason<'_>,
    env: &Env,
) -> Result<MigrationReport> {
    if let Some(target) = only
        && let Provider::Serves(_) = open(target, env)?
    {
        let what =
            format!("provider {:?} serves keys, and cannot take those of another", target.name);
        return Err(Error::new(Kind::Unsupported, what).advise("move into one that wraps"));
    }
    let there = config.keystore.path.exists();
    let infos = || keys.iter().map(|key| key.info.clone()).collect();
    if dry_run {
        let new = match there {
            true => keystore(config, env, Role::Reader)?.try_import(&keys, reason)?,
            false => keys.iter().map(|key| key.info.key.clone()).collect(),
        };
        return Ok(MigrationReport { keys: infos(), new, ..MigrationReport::default() });
    }
    let mut fingerprint = None;
    if !there {
        refuse_a_named_one(config)?;
        let wrappers = match only {
            Some(target) => vec![wrapper(target, env)?.ok_or_else(no_target)?],
            None => wrappers(config, env)?,
        };
        fingerprint = create_empty_keystore(&config.keystore.path, &wrappers, reason, env)?;
    }
    let target = |role| -> Result<Manager> {
        Ok(just_made(config, wrappers(config, env)?, fingerprint.as_ref(), env).as_role(role))
    };
    let new = target(Role::Command)?.import(&keys, reason)?;
    target(Role::Reader)?.prove(&keys)?;
    Ok(MigrationReport { keys: infos(), new, fingerprint, ..MigrationReport::default() })
}

/// Refuses to make the keystore of a configuration that names the only one that opens.
fn refuse_a_named_one(config: &Config) -> Result<()> {
    let Some(fingerprint) = &config.keystore.fingerprint else { return Ok(()) };
    let path = config.keystore.path.display();
    let what = format!(
        "{path} does not exist, and a new one would not have the fingerprint {fingerprint}"
    );
    Err(Error::new(Kind::State, what).advise(
        "put the keystore of that fingerprint there, or remove `fingerprint` from [keystore] to have a new \
         one made",
    ))
}

fn rewrap(
    config: &Config,
    from: &str,
    to: &str,
    dry_run: bool,
    reason: Reason<'_>,
    env: &Env,
) -> Result<MigrationReport> {
    let role = if dry_run { Role::Reader } else { Role::Command };
    let custodian = Custodian::start(keystore(config, env, role)?, role, env.clone())?;
    let wrappings = match dry_run {
        true => custodian.manager()?.plan_move(from, to)?,
        false => custodian.manager()?.rewrap(Rewrap::Move { from, to }, reason)?,
    };
    Ok(MigrationReport { wrappings, ..MigrationReport::default() })
}

fn put(
    config: &Config,
    target: &ProviderConfig,
    server: &dyn KeyServer,
    dry_run: bool,
    reason: Reason<'_>,
    env: &Env,
) -> Result<MigrationReport> {
    let there = server.list(Deadline::after(target.timeout))?;
    let is_there = |key: &KeyRef| there.iter().any(|info| info.key == *key);
    let mut source = keystore(config, env, if dry_run { Role::Reader } else { Role::Command })?;
    if dry_run {
        let keys = source.outgoing()?;
        let new = keys.iter().map(|info| info.key.clone()).filter(|key| !is_there(key)).collect();
        return Ok(MigrationReport { keys, new, ..MigrationReport::default() });
    }
    let mut new = Vec::new();
    let keys = source.export(&format!("provider {:?}", target.name), reason)?;
    for ExportedKey { info, data } in &keys {
        if !is_there(&info.key) {
            server.put(&info.key, data, Deadline::after(target.timeout)).map_err(cannot_take)?;
            new.push(info.key.clone());
        }
        let arrived = server.fetch(&info.key, Deadline::after(target.timeout))?;
        if !arrived.same_as(data) {
            let what = format!("{}: provider {:?} has another key", info.key, target.name);
            return Err(Error::new(Kind::State, what));
        }
    }
    let keys = keys.into_iter().map(|key| key.info).collect();
    Ok(MigrationReport { keys, new, ..MigrationReport::default() })
}

fn cannot_take(error: Error) -> Error {
    match error.kind() {
        Kind::Unsupported => error.advise("write a key file with --to-file PATH instead"),
        _ => error,
    }
}

fn to_key_file(
    config: &Config,
    path: &Path,
    dry_run: bool,
    reason: Reason<'_>,
    env: &Env,
) -> Result<MigrationReport> {
    let mut source = keystore(config, env, if dry_run { Role::Reader } else { Role::Command })?;
    let infos = source.outgoing()?;
    let mode = fits_a_key_file(&infos)?;
    if path.exists() {
        let what = format!("{} already exists", path.display());
        return Err(Error::new(Kind::State, what).advise("name a file that is not"));
    }
    let new = infos.iter().map(|info| info.key.clone()).collect();
    if !dry_run {
        let keys = source.export(&format!("the key file {}", path.display()), reason)?;
        // Under its own name only once it is whole and proven: half of one looks like one.
        let part = part_of(path);
        remove_part(&part)?;
        let proven = write_key_file(&part, &keys).and_then(|()| prove_key_file(&part, mode, &keys));
        proven.and_then(|()| put_in_place(&part, path)).inspect_err(|_| {
            // What matters is why; a part that stays goes with the next attempt.
            let _ = remove_part(&part);
        })?;
    }
    Ok(MigrationReport { keys: infos, new, ..MigrationReport::default() })
}

/// A key file has one mode for all, takes the highest version for the active one and knows no
/// other state: what it would change does not go there.
fn fits_a_key_file(infos: &[KeyInfo]) -> Result<PageMode> {
    let refused =
        |what: String, advice: &str| Err(Error::new(Kind::Unsupported, what).advise(advice));
    let mut mode = None;
    for (at, info) in infos.iter().enumerate() {
        let (KeyName::Id(_), Purpose::Pages(cipher)) = (&info.key.name, &info.purpose) else {
            return refused(format!("a key file cannot hold key {}", info.key.name), "it stays");
        };
        if *mode.get_or_insert(cipher.mode) != cipher.mode {
            let what =
                format!("{} is for {}, others are not; a key file has one mode", info.key, cipher);
            return refused(
                what,
                "rotate all keys, re-encrypt, and destroy the old versions first",
            );
        }
        let newest = infos.get(at + 1).is_none_or(|next| next.key.name != info.key.name);
        if newest != (info.state == KeyState::Active) {
            let what = format!(
                "{} is {}; in a key file the newest version is active",
                info.key, info.state
            );
            return refused(what, "activate or destroy what is pending first");
        }
    }
    mode.ok_or_else(|| Error::new(Kind::NotFound, "the keystore has no keys"))
}

/// Where a key file stands until it is whole.
fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Removes what an attempt that was cut off left.
fn remove_part(part: &Path) -> Result<()> {
    match fs::remove_file(part) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => {
            Err(Error::io("cannot remove", part, &cause))
        }
        _ => Ok(()),
    }
}

fn put_in_place(part: &Path, path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::rename(part, path)
        .and_then(|()| File::open(folder.unwrap_or(Path::new(".")))?.sync_all())
        .map_err(|cause| Error::io("cannot put in place", path, &cause))
}

/// Lines `id;version;hex`, put together in locked memory; `id;hex` where no key was ever rotated,
/// which MariaDB's own plugin reads as well.
fn write_key_file(path: &Path, keys: &[ExportedKey]) -> Result<()> {
    let rotated = keys.iter().any(|key| key.info.key.version != KeyVersion::FIRST);
    let head = |ExportedKey { info: KeyInfo { key, .. }, .. }: &ExportedKey| match rotated {
        true => format!("{};{};", key.name, key.version),
        false => format!("{};", key.name),
    };
    let len = keys.iter().map(|key| head(key).len() + 2 * key.data.expose().len() + 1).sum();
    let text = SecretBytes::build(len, |mut to| {
        let mut add = |bytes: &[u8]| to.write_all(bytes);
        for key in keys {
            add(head(key).as_bytes())?;
            for byte in key.data.expose() {
                let hex = |digit: u8| b"0123456789abcdef"[usize::from(digit & 15)];
                add(&[hex(byte >> 4), hex(*byte)])?;
            }
            add(b"\n")?;
        }
        Ok::<(), std::io::Error>(())
    })
    .map_err(|_| Error::new(Kind::Internal, "the key file's length was not foreseen"))?;
    let written = || {
        let mut file = trust::create(path, 0o600)?;
        file.write_all(text.expose())?;
        file.sync_all()
    };
    written().map_err(|cause| Error::io("cannot write the key file", path, &cause))
}

fn prove_key_file(path: &Path, mode: PageMode, keys: &[ExportedKey]) -> Result<()> {
    let server = backend::file::FileServer::new(backend::file::Settings {
        path: path.to_owned(),
        password: None,
        digest: backend::file::Digest::default(),
        pbkdf2_iterations: 0,
        mode,
        strict_permissions: true,
        dialect: backend::file::Dialect::Keyward,
    })?;
    let found = read_keys(&server, FILE_TIMEOUT)?;
    let same = |one: &ExportedKey, other: &ExportedKey| {
        one.info.key == other.info.key
            && one.info.purpose == other.info.purpose
            && one.data.same_as(&other.data)
    };
    if found.len() == keys.len() && found.iter().zip(keys).all(|(one, other)| same(one, other)) {
        return Ok(());
    }
    let what = format!("{} does not read back as it was written", path.display());
    Err(Error::new(Kind::Corrupt, what))
}

/// Our own keystore, opened by whichever configured provider wraps.
fn keystore(config: &Config, env: &Env, role: Role) -> Result<Manager> {
    Ok(super::keystore(config, wrappers(config, env)?, env).as_role(role))
}

/// The configured providers that wrap; during a move there may be others.
fn wrappers(config: &Config, env: &Env) -> Result<Vec<NamedWrapper>> {
    config.providers.iter().filter_map(|provider| wrapper(provider, env).transpose()).collect()
}

fn no_target() -> Error {
    Error::new(Kind::Internal, "a move without a place to go to")
}
