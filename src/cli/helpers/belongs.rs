//! Whether a data directory is one of the keystore's: what nothing in another's needs, may be needed in
//! ours.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::helpers::confine;
use crate::custodian::Custodian;
use crate::error::{Error, Kind, Result};
use crate::key::{KeyRef, KeyState};
use crate::manager::Judged;
use crate::mark::{self, Place};
use crate::store::DataDirectory;

/// Checks that at least one of `datadirs` is shown to be a server's that uses this keystore, and none
/// to be another's. A folder that shows nothing may be a further one of the server's.
pub(in crate::cli) fn check(datadirs: &[PathBuf], custodian: &Custodian) -> Result<()> {
    let ours = custodian.identity();
    let mut shown = false;
    for folder in datadirs {
        shown |= shows(folder, custodian, &ours)?;
    }
    if shown || datadirs.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = datadirs.iter().map(|folder| folder.display().to_string()).collect();
    let what = format!(
        "nothing in {} shows that its server uses {}: no {} of it, and no page that its keys open",
        names.join(", "),
        mark::whose(&ours),
        mark::MARK_NAME
    );
    Err(Error::new(Kind::State, what)
        .advise("name the data directory of the server that uses this keystore"))
}

/// Which registered data directories `datadirs` are and which are `gone`; an error unless that is all.
pub(in crate::cli) fn judge(
    datadirs: &[PathBuf],
    gone: &[String],
    custodian: &Custodian,
) -> Result<Judged> {
    let registered = custodian.data_directories();
    for mark in gone {
        if !registered.iter().any(|one| one.mark == *mark) {
            let what = format!("no data directory with mark {mark:?} is registered");
            return Err(Error::new(Kind::NotFound, what)
                .advise("`keyward status` lists those that are: leave out this --gone"));
        }
        let named = datadirs.iter().find(|folder| mark::id_of(folder).as_ref() == Some(mark));
        if let Some(folder) = named {
            let what = format!("{} has mark {mark}, so it is not gone", folder.display());
            return Err(Error::new(Kind::State, what).advise("leave out one of the two"));
        }
    }
    let seen = registered.iter().filter(|one| datadirs.iter().any(|folder| is_one(folder, one)));
    let seen = seen.map(|one| one.mark.clone()).collect();
    let judged = Judged { seen, gone: gone.to_owned() };
    custodian.manager()?.check_judged(&judged)?;
    Ok(judged)
}

/// Whether `folder` is the registered data directory: it has its mark, and is not just a copy of one
/// that is still at its place.
fn is_one(folder: &Path, registered: &DataDirectory) -> bool {
    let has_mark = |folder: &Path| mark::id_of(folder).as_ref() == Some(&registered.mark);
    let place = Path::new(&registered.path);
    let is_copy = || {
        let same = folder.canonicalize().ok() == place.canonicalize().ok();
        registered.host == mark::host() && has_mark(place) && !same
    };
    has_mark(folder) && !is_copy()
}

/// Whether `folder` is shown to be of `ours`; an error where it is another's.
fn shows(folder: &Path, custodian: &Custodian, ours: &str) -> Result<bool> {
    let theirs = mark::keystore_of(folder);
    if theirs.as_deref() == Some(ours) {
        return Ok(true);
    }
    let destroyed: Vec<KeyRef> = custodian
        .keys()
        .into_iter()
        .filter(|info| info.state == KeyState::Destroyed)
        .map(|info| info.key)
        .collect();
    let gone = |key: &KeyRef| destroyed.contains(key);
    let ring = custodian.ring();
    let found = confine::reading(|| mark::examine(folder, ring, &gone, Duration::ZERO))?;
    let Some(Place { file, key, .. }) = found.against else { return Ok(found.opens > 0) };
    let (file, folder) = (file.display(), folder.display());
    let whose = match theirs {
        Some(theirs) => format!("belongs to {}", mark::whose(&theirs)),
        None => format!("belongs to another keystore than {}", mark::whose(ours)),
    };
    let what = format!("{folder} {whose}: {file} in it is encrypted with another {key}");
    Err(Error::new(Kind::State, what)
        .advise("name the data directory of the server that uses this keystore"))
}
