//! Keys that are served only where they fit the data directory: see [`crate::mark`].

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{serves, start, trust_owner_of, watch_restart};
use crate::config::{self, Config};
use crate::custodian::Custodian;
use crate::env::{Env, Level};
use crate::error::{Error, Kind, Result};
use crate::event::Trail;
use crate::key::{KeyRef, KeyState};
use crate::manager::Home;
use crate::mark;
pub use crate::mark::Keeper;
use crate::ring::Watch;
use crate::source::Role;
use crate::trust;

/// What to do where the data directory is encrypted and its keys are not at hand.
const PUT_BACK: &str = "put the configuration and the keystore of these data back from a backup; a \
                        new keystore does not read them";

/// How an operator starts a server without the files that its keys do not read.
pub const WAY_ROUND: &str = "`check_data = false` in [keystore]";

/// Who serves a server's keys, and who keeps its mark.
pub struct Marked {
    /// The keys.
    pub custodian: Custodian,
    /// The mark; none for who only reads.
    pub mark: Option<Arc<Keeper>>,
}

/// Reads the configuration at `path` and begins to serve its keys to the server whose data directory
/// is `folder`, which they must fit. The server checks from then on whether it could do so again.
pub fn from_file_for(path: &Path, folder: &Path, role: Role, env: Env) -> Result<Marked> {
    let config = Config::load(path).map_err(|error| match path.try_exists() {
        Ok(false) => not_a_new_one(error, folder),
        _ => error,
    })?;
    trust_owner_of(&config.keystore.path);
    let marked = start_for(&config, folder, Some(WAY_ROUND), role, env.clone())?;
    notice_configuration(&marked.custodian, path);
    let path = path.to_owned();
    watch_restart(&marked.custodian, Box::new(move || Config::load(&path)), &env);
    Ok(marked)
}

/// The same for a configuration that was read. `way_round` tells how to have an error of this
/// function's not given.
pub fn start_for(
    config: &Config,
    folder: &Path,
    way_round: Option<&str>,
    role: Role,
    env: Env,
) -> Result<Marked> {
    let custodian = start(config, role, env.clone()).map_err(|error| {
        let ours = error.kind() == Kind::NotFound && !serves(config, &env).unwrap_or(true);
        match config.keystore.path.try_exists() {
            Ok(false) if ours => not_a_new_one(error, folder),
            _ => error,
        }
    })?;
    if role == Role::Reader {
        return Ok(Marked { custodian, mark: None });
    }
    let setting = mark::Setting {
        folder,
        keystore: custodian.identity(),
        refuses: config.keystore.check_data,
        way_round,
    };
    let destroyed: Vec<KeyRef> = custodian
        .keys()
        .into_iter()
        .filter(|info| info.state == KeyState::Destroyed)
        .map(|info| info.key)
        .collect();
    let gone = |key: &KeyRef| destroyed.binary_search(key).is_ok();
    let keeper = Arc::new(Keeper::begin(&setting, custodian.ring(), &gone, env)?);
    custodian.ring().watch(Arc::clone(&keeper) as Arc<dyn Watch>);
    let home = home(folder, &keeper);
    custodian.notice_for(home.host.clone(), home.path.clone());
    custodian.register(home);
    Ok(Marked { custodian, mark: Some(keeper) })
}

/// Has the server tell its audit trail when the file at `path` changes, by a digest of it.
pub fn notice_configuration(custodian: &Custodian, path: &Path) {
    let path = path.to_owned();
    let read = move || trust::read(&path, config::MAX_LEN).ok();
    custodian.notice_configuration(Box::new(read));
}

/// The data directory at `folder`, as the keystore's register has it.
fn home(folder: &Path, keeper: &Arc<Keeper>) -> Home {
    let path = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let keeper = Arc::clone(keeper);
    Home {
        host: mark::host(),
        path: path.to_string_lossy().into_owned(),
        mark: Box::new(move || keeper.id()),
    }
}

/// Refuses to have a keystore made at `path` for a server whose data in `folder` need one that was lost.
/// Logs what is left of one that nothing needs.
pub fn refuse_a_second_keystore(path: &Path, folder: &Path, env: &Env) -> Result<()> {
    if path.try_exists().unwrap_or(true) {
        return Ok(());
    }
    let mut witness = path.as_os_str().to_owned();
    witness.push(".witness");
    let places = [config::key_file_beside(path), witness.into()];
    let mut left: Vec<PathBuf> = places.into_iter().filter(|path| path.exists()).collect();
    left.extend(Trail::beside(path).files());
    let left = match left.as_slice() {
        [] => String::new(),
        _ => {
            let names: Vec<_> = left.iter().map(|path| path.display().to_string()).collect();
            format!("; left of the one before: {}", names.join(", "))
        }
    };
    let what = format!("there is no keystore at {}{left}", path.display());
    match mark::is_encrypted(folder) {
        None if left.is_empty() => Ok(()),
        None => {
            env.log.log(Level::Warning, &format!("{what}; a new one is made"));
            Ok(())
        }
        Some(file) => {
            let (file, folder) = (file.display(), folder.display());
            Err(Error::new(Kind::NotFound, format!("{what}; {file} in {folder} is encrypted"))
                .advise(
                    "put the keystore back from a backup, next to its key file; a new one does \
                         not read these data",
                ))
        }
    }
}

/// `error` with advice that leads to the keys of the data in `folder`, where they need any.
fn not_a_new_one(error: Error, folder: &Path) -> Error {
    match mark::evidence(folder) {
        Some(evidence) => {
            Error::new(error.kind(), format!("{}; {evidence}", error.what())).advise(PUT_BACK)
        }
        None => error,
    }
}
