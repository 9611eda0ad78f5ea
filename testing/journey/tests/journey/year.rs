//! What an auditor is given: the report of a real server with 60 tables, whose keystore three key stores wrap and
//! which has a year behind it.

use std::collections::BTreeMap;
use std::os::unix::fs::lchown;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keyward::assemble;
use keyward::config::Config;
use keyward::custodian::Custodian;
use keyward::env::fake::{FakeClock, FakeLog};
use keyward::env::{Clock as _, Env, System, Timestamp};
use keyward::key::{KeyId, KeyRef, KeyVersion};
use keyward::manager::{Destruction, Judged, StateChange};
use keyward::source::{Reason, Role};
use serde_json::Value;
use test_kit::account::give_to_server;
use test_kit::{Result, ensure, files, seen};
use test_mariadb::report::{TABLES, by_sql, fill, report, tables_by_key};
use test_mariadb::{Server, Site};

use crate::room::Room;

/// The key stores that wrap.
const STORES: [&str; 3] = ["local", "vault-transit", "kmip"];

const CARDS: KeyId = KeyId::new(3).unwrap();
const ADDRESSES: KeyId = KeyId::new(4).unwrap();

const DAYS: u64 = 365;
const DAY: Duration = Duration::from_secs(86_400);

/// By policy each key has a version for each of the five times 80 days that have begun.
const VERSIONS_OF_A_KEY: u64 = 5;

const SETTINGS: &str = r#"
[policy]
rotate_after = "80d"
keep_retired = "60d"

[report]
owner = "Payments platform, Ann Example"
environment = "production"
ciphers_reviewed = "2026-02-01"
[report.custodians]
"Ann Example" = "2026-01-15"
"Bob Example" = "2026-01-20"
[report.purposes]
1 = "system tablespace, redo, binary and Aria logs"
2 = "temporary tables and files"
3 = "card numbers (schema pay)"
4 = "addresses (schema pay)"
"#;

#[test]
fn a_year_of_a_server_with_three_key_stores() -> Result<()> {
    let mut room = Room::new()?;
    configure(&room)?;
    live(&room.site)?;
    // What is in the clear is to stay so.
    room.site.unset("innodb_encrypt_tables");
    room.site.set("innodb_encrypt_tables = OFF");
    let server = room.start()?;
    fill(&server, "pay")?;
    let report = report(&room.site)?;
    let said = &report["servers"][0];
    key_stores(said)?;
    history(said)?;
    as_the_commands_say(&room, said)?;
    as_sql_says(&server, said)?;
    keep(&room.site)
}

/// Adds the key stores to what `init` wrote, and has their wrapping keys made.
fn configure(room: &Room) -> Result<()> {
    let config = room.site.config();
    let mut text = files::text(&config)?;
    for (name, section) in room.sections()? {
        if STORES.contains(&name) {
            text += &section;
        }
    }
    let (head, providers) =
        text.split_once("[[provider]]").ok_or("no provider in the configuration")?;
    let (policy, report) = SETTINGS.split_at(SETTINGS.find("[report]").unwrap_or_default());
    ensure!(!head.contains("[policy]"), "{head}");
    files::write(&config, format!("{head}{policy}[[provider]]{providers}\n{report}"))?;
    room.keyward(&["keystore", "rewrap", "--new-kek", "kmip"])?;
    Ok(())
}

/// Makes the keystore again, a year ago, and lives with it until today: rotated by policy, one version
/// compromised and destroyed.
fn live(site: &Site) -> Result<()> {
    for file in files::list(&site.keys()) {
        std::fs::remove_file(&file)?;
    }
    let places = [site.path("keyward"), site.path("etc")];
    for place in &places {
        give_to_root(place)?;
    }
    let start = System.now().as_unix() - DAYS * DAY.as_secs();
    let clock = Arc::new(FakeClock::at(Timestamp::from_unix(start)));
    let env =
        Env { clock: clock.clone(), rng: Arc::new(System), log: Arc::new(FakeLog::default()) };
    let config = Config::load(&site.config()).map_err(told)?;
    let reason = Reason { actor: "ann on db1", text: "set up" };
    assemble::create_keystore(&config, reason, &env).map_err(told)?;
    let custodian = assemble::start(&config, Role::Command, env).map_err(told)?;
    for id in [CARDS, ADDRESSES] {
        custodian.create(id, None, reason).map_err(told)?;
    }
    for day in 0..DAYS {
        a_day(day, &custodian).map_err(told)?;
        clock.advance(DAY);
    }
    drop(custodian);
    places.iter().try_for_each(|place| give_to_server(place))
}

fn a_day(day: u64, custodian: &Custodian) -> keyward::error::Result<()> {
    let first = KeyRef::new(ADDRESSES, KeyVersion::FIRST);
    let reason = Reason { actor: "bob on db1", text: "ticket 4711: a laptop was lost" };
    let mut manager = custodian.manager()?;
    manager.run_policy()?;
    match day {
        120 => manager.change_state(&StateChange::Compromised(first), reason).map(drop),
        200 => {
            let plan = Destruction::Plan(first, DAY * 7);
            manager.destroy(&plan, &Judged::default(), reason).map(drop)
        }
        208 => {
            let end = Destruction::CarryOut(first);
            manager.destroy(&end, &Judged::default(), reason).map(drop)
        }
        _ => Ok(()),
    }
}

fn key_stores(said: &Value) -> Result<()> {
    let stores = said["key_stores"].as_array().ok_or("no key stores")?;
    for name in STORES {
        let store = stores.iter().find(|store| store["name"] == name).ok_or("not there")?;
        ensure!(store["role"] == "wraps the keystore" && store["failure"].is_null(), "{store}");
        ensure!(store["in_use"] == true, "{store}");
    }
    ensure!(stores.len() == STORES.len(), "{stores:?}");
    Ok(())
}

fn history(said: &Value) -> Result<()> {
    for key in said["keys"].as_array().into_iter().flatten() {
        let versions = key["versions"].as_array().ok_or("no versions")?;
        ensure!(versions.len() as u64 == VERSIONS_OF_A_KEY, "{key:#}");
        let active = versions.iter().filter(|version| version["state"] == "active").count();
        ensure!(active == 1, "{key:#}");
    }
    ensure!(said["trail"]["faults"] == serde_json::json!([]), "{:#}", said["trail"]);
    Ok(())
}

/// Its keys and its state are those of `keys list`, `status` and `inspect`.
fn as_the_commands_say(room: &Room, said: &Value) -> Result<()> {
    let json = |words: &[&str]| -> Result<Value> {
        let text = room.keyward(words)?.ok()?;
        Ok(serde_json::from_str(&text).map_err(|cause| cause.to_string())?)
    };
    let listed = json(&["keys", "list", "--json"])?;
    let versions = said["keys"].as_array().into_iter().flatten();
    let versions = versions.flat_map(|key| key["versions"].as_array().into_iter().flatten());
    let state = |version: &Value| version["state"].clone();
    let reported: Vec<_> = versions.map(state).collect();
    let listed: Vec<_> = listed.as_array().into_iter().flatten().map(state).collect();
    ensure!(reported == listed, "the report: {reported:?}; keys list: {listed:?}");
    let inspected = json(&["inspect", "--json", &room.site.data().display().to_string()])?;
    let (ours, theirs) = (tables_by_key(&said["data"]), tablespaces_by_key(&inspected));
    ensure!(ours == theirs, "the report: {ours:?}; inspect: {theirs:?}");
    Ok(())
}

/// How many tablespaces need a version of each key, by `inspect`.
fn tablespaces_by_key(files: &Value) -> BTreeMap<String, u64> {
    let mut tables = BTreeMap::new();
    let files = files.as_array().into_iter().flatten();
    for file in files.filter(|file| file["kind"] == "tablespace") {
        let needs = file["needs"].as_array().into_iter().flatten();
        for need in needs.filter(|need| need["usage"] == "in-use") {
            *tables.entry(need["id"].to_string()).or_default() += 1;
        }
    }
    tables
}

fn as_sql_says(server: &Server, said: &Value) -> Result<()> {
    let data = &said["data"];
    let (ours, theirs) = (tables_by_key(data), by_sql(server)?);
    ensure!(ours == theirs, "the report: {ours:?}; the server: {theirs:?}");
    let plain = data["unencrypted"].as_array().into_iter().flatten();
    let plain = plain.filter(|one| one["file"].as_str().is_some_and(|file| file.contains("/pay/")));
    ensure!(plain.count() == 10, "{data:#}");
    let versions = said["keys"].as_array().into_iter().flatten();
    let versions: usize = versions.filter_map(|key| key["versions"].as_array().map(Vec::len)).sum();
    seen!("a year, {STORES:?}, {versions} versions, {TABLES} tables: {ours:?} under keys, 10 not");
    Ok(())
}

/// Leaves the pages where somebody wants to look at them.
fn keep(site: &Site) -> Result<()> {
    let Some(folder) = std::env::var_os("KEYWARD_REPORT_FOLDER") else { return Ok(()) };
    let data = site.data().display().to_string();
    for format in ["html", "csv", "json"] {
        let words = ["report", "--format", format, "--datadir", &data];
        let output = site.keyward_command(&words).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        files::write(&Path::new(&folder).join(format!("year.{format}")), output.stdout)?;
    }
    Ok(())
}

/// The library trusts files of whoever runs it, which is this test for a while.
fn give_to_root(path: &Path) -> Result<()> {
    lchown(path, Some(0), Some(0))?;
    if path.is_dir() {
        files::list(path).iter().try_for_each(|path| give_to_root(path))?;
    }
    Ok(())
}

fn told(error: keyward::error::Error) -> String {
    error.to_string()
}
