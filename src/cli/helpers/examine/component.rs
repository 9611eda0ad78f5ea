//! What `keyward doctor` looks at for MySQL's component: the files that the server reads, and what a
//! running server says of its keyring.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::catalogue::{
    ENCRYPT_BINLOG, ENCRYPT_LOG, KEYS, MYSQL_LIBRARY, MYSQL_MANIFEST, PLUGIN, RESTART, SERVER,
};
use super::findings::Findings;
use super::server as running_server;
use crate::cli::helpers::print::Mark;
use crate::cli::helpers::server::{self, Question};
use crate::config::component::{Component, FILE_NAME};
use crate::error::json_place;
use crate::trust::{self, Refusal};

/// The longest manifest, in bytes.
const MAX_MANIFEST: u64 = 1 << 16;

/// The component's name, in the manifest and as a file.
const NAME: &str = "component_keyring_keyward";

/// What a manifest names it by.
const URN: &str = "file://component_keyring_keyward";

/// Where the server's program may be beside the folders of PATH, which for some has no `sbin`.
const FOLDERS: &[&str] = &["/usr/sbin", "/usr/libexec"];

/// What a running server says, by name.
pub(super) type Server = BTreeMap<String, String>;

/// The file that tells the server what to load.
#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    read_local_manifest: bool,
    components: Option<String>,
}

/// Asks the server; `Err` holds the client's own words.
pub(super) fn ask(options: &server::Options) -> Result<Server, String> {
    server::query(options, Question::Component).map(|text| parse(&text))
}

fn parse(text: &str) -> Server {
    let row = |line: &str| {
        let (name, value) = line.split_once('\t')?;
        Some((name.to_owned(), value.to_owned()))
    };
    text.lines().filter_map(row).collect()
}

/// Looks at the component that the file at `path` configures; `keystore` is the one it names.
pub(super) fn check(
    findings: &mut Findings,
    path: &Path,
    keystore: Option<&Path>,
    server: Result<Server, String>,
) {
    match server {
        Ok(server) => running(findings, keystore, &server),
        Err(words) => {
            library(findings, path);
            manifest(findings);
            let advice = server::advice(&words);
            findings.add(&SERVER, Mark::Skipped, format!("server: {words}"), Some(advice));
        }
    }
}

/// Whether the keystore is one that the server makes at its first start, and it is not there.
pub(super) fn is_to_be_made(findings: &mut Findings, path: &Path) -> bool {
    let Ok(Component::Keystore { path: keystore, .. }) = Component::load(path) else {
        return false;
    };
    let shown = keystore.display();
    if keystore.exists() {
        return false;
    }
    if keystore.parent().is_some_and(Path::is_dir) {
        let what = format!("keystore: {shown} is not there; a server's first start makes it");
        findings.warn(&KEYS, what, "where there was one, put it back first");
    } else {
        let what = format!("keystore: the folder of {shown} is not there");
        findings.fail(&KEYS, what, "make it, for the server's user alone");
    }
    true
}

/// A server that runs with our component has found library and manifest.
fn running(findings: &mut Findings, keystore: Option<&Path>, server: &Server) {
    let get = |name: &str| server.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let why = get("Last_error").unwrap_or("no reason is told");
    match (get("Component_name"), get("Component_status")) {
        (Some(NAME), Some("Active")) => {
            findings.ok(&PLUGIN, format!("server: {NAME} is active"));
        }
        (Some(NAME), _) => {
            let advice = "correct that, then run ALTER INSTANCE RELOAD KEYRING";
            findings.fail(&PLUGIN, format!("server: {NAME} is disabled: {why}"), advice);
            return;
        }
        (other, _) => {
            let has = other.unwrap_or("no keyring component");
            findings.add(&PLUGIN, Mark::Failed, format!("server: it has {has}, not {NAME}"), None);
            return manifest(findings);
        }
    }
    if let (Some(used), Some(named)) = (get("Data_file"), keystore)
        && Path::new(used) != named
    {
        let what = format!("server: its keystore is {used}, not {}", named.display());
        findings.fail(&PLUGIN, what, "restart it, or run ALTER INSTANCE RELOAD KEYRING");
    }
    let is_replaced = get("Library_replaced") == Some("1");
    running_server::library(findings, get("Version"), is_replaced);
    // It is shown with a configuration of keyward's own alone.
    if let Some(locked) = get("Memory_locked") {
        running_server::memory(findings, locked == "1");
    }
    for name in ["Degraded_reason", "Last_error"] {
        if let Some(value) = get(name) {
            findings.add(&RESTART, Mark::Warning, format!("server: {name}: {value}"), None);
        }
    }
    for (check, option, holds) in [
        (&ENCRYPT_LOG, "innodb_redo_log_encrypt", "the redo log"),
        (&ENCRYPT_LOG, "innodb_undo_log_encrypt", "undo tablespaces"),
        (&ENCRYPT_BINLOG, "binlog_encryption", "the binary log"),
    ] {
        // Without a binary log there is nothing to say of it.
        if let Some(value) = get(option) {
            let advice =
                format!("{option} = ON, or rows of encrypted tables stand clear in {holds}");
            findings.option(check, value == "ON", &format!("server: {option} = {value}"), &advice);
        }
    }
}

fn library(findings: &mut Findings, path: &Path) {
    let library = path.with_file_name(format!("{NAME}.so"));
    let shown = library.display();
    match trust::open(&library) {
        Ok(_) => findings.ok(&MYSQL_LIBRARY, format!("library: {shown}")),
        Err(Refusal::Untrusted(error)) => findings.error(&MYSQL_LIBRARY, "library", &error),
        Err(Refusal::Io(_)) => {
            let advice = format!(
                "put libkeyward.so there; where this is an instance's own {FILE_NAME}, the library \
                 is with the one that says read_local_config"
            );
            findings.warn(&MYSQL_LIBRARY, format!("library: {shown} is not there"), &advice);
        }
    }
}

/// The manifest beside the server's program.
fn manifest(findings: &mut Findings) {
    let Some(program) = server_program() else {
        let advice = "its manifest, mysqld.my, is to be beside it";
        let what = "manifest: mysqld was not found";
        return findings.add(&MYSQL_MANIFEST, Mark::Skipped, what, Some(advice));
    };
    let path = program.with_extension("my");
    let shown = path.display();
    let wanted = format!("write {{ \"components\": \"{URN}\" }}");
    let text = match trust::read_text(&path, MAX_MANIFEST) {
        Ok(text) => text,
        Err(Refusal::Untrusted(error)) => {
            let what = format!("manifest: {}", error.what());
            return findings.add(&MYSQL_MANIFEST, Mark::Failed, what, error.advice());
        }
        Err(Refusal::Io(_)) => {
            let what = format!("manifest: {shown} cannot be read");
            return findings.fail(&MYSQL_MANIFEST, what, &wanted);
        }
    };
    match serde_json::from_str(&text) {
        Ok(Manifest { read_local_manifest: true, .. }) => {
            let what = format!("manifest: {shown} sends to the one in each data directory");
            findings.ok(&MYSQL_MANIFEST, what);
        }
        Ok(Manifest { components: Some(all), .. }) if names_ours(&all) => {
            findings.ok(&MYSQL_MANIFEST, format!("manifest: {shown}"));
        }
        Ok(_) => {
            findings.fail(&MYSQL_MANIFEST, format!("manifest: {shown} names no {NAME}"), &wanted);
        }
        Err(cause) => {
            let what = format!("manifest: {shown} is not valid: {}", json_place(&cause));
            findings.fail(&MYSQL_MANIFEST, what, &wanted);
        }
    }
}

/// Several are apart by `,`, of one group by `;`.
fn names_ours(all: &str) -> bool {
    all.split([',', ';']).any(|one| one.trim() == URN)
}

fn server_program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOLDERS.iter().map(PathBuf::from));
    folders.map(|folder| folder.join("mysqld")).find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_others_can_change_is_a_failure() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("component_keyring_keyward.so");
        let looked_at = || {
            let mut findings = Findings::default();
            library(&mut findings, &folder.path().join(FILE_NAME));
            let found = findings.0.remove(0);
            (found.mark, found.what)
        };
        let chmod = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        assert_eq!(looked_at().0, Mark::Warning);
        std::fs::write(&file, "").unwrap();
        chmod(&file, 0o755);
        assert_eq!(looked_at(), (Mark::Ok, format!("library: {}", file.display())));
        for path in [file.as_path(), folder.path()] {
            chmod(path, 0o777);
            let (mark, what) = looked_at();
            let words = format!("library: {} can be written by others, who could ", path.display());
            assert!(mark == Mark::Failed && what.starts_with(&words), "{what}");
            chmod(path, 0o755);
        }
    }

    #[test]
    fn reads_the_clients_rows() {
        let server = parse("Component_status\tActive\nData_file\t/a b\tc\nredo\tON\n");
        assert_eq!(server["Component_status"], "Active");
        assert_eq!(server["Data_file"], "/a b\tc");
        assert_eq!(server["redo"], "ON");
    }

    #[test]
    fn finds_ours_among_others() {
        assert!(names_ours(URN));
        assert!(names_ours("file://component_a, file://component_keyring_keyward"));
        assert!(!names_ours("file://component_keyring_file"));
        assert!(!names_ours("file://component_keyring_keyward_2"));
    }
}
