//! keyward and Cosmian KMS: the releases and the TLS that PyKMIP does not speak, and MariaDB on it.

#[path = "../common/mod.rs"]
mod common;

use keyward::backend::kmip::message::Version;
use keyward::backend::kmip::{Settings, WrapMechanism};
use keyward::key::KeyState;
use keyward::provider::{KeyServer, KeyWrapper};
use test_kit::files::{all, holding};
use test_kit::{Result, ensure, seen};
use test_kmip::Cosmian;
use test_mariadb::Site;
use test_mariadb::rows::{PLAINTEXT, Table, check, create, wait_for_version};

use common::{context, data, key, said, server, settings_of, soon, works, wrapper};

const TABLES: &[Table] = &[
    Table { name: "payroll", options: "ENCRYPTED=YES", rows: 2000 },
    Table { name: "patients", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=3", rows: 2000 },
];

fn settings(cosmian: &Cosmian, version: Option<Version>) -> Settings {
    Settings { version, ..settings_of(cosmian.certificates(), cosmian.port()) }
}

#[test]
fn the_newest_release_and_tls_1_3_are_agreed_on() -> Result<()> {
    let cosmian = Cosmian::start()?;
    let wrapper = wrapper(settings(&cosmian, None), "kek", None);
    said(wrapper.create_key(soon()))?;
    works(&wrapper)?;
    let facts = said(wrapper.probe(soon()))?.facts;
    let text: Vec<_> = facts.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let text = text.join(", ");
    ensure!(text.contains("version 2.1") && text.contains("TLS 1.3"), "{text}");
    seen!("doctor: {text}");
    Ok(())
}

#[test]
fn each_release_wraps_and_what_it_wrapped_opens_in_the_others() -> Result<()> {
    let cosmian = Cosmian::start()?;
    let of = |version| wrapper(settings(&cosmian, Some(version)), "kek", Some(WrapMechanism::Gcm));
    let by_gcm = || Version::ALL.into_iter().filter(|version| *version >= Version::new(1, 4));
    said(of(Version::new(2, 1)).create_key(soon()))?;
    for version in by_gcm() {
        let secret = data()?;
        let wrapped = said(of(version).wrap(&secret, &context(), soon()))?;
        for other in by_gcm() {
            let opened = said(of(other).unwrap(&wrapped, &context(), soon()))?;
            ensure!(opened.expose() == secret.expose(), "KMIP {other}: another key came back");
        }
    }
    Ok(())
}

#[test]
fn each_release_serves() -> Result<()> {
    let cosmian = Cosmian::start()?;
    for version in Version::ALL {
        let served = server(settings(&cosmian, Some(version)), &format!("served by {version}"));
        let secret = data()?;
        let told = |error| format!("KMIP {version}: {error}");
        said(served.put(&key(3, 1)?, &secret, soon())).map_err(told)?;
        said(served.put(&key(3, 2)?, &data()?, soon())).map_err(told)?;
        let mut infos = said(served.list(soon())).map_err(told)?;
        infos.sort_by(|a, b| a.key.cmp(&b.key));
        let states: Vec<KeyState> = infos.iter().map(|info| info.state).collect();
        ensure!(states == [KeyState::Retired, KeyState::Active], "KMIP {version}: {states:?}");
        let fetched = said(served.fetch(&key(3, 1)?, soon())).map_err(told)?;
        ensure!(fetched.expose() == secret.expose(), "KMIP {version}: another key");
        said(served.remove(&key(3, 1)?, soon())).map_err(told)?;
        ensure!(said(served.list(soon()))?.len() == 1, "KMIP {version}: it is still listed");
    }
    Ok(())
}

#[test]
fn mariadb_with_its_keys_wrapped_there() -> Result<()> {
    let mut cosmian = Cosmian::start()?;
    let mut site = Site::new("cosmian-wrapped")?;
    init(&mut site, &cosmian)?;
    let server = site.start()?;
    create(&server, TABLES)?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    wait_for_version(&server, "%", 3)?;
    server.write_pages()?;
    let clear = holding(&all(&site.data()), PLAINTEXT)?;
    ensure!(clear.is_empty(), "in the clear: {clear:?}");
    let said = site.keyward(&["keystore", "rewrap", "--new-kek", "kmip"])?.ok()?;
    ensure!(said.contains("provider \"kmip\": renewed"), "{said}");

    cosmian.kill()?;
    check(&server, TABLES)?;
    server.stop()?;
    let log = site.refusal()?;
    ensure!(log.contains("connection refused"), "{log}");
    cosmian.run()?;
    let server = site.start()?;
    check(&server, TABLES)?;
    server.sql("SET GLOBAL keyward_rotate_key = 3")?;
    server.stop()?;
    Ok(())
}

/// Sets up keyward by `keyward init`, with a wrapping key that it makes.
fn init(site: &mut Site, cosmian: &Cosmian) -> Result<()> {
    let folder = site.path("etc/kmip");
    std::fs::create_dir(&folder)?;
    test_kmip::give_client_files(cosmian.certificates(), &folder)?;
    let (dir, at) = (site.path("keyward"), |name: &str| folder.join(name).display().to_string());
    let lines = [
        "server=127.0.0.1".to_owned(),
        format!("port={}", cosmian.port()),
        format!("ca_file={}", at("ca.pem")),
        format!("client_certificate_file={}", at("client.pem")),
        format!("client_key_file={}", at("client.key")),
        "key=keyward kek".to_owned(),
        "timeout=5s".to_owned(),
    ];
    let dir = dir.display().to_string();
    let mut words = vec!["init", "--dir", &dir, "--provider", "kmip", "--create-key"];
    words.extend(lines.iter().flat_map(|line| ["--set", line]));
    site.keyward(&words)?.ok()?;
    site.load_keyward();
    site.encrypt_everything();
    site.keyward(&["keys", "create", "3"])?.ok()?;
    Ok(())
}
