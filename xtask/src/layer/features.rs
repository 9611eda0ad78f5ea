//! What can be left out of a build: every provider of a library's own, and all of them.

use test_kit::Result;

use crate::build::{cargo, features};
use crate::job;

use super::rust::{self, LIMIT};
use super::{Report, Run};

/// Without any feature, and with each alone: no warning, and the library's own tests.
pub(super) fn run(run: &Run) -> Result<Report> {
    let mut report = Report::default();
    for feature in std::iter::once("").chain(features()?.iter().map(String::as_str)) {
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
