//! Kryoptic, a second PKCS#11 module beside Debian's SoftHSM2, built once and kept in the user's cache.
//! A module that tests load, never a part of what we ship.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use test_kit::{Result, files, scratch};

use crate::roots::cache;
use crate::{build, job};

const VERSION: &str = "1.5.4";

/// The name that cargo gives it.
const LIBRARY: &str = "libkryoptic_pkcs11.so";

/// Two minutes on two idle cores.
const LIMIT: Duration = Duration::from_secs(1800);

/// The variable in which tests find it.
pub(crate) const VARIABLE: &str = "KEYWARD_KRYOPTIC";

/// The module's file, built if it is not there.
pub(crate) fn module() -> Result<PathBuf> {
    let folder = cache()?.join(format!("kryoptic-{VERSION}"));
    let module = folder.join(LIBRARY);
    if !module.exists() {
        make(&folder)?;
    }
    Ok(module)
}

/// Builds beside its place, so that half of one is never taken for the whole.
fn make(folder: &Path) -> Result<()> {
    let part = cache()?.join(format!("kryoptic-{VERSION}.part"));
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    fs::create_dir_all(part.join("src"))?;
    // It is built as a dependency, by which cargo fetches and checks it as any other.
    let manifest = format!(
        "[package]\nname = \"second-module\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [dependencies]\n\
         kryoptic = {{ version = \"={VERSION}\", default-features = false, features = [\"minimal\"] }}\n\
         kryoptic-lib = {{ version = \"={VERSION}\", default-features = false, features = [\"dynamic\"] }}\n"
    );
    files::write(&part.join("Cargo.toml"), manifest)?;
    files::write(&part.join("src/lib.rs"), "")?;
    println!("building kryoptic {VERSION}, once, for minutes");
    let mut command = build::cargo(&["build", "--package", "kryoptic", "--target-dir", "built"]);
    command.current_dir(&part);
    let done = job::logged(&mut command, &scratch::root().join("kryoptic-build.log"), LIMIT)?;
    if !done.ok {
        return Err(format!("cargo build --package kryoptic\n{}", done.text).into());
    }
    let found = files::all(&part.join("built/debug"));
    let made = found.iter().find(|path| path.ends_with(LIBRARY)).ok_or("cargo made no module")?;
    fs::create_dir_all(folder)?;
    let half = folder.join("half");
    fs::copy(made, &half)?;
    fs::rename(half, folder.join(LIBRARY))?;
    Ok(fs::remove_dir_all(&part)?)
}
