//! Faults that `doctor` is to find in a MySQL that does not run. Which test plants which is in
//! `src/cli/helpers/examine/catalogue.rs`.

use std::fs;

use test_kit::doctor::Said;
use test_kit::{Result, ensure};
use test_mysql::{Keyring, Site};

use crate::command::client;

/// What `doctor` found wrong: mark, id and words.
fn wrong(site: &Site) -> Result<Vec<String>> {
    let socket = site.path("none").display().to_string();
    let mut command = site.keyward_command(&["--json", "doctor", "--socket", &socket]);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", site.path("bin").display()));
    Ok(Said::by(&mut command)?.complaints())
}

#[test]
fn a_library_that_is_gone_and_a_manifest_that_names_another() -> Result<()> {
    let site = Site::new("planted", Keyring::Ours)?;
    client(&site, "--no-defaults --user=root")?;
    site.start()?.stop()?;
    let before = wrong(&site)?;
    // Run by root, as nobody runs a server, and with one wrapping key.
    let known = ["warning sole-wrapping: ", "warning keystore-folder: "];
    let is_known = |line: &String| known.iter().any(|begin| line.starts_with(begin));
    ensure!(before.iter().all(is_known), "{before:?}");
    let planted = |begin: &str| -> Result<()> {
        let after = wrong(&site)?;
        let new: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
        ensure!(new.len() == 1 && new[0].starts_with(begin), "{begin}: {after:?}");
        Ok(())
    };
    let library = site.path("plugin/component_keyring_keyward.so");
    fs::rename(&library, site.path("away"))?;
    planted("warning mysql-library: library: ")?;
    fs::rename(site.path("away"), &library)?;
    site.use_keyring(Keyring::Stock)?;
    planted("failed mysql-manifest: manifest: ")?;
    site.use_keyring(Keyring::Ours)?;
    ensure!(wrong(&site)? == before, "{:?}", wrong(&site)?);
    Ok(())
}
