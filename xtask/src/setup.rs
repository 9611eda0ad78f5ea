//! Installs what the other tasks need: Debian's packages, a Vault built from its source, OpenBao, and LocalStack.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::unistd::Uid;
use test_kit::command::answer;
use test_kit::{Result, Scratch, run, scratch};

use crate::{job, openbao, podman, python, vault, vault_mtr};

/// To build the library and the command: bindgen needs libclang and the server's headers, the
/// tests compare with OpenSSL and have it encrypt key files, and approvals are signed by `ssh-keygen`.
pub(crate) const BUILD: &[&str] = &[
    "gcc",
    "libc6-dev",
    "clang",
    "libclang-dev",
    "libmariadbd-dev",
    "libssl-dev",
    "openssl",
    "openssh-client",
    "pkg-config",
];

/// To run a server of our own.
pub(crate) const SERVER: &[&str] = &["mariadb-server", "mariadb-backup", "util-linux"];

/// To run MariaDB's own suites.
pub(crate) const MTR: &[&str] = &["mariadb-test"];

/// To kill, trace and look into a running server.
pub(crate) const TOOLS: &[&str] = &["strace", "gdb", "valgrind"];

/// Tokens in software, and OpenSC's tool as a second opinion on them.
pub(crate) const HSM: &[&str] = &["softhsm2", "opensc"];

/// What the original `hashicorp_key_management` links; the plugin itself is never installed, or the
/// machine's own server would find it.
pub(crate) const VAULT_PLUGIN: &[&str] = &["libcurl4"];

/// A KMIP server.
pub(crate) const KMIP: &[&str] = &["python3-pykmip"];

/// To emulate a PC and make the CD that it starts from.
pub(crate) const EMULATOR: &[&str] = &[
    "bochs",
    "bochs-term",
    "bochsbios",
    "vgabios",
    "busybox-static",
    "cpio",
    "isolinux",
    "syslinux-common",
    "xorriso",
];

/// To pack what is installed, and to check what was packed.
pub(crate) const PACKAGE: &[&str] =
    &["debhelper", "rpm", "lintian", "systemd-container", "mmdebstrap"];

/// To check what is packed next to library and command.
pub(crate) const PACKAGING: &[&str] =
    &["apparmor", "systemd", "selinux-policy-dev", "make", "ansible-core", "shellcheck"];

/// To collect metrics and to judge them, and to take copies of the audit trail.
pub(crate) const MONITORING: &[&str] = &[
    "prometheus",
    "prometheus-mysqld-exporter",
    "prometheus-node-exporter",
    "curl",
    "python3",
    "rsyslog",
    "rsyslog-gnutls",
    "systemd",
];

/// To load a server.
pub(crate) const BENCH: &[&str] = &["sysbench"];

/// To model how fast a CPU runs a loop.
pub(crate) const MODEL: &[&str] = &["binutils", "llvm-16"];

/// Forbids packages to start services while they are installed (Debian policy, section 9.3.3).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// `cargo xtask setup`.
pub(crate) fn task(_words: &[String]) -> Result<()> {
    // In one go: whoever is not root gets one line to run.
    need(
        &[
            BUILD,
            SERVER,
            MTR,
            TOOLS,
            HSM,
            VAULT_PLUGIN,
            KMIP,
            EMULATOR,
            MONITORING,
            BENCH,
            MODEL,
            PACKAGE,
            PACKAGING,
            podman::PACKAGES,
        ]
        .concat(),
    )?;
    vault::program()?;
    openbao::program()?;
    vault_mtr::original()?;
    python::localstack()?;
    python::google()?;
    python::microsoft()?;
    println!("everything is installed");
    Ok(())
}

/// Installs those of `packages` that are missing; without root, says how and stops.
pub(crate) fn need(packages: &[&str]) -> Result<()> {
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    let words = format!("apt-get install --yes --no-install-recommends {}", missing.join(" "));
    if !Uid::effective().is_root() {
        return Err(format!(
            "some packages are missing; please run this line, then come back:\n\n  \
             sudo sh -c 'apt-get update && {words}'\n"
        )
        .into());
    }
    println!("installing {}", missing.join(" "));
    install(&words)
}

/// The files of `package`, fetched and unpacked without being installed.
pub(crate) fn unpacked(package: &str) -> Result<Scratch> {
    let scratch = Scratch::new("package")?;
    let mut download = Command::new("apt-get");
    download.args(["--option=APT::Sandbox::User=root", "download", package]);
    answer(download.current_dir(scratch.path()))?.ok().map_err(|error| error.within("apt-get"))?;
    let mut shell = Command::new("sh");
    shell.args(["-c", "dpkg-deb --extract *.deb . && rm *.deb"]).current_dir(scratch.path());
    answer(&mut shell)?.ok().map_err(|error| error.within("dpkg-deb"))?;
    Ok(scratch)
}

fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${Package} ${db:Status-Status}\\n"]).args(packages);
    // It fails as soon as one package is unknown, and still lists the others.
    let known = answer(&mut query)?.out;
    let installed =
        |package: &&str| known.lines().any(|line| line == format!("{package} installed"));
    Ok(packages.iter().copied().filter(|package| !installed(package)).collect())
}

/// Installs without starting a service: the tests bring servers of their own.
fn install(words: &str) -> Result<()> {
    let ours = !Path::new(POLICY).exists();
    if ours {
        fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
        run("chmod", ["755", POLICY])?;
    }
    let log = scratch::root().join("setup.log");
    let done = job::logged(
        Command::new("sh")
            .args(["-c", &format!("apt-get update && {words}")])
            .env("DEBIAN_FRONTEND", "noninteractive"),
        &log,
        std::time::Duration::from_secs(1200),
    );
    if ours {
        fs::remove_file(POLICY)?;
    }
    let done = done?;
    if done.ok { Ok(()) } else { Err(format!("{}\n{words}: failed", done.text).into()) }
}
