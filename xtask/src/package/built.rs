//! The build that is packed: the released one, without the paths of the machine that it was made on.
//! So it is the same from any folder, and tells nobody where that was.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use test_kit::{Result, artefacts};

use crate::{build, job, setup};

/// In the repository: a build by hand has other flags.
const TARGET: &str = "target/package-build";

/// What was built.
pub(crate) struct Built(PathBuf);

impl Built {
    /// Builds what is at `repository`, a folder with the sources.
    pub(crate) fn of(repository: &Path) -> Result<Self> {
        setup::need(setup::BUILD)?;
        let mut cargo = build::cargo(&["build", "--release", "--locked", "--quiet"]);
        cargo.args(["--package", "keyward", "--package", "keyward-pages", "--target-dir", TARGET]);
        let places = places(repository)?;
        let flags = |flag: &str, apart: &str| {
            let of = |(from, to): &(PathBuf, &str)| format!("{flag}={}={to}", from.display());
            places.iter().map(of).collect::<Vec<_>>().join(apart)
        };
        // cargo takes the byte 31 between flags, which may then hold spaces.
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags("--remap-path-prefix", "\x1f"));
        cargo.env("CFLAGS", flags("-ffile-prefix-map", " "));
        job::shown(cargo.current_dir(repository))?;
        Ok(Self(repository.join(TARGET).join("release")))
    }

    /// Builds what is in this repository.
    pub(crate) fn here() -> Result<Self> {
        Self::of(&artefacts::repository())
    }

    pub(crate) fn library(&self) -> PathBuf {
        self.0.join("libkeyward.so")
    }

    pub(crate) fn command(&self) -> PathBuf {
        self.0.join("keyward")
    }

    /// The program that writes man pages and completions.
    pub(super) fn pages(&self) -> PathBuf {
        self.0.join("keyward-pages")
    }
}

/// The folders of this machine that a build of `repository` would name, and what it names them.
pub(crate) fn places(repository: &Path) -> Result<[(PathBuf, &'static str); 2]> {
    Ok([(repository.to_owned(), "/usr/src/keyward"), (home()?, "/usr/src/cargo")])
}

/// Where cargo keeps the sources of the dependencies.
fn home() -> Result<PathBuf> {
    let named = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let users = |home: OsString| Path::new(&home).join(".cargo");
    let home = named.or_else(|| std::env::var_os("HOME").map(users));
    Ok(home.ok_or("neither CARGO_HOME nor HOME is set")?)
}
