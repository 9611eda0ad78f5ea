//! What can be left out of a build: every provider of a library's own, and all of them.

use test_kit::{Result, artefacts, files};

use crate::build::cargo;
use crate::job;

use super::rust::{self, LIMIT};
use super::{Report, Run};

/// Without any feature, and with each alone: no warning, and the library's own tests.
pub(super) fn run(run: &Run) -> Result<Report> {
    let manifest = files::text(&artefacts::repository().join("Cargo.toml"))?;
    let mut report = Report::default();
    for feature in std::iter::once("").chain(by_default(&manifest)?) {
        let chosen = ["--no-default-features", "--features", feature];
        let mut clippy = cargo(&["clippy", "--all-targets", "--quiet"]);
        clippy.args(chosen).args(["--", "-D", "warnings"]);
        let done = job::logged(&mut clippy, &run.log()?, LIMIT)?;
        report.add(&Report::step(done.ok, &format!("with {feature:?} alone\n{}", done.text)));
        let mut tests =
            cargo(&["test", "--no-fail-fast", "--lib", "--bins", "--test", "lifecycle"]);
        report.add(&rust::tests(tests.args(chosen), run)?);
    }
    Ok(report)
}

/// The features that a build has by default: all that there are.
fn by_default(manifest: &str) -> Result<impl Iterator<Item = &str>> {
    let line = manifest.lines().find_map(|line| line.strip_prefix("default = ["));
    Ok(line.ok_or("Cargo.toml has no features by default")?.split('"').skip(1).step_by(2))
}
