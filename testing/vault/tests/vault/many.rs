//! Many keys in one engine: how long a server takes to its first query, and how often Vault is asked.

use std::time::{Duration, Instant};

use test_kit::{Result, ensure, files, seen};
use test_mariadb::rows::{Table, check, create};
use test_mariadb::{Server, Site};
use test_vault::DevVault;
use test_vault::dev::ROOT_TOKEN;

use crate::dropin;

/// Every time; ten times as many with `cargo xtask test vault --extended`.
const KEYS: u32 = 1000;

const TABLES: &[Table] = &[
    Table { name: "first", options: "ENCRYPTED=YES", rows: 10 },
    Table { name: "last", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=900", rows: 10 },
];

#[test]
fn a_server_on_many_keys() -> Result<()> {
    let keys = if std::env::var_os("KEYWARD_EXTENDED").is_some() { 10 * KEYS } else { KEYS };
    let vault = DevVault::start()?;
    vault.vault(&["secrets", "enable", "-path=keys", "-version=2", "kv"])?;
    let secrets = (1..=keys).map(|id| {
        let body = format!("{{\"data\":{{\"data\":\"{id:064x}\"}}}}");
        (format!("keys/data/{id}"), body)
    });
    vault.write_all(secrets)?;

    let mut site = dropin::site(&vault, "vault-many", false)?;
    // What InnoDB reads of its own accord would be counted as well.
    site.set("innodb_encryption_threads = 0");
    let server = dropin::start(&site)?;
    create(&server, TABLES)?;
    server.stop()?;
    let original = measure(&vault, &site, "the original")?;
    dropin::link(&site, true)?;
    let ours = measure(&vault, &site, "keyward in its place")?;
    ensure!(ours.requests <= original.requests + 3, "more requests than the original");

    configure(&vault, &mut site)?;
    let own = measure(&vault, &site, "keyward with a provider vault-kv")?;
    // One for each key, the list, and the log-in.
    let most = keys as usize + 5;
    ensure!(own.requests <= most, "{} requests for {keys} keys", own.requests);
    ensure!(own.keys == keys.to_string(), "{} keys of {keys}", own.keys);
    seen!("{keys} keys; the provider vault-kv reads them all at the start, the others one by one");
    Ok(())
}

struct Start {
    requests: usize,
    keys: String,
}

/// Starts the server, queries an encrypted table, stops it.
fn measure(vault: &DevVault, site: &Site, name: &str) -> Result<Start> {
    let (before, began) = (vault.requests()?, Instant::now());
    let server = dropin::start(site)?;
    let started = began.elapsed();
    check(&server, TABLES)?;
    let queried = began.elapsed();
    let requests = vault.requests()? - before;
    let keys = keys(&server)?;
    server.stop()?;
    let seconds = |time: Duration| time.as_secs_f64();
    seen!(
        "{name}: started after {:.2} s, first query answered after {:.2} s, {requests} requests",
        seconds(started),
        seconds(queried)
    );
    Ok(Start { requests, keys })
}

fn keys(server: &Server) -> Result<String> {
    server.sql("SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'KEYWARD_KEYS'")
}

/// The same keys under our own name, with the cipher that the data was written with.
fn configure(vault: &DevVault, site: &mut Site) -> Result<()> {
    std::fs::create_dir(site.path("keyward"))?;
    let token = site.path("keyward/token");
    files::write(&token, ROOT_TOKEN)?;
    site.only_for_server(&token)?;
    let text = format!(
        "[[provider]]\ntype = \"vault-kv\"\naddress = \"{}\"\nmount = \"keys\"\nprefix = \"\"\n\
         mode = \"cbc\"\ntoken_file = \"{}\"\ntimeout = \"60s\"\nrefresh = \"1h\"\n",
        vault.address(),
        token.display()
    );
    files::write(&site.config(), text)?;
    site.only_for_server(&site.config())?;
    site.unset("hashicorp");
    site.set("plugin_load_add = keyward");
    site.set("keyward = FORCE_PLUS_PERMANENT");
    site.set(&format!("keyward_config = {}", site.config().display()));
    Ok(())
}
