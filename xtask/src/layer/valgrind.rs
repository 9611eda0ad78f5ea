//! The ABI tests of both servers under valgrind: the library is opened, driven and closed as a server
//! does, and no byte is read, written or forgotten that should not be.

use std::path::{Path, PathBuf};
use std::process::Command;

use test_kit::{Result, artefacts, files};

use crate::build::{self, cargo};

use super::{Report, Run, rust};

/// Who runs what cargo built, in cargo's own words.
const RUNNER: &str = "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER";

pub(super) fn run(run: &Run) -> Result<Report> {
    let folder = build::notes()?.join("valgrind");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let mut report = rust::tests(&mut command(&folder), run)?;
    report.add(&judge(&folder)?);
    Ok(report)
}

fn command(reports: &Path) -> Command {
    let mut command = cargo(&["test", "--workspace", "--no-fail-fast"]);
    command.args(["--test", "mariadb_door", "--test", "mysql_door", "--", "--test-threads=1"]);
    command.env(RUNNER, runner(reports));
    command
}

fn runner(reports: &Path) -> String {
    let suppressions = artefacts::repository().join("xtask/valgrind.supp");
    let words = [
        "valgrind --quiet --trace-children=yes --error-exitcode=99".to_owned(),
        // Or a thread that spins keeps the others waiting for minutes.
        "--fair-sched=yes".to_owned(),
        "--leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite".to_owned(),
        // Or the frames of a library that was closed would be nameless.
        "--keep-debuginfo=yes --num-callers=50 --error-limit=no".to_owned(),
        format!("--suppressions={}", suppressions.display()),
        format!("--log-file={}/%p.log", reports.display()),
    ];
    words.join(" ")
}

/// A failure for each process in which valgrind found something.
fn judge(reports: &Path) -> Result<Report> {
    let logs: Vec<PathBuf> = files::list(reports);
    let mut report = Report::default();
    for log in &logs {
        let text = files::text(log)?;
        let found: Vec<&str> = text.lines().filter(|line| line.starts_with("==")).collect();
        report.add(&Report::step(found.is_empty(), &found.join("\n")));
    }
    report.notes.push(format!(
        "{} processes under valgrind, {} with findings",
        logs.len(),
        report.failed
    ));
    Ok(report.or_empty())
}
