//! A real MariaDB whose keys are in a real Vault, set up by `keyward init`.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use test_kit::account::give_to_server;
use test_kit::command::answer;
use test_kit::files::{all, holding};
use test_kit::{Result, ensure, files, seen};
use test_mariadb::rows::{PLAINTEXT, Table, check, create, wait_for_version};
use test_mariadb::{Server, Site, memory};
use test_vault::{Secret, Vault};

const TABLES: &[Table] = &[
    Table { name: "plain_key", options: "ENCRYPTED=YES", rows: 2000 },
    Table { name: "key_three", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=3", rows: 2000 },
];

/// A table that is made later, to see which version encrypts then.
const LATER: Table = Table { name: "later", options: "ENCRYPTED=YES", rows: 10 };

/// How long a server may take to notice what changed in Vault, looking every ten seconds.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn keys_wrapped_by_transit() -> Result<()> {
    let (mut vault, site) = site("vault-transit")?;
    let server = begin(&site)?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    wait_for_version(&server, "test/%", 3)?;
    site.keyward(&["rotate", "--all"])?.ok()?;
    wait_for_version(&server, "test/%", 5)?;
    check(&server, TABLES)?;
    nothing_in_memory(&vault, &site, &server, &[])?;
    vault.vault(&["write", "-f", "transit/keys/keyward/rotate"])?;
    let said = site.keyward(&["keystore", "rewrap", "--to-latest"])?.ok()?;
    ensure!(said.contains("renewed"), "the transit key's version 2 was to wrap: {said}");
    new_version_by_command(&vault, &site)?;
    // From now on the versions before open nothing any more.
    vault.vault(&["write", "transit/keys/keyward/config", "min_decryption_version=3"])?;
    let server = backup_and_restore(&site, server)?;
    let log = survive_an_outage(&mut vault, &site, server)?;
    nothing_secret(&vault, &site, &log)
}

/// `rewrap --new-kek` makes a version of the key in Vault, where the policy has the rule that it
/// prints otherwise.
fn new_version_by_command(vault: &Vault, site: &Site) -> Result<()> {
    let words = ["keystore", "rewrap", "--new-kek", "vault-transit"];
    let denied = site.keyward(&words)?;
    let rule = "path \"transit/keys/keyward/rotate\" { capabilities = [\"update\"] }";
    ensure!(denied.code == 1 && denied.err.contains(rule), "{}", denied.text());
    vault.policy("rotate", rule)?;
    vault.vault(&["write", "auth/approle/role/keyward", "token_policies=keyward,rotate"])?;
    let said = site.keyward(&words)?.ok()?;
    ensure!(said.contains("new wrapping key transit/keyward:v3"), "{said}");
    ensure!(said.contains("renewed"), "version 3 was to wrap: {said}");
    let keystore = files::text(&site.keystore())?;
    ensure!(keystore.contains("transit/keyward:v3"), "the keystore names another version");
    ensure!(!keystore.contains("transit/keyward:v2"), "the version before still wraps");
    Ok(())
}

#[test]
fn keys_served_by_kv() -> Result<()> {
    let (mut vault, site) = site("vault-kv")?;
    second_init(&vault, &site)?;
    let server = begin(&site)?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    ensure!(version_of_a_new_table(&server)? == 2, "version 2 was to encrypt after a rotation");
    // Somebody else's rotation, in Vault itself.
    let data = format!("data={}", "5c".repeat(32));
    let began = Instant::now();
    vault.vault(&["kv", "put", "-mount=secret", "-cas=2", "keyward/1", &data])?;
    while version_of_a_new_table(&server)? < 3 {
        ensure!(began.elapsed() < PATIENCE, "version 3 was not seen\n{}", server.log());
        sleep(Duration::from_millis(500));
    }
    seen!("a rotation in Vault is in force after {:.1} s", began.elapsed().as_secs_f64());
    // The next one at once, because it is asked for.
    let data = format!("data={}", "6d".repeat(32));
    vault.vault(&["kv", "put", "-mount=secret", "-cas=3", "keyward/1", &data])?;
    server.sql("SET GLOBAL keyward_refresh = 1")?;
    ensure!(version_of_a_new_table(&server)? == 4, "version 4 was to be in force at once");
    check(&server, TABLES)?;
    nothing_in_memory(&vault, &site, &server, &["5c".repeat(32)])?;
    let server = backup_and_restore(&site, server)?;
    let log = survive_an_outage(&mut vault, &site, server)?;
    nothing_secret(&vault, &site, &log)
}

/// A server's folder, set up for `provider` in a Vault of its own, and what `init` said.
pub(crate) fn site(provider: &str) -> Result<(Vault, Site)> {
    let vault = Vault::start()?;
    let mut site = Site::new(provider)?;
    let token = vault.private("admin-token", vault.root_token())?;
    let ca = site.path("etc/ca.pem");
    files::write(&ca, files::read(&vault.certificates().path("ca.pem"))?)?;
    let at = |path: &std::path::Path| path.display().to_string();
    let folder = at(&site.path("keyward"));
    let (address, ca) = (format!("address={}", vault.address()), format!("ca_file={}", at(&ca)));
    let mut words = vec!["init", "--dir", &folder, "--provider", provider];
    let token = at(&token);
    words.extend(["--set", &address, "--set", &ca, "--admin-token-file", &token]);
    let said = site.keyward(&words)?;
    let said = said.ok()?;
    ensure!(!said.contains(vault.root_token()), "the administrator's token shows: {said}");
    site.load_keyward();
    site.encrypt_everything();
    Ok((vault, site))
}

/// Another `init` in the same Vault with the same names takes nothing from the first server.
fn second_init(vault: &Vault, site: &Site) -> Result<()> {
    let at = |path: &std::path::Path| path.display().to_string();
    let token = at(&vault.private("second-token", vault.root_token())?);
    let folder = at(&site.path("second"));
    let address = format!("address={}", vault.address());
    let ca = format!("ca_file={}", at(&site.path("etc/ca.pem")));
    let mut words = vec!["init", "--dir", &folder, "--provider", "vault-transit"];
    words.extend(["--set", &address, "--set", &ca, "--admin-token-file", &token]);
    let refused = site.keyward(&words)?;
    let told =
        "has a policy \"keyward\" with other rules; a server may need it; choose another name";
    ensure!(refused.code == 1 && refused.err.contains(told), "{}", refused.text());
    ensure!(!site.path("second").exists(), "it left a folder");
    words.extend(["--set", "key=second"]);
    site.keyward(&words)?.ok()?;
    seen!("a second init in one Vault: {}", refused.err.trim());
    Ok(())
}

/// Starts the server, makes the tables, and has `doctor` look at it all.
fn begin(site: &Site) -> Result<Server> {
    site.keyward(&["keys", "create", "3"])?.ok()?;
    let server = site.start()?;
    create(&server, TABLES)?;
    server.write_pages()?;
    let clear = holding(&all(&site.data()), PLAINTEXT)?;
    ensure!(clear.is_empty(), "in the clear: {clear:?}");
    let socket = server.socket().display().to_string();
    let said = site.keyward(&["doctor", "--socket", &socket])?;
    ensure!(said.code == 3 && said.out.contains("all that are needed"), "{}", said.text());
    let ours = server.threads()?.iter().filter(|(_, name)| name == "keyward").count();
    let tokio = server.threads()?.iter().filter(|(_, name)| name.contains("tokio")).count();
    ensure!((ours, tokio) == (1, 0), "{ours} threads of keyward, {tokio} of a runtime");
    Ok(server)
}

fn version_of_a_new_table(server: &Server) -> Result<u32> {
    server.sql("DROP TABLE IF EXISTS test.later")?;
    LATER.create(server)?;
    LATER.check(server)?;
    let sql = "SELECT CURRENT_KEY_VERSION FROM information_schema.INNODB_TABLESPACES_ENCRYPTION
               WHERE NAME = 'test/later'";
    Ok(server.sql(sql)?.parse()?)
}

fn backup_and_restore(site: &Site, server: Server) -> Result<Server> {
    let target = site.path("backup");
    let target_option = format!("--target-dir={}", target.display());
    let tool = || {
        let mut command = Command::new("mariadb-backup");
        command.arg(format!("--defaults-file={}", site.my_cnf().display()));
        command
    };
    let mut backup = tool();
    backup.args(["--backup", "--user=root"]).arg(&target_option);
    backup.arg(format!("--socket={}", server.socket().display()));
    answer(&mut backup)?.ok()?;
    server.stop()?;
    let mut prepare = Command::new("mariadb-backup");
    prepare.arg("--prepare").arg(&target_option);
    prepare.arg(format!("--plugin-dir={}", site.path("plugin").display()));
    answer(&mut prepare)?.ok()?;
    std::fs::rename(site.data(), site.path("data-before"))?;
    std::fs::create_dir(site.data())?;
    answer(tool().arg("--copy-back").arg(&target_option))?.ok()?;
    give_to_server(&site.data())?;
    let server = site.start()?;
    check(&server, TABLES)?;
    Ok(server)
}

/// Vault killed while the server runs, while it starts, and back; gives what the servers logged.
fn survive_an_outage(vault: &mut Vault, site: &Site, server: Server) -> Result<String> {
    vault.kill()?;
    for round in 0..12 {
        check(&server, TABLES)?;
        server.sql(&format!("INSERT INTO test.key_three VALUES ({}, 'away')", 100_000 + round))?;
        server.sql("DELETE FROM test.key_three WHERE body = 'away'")?;
        sleep(Duration::from_secs(1));
    }
    server.sql("SET GLOBAL keyward_refresh = ON").ok();
    ensure!(server.status("Keyward_restart_safe")? == "no", "{}", server.log());
    let reason = server.status("Keyward_restart_safe_reason")?;
    seen!("Keyward_restart_safe_reason without Vault: {}", nameless(vault, &reason));
    ensure!(server.status("Keyward_state")? != "ok", "the state is ok without Vault");
    // A new key that no start could read is not made.
    let said = server.sql_refused("SET GLOBAL keyward_rotate_key = 1")?;
    seen!("rotation without Vault: {}", nameless(vault, &said));
    check(&server, TABLES)?;
    let mut logs = server.stop()?;
    let refused = site.refusal()?;
    let line = refused.lines().find(|line| line.contains("ERROR") && line.contains("keyward"));
    let line = line.ok_or_else(|| format!("no line of keyward's:\n{refused}"))?;
    ensure!(line.contains("connection refused"), "{line}");
    seen!("start without Vault: {}", nameless(vault, line));
    logs += &refused;
    vault.run()?;
    vault.unseal()?;
    let server = site.start()?;
    check(&server, TABLES)?;
    server.sql("SET GLOBAL keyward_rotate_key = 1")?;
    Ok(logs + &server.stop()?)
}

/// What a core file would hold has no token, no secret id and none of `more`.
fn nothing_in_memory(vault: &Vault, site: &Site, server: &Server, more: &[String]) -> Result<()> {
    let secret = files::text(&site.path("keyward/vault-secret-id"))?.trim().to_owned();
    let config = files::text(&site.config())?;
    let role_id = config.split("role_id = \"").nth(1).and_then(|rest| rest.split('"').next());
    let role_id = role_id.ok_or("the configuration names no role")?;
    let mut secrets = vec![
        ("a token", Secret::AnyToken(vault.product()?)),
        ("the secret id", Secret::bytes(secret)),
    ];
    secrets.extend(more.iter().map(|key| ("a key", Secret::bytes(key.as_str()))));
    let searched = memory::keeps_none(server, role_id.as_bytes(), &secrets)?;
    seen!("{} MB of memory: no token, no secret id, no key in hex", searched >> 20);
    Ok(())
}

/// No log has the token or the secret id.
fn nothing_secret(vault: &Vault, site: &Site, log: &str) -> Result<()> {
    let secret = files::text(&site.path("keyward/vault-secret-id"))?;
    for secret in [secret.trim(), vault.root_token()] {
        ensure!(!log.contains(secret), "the log has a secret");
    }
    ensure!(vault.product()?.tokens_in(log.as_bytes()) == 0, "the log has a token");
    Ok(())
}

fn nameless(vault: &Vault, text: &str) -> String {
    text.replace(&vault.address(), "https://vault")
}
