//! One keystore, moved through every key store that wraps: each step leaves one wrapping, the rows and
//! the bytes of every table file.

mod room;
mod year;

use std::time::Instant;

use test_cloud::gcp::Answer as Reply;
use test_kit::files::{self, Snapshot};
use test_kit::{Result, ensure, seen};
use test_mariadb::rows::{Table, create};

use crate::room::Room;

/// The tables whose rows are compared.
const CHECKED: &[&str] = &["test.payroll", "test.patients"];

const TABLES: &[Table] = &[
    Table { name: "payroll", options: "ENCRYPTED=YES", rows: 2000 },
    Table { name: "patients", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=3", rows: 2000 },
];

/// From one to the next, and home again.
const JOURNEY: [&str; 8] =
    ["local", "gcp-kms", "azure-keyvault", "aws-kms", "vault-transit", "kmip", "pkcs11", "local"];

/// Those that one company's outage takes away.
const CLOUDS: [&str; 3] = ["gcp-kms", "azure-keyvault", "aws-kms"];

#[test]
fn through_every_key_store_and_home_without_touching_a_page() -> Result<()> {
    let room = Room::new()?;
    let server = room.start()?;
    create(&server, TABLES)?;
    server.sql(
        "ALTER TABLE test.payroll STATS_PERSISTENT=0; ALTER TABLE test.patients STATS_PERSISTENT=0",
    )?;
    server.write_pages()?;
    let rows = server.checksums(CHECKED)?;
    server.stop()?;
    let pages = Snapshot::of(&room.site.data().join("test"))?;

    let local = pinned(&room)?;
    let (head, home) =
        local.split_once("[[provider]]").ok_or("no provider in the configuration")?;
    let mut sections = room.sections()?;
    let every: String = sections.iter().map(|(_, section)| section.as_str()).collect();
    let every = format!("{local}{every}");
    sections.push(("local", format!("[[provider]]{home}")));
    files::write(&room.site.config(), &every)?;
    for name in ["pkcs11", "kmip"] {
        // It does not wrap yet, which is said; the key is made.
        let made = room.keyward(&["keystore", "rewrap", "--new-kek", name])?;
        ensure!(
            made.text().contains("run `keyward keystore rewrap` without --to-latest"),
            "{}",
            made.text()
        );
    }
    for step in JOURNEY.windows(2) {
        let (from, to) = (step[0], step[1]);
        files::write(&room.site.config(), &every)?;
        let began = Instant::now();
        let moved = room.keyward(&["migrate", "--from", from, "--to", to])?.ok()?;
        let took = began.elapsed();
        ensure!(moved.contains(&format!("wrapping by provider {from:?}: removed")), "{moved}");
        let section = sections.iter().find(|(name, _)| *name == to).ok_or("no such section")?;
        files::write(&room.site.config(), format!("{head}{}", section.1))?;
        let server = room.start()?;
        ensure!(server.checksums(CHECKED)? == rows, "{from} to {to}: the rows have changed");
        server.stop()?;
        let now = Snapshot::of(&room.site.data().join("test"))?;
        ensure!(now == pages, "{from} to {to}: a page was written");
        seen!("{from} -> {to}: {} ms, checksums equal, no page rewritten", took.as_millis());
    }
    files::write(&room.site.config(), &every)?;
    room.keyward(&["migrate", "--from", "local", "--to", "gcp-kms"])?.ok()?;
    for name in ["azure-keyvault", "aws-kms"] {
        room.keyward(&["keystore", "rewrap", "--add", name])?.ok()?;
    }
    report_of_three_clouds(&room)?;
    for here in CLOUDS {
        let of_cloud = |(name, _): &&(&str, String)| CLOUDS.contains(name);
        let clouds = sections.iter().filter(of_cloud).map(|(name, section)| match *name == here {
            true => section.clone(),
            false => room.away(section),
        });
        files::write(&room.site.config(), format!("{head}{}", clouds.collect::<String>()))?;
        room.azure.fail(move |_| (here != "azure-keyvault").then(|| Reply::text(503, "")));
        let began = Instant::now();
        let server = room.start()?;
        let took = began.elapsed();
        let provider = server.status("Keyward_provider")?;
        ensure!(provider == here, "{provider} opened it while {here} alone is there");
        ensure!(server.checksums(CHECKED)? == rows, "{here} alone: the rows have changed");
        server.stop()?;
        seen!("wrapped by three clouds, {here} alone there: a start in {} ms", took.as_millis());
    }
    Ok(())
}

/// The report names each of the three: what it is, where it is, and that it is in use.
fn report_of_three_clouds(room: &Room) -> Result<()> {
    let server = room.start()?;
    let data = room.site.data().display().to_string();
    let report = room.keyward(&["report", "--json", "--datadir", &data])?.ok()?;
    server.stop()?;
    let report: serde_json::Value = serde_json::from_str(&report).map_err(|e| e.to_string())?;
    let stores = report["servers"][0]["key_stores"].as_array().ok_or("no key stores")?;
    for name in CLOUDS {
        let store = stores.iter().find(|store| store["name"] == name).ok_or("not there")?;
        ensure!(store["kind"] == name && store["role"] == "wraps the keystore", "{store}");
        ensure!(store["in_use"] == true && store["failure"].is_null(), "{store}");
        ensure!(store["facts"].as_array().is_some_and(|facts| !facts.is_empty()), "{store}");
        seen!("the report of {name}: {}", store["facts"]);
    }
    Ok(())
}

/// The configuration that `init` wrote, and the keystore's fingerprint in it: an RSA key wraps for anybody.
fn pinned(room: &Room) -> Result<String> {
    let status = room.keyward(&["--json", "status"])?.ok()?;
    let status: serde_json::Value = serde_json::from_str(&status).map_err(|e| e.to_string())?;
    let fingerprint = status["fingerprint"].as_str().ok_or("no fingerprint")?;
    let text = files::text(&room.site.config())?;
    ensure!(text.contains("[keystore]\n"), "no [keystore]:\n{text}");
    Ok(text.replacen("[keystore]\n", &format!("[keystore]\nfingerprint = {fingerprint:?}\n"), 1))
}
