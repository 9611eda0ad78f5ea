//! In the place of the original `hashicorp_key_management`: the same data, both ways, and what the
//! original does not do.

use std::fs;
use std::os::unix::fs::symlink;

use test_kit::account::give_to_server;
use test_kit::files::Snapshot;
use test_kit::{Result, ensure, files, seen};
use test_mariadb::rows::{Table, check, create};
use test_mariadb::{Launch, Server, Site};
use test_vault::dev::ROOT_TOKEN;
use test_vault::{DevVault, Vault, original_plugin};

/// The tables whose rows are compared.
const CHECKED: &[&str] = &["test.one", "test.two", "test.three"];

const TABLES: &[Table] = &[
    Table { name: "one", options: "ENCRYPTED=YES", rows: 1000 },
    Table { name: "two", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=2", rows: 1000 },
    Table {
        name: "three",
        options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=3 ROW_FORMAT=COMPRESSED",
        rows: 500,
    },
];

const LATER: Table =
    Table { name: "later", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=2", rows: 50 };

const PLUGIN: &str = "hashicorp_key_management";

#[test]
fn from_the_original_to_ours_and_back() -> Result<()> {
    let vault = filled()?;
    let mut site = site(&vault, "vault-dropin", false)?;
    site.encrypt_everything();
    let server = start(&site)?;
    let original = variables(&server)?;
    create(&server, TABLES)?;
    server.kill()?;

    link(&site, true)?;
    let server = start(&site)?;
    check(&server, TABLES)?;
    LATER.create(&server)?;
    let ours = variables(&server)?;
    ensure!(ours == original, "the variables differ:\n{original}\n\n{ours}");
    seen!(
        "{} variables: names, types, ranges and defaults as the original's",
        ours.lines().count()
    );
    new_version_at_once(&vault, &server)?;
    server.kill()?;

    link(&site, false)?;
    let server = start(&site)?;
    check(&server, TABLES)?;
    LATER.check(&server)?;
    server.stop().map(drop)
}

/// A version that is made in Vault encrypts as soon as `cache_version_timeout` allows, which is SET.
fn new_version_at_once(vault: &DevVault, server: &Server) -> Result<()> {
    let version = || -> Result<String> {
        server.sql("CREATE OR REPLACE TABLE test.v (a INT) ENCRYPTED=YES ENCRYPTION_KEY_ID=4")?;
        server.sql(
            "SELECT CURRENT_KEY_VERSION FROM information_schema.INNODB_TABLESPACES_ENCRYPTION
             WHERE NAME = 'test/v'",
        )
    };
    ensure!(version()? == "1", "the first version was to encrypt");
    vault.vault(&["kv", "put", "-mount=keys", "4", &format!("data={}", "5d".repeat(32))])?;
    ensure!(version()? == "1", "for a minute, the version in memory was to be believed");
    server.sql(&format!("SET GLOBAL {PLUGIN}_cache_version_timeout = 0"))?;
    ensure!(version()? == "2", "the newest version was to encrypt at once");
    let before = vault.requests()?;
    for _ in 0..5 {
        version()?;
    }
    let asked = vault.requests()? - before;
    ensure!(asked >= 5, "{asked} requests for 5 tables, with cache_version_timeout = 0");
    server.sql(&format!("SET GLOBAL {PLUGIN}_cache_version_timeout = 60000"))?;
    let before = vault.requests()?;
    for _ in 0..5 {
        version()?;
    }
    let asked = vault.requests()? - before;
    ensure!(asked <= 1, "{asked} requests for 5 tables, with cache_version_timeout = 60000");
    server.sql("DROP TABLE test.v").map(drop)
}

#[test]
fn without_vault_the_server_goes_on_whatever_use_cache_on_timeout_says() -> Result<()> {
    let mut vault = filled()?;
    let site = site(&vault, "vault-dropin-away", true)?;
    let server = start(&site)?;
    create(&server, TABLES)?;
    vault.kill()?;
    for setting in ["use_cache_on_timeout = OFF", "caching_enabled = OFF", "max_retries = 1"] {
        server.sql(&format!("SET GLOBAL {PLUGIN}_{setting}"))?;
    }
    for round in 0..3 {
        check(&server, TABLES)?;
        LATER.create(&server)?;
        server.sql("DROP TABLE test.later")?;
        let row = 90_000 + round;
        server.sql(&format!("INSERT INTO test.two VALUES ({row}, 'x')"))?;
        server.sql(&format!("DELETE FROM test.two WHERE id = {row}"))?;
    }
    server.sql_refused("CREATE TABLE test.no (a INT) ENCRYPTED=YES ENCRYPTION_KEY_ID=9")?;
    let log = server.stop()?;
    ensure!(log.contains("degraded") && log.contains("connection refused"), "{log}");
    ensure!(!log.contains(ROOT_TOKEN), "the token is in the log");
    let refused = site.launch(&launch()).err().ok_or("it started without its Vault")?;
    let text = refused.log;
    ensure!(text.contains("hashicorp: Unable to get storage options for"), "{text}");
    ensure!(!text.contains(ROOT_TOKEN), "the token is in the log");
    Ok(())
}

#[test]
fn an_engine_of_version_1_where_the_check_is_off() -> Result<()> {
    let vault = filled()?;
    vault.vault(&["secrets", "enable", "-path=old", "-version=1", "kv"])?;
    for id in ["1", "2", "3"] {
        vault.vault(&["kv", "put", "-mount=old", id, &format!("data={}", "a7".repeat(32))])?;
    }
    let mut site = site(&vault, "vault-dropin-one", true)?;
    site.unset("vault_url");
    site.set(&format!("{PLUGIN}_vault_url = {}/v1/old", vault.address()));
    let refused = site.launch(&launch()).err().ok_or("it started on an engine of version 1")?;
    ensure!(refused.log.contains("must be version number 2 or later"), "{}", refused.log);
    site.set(&format!("{PLUGIN}_check_kv_version = off"));
    let server = start(&site)?;
    create(&server, TABLES)?;
    check(&server, TABLES)?;
    server.stop().map(drop)
}

#[test]
fn the_options_that_guides_have_beside_the_originals() -> Result<()> {
    let vault = Vault::start()?;
    vault.vault(&["secrets", "enable", "-path=secret", "-version=2", "kv"])?;
    vault.vault(&["auth", "enable", "approle"])?;
    // All that is needed to look keys up, and nothing to look at the token or the mount by.
    vault.policy("db", "path \"secret/data/db1/*\" { capabilities = [\"read\"] }")?;
    vault.vault(&["write", "auth/approle/role/db", "token_policies=db"])?;
    let role_id = vault.field("role_id", &["read", "auth/approle/role/db/role-id"])?;
    let secret = vault.field("secret_id", &["write", "-f", "auth/approle/role/db/secret-id"])?;
    for id in ["1", "2", "3"] {
        let path = format!("db1/{id}");
        vault.vault(&[
            "kv",
            "put",
            "-mount=secret",
            &path,
            &format!("data={}", "b8".repeat(32)),
        ])?;
    }
    let mut site = Site::new("vault-dropin-guide")?;
    link(&site, true)?;
    let at = |name: &str, content: &[u8]| -> Result<String> {
        files::write(&site.path(name), content)?;
        site.only_for_server(&site.path(name))?;
        Ok(site.path(name).display().to_string())
    };
    let ca = at("etc/ca.pem", &files::read(&vault.certificates().path("ca.pem"))?)?;
    let secret_id = at("etc/secret-id", secret.as_bytes())?;
    site.set(&format!("plugin_load_add = {PLUGIN}"));
    site.set(&format!("{PLUGIN} = FORCE"));
    for (name, value) in [
        ("vault_url", vault.address().as_str()),
        ("vault_ca", &ca),
        ("vault_mount", "secret"),
        ("vault_prefix", "db1"),
        ("role_id", &role_id),
        ("secret_id", &format!("FILE:{secret_id}")),
        ("retries", "2"),
        ("timeout", "20"),
    ] {
        site.set(&format!("{PLUGIN}_{name} = {value}"));
    }
    let server = site.start()?;
    create(&server, TABLES)?;
    check(&server, TABLES)?;
    let shown = server.sql("SHOW GLOBAL VARIABLES")?;
    for hidden in [secret.as_str(), &role_id] {
        ensure!(!shown.contains(hidden), "a statement shows a credential");
    }
    let log = server.stop()?;
    ensure!(!log.contains(&secret), "the log has the secret id");
    Ok(())
}

#[test]
fn a_transit_engine_named_by_vault_mount() -> Result<()> {
    let vault = Vault::start()?;
    vault.vault(&["secrets", "enable", "transit"])?;
    vault.vault(&["write", "-f", "transit/keys/db1"])?;
    let rules = "path \"transit/keys/db1\" { capabilities = [\"read\"] }
                 path \"transit/encrypt/db1\" { capabilities = [\"update\"] }
                 path \"transit/decrypt/db1\" { capabilities = [\"update\"] }";
    vault.policy("db", rules)?;
    let words = ["token", "create", "-policy=db", "-orphan", "-field=token"];
    let token = vault.vault(&words)?.trim().to_owned();
    let mut site = Site::new("vault-dropin-transit")?;
    link(&site, true)?;
    let ca = site.path("etc/ca.pem");
    files::write(&ca, files::read(&vault.certificates().path("ca.pem"))?)?;
    site.set(&format!("plugin_load_add = {PLUGIN}"));
    site.set(&format!("{PLUGIN} = FORCE"));
    for (name, value) in [
        ("vault_url", vault.address().as_str()),
        ("vault_ca", &ca.display().to_string()),
        ("vault_mount", "transit"),
        ("vault_prefix", "db1"),
    ] {
        site.set(&format!("{PLUGIN}_{name} = {value}"));
    }
    let library = site.path("lib");
    fs::create_dir(&library)?;
    let launch = Launch {
        environment: vec![("VAULT_TOKEN".to_owned(), token.clone())],
        binds: vec![(library.clone(), "/var/lib".into())],
        ..Launch::default()
    };
    let refused = site.launch(&launch).err().ok_or("it started without a folder for its keys")?;
    ensure!(refused.log.contains("there is no folder /var/lib/keyward"), "{}", refused.log);
    fs::create_dir(library.join("keyward"))?;
    files::chmod(&library.join("keyward"), 0o700)?;
    give_to_server(&library.join("keyward"))?;
    let tables = &TABLES[..2];
    let server = site.launch(&launch)?;
    create(&server, tables)?;
    let log = server.stop()?;
    ensure!(log.contains("making a keystore at /var/lib/keyward/keystore.json"), "{log}");
    let keystore = files::text(&library.join("keyward/keystore.json"))?;
    ensure!(keystore.contains("transit/db1:v1"), "the keystore is not wrapped by the key");
    let server = site.launch(&launch)?;
    check(&server, tables)?;
    let log = log + &server.stop()?;
    ensure!(!log.contains(&token), "the token is in the log");
    Ok(())
}

#[test]
fn the_originals_keys_in_a_keystore() -> Result<()> {
    let vault = filled()?;
    let mut site = site(&vault, "vault-import", false)?;
    site.encrypt_everything();
    // A clean end leaves nothing to be done to the pages by the next server.
    site.set("innodb_fast_shutdown = 0");
    let server = start(&site)?;
    create(&server, TABLES)?;
    let sums = server.checksums(CHECKED)?;
    server.stop()?;
    let pages = Snapshot::of(&site.path("data/test"))?;

    let my_cnf = site.write_my_cnf()?.display().to_string();
    let folder = site.path("keyward").display().to_string();
    site.keyward(&["init", "--dir", &folder, "--empty"])?.ok()?;
    let import = |more: &[&str]| {
        let words = [&["import", "--from-mycnf", &my_cnf], more].concat();
        let mut command = site.keyward_command(&words);
        test_kit::command::answer(command.env("VAULT_TOKEN", ROOT_TOKEN))?.ok()
    };
    let dry = import(&["--dry-run"])?;
    ensure!(dry.contains("6 key versions, 6 of them new there"), "{dry}");
    ensure!(dry.contains("dry run: nothing was changed"), "{dry}");
    let said = import(&[])?;
    ensure!(
        said.contains("6 key versions arrived, 6 of them new, all check values right"),
        "{said}"
    );
    ensure!(!said.contains("aes-256-ctr"), "what the server encrypted with is CBC: {said}");
    drop(vault);

    site.unset(PLUGIN);
    site.load_keyward();
    let server = site.start()?;
    check(&server, TABLES)?;
    ensure!(server.checksums(CHECKED)? == sums, "other rows came back");
    server.stop()?;
    ensure!(Snapshot::of(&site.path("data/test"))? == pages, "a page was written");
    seen!("6 versions of 4 keys from the original's Vault: same rows, no page written");
    Ok(())
}

/// A Vault without TLS, as the original's own tests want it, with keys 1 to 4, two of them rotated.
fn filled() -> Result<DevVault> {
    let vault = DevVault::start()?;
    vault.vault(&["secrets", "enable", "-path=keys", "-version=2", "kv"])?;
    for (id, byte) in [(1, "a1"), (1, "a2"), (2, "b1"), (3, "c1"), (3, "c2"), (4, "d1")] {
        let data = format!("data={}", byte.repeat(32));
        vault.vault(&["kv", "put", "-mount=keys", &id.to_string(), &data])?;
    }
    Ok(vault)
}

/// A server's folder with its keys in `vault`, under the original plugin or ours.
pub(crate) fn site(vault: &DevVault, name: &str, ours: bool) -> Result<Site> {
    let mut site = Site::new(name)?;
    link(&site, ours)?;
    site.set(&format!("plugin_load_add = {PLUGIN}"));
    site.set(&format!("{PLUGIN} = FORCE"));
    site.set(&format!("{PLUGIN}_vault_url = {}/v1/keys", vault.address()));
    Ok(site)
}

/// Makes the plugin's name that of the original or of ours.
pub(crate) fn link(site: &Site, ours: bool) -> Result<()> {
    let link = site.path("plugin").join(format!("{PLUGIN}.so"));
    let _ = fs::remove_file(&link);
    if ours {
        symlink("keyward.so", &link)?;
        return Ok(());
    }
    fs::copy(original_plugin()?, &link)?;
    give_to_server(&link)
}

fn launch() -> Launch {
    let environment = vec![("VAULT_TOKEN".to_owned(), ROOT_TOKEN.to_owned())];
    Launch { environment, ..Launch::default() }
}

pub(crate) fn start(site: &Site) -> Result<Server> {
    Ok(site.launch(&launch())?)
}

/// What the server tells of the plugin's variables.
fn variables(server: &Server) -> Result<String> {
    server.sql(
        "SELECT VARIABLE_NAME, GLOBAL_VALUE, DEFAULT_VALUE, VARIABLE_SCOPE, VARIABLE_TYPE,
                NUMERIC_MIN_VALUE, NUMERIC_MAX_VALUE, NUMERIC_BLOCK_SIZE, READ_ONLY
         FROM information_schema.SYSTEM_VARIABLES
         WHERE VARIABLE_NAME LIKE 'hashicorp%' ORDER BY VARIABLE_NAME",
    )
}
