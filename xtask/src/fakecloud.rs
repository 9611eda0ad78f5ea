//! fakecloud's KMS, IAM and STS, built once and kept in the user's cache: unlike LocalStack they
//! check signatures and judge by policies. AGPL: a process that tests talk to, never a part of what
//! we ship.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use test_cloud::fakecloud::{CACHE, PROGRAM};
use test_kit::{Result, artefacts, files, scratch};

use crate::roots::cache;
use crate::{build, job};

/// The program's source, a package of its own.
const SOURCE: &str = "testing/cloud/fakecloud";

/// What it is made of; kept beside the program, to be compared.
const PARTS: [&str; 3] = ["Cargo.toml", "Cargo.lock", "main.rs"];

/// Four minutes on two idle cores.
const LIMIT: Duration = Duration::from_secs(3600);

/// The program, built if it is not there or was made of something else.
pub(crate) fn program() -> Result<PathBuf> {
    let (folder, source) = (cache()?.join(CACHE), artefacts::repository().join(SOURCE));
    let is_same = |name: &&str| {
        let of = |folder: &Path| files::read(&folder.join(name)).ok();
        of(&folder).is_some() && of(&folder) == of(&source)
    };
    let program = folder.join(PROGRAM);
    if !program.exists() || !PARTS.iter().all(is_same) {
        make(&source, &folder)?;
    }
    Ok(program)
}

/// Builds beside its place, so that half of one is never taken for the whole.
fn make(source: &Path, folder: &Path) -> Result<()> {
    let part = folder.with_extension("part");
    for old in [&part, folder] {
        if old.exists() {
            fs::remove_dir_all(old)?;
        }
    }
    fs::create_dir_all(&part)?;
    for name in PARTS {
        fs::copy(source.join(name), part.join(name))?;
    }
    println!("building fakecloud's KMS, IAM and STS, once, for minutes");
    let mut command = build::cargo(&["build", "--locked", "--target-dir", "built"]);
    command.current_dir(&part);
    let done = job::logged(&mut command, &scratch::root().join("fakecloud-build.log"), LIMIT)?;
    if !done.ok {
        return Err(format!("cargo build of {}\n{}", source.display(), done.text).into());
    }
    fs::rename(part.join("built/debug").join(PROGRAM), part.join(PROGRAM))?;
    fs::remove_dir_all(part.join("built"))?;
    Ok(fs::rename(&part, folder)?)
}
