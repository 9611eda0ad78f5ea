//! The images in `docker/`: built from the packages on look-alikes of the official images, and run by
//! podman as `docker/test/run.sh` does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use test_kit::command::answer;
use test_kit::{Result, Scratch, artefacts, ensure, files};

use crate::podman::{self, Podman};
use crate::{job, mysql, package, roots, setup, vault};

use super::{Report, Run};

/// Made of root folders.
const DEBIAN_MARIADB: &str = "localhost/debian-mariadb:10.11";
const DEBIAN_MYSQL: &str = "localhost/debian-mysql:sid";

/// Made of those, to look like the official images and Vault's.
const MARIADB: &str = "localhost/mariadb:10.11";
const MYSQL: &str = "localhost/mysql:9.7";
const VAULT: &str = "localhost/vault:1.21";

/// What is under test, by the names that `run.sh` knows.
const OURS_MARIADB: &str = "localhost/keyward-mariadb:10.11";
const OURS_MYSQL: &str = "localhost/keyward-mysql:9.7";

const LIMIT: Duration = Duration::from_secs(3600);

/// A step that may fail, and its name.
type Step<'a> = (&'static str, &'a dyn Fn() -> Result<()>);

pub(super) fn run(run: &Run) -> Result<Report> {
    let podman = Podman::new()?;
    let scratch = Scratch::on_disk("docker")?;
    let context = scratch.path().join("context");
    files::copy(&artefacts::repository().join("docker"), &context)?;
    add_packages(&context)?;
    let test = context.join("test");
    fs::copy(vault::program()?, test.join("vault/vault"))?;
    let look_alike = |image, name| {
        let folder = test.join(name);
        podman.build(image, &folder, &folder.join("Dockerfile"), &[])
    };
    let ours = |image, base, file| {
        let base = format!("BASE={base}");
        podman.build(image, &context, &context.join(file), &["--build-arg", &base])
    };
    let steps: &[Step] = &[
        ("shellcheck", &|| scripts(&context)),
        ("podman-compose", &|| podman::compose().map(drop)),
        ("import MariaDB", &|| podman.import(&roots::find("debian-12")?, DEBIAN_MARIADB)),
        ("import MySQL", &|| podman.import(&mysql::server_root()?, DEBIAN_MYSQL)),
        ("build a mariadb", &|| look_alike(MARIADB, "mariadb")),
        ("build a mysql", &|| look_alike(MYSQL, "mysql")),
        ("build a vault", &|| look_alike(VAULT, "vault")),
        ("build keyward-mariadb", &|| ours(OURS_MARIADB, MARIADB, "mariadb.Dockerfile")),
        ("build keyward-mysql", &|| ours(OURS_MYSQL, MYSQL, "mysql.Dockerfile")),
    ];
    let mut report = Report::default();
    for (name, step) in steps {
        let since = Instant::now();
        report.add(&Report::check(name, step()));
        report.notes.push(format!("{name} {} ms", since.elapsed().as_millis()));
    }
    if report.failed == 0 {
        report.add(&used(&podman, &context, scratch.path(), run)?);
    }
    Ok(report)
}

/// No script has what shellcheck warns of.
fn scripts(context: &Path) -> Result<()> {
    setup::need(&["shellcheck"])?;
    let all = "shellcheck bin/* test/*.sh test/*/docker-entrypoint.sh";
    answer(Command::new("sh").args(["-c", all]).current_dir(context))?.ok().map(drop)
}

/// Puts deb and tarball where the images take them from.
fn add_packages(context: &Path) -> Result<()> {
    let made = Scratch::on_disk("packages")?;
    let folder = package::given_or_made(&["deb", "tarball"], made.path())?;
    let wanted = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("keyward_") && name.ends_with(".deb") || name.ends_with("x86_64.tar.gz")
    };
    let found: Vec<_> = files::list(&folder).into_iter().filter(wanted).collect();
    ensure!(found.len() == 2, "{}: {found:?} are not a deb and a tarball", folder.display());
    for file in found {
        fs::copy(&file, context.join(file.file_name().unwrap_or_default()))?;
    }
    Ok(())
}

/// The steps of `run.sh`, each of which may fail.
fn used(podman: &Podman, context: &Path, scratch: &Path, run: &Run) -> Result<Report> {
    let work = scratch.join("work");
    fs::create_dir(&work)?;
    let mut command = podman.command(context.join("test/run.sh"));
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", podman::compose()?.display()));
    command.env("KEYWARD_IMAGE", OURS_MARIADB).env("VAULT_IMAGE", VAULT).arg(work);
    let done = job::logged(&mut command, &run.log()?, LIMIT)?;
    let mut report = Report::default();
    for line in done.text.lines().filter_map(|line| line.strip_prefix("step ")) {
        report.notes.push(line.to_owned());
        let ok = line.contains(" ok ");
        report.add(&Report::step(ok, if ok { "" } else { line }));
    }
    if !done.ok {
        report.complaint += &done.text;
        report.failed = report.failed.max(1);
    }
    Ok(report.or_empty())
}
