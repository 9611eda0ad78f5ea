//! The images in `docker/`, built from the packages and run by podman.

use test_kit::{Result, artefacts, ensure};

use crate::podman::Podman;
use crate::roots;

use super::{Report, Run};

/// A Debian 12 with MariaDB's server, and made of it, what looks like the official image.
const DEBIAN: &str = "localhost/debian-mariadb:10.11";
const MARIADB: &str = "localhost/mariadb:10.11";

pub(super) fn run(_run: &Run) -> Result<Report> {
    let podman = Podman::new()?;
    podman.import(&roots::find("debian-12")?, DEBIAN)?;
    let version = base(&podman);
    let complaint = version.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let mut report = Report::step(version.is_ok(), &complaint);
    report.notes.extend(version);
    Ok(report)
}

/// The base image is built, and has the server that was asked for.
fn base(podman: &Podman) -> Result<String> {
    let context = artefacts::repository().join("docker/test/mariadb");
    podman.build(MARIADB, &context, &context.join("Dockerfile"), &[])?;
    let mut command = podman.command("podman");
    command.args(["run", "--rm", "--network=none", MARIADB, "mariadbd", "--version"]);
    let said = podman.logged(&mut command, "run")?;
    ensure!(said.contains(" 10.11."), "{said}");
    Ok(said.lines().last().unwrap_or_default().to_owned())
}
