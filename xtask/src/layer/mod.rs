//! The layers of the tests, from the quickest to find a mistake to the slowest.

mod apparmor;
mod aws;
mod azure;
mod cosmian;
mod docker;
mod docker_mtr;
mod emulated;
mod features;
mod fuzz;
mod gcp;
mod hostile;
mod journey;
mod kernels;
mod lint;
mod monitoring;
mod mtr;
mod mysql;
mod package;
mod packaging;
mod rust;
mod suite;
mod valgrind;
mod vault;

use std::path::PathBuf;

use test_kit::Result;

use crate::{build, podman, setup};

/// A layer of tests that can be called by its name.
pub(crate) struct Layer {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Whether it is left out unless asked for, because it is long.
    pub(crate) extended: bool,
    /// The packages it needs beside those of the build.
    packages: &'static [&'static [&'static str]],
    /// Whether it needs the library and the command as they are released.
    released: bool,
    body: fn(&Run) -> Result<Report>,
}

pub(crate) const LAYERS: &[Layer] = &[
    Layer {
        name: "lint",
        about: "format, clippy, documentation, fuzz targets compile; the tree is as it was committed",
        extended: false,
        packages: &[],
        released: false,
        body: lint::run,
    },
    Layer {
        name: "unit",
        about: "the library's and the command's own tests",
        extended: false,
        packages: &[],
        released: false,
        body: rust::unit,
    },
    Layer {
        name: "contract",
        about: "what every provider must do, on each of them",
        extended: false,
        packages: &[setup::HSM, setup::KMIP],
        released: false,
        body: rust::contract,
    },
    Layer {
        name: "features",
        about: "without the providers that can be left out, and with each of them alone",
        extended: true,
        packages: &[],
        released: false,
        body: features::run,
    },
    Layer {
        name: "model",
        about: "100,000 lives of a keystore at random, against a reference",
        extended: true,
        packages: &[],
        released: false,
        body: rust::model,
    },
    Layer {
        name: "kernels",
        about: "the page cipher's entry points as they are released: all of each in its instruction set",
        extended: false,
        packages: &[&["binutils"]],
        released: true,
        body: kernels::run,
    },
    Layer {
        name: "server",
        about: "keyward on a real server: rotation, restart, backup, trouble, drop-in",
        extended: false,
        packages: &[setup::SERVER],
        released: true,
        body: rust::suite,
    },
    Layer {
        name: "badinput",
        about: "what is said to each kind of bad input, and that nothing changes",
        extended: false,
        packages: &[setup::SERVER],
        released: true,
        body: rust::suite,
    },
    Layer {
        name: "pkcs11",
        about: "a wrapping key in an HSM (SoftHSM2, Kryoptic) below a real server; modules that fail or hang",
        extended: false,
        packages: &[setup::SERVER, setup::HSM],
        released: true,
        body: rust::pkcs11,
    },
    Layer {
        name: "crash",
        about: "SIGKILL at every system call of a commit, and at random under load",
        extended: false,
        packages: &[setup::SERVER, setup::TOOLS],
        released: true,
        body: rust::suite,
    },
    Layer {
        name: "life",
        about: "rotation by policy under load, moves between key stores, destroying, inspecting",
        extended: false,
        packages: &[setup::SERVER, setup::BENCH],
        released: true,
        body: rust::suite,
    },
    Layer {
        name: "memory",
        about: "core dumps searched for keys; valgrind over load, rotate, unload",
        extended: false,
        packages: &[setup::SERVER, setup::TOOLS],
        released: true,
        body: rust::suite,
    },
    Layer {
        name: "valgrind",
        about: "the ABI tests of both servers under valgrind: no error, no leak",
        extended: true,
        packages: &[&["valgrind"]],
        released: false,
        body: valgrind::run,
    },
    Layer {
        name: "hostile",
        about: "the command under AddressSanitizer over files that somebody prepared",
        extended: true,
        packages: &[],
        released: false,
        body: hostile::run,
    },
    Layer {
        name: "mtr",
        about: "MariaDB's encryption suite, with keyward in file_key_management's place",
        extended: false,
        packages: &[setup::SERVER, setup::MTR],
        released: true,
        body: mtr::run,
    },
    Layer {
        name: "mtr-kernels",
        about: "the same with each kernel of the page cipher forced",
        extended: true,
        packages: &[setup::SERVER, setup::MTR],
        released: true,
        body: mtr::on_each_kernel,
    },
    Layer {
        name: "mtr-11.8",
        about: "the same and keyward's own suite on MariaDB 11.8, from Debian 13 in a folder of its own",
        extended: true,
        packages: &[],
        released: true,
        body: mtr::on_11_8,
    },
    Layer {
        name: "mtr-sid",
        about: "the same two on the newest MariaDB that Debian has, from sid in a folder of its own; AppArmor",
        extended: true,
        packages: &[],
        released: true,
        body: mtr::on_sid,
    },
    Layer {
        name: "suite",
        about: "keyward's own suite for MariaDB's test driver",
        extended: true,
        packages: &[setup::SERVER, setup::MTR],
        released: true,
        body: suite::run,
    },
    Layer {
        name: "mysql",
        about: "keyward as MySQL's keyring, on Debian sid's server in a folder of its own",
        extended: false,
        packages: &[],
        released: true,
        body: mysql::run,
    },
    Layer {
        name: "mysql-mtr",
        about: "keyward's own suite for MySQL's test driver; the stock component's, with it and with keyward",
        extended: true,
        packages: &[],
        released: true,
        body: mysql::mtr,
    },
    Layer {
        name: "vault",
        about: "keyward on a real Vault: log-ins, versions, trouble; MariaDB with its keys there, under load while Vault fails",
        extended: false,
        packages: &[setup::SERVER, setup::BENCH, setup::VAULT_PLUGIN],
        released: true,
        body: vault::run,
    },
    Layer {
        name: "vault-mtr",
        about: "MariaDB's suite for hashicorp_key_management, with that plugin and with keyward in its place",
        extended: false,
        packages: &[setup::SERVER, setup::MTR, setup::VAULT_PLUGIN],
        released: true,
        body: vault::mtr,
    },
    Layer {
        name: "namespaces",
        about: "keyward in namespaces of a real OpenBao: engines, log-ins; locked, sealed, absent",
        extended: false,
        packages: &[setup::SERVER],
        released: true,
        body: vault::namespaces,
    },
    Layer {
        name: "kubernetes",
        about: "keyward logs in to OpenBao by tokens of a real API server: rotated, ended, of others, of an account deleted",
        extended: true,
        packages: &[setup::SERVER],
        released: true,
        body: vault::kubernetes,
    },
    Layer {
        name: "openbao",
        about: "vault, vault-mtr and the contract of its providers, on a real OpenBao",
        extended: true,
        packages: &[setup::SERVER, setup::BENCH, setup::MTR, setup::VAULT_PLUGIN],
        released: true,
        body: vault::on_openbao,
    },
    Layer {
        name: "aws",
        about: "keyward on AWS KMS, as LocalStack emulates it: errors, regions, roles; MariaDB on it, under load while KMS fails",
        extended: false,
        packages: &[setup::SERVER, setup::BENCH],
        released: true,
        body: aws::run,
    },
    Layer {
        name: "aws-iam",
        about: "AWS KMS behind IAM and STS, as fakecloud emulates them: policies, signatures, sessions",
        extended: true,
        packages: &[setup::SERVER],
        released: true,
        body: aws::iam,
    },
    Layer {
        name: "gcp",
        about: "keyward on a Cloud KMS of our own, which Google's client drives, too: credentials, errors; MariaDB on it",
        extended: false,
        packages: &[setup::SERVER, setup::BENCH],
        released: true,
        body: gcp::run,
    },
    Layer {
        name: "azure",
        about: "keyward on a Key Vault of our own, which Microsoft's client drives, too: credentials, errors; MariaDB on it",
        extended: false,
        packages: &[setup::SERVER, setup::BENCH],
        released: true,
        body: azure::run,
    },
    Layer {
        name: "kmip",
        about: "keyward on a real KMIP server: releases, trust, trouble; MariaDB with its keys there",
        extended: false,
        packages: &[setup::SERVER, setup::KMIP, setup::BENCH],
        released: true,
        body: rust::suite,
    },
    Layer {
        name: "cosmian",
        about: "the same in short on a second KMIP server, Cosmian KMS, and what PyKMIP does not speak",
        extended: true,
        packages: &[setup::SERVER],
        released: true,
        body: cosmian::run,
    },
    Layer {
        name: "journey",
        about: "one keystore of a real MariaDB, moved through every key store and home again",
        extended: false,
        packages: &[setup::SERVER, setup::HSM, setup::KMIP],
        released: true,
        body: journey::run,
    },
    Layer {
        name: "monitoring",
        about: "metrics, alerts and dashboards in a real Prometheus; the audit trail in journald, rsyslog and a webhook",
        extended: true,
        packages: &[setup::SERVER, setup::MONITORING],
        released: true,
        body: monitoring::run,
    },
    Layer {
        name: "fuzz",
        about: "every parser and every kernel against what libFuzzer thinks of, ten minutes each",
        extended: true,
        packages: &[],
        released: false,
        body: fuzz::run,
    },
    Layer {
        name: "emulated",
        about: "the page cipher's AVX-512 kernel on an emulated Ice Lake",
        extended: true,
        packages: &[setup::EMULATOR],
        released: false,
        body: emulated::run,
    },
    Layer {
        name: "packaging",
        about: "what is packed next to library and command: units, AppArmor, SELinux, Ansible, scripts",
        extended: false,
        packages: &[setup::PACKAGING],
        released: false,
        body: packaging::run,
    },
    Layer {
        name: "package",
        about: "the packages: their files, built twice alike, and installed, used and purged in Debian 12 and 13",
        extended: true,
        packages: &[setup::PACKAGE],
        released: false,
        body: package::run,
    },
    Layer {
        name: "docker",
        about: "the images: built from the packages, run by podman on fresh, kept and lost volumes",
        extended: true,
        packages: &[podman::PACKAGES],
        released: false,
        body: docker::run,
    },
    Layer {
        name: "docker-mtr",
        about: "images with the test drivers of MariaDB 10.11, 11.8 and MySQL: our suites, and theirs compared",
        extended: true,
        packages: &[podman::PACKAGES, setup::PACKAGE],
        released: true,
        body: docker_mtr::run,
    },
    Layer {
        name: "deny",
        about: "licences and known weaknesses of the dependencies (cargo deny)",
        extended: true,
        packages: &[],
        released: false,
        body: lint::deny,
    },
];

/// One run of a layer.
pub(crate) struct Run {
    pub(crate) name: &'static str,
    pub(crate) extended: bool,
}

/// What a layer found.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    /// Lines for the reader, shown in any case.
    pub(crate) notes: Vec<String>,
    /// What to show where something failed.
    pub(crate) complaint: String,
}

impl Layer {
    /// Installs and builds what it needs, then runs it.
    pub(crate) fn run(&self, run: &Run) -> Result<Report> {
        setup::need(&[setup::BUILD, &self.packages.concat()].concat())?;
        if self.released {
            build::release()?;
        }
        (self.body)(run)
    }
}

impl Run {
    /// Where this layer's output goes while it runs.
    pub(crate) fn log(&self) -> Result<PathBuf> {
        Ok(build::notes()?.join(format!("{}.log", self.name)))
    }
}

impl Report {
    /// One test that failed.
    pub(crate) fn failure(complaint: &str) -> Self {
        Self { failed: 1, complaint: complaint.to_owned(), ..Self::default() }
    }

    /// One step that passed, or what it said as a failure.
    pub(crate) fn step(ok: bool, complaint: &str) -> Self {
        if ok { Self { passed: 1, ..Self::default() } } else { Self::failure(complaint) }
    }

    /// The step called `name`, and how it ended.
    pub(crate) fn check(name: &str, ended: Result<()>) -> Self {
        match ended {
            Ok(()) => Self::step(true, ""),
            Err(error) => Self::failure(&format!("{name}: {error}")),
        }
    }

    /// Itself; a failure where nothing at all was tested.
    pub(crate) fn or_empty(self) -> Self {
        if self.passed + self.failed > 0 { self } else { Self::failure("no test was run") }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.notes.extend(other.notes.iter().cloned());
        if !other.complaint.is_empty() {
            self.complaint += &other.complaint;
            self.complaint.push('\n');
        }
    }

    /// `N passed, N failed`, the form that a machine reads.
    pub(crate) fn closing_line(&self) -> String {
        let skipped = match self.skipped {
            0 => String::new(),
            skipped => format!(", {skipped} skipped"),
        };
        format!("{} passed, {} failed{skipped}", self.passed, self.failed)
    }
}
