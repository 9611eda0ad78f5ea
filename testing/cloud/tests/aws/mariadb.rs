//! A real MariaDB whose store key is wrapped in KMS, set up by `keyward init`.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::json;
use test_cloud::life::{self, TABLES};
use test_cloud::{FakeAws, REGION, Shared, shared};
use test_kit::account::give_to_server;
use test_kit::{Result, ensure, files, seen};
use test_mariadb::rows::{Table, check, wait_for_version};
use test_mariadb::{Server, Site};

/// The tables whose rows are compared.
const CHECKED: &[&str] = &["test.plain_key", "test.key_three"];

/// How the error names the cure.
const CURE: &str = "is disabled; aws kms enable-key --key-id";

#[test]
fn the_life_of_a_key_in_kms() -> Result<()> {
    let shared = Shared::get()?;
    let kms = FakeAws::before(shared.localstack.address())?;
    let site = init(&kms.url(), &format!("alias/{}", shared.new_name()))?;
    let server = life::begin(&site, "encrypts and decrypts")?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    wait_for_version(&server, "test/%", 3)?;
    site.keyward(&["rotate", "--all"])?.ok()?;
    wait_for_version(&server, "test/%", 5)?;
    check(&server, TABLES)?;
    life::nothing_in_memory(&server, "the secret access key", shared::SECRET.into())?;
    server.stop()?;

    let before = (blob(&site)?, kms.take_actions().len());
    // Made in KMS by somebody else; the command follows.
    let key = key_of(&site)?;
    shared.localstack.kms(REGION, "RotateKeyOnDemand", &json!({ "KeyId": key }))?;
    let said = site.keyward(&["keystore", "rewrap", "--to-latest"])?.ok()?;
    ensure!(said.contains("renewed"), "{said}");
    ensure!(blob(&site)? != before.0, "the wrapped store key is as it was");
    let calls = kms.take_actions();
    ensure!(calls == ["Decrypt", "ReEncrypt", "Decrypt"], "a rewrap called {calls:?}");
    let server = site.start()?;
    check(&server, TABLES)?;
    let calls = kms.take_actions();
    ensure!(calls == ["Decrypt"], "a start called {calls:?}");
    seen!("KEK rotated and followed by `rewrap --to-latest`; a start is one call: {calls:?}");
    let server = life::through_a_disabled_key(&site, server, CURE, |enabled| {
        let action = if enabled { "EnableKey" } else { "DisableKey" };
        shared.localstack.kms(REGION, action, &json!({ "KeyId": key })).map(drop)
    })?;
    survive_an_outage(kms, &site, server)
}

#[test]
fn new_material_by_the_command() -> Result<()> {
    let shared = Shared::get()?;
    let kms = FakeAws::before(shared.localstack.address())?;
    let site = init(&kms.url(), &shared.localstack.new_key(REGION)?)?;
    let server = life::begin(&site, "encrypts and decrypts")?;
    let (key, before) = (key_of(&site)?, blob(&site)?);
    kms.take_actions();
    let said = site.keyward(&["keystore", "rewrap", "--new-kek", "aws-kms"])?.ok()?;
    let made = format!("new wrapping key {key}");
    ensure!(said.contains(&made) && said.contains("renewed"), "no {made:?} in: {said}");
    ensure!(blob(&site)? != before && key_of(&site)? == key, "the store key is wrapped as it was");
    let calls = kms.take_actions();
    for action in ["RotateKeyOnDemand", "ReEncrypt"] {
        let times = calls.iter().filter(|call| *call == action).count();
        ensure!(times == 1, "{action} was called {times} times: {calls:?}");
    }
    // The server that ran all the while, and one that starts again.
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    check(&server, TABLES)?;
    server.stop()?;
    let server = site.start()?;
    check(&server, TABLES)?;
    server.stop()?;
    seen!("rewrap --new-kek called {calls:?}");
    Ok(())
}

#[test]
fn from_a_key_file_to_kms_and_back() -> Result<()> {
    let shared = Shared::get()?;
    let key = shared.localstack.new_key(REGION)?;
    let mut site = Site::with_keyward("aws-migrate")?;
    site.encrypt_everything();
    site.set("innodb_fast_shutdown = 0");
    let server = life::begin(&site, "algorithm aes-256-gcm")?;
    let sums = server.checksums(CHECKED)?;
    server.stop()?;
    let pages = table_files(&site)?;
    add_provider(&site, "aws-kms", &key, &shared.localstack.url())?;
    for (from, to) in [("local", "aws-kms"), ("aws-kms", "local")] {
        let began = Instant::now();
        site.keyward(&["migrate", "--from", from, "--to", to])?.ok()?;
        let took = began.elapsed();
        let server = site.start()?;
        ensure!(server.checksums(CHECKED)? == sums, "other rows after {from} -> {to}");
        server.stop()?;
        ensure!(table_files(&site)? == pages, "pages were rewritten by {from} -> {to}");
        seen!("{from} -> {to} in {} ms: checksums equal, no page rewritten", took.as_millis());
    }
    Ok(())
}

#[test]
fn with_one_region_down_the_other_opens() -> Result<()> {
    let shared = Shared::get()?;
    let near = FakeAws::before(shared.localstack.address())?;
    let far = FakeAws::before(shared.localstack.address())?;
    let site = init(&near.url(), &shared.localstack.new_key(REGION)?)?;
    let key = shared.localstack.new_key("us-east-1")?;
    add_provider(&site, "kms-virginia", &key, &far.url())?;
    site.keyward(&["keystore", "rewrap"])?.ok()?;
    let server = life::begin(&site, "encrypts and decrypts")?;
    server.stop()?;
    drop((near, far.take_actions()));
    let began = Instant::now();
    let server = site.start()?;
    let took = began.elapsed();
    check(&server, TABLES)?;
    ensure!(far.take_actions() == ["Decrypt"], "the other region was not asked once");
    let log = server.stop()?;
    let line = log.lines().find(|line| line.contains("was opened by provider"));
    let line = line.ok_or_else(|| format!("the log does not tell who opened it:\n{log}"))?;
    ensure!(line.contains("\"kms-virginia\"") && line.contains("connection refused"), "{line}");
    seen!("region down: the server starts in {} ms by the other", took.as_millis());
    Ok(())
}

/// A server's folder, set up by `keyward init` on `key` of the KMS at `endpoint`; a new key where it is
/// an alias.
pub(crate) fn init(endpoint: &str, key: &str) -> Result<Site> {
    let mut site = Site::new("aws-kms")?;
    let credentials = credentials(&site)?;
    let folder = site.path("keyward").display().to_string();
    let settings = [
        format!("key={key}"),
        format!("region={REGION}"),
        format!("endpoint={endpoint}"),
        format!("credentials_file={credentials}"),
    ];
    let mut words = vec!["init", "--dir", &folder, "--provider", "aws-kms"];
    words.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    if key.starts_with("alias/") {
        words.push("--create-key");
    }
    let said = site.keyward(&words)?.ok()?;
    ensure!(!said.contains(shared::SECRET), "a secret shows: {said}");
    site.load_keyward();
    site.encrypt_everything();
    Ok(site)
}

/// A credentials file that the server may read; its path.
fn credentials(site: &Site) -> Result<String> {
    let path = site.path("etc/aws-credentials");
    files::write(&path, shared::credentials())?;
    files::chmod(&path, 0o600)?;
    give_to_server(&path)?;
    Ok(path.display().to_string())
}

fn add_provider(site: &Site, name: &str, key: &str, endpoint: &str) -> Result<()> {
    let text = files::text(&site.config())?;
    let more = format!(
        "\n[[provider]]\nname = {name:?}\ntype = \"aws-kms\"\nkey = {key:?}\nendpoint = {endpoint:?}\n\
         credentials_file = {:?}\n",
        credentials(site)?
    );
    files::write(&site.config(), text + &more)
}

/// KMS away while the server runs, while it starts, and back at the same address is another test's
/// matter: here nobody comes back, and the line is the point.
fn survive_an_outage(kms: FakeAws, site: &Site, server: Server) -> Result<()> {
    drop(kms);
    let said = server.sql_refused("SET GLOBAL keyward_rotate_key = 1")?;
    ensure!(said.contains("no new key is made"), "{said}");
    ensure!(server.status("Keyward_restart_safe")? == "no", "{}", server.log());
    check(&server, TABLES)?;
    server.stop()?;
    let log = site.refusal()?;
    let line = log.lines().find(|line| line.contains("ERROR") && line.contains("keyward"));
    let line = line.ok_or_else(|| format!("no line of keyward's:\n{log}"))?;
    ensure!(line.contains("connection refused"), "{line}");
    ensure!(!log.contains(shared::SECRET), "the log has a secret");
    Ok(())
}

fn table_files(site: &Site) -> Result<BTreeMap<String, Vec<u8>>> {
    let name = |table: &Table| format!("test/{}.ibd", table.name);
    TABLES
        .iter()
        .map(|table| Ok((name(table), files::read(&site.data().join(name(table)))?)))
        .collect()
}

/// The wrapping of the store key, as the keystore's file has it.
fn wrapping(site: &Site) -> Result<serde_json::Value> {
    let text = files::text(&site.keystore())?;
    let all: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| format!("{error} in the keystore"))?;
    fn find(value: &serde_json::Value) -> Option<&serde_json::Value> {
        match value {
            serde_json::Value::Object(map) if map.contains_key("kek") => Some(value),
            serde_json::Value::Object(map) => map.values().find_map(find),
            serde_json::Value::Array(list) => list.iter().find_map(find),
            _ => None,
        }
    }
    Ok(find(&all).ok_or("no wrapping in the keystore")?.clone())
}

fn blob(site: &Site) -> Result<String> {
    Ok(wrapping(site)?["blob"].to_string())
}

fn key_of(site: &Site) -> Result<String> {
    Ok(wrapping(site)?["kek"].as_str().ok_or("no kek")?.to_owned())
}
