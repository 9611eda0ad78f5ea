//! LocalStack, AWS's emulator, kept in the user's cache in a Python environment of its own. It is a
//! process that tests talk to, never a part of what we ship.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use test_kit::{Result, artefacts, scratch};

use crate::roots::cache;
use crate::{job, setup};

const VERSION: &str = "4.6.0";

/// Installs some hundred packages in seconds, where pip takes minutes.
const UV: &str = "uv==0.13.9";

/// All packages with their versions, as `uv pip compile --exclude-newer 2025-08-01` found them for
/// `localstack-core[runtime]`.
const PACKAGES: &str = "testing/cloud/localstack.txt";

const LIMIT: Duration = Duration::from_secs(900);

/// The Python that has it, made if it is not there.
pub(crate) fn python() -> Result<PathBuf> {
    let folder = cache()?.join(format!("localstack-{VERSION}"));
    if !folder.exists() {
        install(&folder)?;
    }
    Ok(folder.join("bin/python"))
}

/// Installs beside its place, so that half of one is never taken for the whole.
fn install(folder: &Path) -> Result<()> {
    setup::need(&["python3-venv"])?;
    let part = cache()?.join(format!("localstack-{VERSION}.part"));
    match fs::remove_dir_all(&part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    println!("installing LocalStack {VERSION}, once");
    step(Command::new("python3").args(["-m", "venv"]).arg(&part))?;
    step(Command::new(part.join("bin/python")).args(["-m", "pip", "install", "--quiet", UV]))?;
    let mut packages = Command::new(part.join("bin/uv"));
    packages
        .args(["pip", "install", "--quiet", "--no-deps", "--python"])
        .arg(part.join("bin/python"));
    step(packages.arg("--requirement").arg(artefacts::repository().join(PACKAGES)))?;
    fs::rename(&part, folder)?;
    Ok(())
}

fn step(command: &mut Command) -> Result<()> {
    let done = job::logged(command, &scratch::root().join("localstack-install.log"), LIMIT)?;
    if done.ok { Ok(()) } else { Err(format!("{command:?}\n{}", done.text).into()) }
}
