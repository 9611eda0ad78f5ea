//! A real MariaDB whose store key is wrapped in Key Vault, set up by `keyward init`.

use test_cloud::FakeAzure;
use test_cloud::azure::{CLIENT_ID, CLIENT_SECRET};
use test_cloud::life::{self, TABLES};
use test_kit::account::give_to_server;
use test_kit::{Result, ensure, files, seen};
use test_mariadb::Site;
use test_mariadb::rows::{check, wait_for_version};

/// How the error names the cure.
const CURE: &str =
    "is disabled; az keyvault key set-attributes --vault-name=127 --name=db --version=";

/// What a start does.
const START: [&str; 3] = ["challenge", "token", "unwrapkey"];

#[test]
fn fake_azure_the_life_of_a_key_in_key_vault() -> Result<()> {
    let fake = FakeAzure::start()?;
    let site = init(&fake, &fake.url(), "azure-keyvault")?;
    only_what_is_pinned_opens(&site)?;
    let server = life::begin(&site, "wraps and unwraps")?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    wait_for_version(&server, "test/%", 3)?;
    check(&server, TABLES)?;
    life::nothing_in_memory(&server, "the application's secret", CLIENT_SECRET.into())?;
    server.stop()?;
    fake.take_actions();
    let server = site.start()?;
    check(&server, TABLES)?;
    let calls = fake.take_actions();
    ensure!(calls == START, "a start called {calls:?}");
    let server = life::through_a_disabled_key(&site, server, CURE, |enabled| {
        fake.change("db", |version| version.enabled = enabled);
        Ok(())
    })?;

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

/// A server's folder, set up by `keyward init` on a new key of the vault at `vault`, with credentials of `fake`.
pub(crate) fn init(fake: &FakeAzure, vault: &str, name: &str) -> Result<Site> {
    let mut site = Site::new(name)?;
    let secret = site.path("etc/secret");
    files::write(&secret, CLIENT_SECRET)?;
    files::chmod(&secret, 0o600)?;
    give_to_server(&secret)?;
    let folder = site.path("keyward").display().to_string();
    let settings = [
        format!("key={vault}/keys/db"),
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
