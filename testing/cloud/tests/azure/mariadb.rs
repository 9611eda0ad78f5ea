//! A real MariaDB whose store key is wrapped in Key Vault, set up by `keyward init`.

use test_cloud::FakeAzure;
use test_cloud::azure::{CLIENT_ID, CLIENT_SECRET};
use test_kit::account::give_to_server;
use test_kit::files::{all, holding};
use test_kit::{Result, ensure, files, seen};
use test_mariadb::rows::{PLAINTEXT, Table, check, create, wait_for_version};
use test_mariadb::{Server, Site, memory};

const TABLES: &[Table] = &[
    Table { name: "plain_key", options: "ENCRYPTED=YES", rows: 2000 },
    Table { name: "key_three", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=3", rows: 2000 },
];

/// How the error names the cure.
const CURE: &str =
    "is disabled; az keyvault key set-attributes --vault-name=127 --name=db --version=";

/// What a start does.
const START: [&str; 3] = ["challenge", "token", "unwrapkey"];

#[test]
fn fake_azure_the_life_of_a_key_in_key_vault() -> Result<()> {
    let fake = FakeAzure::start()?;
    let site = init(&fake, "azure-keyvault")?;
    only_what_is_pinned_opens(&site)?;
    let server = begin(&site)?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    wait_for_version(&server, "test/%", 3)?;
    check(&server, TABLES)?;
    nothing_in_memory(&server)?;
    server.stop()?;
    fake.take_actions();
    let server = site.start()?;
    check(&server, TABLES)?;
    let calls = fake.take_actions();
    ensure!(calls == START, "a start called {calls:?}");
    let server = through_a_disabled_key(&fake, &site, server)?;

    let said = site.keyward(&["keystore", "rewrap", "--new-kek", "azure-keyvault"])?.ok()?;
    ensure!(said.contains("new wrapping key http") && said.contains("renewed"), "{said}");
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    check(&server, TABLES)?;
    server.stop()?;
    let server = site.start()?;
    check(&server, TABLES)?;
    let log = server.stop()?;
    for secret in fake.secrets() {
        let secret = String::from_utf8_lossy(&secret).into_owned();
        ensure!(!log.contains(&secret), "the log has a secret");
    }
    Ok(())
}

/// `init` pins the keystore, since everybody who has the public key could wrap the store key of another one.
fn only_what_is_pinned_opens(site: &Site) -> Result<()> {
    let path = site.path("keyward/keyward.toml");
    let text = std::fs::read_to_string(&path)?;
    let line = text.lines().find(|line| line.starts_with("fingerprint = "));
    let line = line.ok_or_else(|| format!("no fingerprint:\n{text}"))?;
    std::fs::write(&path, text.replace(line, ""))?;
    let said = site.keyward(&["status"])?;
    let told = line.split(" #").next().unwrap_or_default();
    ensure!(said.code == 1 && said.err.contains(told), "{}", said.text());
    ensure!(said.err.contains("anybody can have made this keystore"), "{}", said.text());
    seen!("not pinned: {}", said.err.trim());
    std::fs::write(&path, text)?;
    site.keyward(&["status"])?.ok()?;
    Ok(())
}

/// Somebody disables the key while the server runs: what is in memory serves on, nothing is rotated, no
/// start succeeds, and all of it is as before once it is enabled.
fn through_a_disabled_key(fake: &FakeAzure, site: &Site, server: Server) -> Result<Server> {
    fake.change("db", |version| version.enabled = false);
    let said = server.sql_refused("SET GLOBAL keyward_rotate_key = 1")?;
    ensure!(said.contains("no new key is made"), "{said}");
    ensure!(server.status("Keyward_restart_safe")? == "no", "{}", server.log());
    let reason = server.status("Keyward_restart_safe_reason")?;
    ensure!(reason.contains(CURE), "{reason}");
    check(&server, TABLES)?;
    seen!("disabled: restart not safe: {reason}");
    server.stop()?;
    let log = site.refusal()?;
    let line = log.lines().find(|line| line.contains("ERROR") && line.contains("keyward"));
    let line = line.ok_or_else(|| format!("no line of keyward's:\n{log}"))?;
    ensure!(line.contains(CURE), "{line}");
    seen!("a start: {line}");
    fake.change("db", |version| version.enabled = true);
    let server = site.start()?;
    server.sql("SET GLOBAL keyward_rotate_key = 1")?;
    ensure!(server.status("Keyward_degraded")? == "0", "{}", server.log());
    ensure!(server.status("Keyward_restart_safe")? == "yes", "{}", server.log());
    check(&server, TABLES)?;
    Ok(server)
}

/// A server's folder, set up by `keyward init` on a new key.
pub(crate) fn init(fake: &FakeAzure, name: &str) -> Result<Site> {
    let mut site = Site::new(name)?;
    let secret = site.path("etc/secret");
    files::write(&secret, CLIENT_SECRET)?;
    files::chmod(&secret, 0o600)?;
    give_to_server(&secret)?;
    let folder = site.path("keyward").display().to_string();
    let settings = [
        format!("key={}/keys/db", fake.url()),
        format!("authority_host={}", fake.url()),
        format!("client_id={CLIENT_ID}"),
        format!("client_secret_file={}", secret.display()),
        // A key of RSA's takes its time on a machine that is busy.
        "timeout=30s".to_owned(),
    ];
    let mut words = vec!["init", "--dir", &folder, "--provider", "azure-keyvault", "--create-key"];
    words.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    site.keyward(&words)?.ok()?;
    site.load_keyward();
    site.encrypt_everything();
    Ok(site)
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
    ensure!(said.code == 0 && said.out.contains("wraps and unwraps"), "{}", said.text());
    let threads = server.threads()?;
    let ours = threads.iter().filter(|(_, name)| name == "keyward").count();
    let tokio = threads.iter().filter(|(_, name)| name.contains("tokio")).count();
    ensure!((ours, tokio) == (1, 0), "{ours} threads of keyward, {tokio} of a runtime");
    Ok(server)
}

/// What a core file would hold has no credentials.
fn nothing_in_memory(server: &Server) -> Result<()> {
    let socket = server.socket().display().to_string();
    let secret = ("the application's secret", CLIENT_SECRET.as_bytes().to_vec());
    let searched = memory::keeps_none(server, socket.as_bytes(), &[secret])?;
    seen!("{} MB of memory: no secret", searched >> 20);
    Ok(())
}
