//! What the compiler and its friends find without running anything.

use std::process::Command;
use std::time::Duration;

use test_kit::command::answer;
use test_kit::{Result, artefacts};

use crate::build::{self, cargo};
use crate::job;

use super::{Report, Run};

const LIMIT: Duration = Duration::from_secs(1200);

const STEPS: &[&[&str]] = &[
    &["fmt", "--all", "--check"],
    // A workspace of its own.
    &["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"],
    &[
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ],
    &["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"],
];

/// Format, clippy, documentation, whether the fuzz targets compile, and that none of it changed the tree.
pub(super) fn run(run: &Run) -> Result<Report> {
    let before = changes()?;
    let mut report = Report::default();
    for words in STEPS {
        let mut step = cargo(words);
        step.env("RUSTDOCFLAGS", "-D warnings");
        let done = job::logged(&mut step, &run.log()?, LIMIT)?;
        report.add(&Report::step(done.ok, &format!("cargo {}\n{}", words[0], done.text)));
    }
    let mut check = cargo(&["check", "--manifest-path", "fuzz/Cargo.toml", "--quiet"]);
    check.args(["--target-dir", "target/fuzz-check"]).env("RUSTFLAGS", "--cfg fuzzing");
    let done = job::logged(&mut check, &run.log()?, LIMIT)?;
    report.add(&Report::step(done.ok, &format!("the fuzz targets\n{}", done.text)));
    let after = changes()?;
    report.add(&Report::step(before == after, &format!("the checks changed the tree:\n{after}")));
    if std::env::var_os("CI").is_some() {
        report.add(&Report::step(after.is_empty(), &format!("the tree is not clean:\n{after}")));
    }
    Ok(report)
}

/// `cargo deny check`; the program is installed beside the build if it is not there.
pub(super) fn deny(run: &Run) -> Result<Report> {
    let root = build::notes()?.join("tools");
    let program = root.join("bin/cargo-deny");
    if !program.exists() {
        // Unoptimised it is built in a third of the time, and reads one lock file.
        let mut install =
            cargo(&["install", "cargo-deny", "--locked", "--quiet", "--debug", "--root"]);
        let done = job::logged(install.arg(&root), &run.log()?, LIMIT)?;
        if !done.ok {
            return Ok(Report::failure(&done.text));
        }
    }
    // The list of known weaknesses lies outside the package registries; licences, bans and
    // sources need nothing but the lock file.
    let mut check = Command::new(program);
    check.args(["check", "licenses", "bans", "sources"]).current_dir(artefacts::repository());
    let done = job::logged(&mut check, &run.log()?, LIMIT)?;
    Ok(Report::step(done.ok, &done.text))
}

/// What differs from the last commit.
fn changes() -> Result<String> {
    let mut status = Command::new("git");
    answer(status.args(["status", "--porcelain"]).current_dir(artefacts::repository()))?.ok()
}
