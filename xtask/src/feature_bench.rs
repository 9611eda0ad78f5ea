//! What each feature adds to the library: packages, time of a build, size. `cargo xtask bench features`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::resource::{UsageWho, getrusage};
use test_kit::command::answer;
use test_kit::{Result, artefacts};

use crate::build::{cargo, features, notes};
use crate::{job, setup};

/// A library with these features, and no others that can be left out.
struct Built {
    packages: BTreeSet<String>,
    /// Seconds of processors that its build took.
    seconds: f64,
    bytes: u64,
}

/// Prints a table. A busy machine makes little difference: what processors worked is counted, not time.
pub(crate) fn task() -> Result<()> {
    setup::need(setup::BUILD)?;
    let target = notes()?.join("features");
    if target.exists() {
        fs::remove_dir_all(&target)?;
    }
    let first = build("", &target)?;
    // The same again, of keyward alone: what each of the following takes without a package more.
    let mut clean = cargo(&["clean", "--release", "--package", "keyward", "--target-dir"]);
    job::shown(clean.arg(&target).arg("--quiet"))?;
    let bare = build("", &target)?;
    println!(
        "| feature | packages | seconds of a processor to build | bytes of the library, stripped |"
    );
    println!("|---|---|---|---|");
    println!(
        "| none | {} | {:.0}, of which {:.0} for keyward itself | {} |",
        first.packages.len(),
        first.seconds,
        bare.seconds,
        bare.bytes
    );
    let all = features()?;
    for feature in all.iter().map(String::as_str) {
        let with = build(feature, &target)?;
        println!(
            "| `{feature}` | +{} | {:+.0} | +{} |",
            with.packages.difference(&bare.packages).count(),
            with.seconds - bare.seconds,
            with.bytes.saturating_sub(bare.bytes)
        );
    }
    let every = build(&all.join(","), &target)?;
    println!("| all | {} | | {} |", every.packages.len(), every.bytes);
    Ok(fs::remove_dir_all(&target)?)
}

fn build(features: &str, target: &Path) -> Result<Built> {
    let before = seconds()?;
    let mut command = cargo(&["build", "--release", "--lib", "--quiet", "--no-default-features"]);
    job::shown(command.args(["--features", features, "--target-dir"]).arg(target))?;
    let seconds = seconds()? - before;
    Ok(Built { packages: packages(features)?, seconds, bytes: stripped(target)? })
}

/// The packages that such a library is built of and by.
fn packages(features: &str) -> Result<BTreeSet<String>> {
    let mut tree = cargo(&["tree", "--package", "keyward", "--edges", "normal,build"]);
    tree.args(["--prefix", "none", "--no-default-features", "--features", features]);
    let said = answer(&mut tree)?.ok()?;
    let names = said.lines().map(|line| line.trim_end_matches(" (*)").to_owned());
    Ok(names.filter(|name| !name.is_empty()).collect())
}

/// The size of the library without symbols and debugging lines.
fn stripped(target: &Path) -> Result<u64> {
    let library: PathBuf = target.join("release/libkeyward.so");
    let bare = target.join("stripped.so");
    let mut strip = Command::new("strip");
    strip.args(["--strip-unneeded", "-o"]).arg(&bare).arg(library);
    answer(strip.current_dir(artefacts::repository()))?.ok()?;
    Ok(fs::metadata(bare)?.len())
}

/// What processors have worked for all that we ran so far.
fn seconds() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|error| error.to_string())?;
    let of = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(of(usage.user_time()) + of(usage.system_time()))
}
