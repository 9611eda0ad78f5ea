//! The packages: what they hold, that they can be made again, and Debians that install them.

mod installed;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use test_kit::command::answer;
use test_kit::{Result, Scratch, artefacts, ensure, files};

use crate::package::{self, Built};
use crate::python;

use super::{Report, Run};

/// What the deb has at least: permissions, then the path, and where a link leads.
const DEB: &[&str] = &[
    "-rw-r--r-- ./etc/apparmor.d/abstractions/keyward",
    "-rw-r--r-- ./lib/systemd/system/keyward-metrics.service",
    "-rw-r--r-- ./lib/systemd/system/keyward-metrics.timer",
    "-rw-r--r-- ./lib/systemd/system/keyward-backup.path",
    "-rw-r--r-- ./lib/systemd/system/keyward-backup.service",
    "-rw-r--r-- ./lib/systemd/system/keyward-backup.timer",
    "-rw-r--r-- ./lib/systemd/system/keyward-rotate.service",
    "-rw-r--r-- ./lib/systemd/system/keyward-rotate.timer",
    "-rwxr-xr-x ./usr/bin/keyward",
    "-rw-r--r-- ./usr/lib/mysql/plugin/keyward.so",
    "lrwxrwxrwx ./usr/lib/mysql/plugin/component_keyring_keyward.so -> keyward.so",
    "-rw-r--r-- ./usr/share/bash-completion/completions/keyward",
    "-rw-r--r-- ./usr/share/doc/keyward/changelog.Debian.gz",
    "-rw-r--r-- ./usr/share/doc/keyward/changelog.gz",
    "-rw-r--r-- ./usr/share/doc/keyward/copyright",
    "-rw-r--r-- ./usr/share/doc/keyward/docs/mariadb.md",
    "-rw-r--r-- ./usr/share/doc/keyward/examples/monitoring/keyward.rules.yml",
    "-rw-r--r-- ./usr/share/doc/keyward/third-party-licenses.txt.gz",
    "-rw-r--r-- ./usr/share/fish/vendor_completions.d/keyward.fish",
    "-rw-r--r-- ./usr/share/keyward/mariadb.cnf",
    "-rw-r--r-- ./usr/share/man/man8/keyward-keys-show.8.gz",
    "-rw-r--r-- ./usr/share/man/man8/keyward.8.gz",
    "-rw-r--r-- ./usr/share/zsh/vendor-completions/_keyward",
];

/// What the deb with the suites has: a link in each place where a test driver looks for suites.
const TEST: &[&str] = &[
    "-rw-r--r-- ./usr/share/keyward/mariadb-test/baseline/mariadb-10.11-encryption.txt",
    "-rw-r--r-- ./usr/share/keyward/mariadb-test/suite/component_keyring_keyward/my.cnf",
    "-rw-r--r-- ./usr/share/keyward/mariadb-test/suite/keyward/suite.pm",
    "lrwxrwxrwx ./usr/share/mariadb/mariadb-test/suite/keyward -> ../../../keyward/mariadb-test/suite/keyward",
    "lrwxrwxrwx ./usr/share/mysql-test/suite/component_keyring_keyward -> ../../keyward/mariadb-test/suite/component_keyring_keyward",
    "lrwxrwxrwx ./usr/share/mysql/mysql-test/suite/keyward -> ../../../keyward/mariadb-test/suite/keyward",
];

/// What the rpm has elsewhere, or only there.
const RPM: &[&str] = &[
    "/etc/my.cnf.d/keyward.cnf",
    "/usr/bin/keyward",
    "/usr/lib/systemd/system/keyward-backup.path",
    "/usr/lib/systemd/system/keyward-metrics.timer",
    "/usr/lib/systemd/system/keyward-rotate.timer",
    "/usr/lib64/mariadb/plugin/keyward.so",
    "/usr/lib64/mysql/plugin/component_keyring_keyward.so",
    "/usr/lib64/mysql/plugin/keyward.so",
    "/usr/share/doc/keyward/third-party-licenses.txt.gz",
    "/usr/share/man/man8/keyward.8.gz",
    "/usr/share/zsh/site-functions/_keyward",
];

/// Where a package of ours must not have a file: dpkg would take it away with the package, or tell
/// another package of it.
const NEVER: &[&str] = &["./etc/keyward", "./var/lib/keyward", "./etc/mysql"];

/// What is checked, and the check, for which the packages are in a folder `once`, and `twice` next to it.
type Check = (&'static str, fn(&Path) -> Result<()>);

const CHECKS: &[Check] = &[
    ("packed twice, the same bytes", same),
    ("no path of this machine", no_path),
    ("the deb's files", deb_files),
    ("each stand-in's deb", stand_ins),
    ("the deb with the suites", suites),
    ("the rpm's files", rpm_files),
    ("the rpm installed", rpm_installed),
    ("the tarball", tarball),
    ("the list of what is linked", sbom),
    ("lintian", lintian),
];

/// It takes as long as a whole build.
const EXTENDED: &[Check] = &[("built in two folders, the same bytes", built_elsewhere)];

pub(super) fn run(run: &Run) -> Result<Report> {
    let scratch = Scratch::new("packages")?;
    let [once, twice] = ["once", "twice"].map(|name| scratch.path().join(name));
    package::make(&[], &once)?;
    package::make(&[], &twice)?;
    let extended = if run.extended { EXTENDED } else { &[] };
    let mut report = Report::default();
    for (name, check) in CHECKS.iter().chain(extended) {
        report.add(&Report::check(name, check(&once)));
    }
    for file in files::list(&once) {
        let size = fs::metadata(&file)?.len();
        report.notes.push(format!("{size:>9} {}", file.file_name().unwrap_or_default().display()));
    }
    report.add(&installed::run(&once, run)?);
    Ok(report)
}

fn same(once: &Path) -> Result<()> {
    let twice = once.with_file_name("twice");
    let [first, second] = [once, &twice].map(|folder| files::text(&folder.join("SHA256SUMS")));
    let (first, second) = (first?, second?);
    ensure!(first == second, "first:\n{first}second:\n{second}");
    Ok(())
}

/// Neither library nor command says where it was built.
fn no_path(_folder: &Path) -> Result<()> {
    let built = Built::here()?;
    for file in [built.library(), built.command()] {
        let bytes = files::read(&file)?;
        for (place, _) in package::places(&artefacts::repository())? {
            let name = place.as_os_str().as_encoded_bytes();
            let says = bytes.windows(name.len()).any(|part| part == name);
            ensure!(!says, "{} names {}", file.display(), place.display());
        }
    }
    Ok(())
}

/// The sources that git knows, in another folder, build to the same bytes.
fn built_elsewhere(once: &Path) -> Result<()> {
    let here = artefacts::repository();
    let folder = &once.with_file_name("elsewhere");
    fs::create_dir_all(folder)?;
    let mut copy = Command::new("sh");
    copy.args([
        "-euc",
        "git ls-files -z | xargs -0 cp --parents --target-directory \"$1\"",
        "copy",
    ]);
    answer(copy.arg(folder).current_dir(&here))?.ok()?;
    let (first, second) = (Built::here()?, Built::of(folder)?);
    for (one, other) in [(first.library(), second.library()), (first.command(), second.command())] {
        ensure!(files::read(&one)? == files::read(&other)?, "{} differs", one.display());
    }
    Ok(())
}

fn deb_files(folder: &Path) -> Result<()> {
    let listed = listing(&one(folder, "keyward_", ".deb")?)?;
    for wanted in DEB {
        ensure!(listed.contains(*wanted), "{wanted:?} is not among\n{listed:#?}");
    }
    for path in NEVER {
        let there = listed.iter().find(|line| line.contains(path));
        ensure!(there.is_none(), "{there:?}");
    }
    let scratch = unpacked(&one(folder, "keyward_", ".deb")?)?;
    let library = scratch.path().join("usr/lib/mysql/plugin/keyward.so");
    let sections = said("readelf", &["--sections", "--wide"], &library)?;
    ensure!(!sections.contains(".debug_line"), "the library has its debug symbols");
    ensure!(sections.contains(".gnu_debuglink"), "the library names no file with its symbols");
    let symbols = listing(&one(folder, "keyward-dbgsym_", ".deb")?)?;
    let apart = symbols.iter().filter(|line| line.ends_with(".debug")).count();
    ensure!(apart == 2, "{symbols:#?}");
    glibc(&library)
}

/// What the library asks of glibc: RHEL 9 and Ubuntu 22.04 have 2.34 and 2.35.
fn glibc(library: &Path) -> Result<()> {
    let symbols = said("objdump", &["--dynamic-syms"], library)?;
    let versions = symbols.split("GLIBC_2.").skip(1);
    let newest =
        versions.filter_map(|rest| rest.split([')', '.', ' ']).next()?.parse::<u32>().ok());
    let newest = newest.max().unwrap_or_default();
    ensure!((17..=34).contains(&newest), "it needs glibc 2.{newest}");
    Ok(())
}

fn stand_ins(folder: &Path) -> Result<()> {
    for plugin in package::STAND_INS {
        let name = format!("keyward-{}_", plugin.replace('_', "-"));
        let listed = listing(&one(folder, &name, ".deb")?)?;
        let is_plugin = |line: &&String| line.contains("/plugin/") && !line.starts_with('d');
        let links: Vec<_> = listed.iter().filter(is_plugin).collect();
        let link = format!("lrwxrwxrwx ./usr/lib/mysql/plugin/{plugin}.so -> keyward.so");
        ensure!(links == [&link], "{listed:#?}");
    }
    Ok(())
}

/// It has every file of the suites, and each link leads to a suite.
fn suites(folder: &Path) -> Result<()> {
    let deb = one(folder, "keyward-test_", ".deb")?;
    let listed = listing(&deb)?;
    for wanted in TEST {
        ensure!(listed.contains(*wanted), "{wanted:?} is not among\n{listed:#?}");
    }
    let packed = unpacked(&deb)?;
    for wanted in TEST.iter().filter_map(|line| line.split_once(" -> ")) {
        let link = wanted.0.split_once("./").map_or("", |(_, path)| path);
        ensure!(packed.path().join(link).join("t").is_dir(), "{link} leads nowhere");
    }
    let mut compare = Command::new("diff");
    compare.arg("--recursive").arg(artefacts::repository().join("mariadb-test"));
    compare.arg(packed.path().join("usr/share/keyward/mariadb-test"));
    answer(&mut compare)?.ok().map(drop)
}

fn rpm_files(folder: &Path) -> Result<()> {
    let rpm = one(folder, "keyward-", ".rpm")?;
    let listed = said("rpm", &["--query", "--list", "--package"], &rpm)?;
    let listed: BTreeSet<_> = listed.lines().collect();
    for wanted in RPM {
        ensure!(listed.contains(wanted), "{wanted} is not among\n{listed:#?}");
    }
    let scripts = said("rpm", &["--query", "--scripts", "--package"], &rpm)?;
    ensure!(scripts.trim().is_empty(), "{scripts}");
    let kept = said("rpm", &["--query", "--configfiles", "--package"], &rpm)?;
    ensure!(kept.trim() == "/etc/my.cnf.d/keyward.cnf", "{kept}");
    Ok(())
}

/// In an empty root, where rpm finds every file as it was packed, and the server would find the library.
fn rpm_installed(folder: &Path) -> Result<()> {
    let scratch = Scratch::new("rpm")?;
    let root = scratch.path().join("root");
    fs::create_dir_all(&root)?;
    let rpm = |words: &[&str]| -> Result<String> {
        let mut rpm = Command::new("rpm");
        answer(rpm.arg("--root").arg(&root).args(words))?.ok()
    };
    let file = one(folder, "keyward-", ".rpm")?.display().to_string();
    rpm(&["--initdb"])?;
    rpm(&["--install", "--nodeps", &file])?;
    rpm(&["--verify", "--nodeps", "keyward"])?;
    let library = files::read(&root.join("usr/lib64/mysql/plugin/keyward.so"))?;
    let linked = files::read(&root.join("usr/lib64/mariadb/plugin/keyward.so"))?;
    ensure!(library == linked, "the link leads elsewhere");
    // A package that is removed takes its own files, and no key.
    let key = root.join("etc/keyward/local.key");
    fs::create_dir_all(key.with_file_name(""))?;
    files::write(&key, "")?;
    rpm(&["--erase", "keyward"])?;
    ensure!(key.exists() && !root.join("usr/bin/keyward").exists(), "what is left is wrong");
    Ok(())
}

/// Unpacked anywhere, the command runs, and the library is the deb's.
fn tarball(folder: &Path) -> Result<()> {
    let scratch = Scratch::new("tarball")?;
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--file").arg(one(folder, "keyward-", "x86_64.tar.gz")?);
    answer(tar.arg("--directory").arg(scratch.path()))?.ok()?;
    let root = files::list(scratch.path()).pop().ok_or("it is empty")?;
    let version = answer(Command::new(root.join("bin/keyward")).arg("--version"))?.ok()?;
    ensure!(version.trim() == format!("keyward {}", package::version()?), "{version}");
    let deb = unpacked(&one(folder, "keyward_", ".deb")?)?;
    let packed = files::read(&deb.path().join("usr/lib/mysql/plugin/keyward.so"))?;
    for name in ["keyward.so", "component_keyring_keyward.so"] {
        ensure!(files::read(&root.join("lib").join(name))? == packed, "{name} is another library");
    }
    Ok(())
}

fn sbom(folder: &Path) -> Result<()> {
    let file = one(folder, "keyward-", ".cdx.json")?;
    let mut validator = Command::new(python::cyclonedx()?);
    validator.arg(artefacts::repository().join("packaging/test/sbom.py"));
    answer(validator.arg(&file))?.ok()?;
    let text = files::text(&file)?;
    let document: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let parts = document["components"].as_array().map(Vec::as_slice).unwrap_or_default();
    for name in ["ring", "rustls", "aes", "aws-sdk-kms", "cryptoki"] {
        ensure!(parts.iter().any(|part| part["name"] == name), "{name} is not in it");
    }
    for part in parts {
        let whole = part["hashes"].is_array() && part["licenses"][0]["expression"] != "";
        ensure!(whole, "{part}");
        ensure!(part["name"] != "tempfile", "a crate of the tests is in it");
    }
    Ok(())
}

fn lintian(folder: &Path) -> Result<()> {
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--fail-on", "error", "--no-tag-display-limit"]);
    lintian.args(
        files::list(folder).iter().filter(|file| file.extension().is_some_and(|is| is == "deb")),
    );
    answer(&mut lintian)?.ok().map(drop)
}

/// The one file of `folder` whose name begins and ends so.
fn one(folder: &Path, begin: &str, end: &str) -> Result<PathBuf> {
    let fits = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(begin) && name.ends_with(end)
    };
    let mut found: Vec<_> = files::list(folder).into_iter().filter(fits).collect();
    ensure!(found.len() == 1, "{begin}*{end}: {found:?}");
    Ok(found.remove(0))
}

/// Permissions and paths in a deb; a folder's as well. All of them are root's.
fn listing(deb: &Path) -> Result<BTreeSet<String>> {
    let contents = said("dpkg-deb", &["--contents"], deb)?;
    let mut listed = BTreeSet::new();
    for line in contents.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        ensure!(words.len() > 5 && words[1] == "root/root", "{line}");
        listed.insert(format!("{} {}", words[0], words[5..].join(" ")));
    }
    Ok(listed)
}

fn unpacked(deb: &Path) -> Result<Scratch> {
    let scratch = Scratch::new("deb")?;
    answer(Command::new("dpkg-deb").arg("--extract").arg(deb).arg(scratch.path()))?.ok()?;
    Ok(scratch)
}

fn said(program: &str, words: &[&str], file: &Path) -> Result<String> {
    answer(Command::new(program).args(words).arg(file))?.ok()
}
