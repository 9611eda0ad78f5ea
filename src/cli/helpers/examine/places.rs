//! Where keys and keystore lie: not beside the data, and in a folder that the server can write.

#![forbid(unsafe_code)]

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::catalogue::{KEY_BESIDE_DATA, KEYSTORE_FOLDER};
use super::findings::Findings;
use crate::cli::helpers::privilege;
use crate::compat::my_cnf;
use crate::config::Config;

/// What a server's packages call its account.
const DEFAULT_ACCOUNT: &str = "mysql";

/// Settings of providers that name a file with which alone keys are opened; a password's file goes before
/// the file that it opens.
const KEY_FILES: [&str; 3] = ["key_file", "passphrase_file", "password_file"];

/// Whether a key lies on the file system that has the data.
pub(super) fn key_beside_data(findings: &mut Findings, config: &Config, datadir: &Path) {
    let device = |path: &Path| path.metadata().ok().map(|found| found.dev());
    let Some(of_data) = device(datadir) else { return };
    let keys = config.providers.iter().filter_map(|provider| {
        let section = &provider.section;
        let file = KEY_FILES.iter().find_map(|name| section.path(name).ok().flatten());
        let is_key_file = section.text("type").is_ok_and(|kind| kind.as_deref() == Some("file"));
        // A key file whose password comes from elsewhere opens nothing.
        let closed = section.has("password_env") || section.has("password_credential");
        file.or_else(|| section.path("path").ok().flatten().filter(|_| is_key_file && !closed))
    });
    let beside: Vec<PathBuf> = keys.filter(|key| device(key) == Some(of_data)).collect();
    if beside.is_empty() {
        return findings.ok(&KEY_BESIDE_DATA, "no key lies on the file system that has the data");
    }
    for key in beside {
        let what = format!(
            "{} lies on the file system of the data in {}: who takes the disk has both",
            key.display(),
            datadir.display()
        );
        let advice = "keep it on another file system, or wrap by a key store that gives its key to nobody: \
                      keyward migrate";
        findings.warn(&KEY_BESIDE_DATA, what, advice);
    }
}

/// Whether the server can write the keystore's folder.
pub(super) fn keystore_folder(findings: &mut Findings, config: &Config) {
    let Some(folder) = config.keystore.path.parent() else { return };
    let Ok(found) = folder.metadata() else { return };
    let name = my_cnf::server_user().unwrap_or_else(|| DEFAULT_ACCOUNT.to_owned());
    let account = privilege::find(&name).ok().flatten();
    let Some(account) = account.filter(|account| !account.uid.is_root() && found.uid() == 0) else {
        return;
    };
    let (folder, name) = (folder.display(), account.name);
    let what = format!("{folder} belongs to root: a server that runs as {name} cannot write there");
    let advice = format!("run chown -R {name}: {folder}, unless the server runs as root");
    findings.warn(&KEYSTORE_FOLDER, what, &advice);
}
