//! The packages installed, used, replaced and purged, by the scripts in `packaging/test`, in Debians that
//! forget it afterwards.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use test_kit::{Result, Scratch, artefacts};

use crate::layer::{Report, Run};
use crate::{job, roots, vault};

const LIMIT: Duration = Duration::from_secs(1200);

/// A root folder, and how it is entered: without systemd, or booted by it.
struct Machine(&'static str, &'static str);

const MACHINES: &[Machine] = &[
    Machine("debian-12", "chroot"),
    Machine("debian-12", "boot"),
    Machine("debian-13", "chroot"),
    Machine("debian-13", "boot"),
];

pub(super) fn run(packages: &Path, run: &Run) -> Result<Report> {
    let mut report = Report::default();
    for machine in MACHINES {
        report.add(&machine.run(packages, run)?);
    }
    Ok(report)
}

impl Machine {
    fn run(&self, packages: &Path, run: &Run) -> Result<Report> {
        let Self(root, way) = self;
        let scratch = Scratch::new("machine")?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--mount-proc", "--pid", "--fork", "--kill-child"]);
        command.arg(artefacts::repository().join("packaging/test/enter.sh"));
        command.arg(way).arg(roots::find(root)?).arg(scratch.path()).arg(packages);
        command.arg(vault::program()?);
        let done = job::logged(&mut command, &run.log()?, LIMIT)?;
        let mut report = Report::default();
        for step in done.text.lines().filter_map(|line| line.strip_prefix("step ")) {
            report.notes.push(format!("{root} ({way}): {step}"));
            report.add(&Report::step(step.contains(" ok "), &done.text));
        }
        // A script that ended early has not printed this line.
        let whole = done.text.lines().any(|line| line == "all steps passed");
        if report.failed == 0 && !(done.ok && whole) {
            report.add(&Report::failure(&done.text));
        }
        Ok(report)
    }
}
