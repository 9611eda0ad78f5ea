//! Cosmian KMS, a second KMIP server beside Debian's PyKMIP, built once and kept in the user's cache.
//! BUSL: a process that tests talk to, never a part of what we ship.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use test_kit::command::answer;
use test_kit::{Result, files, scratch};

use crate::roots::cache;
use crate::{build, job};

const CRATE: &str = "cosmian_kms_server";
const VERSION: &str = "5.28.0";
const PROGRAM: &str = "cosmian_kms";

/// As published, this line asks for a feature that its dependency does not have.
const BROKEN: &str = "\"cosmian_kms_client_utils/non-fips\",";

/// Five minutes on two idle cores.
const LIMIT: Duration = Duration::from_secs(3600);

/// The program, built if it is not there.
pub(crate) fn program() -> Result<PathBuf> {
    let folder = cache()?.join(format!("cosmian-{VERSION}"));
    let program = folder.join(PROGRAM);
    if !program.exists() {
        make(&folder)?;
    }
    Ok(program)
}

/// Builds beside its place, so that half of one is never taken for the whole.
fn make(folder: &Path) -> Result<()> {
    let part = folder.with_extension("part");
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    let source = part.join("source");
    unpack(&part.join("fetch"), &source)?;
    println!("building Cosmian KMS {VERSION}, once, for minutes");
    let mut command = build::cargo(&["build", "--locked", "--bin", PROGRAM]);
    command.args(["--features", "non-fips", "--target-dir", "../built"]).current_dir(&source);
    command.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_INCREMENTAL", "0");
    let done = job::logged(&mut command, &scratch::root().join("cosmian-build.log"), LIMIT)?;
    if !done.ok {
        return Err(format!("cargo build of {CRATE} {VERSION}\n{}", done.text).into());
    }
    fs::create_dir_all(folder)?;
    let half = folder.join("half");
    fs::copy(part.join("built/debug").join(PROGRAM), &half)?;
    fs::rename(half, folder.join(PROGRAM))?;
    Ok(fs::remove_dir_all(&part)?)
}

/// Has cargo fetch and check the crate, as a dependency of nothing, and copies its source, corrected.
fn unpack(fetch: &Path, source: &Path) -> Result<()> {
    let manifest = format!(
        "[package]\nname = \"second-server\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [dependencies]\n{CRATE} = \"={VERSION}\"\n"
    );
    fs::create_dir_all(fetch.join("src"))?;
    files::write(&fetch.join("Cargo.toml"), manifest)?;
    files::write(&fetch.join("src/lib.rs"), "")?;
    let mut command = build::cargo(&["metadata", "--format-version", "1"]);
    let known = answer(command.current_dir(fetch))?.ok()?;
    let of_crate = |path: &&str| path.ends_with(&format!("/{CRATE}-{VERSION}/Cargo.toml"));
    let found = known.split('"').find(of_crate).and_then(|path| Path::new(path).parent());
    files::copy(found.ok_or_else(|| format!("cargo has no {CRATE} {VERSION}"))?, source)?;
    let manifest = source.join("Cargo.toml");
    let text = files::text(&manifest)?.replace(BROKEN, "");
    files::write(&manifest, text)
}
