//! A configuration and a keystore loaded, and what the status says of them.

use std::ffi::CStr;
use std::path::Path;

use keyward::event::metrics::{METRICS, Metric, Renderer};

use super::abi::Load;
use super::server::{Server, mode_of, text};

#[test]
fn declares_one_component() {
    let server = Server::open();
    let name = unsafe { CStr::from_ptr(server.component.name) };
    assert_eq!(name.to_str(), Ok("component_keyring_keyward"));
    for (nth, name) in [c"registry", c"log_builtins"].into_iter().enumerate() {
        let needs = unsafe { server.component.requires.add(nth).read() };
        assert_eq!(unsafe { CStr::from_ptr(needs.name) }, name);
        assert!(!needs.place.is_null());
    }
    let end = unsafe { server.component.requires.add(2).read() };
    assert!(end.name.is_null());
    assert!(!server.component.metadata.is_null());
    assert!(!server.is_initialized());
}

/// A server that finds no keystore at its start makes one; the first may come back, unless as an older copy.
#[test]
fn a_keystore_comes_back_after_another_took_its_place() {
    let server = Server::loaded();
    assert_eq!(server.store("first", "", b"1", "SECRET"), 0);
    let older = std::fs::read(server.keystore()).unwrap();
    assert_eq!(server.store("second", "", b"2", "SECRET"), 0);
    let first = std::fs::read(server.keystore()).unwrap();
    std::fs::remove_file(server.keystore()).unwrap();
    assert_eq!(server.restart(), 0);
    assert_eq!(server.fetch("second", ""), Ok(None));
    assert_eq!(server.store("third", "", b"3", "SECRET"), 0);
    let other = std::fs::read(server.keystore()).unwrap();
    std::fs::write(server.keystore(), &older).unwrap();
    assert_ne!(server.load(), 0, "an older copy of the first was taken");
    std::fs::write(server.keystore(), &first).unwrap();
    assert_eq!(server.load(), 0);
    assert_eq!(server.fetch("second", ""), Ok(Some((b"2".to_vec(), "SECRET".into()))));
    std::fs::write(server.keystore(), &other).unwrap();
    assert_eq!(server.load(), 0);
    assert_eq!(server.fetch("third", ""), Ok(Some((b"3".to_vec(), "SECRET".into()))));
}

/// The server's tables may need them though nothing on the disk says so yet.
#[test]
fn a_reload_without_the_keystore_loses_no_key_in_use() {
    let server = Server::loaded();
    std::fs::remove_file(server.keystore()).unwrap();
    assert_eq!(server.load(), 0, "nothing is in use yet");
    assert_eq!(server.generate("INNODBKey-a7c99ba7-e639-11f1-b21a-02fc00000001-1", "AES", 32), 0);
    let key = || server.fetch("INNODBKey-a7c99ba7-e639-11f1-b21a-02fc00000001-1", "").unwrap();
    let before = key().expect("the key");
    let away = server.folder.path().join("away");
    std::fs::rename(server.keystore(), &away).unwrap();
    assert_eq!(server.load(), 1);
    let said = server.described("Last_error");
    assert!(said.contains("there is no keystore at ") && said.contains("keyward_rescue"), "{said}");
    assert!(!server.keystore().exists(), "another keystore was made");
    assert_eq!(key(), Some(before.clone()));
    std::fs::rename(&away, server.keystore()).unwrap();
    assert_eq!(server.load(), 0);
    assert_eq!(key(), Some(before));
}

/// Another keystore, which may have been made by mistake, is taken while the server runs only if it has the
/// master keys.
#[test]
fn a_reload_of_another_keystore_loses_no_master_key() {
    const NAME: &str = "INNODBKey-a7c99ba7-e639-11f1-b21a-02fc00000001-1";
    let server = Server::loaded();
    assert_eq!(server.store("a password", "joe@%", b"secret", "SECRET"), 0);
    let without = std::fs::read(server.keystore()).unwrap();
    std::fs::remove_file(server.keystore()).unwrap();
    assert_eq!(server.restart(), 0);
    assert_eq!(server.generate(NAME, "AES", 32), 0);
    let (key, with) = (server.fetch(NAME, "").unwrap(), std::fs::read(server.keystore()).unwrap());
    std::fs::write(server.keystore(), &without).unwrap();
    assert_eq!(server.load(), 1);
    let said = server.described("Last_error");
    let place = server.keystore();
    let wanted = format!("{} is another keystore and lacks key {NAME}", place.display());
    assert!(said.contains(&wanted) && said.contains("mysql_migrate_keyring"), "{said}");
    assert_eq!(server.fetch(NAME, "").unwrap(), key, "it serves on");
    std::fs::write(server.keystore(), &with).unwrap();
    assert_eq!(server.load(), 0);
    assert_eq!(server.fetch(NAME, "").unwrap(), key);
}

/// Where the data need a master key, a keystore that lacks it or has another is refused, none is made,
/// and the mark lists it and no secret of a client's.
#[test]
fn encrypted_data_want_their_own_keystore() {
    const NAME: &str = "INNODBKey-a7c99ba7-e639-11f1-b21a-02fc00000001-2";
    let server = Server::loaded();
    let folder = server.folder.path();
    let refused = |wanted: &str| {
        assert_eq!(server.load(), 1, "{wanted}");
        let said = server.described("Last_error");
        assert!(said.contains(wanted), "{said}");
        said
    };
    let table = folder.join("t.ibd");
    let put = || std::fs::copy("tests/golden/inspect/mysql.ibd", &table).unwrap();
    std::fs::write(folder.join("ibdata1"), b"").unwrap();
    // A doublewrite file has copies of other files' pages: it is not the one to name.
    std::fs::copy("tests/golden/inspect/mysql.ibd", folder.join("#ib_16384_1.dblwr")).unwrap();
    put();
    refused(&format!("t.ibd needs key {NAME} version 1, which keystore "));
    std::fs::remove_file(&table).unwrap();
    assert_eq!(server.load(), 0);
    assert_eq!(server.generate(NAME, "AES", 32), 0);
    assert_eq!(server.store("a password", "joe@%", b"secret", "SECRET"), 0);
    let mark = folder.join("keyward.mark");
    assert!(!mark.exists(), "written before the server asked for a key");
    assert!(server.fetch(NAME, "").unwrap().is_some());
    let next = NAME.replace("-2", "-3");
    assert_eq!(server.generate(&next, "AES", 32), 0);
    let text = std::fs::read_to_string(&mark).unwrap();
    assert!(text.contains(NAME) && text.contains(&next) && !text.contains("password"), "{text}");
    put();
    assert_eq!(server.load(), 0, "a mark that agrees needs no look at the data");
    std::fs::remove_file(&mark).unwrap();
    refused(&format!("t.ibd is encrypted with key {NAME} version 1 of another keystore"));

    let away = folder.join("away");
    std::fs::rename(server.keystore(), &away).unwrap();
    assert_eq!(server.restart(), 1);
    let said = server.described("Last_error");
    assert!(said.contains("t.ibd in "), "{said}");
    for part in
        ["there is no keystore at ", "keystore.json.key", "keystore.json.witness", "audit.jsonl"]
    {
        assert!(said.contains(part), "{said}");
    }
    assert!(said.contains("put the keystore back from a backup"), "{said}");
    assert!(!server.keystore().exists(), "another keystore was made");
    std::fs::remove_file(&table).unwrap();
    std::fs::rename(&away, server.keystore()).unwrap();
    assert_eq!(server.load(), 0);
}

#[test]
fn the_first_load_makes_a_keystore_and_its_key() {
    let server = Server::loaded();
    assert!(server.is_initialized());
    let key = server.folder.path().join("keystore.json.key");
    assert_eq!((mode_of(&server.keystore()), mode_of(&key)), (0o600, 0o600));
    assert_eq!(server.described("Component_status"), "Active");
    assert_eq!(server.described("Data_file"), server.keystore().display().to_string());
    assert_eq!(server.described("Read_only"), "No");
}

/// With keyward's own configuration. Where it is the stock component's, the table looks like that one's.
#[test]
fn status_has_the_stock_rows_and_each_metric_of_the_table() {
    let server = Server::loaded();
    let rows = || -> Vec<String> {
        let rows = server.list("keyring_component_metadata_query", 1);
        rows.into_iter().map(|(name, _)| name).collect()
    };
    let stock = rows();
    assert_eq!(stock.len(), 8, "{stock:?}");
    server.configure_with_a_file();
    assert_eq!(server.load(), 0);
    let ours = METRICS.iter().filter(|metric| metric.shown_by.contains(&Renderer::MySql));
    let ours = ours.map(|metric: &Metric| {
        let (first, rest) = metric.name().split_at(1);
        first.to_uppercase() + rest
    });
    assert_eq!(rows(), stock.into_iter().chain(ours).collect::<Vec<_>>());
    assert_eq!(
        (server.described("State"), server.described("Degraded")),
        ("ok".into(), "0".into())
    );
    assert_eq!(server.described("Provider"), "local");
    assert_eq!((server.described("Keys"), server.described("Last_error")), ("0".into(), "".into()));
}

#[test]
fn a_failed_load_is_disabled_and_a_later_one_recovers() {
    let server = Server::open();
    assert_eq!(server.load(), 1, "without a configuration");
    assert!(!server.is_initialized());
    assert_eq!(server.described("Component_status"), "Disabled");
    assert!(server.described("Last_error").contains("cannot read config file"));
    assert_eq!(server.fetch("k", ""), Err(1));
    assert_eq!(server.store("k", "", b"x", "AES"), 1);
    server.configure("path");
    assert_eq!(server.load(), 0);
    assert_eq!(server.store("k", "", b"x", "AES"), 0);
    // And one that fails later leaves the keys in place.
    server.configure("pth");
    assert_eq!(server.load(), 1);
    assert!(server.is_initialized());
    assert_eq!(server.fetch("k", ""), Ok(Some((b"x".into(), "AES".into()))));
}

#[test]
fn a_keystore_without_its_key_opens_when_that_is_back() {
    let server = Server::loaded();
    assert_eq!(server.store("k", "", b"x", "AES"), 0);
    let key = server.folder.path().join("keystore.json.key");
    let away = server.folder.path().join("away");
    std::fs::rename(&key, &away).unwrap();
    let other = Server::open();
    std::fs::copy(
        server.folder.path().join("component_keyring_keyward.cnf"),
        other.folder.path().join("component_keyring_keyward.cnf"),
    )
    .unwrap();
    assert_eq!(other.load(), 1);
    assert!(other.described("Last_error").contains("keystore.json.key"));
    assert!(!key.exists(), "a new key for an old keystore would be of no use");
    std::fs::rename(&away, &key).unwrap();
    assert_eq!(other.load(), 0);
    assert_eq!(other.fetch("k", ""), Ok(Some((b"x".into(), "AES".into()))));
}

/// In a process of its own, since it changes the effective user.
#[test]
fn while_the_server_is_root_its_data_directory_chooses_no_code() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    const ALONE: &str = "KEYWARD_TEST_ALONE";
    const NOBODY: u32 = 65_534;
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    if std::env::var_os(ALONE).is_none() {
        let name = "loading::while_the_server_is_root_its_data_directory_chooses_no_code";
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        let done = again.args(["--exact", name]).env(ALONE, "1").output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
        return;
    }
    let server = Server::open();
    let library = server.folder.path();
    std::fs::set_permissions(library, std::fs::Permissions::from_mode(0o755)).unwrap();
    let data = library.join("data");
    std::fs::create_dir(&data).unwrap();
    let give = |path: &Path| chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    give(&data);
    let load = |of_library: &str, of_instance: &str| {
        for (folder, content) in [(library, of_library), (&data, of_instance)] {
            let file = folder.join("component_keyring_keyward.cnf");
            std::fs::write(&file, content).unwrap();
        }
        give(&data.join("component_keyring_keyward.cnf"));
        let folder = |path: &Path| text(&format!("{}/", path.display()));
        let (library, instance) = (folder(library), folder(&data));
        let load = server.service::<Load>("keyring_load").load;
        unsafe { load(library.as_ptr(), instance.as_ptr()) }
    };
    let config = data.join("keyward.toml");
    let toml = format!(
        "[keystore]\npath = \"{0}/keystore.json\"\n[[provider]]\ntype = \"pkcs11\"\n\
         module = \"{0}/module.so\"\ntoken = \"t\"\nkey = \"k\"\npin_file = \"{0}/pin\"\n",
        data.display()
    );
    std::fs::write(&config, toml).unwrap();
    give(&config);
    let local = r#"{"read_local_config": true}"#;
    let named = format!(r#"{{"config": "{}"}}"#, config.display());
    for (of_library, of_instance) in [(local, &*named), (&*named, "")] {
        assert_eq!(load(of_library, of_instance), 1);
        let error = server.described("Last_error");
        assert!(error.contains("may be used by root's configuration only"), "{error}");
    }
    // What needs no code works, and is the user's own.
    let keystore = data.join("own.json");
    let path = format!(r#"{{"path": "{}"}}"#, keystore.display());
    for (of_library, of_instance) in [(local, &*path), (&*path, "")] {
        assert_eq!(load(of_library, of_instance), 0, "{}", server.described("Last_error"));
        for name in ["own.json", "own.json.key", "audit.jsonl"] {
            let found = data.join(name).symlink_metadata().unwrap();
            assert_eq!((found.uid(), found.gid()), (NOBODY, NOBODY), "{name}");
        }
        for file in std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()) {
            let keep = file.extension().is_some_and(|ending| ending == "cnf" || ending == "toml");
            if !keep {
                std::fs::remove_file(file).unwrap();
            }
        }
    }
    // A link of the user's leads root to no file of root's.
    let secret = library.join("secret.toml");
    std::fs::write(&secret, "hunter2").unwrap();
    std::fs::remove_file(&config).unwrap();
    std::os::unix::fs::symlink(&secret, &config).unwrap();
    std::os::unix::fs::lchown(&config, Some(NOBODY), None).unwrap();
    assert_eq!(load(local, &named), 1);
    assert!(!server.described("Last_error").contains("hunter2"));
}
