//! Whether a data directory is one of the keystore's: what nothing in another's needs, may be needed in
//! ours.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::confine;
use crate::custodian::Custodian;
use crate::error::{Error, Kind, Result};
use crate::key::{KeyRef, KeyState};
use crate::mark::{self, Place};

/// That at least one of `datadirs` is shown to be a server's that uses this keystore, and none to be
/// another's. A folder that shows nothing may be a further one of the server's.
pub(super) fn check(datadirs: &[PathBuf], custodian: &Custodian) -> Result<()> {
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
