//! Builds what is under test.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use test_kit::{Result, artefacts, files};

use crate::{feature_bench, job, kernels, keyring_bench, server_bench, setup};

/// `cargo xtask bench [server [ROUNDS] | keyring | model | features | ...]`.
pub(crate) fn bench(words: &[String]) -> Result<()> {
    match words.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        Some(("server", rest)) => server_bench::task(rest),
        Some(("keyring", _)) => keyring_bench::task(),
        Some(("model", _)) => kernels::model(),
        Some(("features", _)) => feature_bench::task(),
        _ => {
            setup::need(setup::BUILD)?;
            job::shown(cargo(&["bench"]).args(words))
        }
    }
}

/// Builds the library and the command as they are released, and shows how that goes.
pub(crate) fn release() -> Result<()> {
    setup::need(setup::BUILD)?;
    job::shown(&mut cargo(&["build", "--release", "--quiet"]))
}

/// The features that a build has by default: all that there are.
pub(crate) fn features() -> Result<Vec<String>> {
    let manifest = files::text(&artefacts::repository().join("Cargo.toml"))?;
    let line = manifest.lines().find_map(|line| line.strip_prefix("default = ["));
    let line = line.ok_or("Cargo.toml has no features by default")?;
    Ok(line.split('"').skip(1).step_by(2).map(str::to_owned).collect())
}

/// cargo, at the repository's root.
pub(crate) fn cargo(words: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from);
    let mut command = Command::new(cargo);
    command.args(words).current_dir(artefacts::repository()).env("CARGO_TERM_COLOR", "never");
    for name in std::env::vars_os().map(|(name, _)| name).filter(|name| describes_xtask(name)) {
        command.env_remove(name);
    }
    if std::env::var_os("CI").is_some() {
        // Nobody builds there twice: what an incremental build keeps would be gigabytes for nothing.
        command.env("CARGO_INCREMENTAL", "0");
    }
    command
}

/// Whether cargo set this variable about this program. Build scripts watch some of them: with them, a
/// build from here and one by hand would undo each other.
fn describes_xtask(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

/// Where this run keeps its logs and remembers how long each layer took.
pub(crate) fn notes() -> Result<PathBuf> {
    let folder = artefacts::repository().join("target/xtask");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
