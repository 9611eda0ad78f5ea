//! `cargo xtask package`: what is installed, made of one build. Debian's tools pack the debs and strip
//! what they pack; rpm and tarball are made of the deb's files, so that all hold the same bytes.

mod built;
mod linked;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use test_kit::command::answer;
use test_kit::{Result, Scratch, artefacts, files};

use crate::{job, setup};
pub(crate) use built::{Built, places};
use linked::Linked;

/// The plugins in whose place keyward can be, a deb each.
pub(crate) const STAND_INS: &[&str] = &[
    "file_key_management",
    "hashicorp_key_management",
    "aws_key_management",
    "kmip_key_management",
];

const LIMIT: Duration = Duration::from_secs(1200);

/// What can be made: its name, and the function that makes it.
struct Format(&'static str, fn(&Job) -> Result<()>);

const FORMATS: &[Format] = &[
    Format("deb", keep_debs),
    Format("rpm", rpm),
    Format("tarball", tarball),
    Format("sbom", sbom),
];

/// One making of packages.
struct Job<'a> {
    scratch: Scratch,
    to: &'a Path,
    version: String,
    /// The time that all files have: of the last commit, in seconds.
    epoch: String,
    linked: Linked,
    built: Built,
}

/// `cargo xtask package [FORMAT...]`.
pub(crate) fn task(words: &[String]) -> Result<()> {
    let to = artefacts::repository().join("target/package");
    make(words, &to)?;
    for file in files::list(&to) {
        println!("{:>9} {}", fs::metadata(&file)?.len(), file.display());
    }
    Ok(())
}

/// Makes the formats that `names` name, all without a name, in the empty folder `to`, and the file of their check sums.
pub(crate) fn make(names: &[String], to: &Path) -> Result<()> {
    let known: Vec<_> = FORMATS.iter().map(|Format(name, _)| *name).collect();
    if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("no format {name:?}; there are {}", known.join(", ")).into());
    }
    setup::need(&[setup::BUILD, setup::PACKAGE].concat())?;
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir_all(to)?;
    let job = Job {
        scratch: Scratch::new("package")?,
        to,
        version: version()?,
        epoch: epoch()?,
        linked: Linked::read()?,
        built: Built::here()?,
    };
    tree::lay_out(&job)?;
    job.run("debian-rules", Command::new("debian/rules").arg("binary"))?;
    for Format(name, format) in FORMATS {
        if names.is_empty() || names.iter().any(|asked| asked == name) {
            format(&job)?;
        }
    }
    job.shell("LC_ALL=C sha256sum -- * > ../SHA256SUMS && mv ../SHA256SUMS .", to)
}

/// The folder with packages for a test: the one that `KEYWARD_PACKAGES` names, for who packs seldom, else
/// the empty folder `to`, in which those of `names` are made.
pub(crate) fn given_or_made(names: &[&str], to: &Path) -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("KEYWARD_PACKAGES") {
        return Ok(given.into());
    }
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    make(&names, to)?;
    Ok(to.to_owned())
}

impl Job<'_> {
    /// The folder that Debian's tools work in.
    fn source(&self) -> PathBuf {
        self.scratch.path().join("keyward")
    }

    /// The deb's files as they are packed.
    fn packed(&self) -> PathBuf {
        self.source().join("debian/keyward")
    }

    /// Runs `command` in the source folder, unless it has another.
    fn run(&self, name: &str, command: &mut Command) -> Result<()> {
        if command.get_current_dir().is_none() {
            command.current_dir(self.source());
        }
        command.env("SOURCE_DATE_EPOCH", &self.epoch).env("TZ", "UTC").env("LC_ALL", "C");
        // What debhelper finds out by dpkg-buildpackage: it packs as root's what is somebody else's.
        command.env("DEB_RULES_REQUIRES_ROOT", "no");
        let done = job::logged(command, &self.scratch.path().join(format!("{name}.log")), LIMIT)?;
        if done.ok { Ok(()) } else { Err(format!("{name}\n{}", done.text).into()) }
    }

    fn shell(&self, script: &str, folder: &Path) -> Result<()> {
        self.run("sh", Command::new("sh").args(["-euc", script]).current_dir(folder))
    }
}

/// The debs, and the one with the debug symbols.
fn keep_debs(job: &Job) -> Result<()> {
    job.shell(&format!("mv -- *.deb {}", job.to.display()), job.scratch.path())
}

fn rpm(job: &Job) -> Result<()> {
    let top = job.scratch.path().join("rpm");
    let spec = artefacts::repository().join("packaging/rpm/keyward.spec");
    let mut command = Command::new("rpmbuild");
    for (name, value) in [
        ("_topdir", top.display().to_string()),
        ("keyward_tree", job.packed().display().to_string()),
        ("keyward_version", job.version.clone()),
    ] {
        command.args(["--define", &format!("{name} {value}")]);
    }
    job.run("rpmbuild", command.arg("-bb").arg(spec))?;
    job.shell(&format!("mv -- */*.rpm {}", job.to.display()), &top.join("RPMS"))
}

/// A folder that can be unpacked anywhere, and the debug symbols in one of their own.
fn tarball(job: &Job) -> Result<()> {
    let name = format!("keyward-{}-linux-{}", job.version, std::env::consts::ARCH);
    let script = artefacts::repository().join("packaging/tarball.sh");
    let parts = [
        (name.clone(), job.packed(), "files"),
        (
            format!("{name}-debug"),
            job.source().join("debian/.debhelper/keyward/dbgsym-root/usr/lib/debug"),
            "symbols",
        ),
    ];
    for (name, from, what) in parts {
        let folder = job.scratch.path().join(&name);
        let mut lay_out = Command::new(&script);
        job.run("tarball", lay_out.arg(what).arg(from).arg(folder))?;
        job.shell(
            &format!(
                "tar --create --sort=name --mtime=@{} --owner=0 --group=0 --numeric-owner \
                 --mode=go=rX,u+rw,a-s {name} | gzip -n > {}/{name}.tar.gz",
                job.epoch,
                job.to.display()
            ),
            job.scratch.path(),
        )?;
    }
    Ok(())
}

/// What is linked, as a CycloneDX document.
fn sbom(job: &Job) -> Result<()> {
    let file = job.to.join(format!("keyward-{}.cdx.json", job.version));
    files::write(&file, job.linked.sbom(&date(&job.epoch, "+%Y-%m-%dT%H:%M:%SZ")?)?)
}

/// The version in the root package's manifest.
pub(crate) fn version() -> Result<String> {
    let manifest = files::text(&artefacts::repository().join("Cargo.toml"))?;
    let line = manifest.lines().find_map(|line| line.strip_prefix("version = "));
    Ok(line.ok_or("Cargo.toml has no version")?.trim_matches('"').to_owned())
}

/// `SOURCE_DATE_EPOCH`, else the time of the last commit.
fn epoch() -> Result<String> {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(given);
    }
    let mut log = Command::new("git");
    log.args(["log", "-1", "--format=%ct"]).current_dir(artefacts::repository());
    Ok(answer(&mut log)?.ok()?.trim().to_owned())
}

/// `epoch` in a form that `date` knows.
fn date(epoch: &str, form: &str) -> Result<String> {
    let mut date = Command::new("date");
    date.args(["--utc", &format!("--date=@{epoch}"), form]).env("LC_ALL", "C");
    Ok(answer(&mut date)?.ok()?.trim().to_owned())
}
