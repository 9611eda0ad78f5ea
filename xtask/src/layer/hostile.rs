//! The command over prepared files, under AddressSanitizer: the test of that name with more mutations.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use test_kit::{Result, artefacts};

use crate::build::cargo;
use crate::job;

use super::{Report, Run, rust};

/// How many random mutations each file gets.
const CASES: &str = "20";
const BUILD_LIMIT: Duration = Duration::from_secs(3600);
const HOST: &str = "x86_64-unknown-linux-gnu";

pub(super) fn run(run: &Run) -> Result<Report> {
    let built = job::logged(&mut compile(), &run.log()?, BUILD_LIMIT)?;
    if !built.ok {
        return Ok(Report::failure(&built.text));
    }
    let mut test = cargo(&["test", "--workspace", "--test", "hostile", "--", "--show-output"]);
    test.env("KEYWARD_COMMAND", command()).env("KEYWARD_CASES", CASES);
    // What a command has not freed at its end is no leak, and the sanitizer's own code is none of ours.
    test.env("ASAN_OPTIONS", "detect_leaks=0:exitcode=99");
    rust::tests(&mut test, run)
}

fn compile() -> Command {
    let mut build = cargo(&["build", "--bin", "keyward", "--target", HOST]);
    build.args(["--target-dir", "target/hostile"]);
    // The sanitizers are options of a nightly compiler; a stable one has them, too.
    build.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address");
    build
}

fn command() -> PathBuf {
    artefacts::repository().join("target/hostile").join(HOST).join("debug/keyward")
}
