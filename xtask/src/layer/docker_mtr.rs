//! `docker/mtr`: the servers' own test drivers in containers, with keyward and its suites.

use std::path::Path;
use std::time::Duration;

use test_kit::{Result, Scratch, artefacts};

use crate::podman::Podman;
use crate::{job, package, roots};

use super::mtr::details;
use super::{Report, Run};

/// The suites without a name, on one server.
const LIMIT: Duration = Duration::from_secs(5400);

/// A server to test: an image's tag, the root folder that it is made of, and what is installed there.
struct Image {
    tag: &'static str,
    root: &'static str,
    server: &'static str,
}

const MATRIX: &[Image] = &[
    Image { tag: "mariadb-10.11", root: "slim-12", server: "mariadb" },
    Image { tag: "mariadb-11.8", root: "slim-13", server: "mariadb" },
    Image { tag: "mysql", root: "slim-sid", server: "mysql" },
];

pub(super) fn run(run: &Run) -> Result<Report> {
    let made = Scratch::on_disk("packages")?;
    let packages = package::given_or_made(&["deb"], made.path())?;
    let podman = Podman::new()?;
    let mut report = Report::default();
    for image in MATRIX {
        let found = image.run(&podman, &packages, &run.log()?);
        report.add(
            &found.unwrap_or_else(|error| Report::failure(&format!("{}: {error}", image.tag))),
        );
    }
    Ok(report)
}

impl Image {
    fn run(&self, podman: &Podman, packages: &Path, log: &Path) -> Result<Report> {
        let base = format!("localhost/debian:{}", self.root);
        let tag = format!("localhost/keyward-mtr:{}", self.tag);
        podman.import(&roots::find(self.root)?, &base)?;
        let context = artefacts::repository().join("docker/mtr");
        let [base, server, packages] = [
            format!("--build-arg=BASE={base}"),
            format!("--build-arg=SERVER={}", self.server),
            format!("--build-context=packages={}", packages.display()),
        ];
        let dockerfile = context.join("Dockerfile");
        podman.build(&tag, &context, &dockerfile, &[&base, &server, &packages])?;
        let mut command = podman.command("podman");
        command.args([
            "run",
            "--rm",
            "--network=none",
            "--tmpfs=/mtr:size=8g,mode=1777,exec",
            &tag,
        ]);
        let done = job::logged(&mut command, log, LIMIT)?;
        Ok(self.report(done.ok, &done.text))
    }

    /// Of what the container said: a line for each suite, and beneath it the tests that are worse.
    fn report(&self, ok: bool, text: &str) -> Report {
        let summary = text.rsplit("\n\n").next().unwrap_or_default();
        let of = |line: &str, what| counted(line, what).unwrap_or_default();
        let mut report = Report::default();
        for line in summary.lines() {
            report.notes.push(format!("{}: {line}", self.tag));
            report.passed += of(line, " passed");
            report.skipped += of(line, " skipped");
        }
        if !ok {
            let worse = summary.lines().filter(|line| line.contains("with the original"));
            report.failed = worse.count().max(1);
            report.complaint = format!("{summary}\n\n{}", details(text, 150));
        }
        report.or_empty()
    }
}

/// The first number in `line` that `what` follows.
fn counted(line: &str, what: &str) -> Option<usize> {
    line.split_once(what)?.0.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "encryption.a [ pass ]  1\n\nCompleted\n\n\
        keyward          84 passed, 0 failed, 1 skipped, 9 s\n\
        encryption       3 passed, 1 failed, 2 skipped, 9 s; the original: 4 passed, 0 failed, 2 skipped\n                 encryption.b: fail, with the original pass\n";

    #[test]
    fn reads_the_summary() {
        let report = MATRIX[0].report(false, SAID);
        assert_eq!((report.passed, report.failed, report.skipped), (87, 1, 3));
        assert_eq!(report.notes.len(), 3);
        assert!(report.complaint.starts_with("keyward "));
    }

    #[test]
    fn an_end_without_a_summary_is_a_failure() {
        assert_eq!(MATRIX[0].report(true, "no space left\n").failed, 1);
        assert_eq!(MATRIX[0].report(false, "no space left\n").failed, 1);
    }
}
