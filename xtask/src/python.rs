//! Python environments in the user's cache, one for each program: LocalStack, AWS's emulator, Google's and
//! Microsoft's own clients of their key stores, and CycloneDX's validator. They are processes that tests talk to,
//! never a part of what we ship.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use test_kit::{Result, artefacts, scratch};

use crate::roots::cache;
use crate::{job, setup};

/// Installs some hundred packages in seconds, where pip takes minutes.
const UV: &str = "uv==0.13.9";

/// All packages with their versions, as `uv pip compile --exclude-newer 2025-08-01` found them for
/// `localstack-core[runtime]`.
const LOCALSTACK: (&str, &str) = ("localstack-4.6.0", "testing/cloud/localstack.txt");

/// Those of `google-cloud-kms`, which drives the server that stands for Google's in tests.
const GOOGLE: (&str, &str) = ("google-cloud-kms-3.18.0", "testing/cloud/google.txt");

/// Those of `azure-keyvault-keys` and `azure-identity`, which drive the one that stands for Azure's.
const MICROSOFT: (&str, &str) = ("azure-keyvault-keys-4.11.3", "testing/cloud/microsoft.txt");

/// Those of `cyclonedx-python-lib[json-validation]`, which has the schemas of CycloneDX.
const CYCLONEDX: (&str, &str) = ("cyclonedx-python-lib-11.12.0", "packaging/test/sbom.txt");

const LIMIT: Duration = Duration::from_secs(900);

/// The Python that has LocalStack, made if it is not there.
pub(crate) fn localstack() -> Result<PathBuf> {
    environment(LOCALSTACK)
}

/// The Python that has Google's client, made if it is not there.
pub(crate) fn google() -> Result<PathBuf> {
    environment(GOOGLE)
}

/// The Python that has Microsoft's client, made if it is not there.
pub(crate) fn microsoft() -> Result<PathBuf> {
    environment(MICROSOFT)
}

/// The Python that has CycloneDX's validator, made if it is not there.
pub(crate) fn cyclonedx() -> Result<PathBuf> {
    environment(CYCLONEDX)
}

fn environment((name, packages): (&str, &str)) -> Result<PathBuf> {
    let folder = cache()?.join(name);
    if !folder.exists() {
        install(&folder, name, packages)?;
    }
    Ok(folder.join("bin/python"))
}

/// Installs beside its place, so that half of one is never taken for the whole.
fn install(folder: &Path, name: &str, list: &str) -> Result<()> {
    setup::need(&["python3-venv"])?;
    let part = cache()?.join(format!("{name}.part"));
    match fs::remove_dir_all(&part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    println!("installing {name}, once");
    step(Command::new("python3").args(["-m", "venv"]).arg(&part))?;
    step(Command::new(part.join("bin/python")).args(["-m", "pip", "install", "--quiet", UV]))?;
    let mut packages = Command::new(part.join("bin/uv"));
    packages
        .args(["pip", "install", "--quiet", "--no-deps", "--python"])
        .arg(part.join("bin/python"));
    step(packages.arg("--requirement").arg(artefacts::repository().join(list)))?;
    fs::rename(&part, folder)?;
    Ok(())
}

fn step(command: &mut Command) -> Result<()> {
    let done = job::logged(command, &scratch::root().join("python-install.log"), LIMIT)?;
    if done.ok { Ok(()) } else { Err(format!("{command:?}\n{}", done.text).into()) }
}
