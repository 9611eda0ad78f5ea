//! Files that somebody prepared: each one that the command reads is cut, repeated, mutated at random, or
//! replaced by what is no file. The command ends by itself, with a code of its own, in bounded memory,
//! and shows no secret. The layer `hostile` runs the same with a command under AddressSanitizer.
//!
//! `KEYWARD_COMMAND` is the command, `KEYWARD_CASES` how many mutations each file gets (1), all the fixed
//! ones besides where there are more than that, `KEYWARD_SEED` the first random number.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bench;
mod vault;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyward::assemble;
use keyward::env::Env;
use keyward::env::fake::FakeLog;
use keyward::source::Role;
use test_kit::certificates::Certificates;
use test_kit::hsm::{Hsm, PIN};

use bench::{Bench, SPARSE, SPECIALS, empty, is, said, sorted};
use vault::Vault;

/// The calls that read a whole installation.
const CALLS: [&[&str]; 5] = [
    &["status"],
    &["--json", "keys", "list"],
    &["doctor"],
    &["rotate", "1"],
    &["keystore", "accept-rollback", "--dry-run", "--reason", "r"],
];

#[test]
fn an_installation_of_prepared_files() {
    let bench = Bench::new();
    bench.put_back();
    let output = bench.call(&["status"]);
    assert!(output.status.success(), "as it was: {}", said(&output));
    for file in bench.files() {
        let whole = fs::read(bench.original.join(&file)).unwrap();
        for (n, bytes) in bench.mutations(&whole).into_iter().enumerate() {
            bench.put_back();
            bench.write(&bench.site().join(&file), &bytes);
            bench.runs(&format!("{} mutation {n}", file.display()), CALLS[n % CALLS.len()]);
        }
        for (n, special) in SPECIALS.iter().enumerate() {
            bench.put_back();
            fs::remove_file(bench.site().join(&file)).unwrap();
            special(&bench.site().join(&file)).unwrap();
            bench.runs(&format!("{} special {n}", file.display()), CALLS[n % CALLS.len()]);
        }
    }
    bench.done();
}

#[test]
fn a_data_directory_of_prepared_files() {
    let bench = Bench::new();
    let data = bench.folder.path().join("data");
    let inspect = ["inspect", data.to_str().unwrap()];
    let destroy = ["keys", "destroy", "1", "1", "--datadir", inspect[1]];
    let samples = sorted("tests/golden/inspect").into_iter().filter(|path| !is(path, "json"));
    for sample in samples {
        let whole = fs::read(&sample).unwrap();
        let name = sample.file_name().unwrap();
        for (n, bytes) in bench.mutations(&whole).into_iter().enumerate() {
            empty(&data);
            bench.write(&data.join(name), &bytes);
            bench.runs(&format!("{} mutation {n}", sample.display()), &inspect);
        }
    }
    // A file of 4 TiB is read to its end: that is long, and no fault. Of an .isl it is not.
    for name in ["ibdata1", "t.MAI", "t.MAD", "t.isl", "ib_logfile0", "keyward.mark"] {
        for (n, special) in
            SPECIALS.iter().enumerate().filter(|(n, _)| *n != SPARSE || name == "t.isl")
        {
            for call in [&inspect[..], &destroy] {
                empty(&data);
                fs::copy("tests/golden/inspect/aria.MAD", data.join("u.MAD")).unwrap();
                bench.write(&data.join("ibdata2"), &[1; 4096]);
                special(&data.join(name)).unwrap();
                bench.runs(&format!("{name} special {n}"), call);
            }
        }
    }
    bench.done();
}

#[test]
fn prepared_files_of_other_plugins() {
    let bench = Bench::new();
    let file = bench.folder.path().join("prepared");
    let path = file.to_str().unwrap();
    let served = bench.folder.path().join("served.toml");
    let text = format!("[[provider]]\ntype = \"file\"\nmode = \"ctr\"\npath = {path:?}\n");
    bench.write(&served, text.as_bytes());
    let calls: [(&str, &[&str]); 3] = [
        ("tests/golden/keyfile", &["--config", served.to_str().unwrap(), "keys", "list"]),
        ("tests/golden/keyring", &["import", "--dry-run", "--from-keyring-file", path]),
        ("fuzz/seeds/option_file", &["import", "--dry-run", "--from-mycnf", path]),
    ];
    for (folder, call) in calls {
        // The option files that lead to a network are the fuzz target's alone.
        let here = |path: &PathBuf| !folder.ends_with("option_file") || path.ends_with("key-file");
        for sample in sorted(folder).into_iter().filter(|path| !is(path, "expect") && here(path)) {
            let whole = fs::read(&sample).unwrap();
            for (n, bytes) in bench.mutations(&whole).into_iter().enumerate() {
                bench.write(&file, &bytes);
                bench.runs(&format!("{} mutation {n}", sample.display()), call);
            }
        }
        bench.specials_in_place_of(&file, call);
    }
    bench.done();
}

#[test]
fn prepared_key_files_that_an_option_file_names() {
    let bench = Bench::new();
    let (path, text) =
        (|name: &str| bench.folder.path().join(name), |path: &Path| path.display().to_string());
    for name in ["keys.enc", "password", "aws-kms-key.1.1"] {
        bench.write(&path(name), b"");
    }
    fs::copy("tests/golden/keyfile/aes-128.enc", path("keys.enc")).unwrap();
    bench.write(&path("password"), b"secret");
    bench.write(&path("aws-kms-key.1.1"), &[7; 184]);
    bench.write(&path("included.cnf"), b"[mysqld]\nfile_key_management_digest = sha256\n");
    let options = format!(
        "[mysqld]\nfile_key_management_filename = {}\nfile_key_management_filekey = FILE:{}\n\
         file_key_management_use_pbkdf2 = 1000\n!include {}\n",
        text(&path("keys.enc")),
        text(&path("password")),
        text(&path("included.cnf")),
    );
    bench.write(&path("my.cnf"), options.as_bytes());
    let options = format!(
        "[mysqld]\naws_key_management_keyfile_dir = {}\naws_key_management_region = eu-west-1\n\
         aws_key_management_endpoint_url = http://127.0.0.1:1\ndatadir = /nowhere\n\
         aws_key_management_request_timeout = 100\naws_key_management_master_key_id = k\n",
        text(bench.folder.path()),
    );
    bench.write(&path("aws.cnf"), options.as_bytes());
    for (options, name) in [
        ("my.cnf", "keys.enc"),
        ("my.cnf", "password"),
        ("my.cnf", "included.cnf"),
        ("my.cnf", "my.cnf"),
        ("aws.cnf", "aws-kms-key.1.1"),
    ] {
        let options = text(&path(options));
        bench.in_place_of(&path(name), &["import", "--dry-run", "--from-mycnf", &options]);
    }
    bench.done();
}

#[test]
fn prepared_certificates_authorities_tokens_and_pins() {
    let bench = Bench::new();
    let here = bench.folder.path().join("tls");
    fs::create_dir_all(here.join("authorities")).unwrap();
    let path = |name: &str| here.join(name);
    Certificates::make(&here).unwrap();
    fs::copy(path("ca.pem"), path("authorities/5ed36f99.0")).unwrap();
    bench.write(&path("token"), b"hvs.CAESIJ\n");
    bench.write(&path("pin"), PIN.as_bytes());
    let vault = |authorities: String| {
        format!(
            "[[provider]]\nname = \"other\"\ntype = \"vault-transit\"\ntimeout = \"50ms\"\n\
             address = \"https://127.0.0.1:1\"\ntoken_file = {:?}\n{authorities}\n\
             client_certificate_file = {:?}\nclient_key_file = {:?}\n",
            path("token"),
            path("client.pem"),
            path("client.key")
        )
    };
    let by_file = vault(format!("ca_file = {:?}", path("ca.pem")));
    let by_folder = vault(format!("ca_folder = {:?}", path("authorities")));
    for (section, names) in [
        (&by_file, &["ca.pem", "client.pem", "client.key", "token"][..]),
        (&by_folder, &["authorities/5ed36f99.0", "authorities"]),
    ] {
        for name in names {
            bench.with_section(section);
            match *name {
                "authorities" => bench.specials_in_place_of(&path(name), &["doctor"]),
                name => bench.in_place_of(&path(name), &["doctor"]),
            }
        }
    }
    // Where it is not installed, the layers with a token of it show the same file.
    if let Ok(hsm) = Hsm::softhsm(&here) {
        hsm.make_token("keyward").unwrap();
        bench.with_section(&format!(
            "[[provider]]\nname = \"other\"\ntype = \"pkcs11\"\nmodule = {:?}\n\
             token = \"keyward\"\nkey = \"k\"\npin_file = {:?}\ntimeout = \"5s\"\n",
            hsm.module(),
            path("pin")
        ));
        // Each mutation is another wrong PIN, of which a token takes a few.
        bench.specials_in_place_of(&path("pin"), &["doctor"]);
    }
    bench.done();
}

#[test]
fn a_prepared_stash() {
    let bench = Bench::new();
    let vault = Vault::start();
    let token = bench.folder.path().join("token");
    bench.write(&token, b"hvs.CAESIJ\n");
    let stash = bench.folder.path().join("stash.json");
    let section = |timeout: &str| {
        format!(
            "[[provider]]\nname = \"vault\"\ntype = \"vault-kv\"\naddress = {:?}\n\
             token_file = {token:?}\ntimeout = {timeout:?}\n[stash]\npath = {stash:?}\n",
            vault.address
        )
    };
    bench.with_section(&section("10s"));
    let config = bench.site().join("keyward.toml");
    let log = Arc::new(FakeLog::default());
    drop(assemble::from_file(&config, Role::Server, Env::system(log)).unwrap());
    bench.with_section(&section("50ms"));
    drop(vault);
    let output = bench.call(&["keys", "list"]);
    assert!(said(&output).contains("started with the stash"), "{}", said(&output));
    bench.in_place_of(&stash, &["keys", "list"]);
    bench.done();
}

#[test]
fn a_prepared_component_manifest_and_export() {
    let bench = Bench::new();
    let path = |name: &str| bench.folder.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    fs::create_dir(path("bin")).unwrap();
    bench.write(&path("bin/mysqld"), b"");
    let manifest = "{\"components\": \"file://component_keyring_keyward\"}";
    bench.write(&path("bin/mysqld.my"), manifest.as_bytes());
    bench.put_back();
    let component = format!("{{\"config\": {:?}}}", bench.site().join("keyward.toml"));
    bench.write(&path("component_keyring_keyward.cnf"), component.as_bytes());
    let doctor = ["--config", &text("component_keyring_keyward.cnf"), "doctor"];
    for name in ["bin/mysqld.my", "component_keyring_keyward.cnf"] {
        bench.in_place_of(&path(name), &doctor);
    }
    let export = ["migrate", "--from", "local", "--to-file", &text("export")];
    let output = bench.call(&export);
    assert!(output.status.success(), "{}", said(&output));
    let served =
        format!("[[provider]]\ntype = \"file\"\nmode = \"ctr\"\npath = {:?}\n", path("export"));
    bench.write(&path("served.toml"), served.as_bytes());
    bench.in_place_of(&path("export"), &["--config", &text("served.toml"), "keys", "list"]);
    // It never writes where anything is.
    bench.specials_in_place_of(&path("export"), &export);
    bench.done();
}

#[test]
fn what_somebody_prepared_where_init_works() {
    let bench = Bench::new();
    let folder = bench.folder.path().join("new");
    let config = folder.join("keyward.toml").display().to_string();
    let init = ["--config", &config, "init", "--dir", folder.to_str().unwrap()];
    for name in ["keyward.toml", "local.key", "keystore", "keystore/keystore.json"] {
        for special in bench.specials() {
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
            fs::set_permissions(&folder, Permissions::from_mode(0o750)).unwrap();
            SPECIALS[special](&folder.join(name)).unwrap();
            bench.runs(&format!("{name} special {special}"), &init);
        }
    }
    bench.done();
}
