//! Faults that `doctor` is to find in a MySQL that does not run. Which test plants which is in
//! `src/cli/helpers/examine/catalogue.rs`.

use std::fs;

use test_kit::command::answer;
use test_kit::{Result, ensure};
use test_mysql::{Keyring, Site};

use crate::command::client;

/// What `doctor` found wrong: mark, id and words.
fn wrong(site: &Site) -> Result<Vec<String>> {
    let socket = site.path("none").display().to_string();
    let mut command = site.keyward_command(&["--json", "doctor", "--socket", &socket]);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", site.path("bin").display()));
    let said = answer(&mut command)?;
    let json: serde_json::Value =
        serde_json::from_str(&said.out).map_err(|error| format!("{error}: {}", said.text()))?;
    let all = json.as_array().ok_or("no list")?.iter();
    let wrong = all.filter(|one| one["mark"] == "warning" || one["mark"] == "failed");
    let text = |one: &serde_json::Value| {
        let of = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
        format!("{} {}: {}", of("mark"), of("id"), of("what"))
    };
    Ok(wrong.map(text).collect())
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
