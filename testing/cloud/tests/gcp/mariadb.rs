//! A real MariaDB whose store key is wrapped in Cloud KMS, set up by `keyward init`.

use test_cloud::FakeGcp;
use test_cloud::gcp::RING;
use test_cloud::life::{self, TABLES};
use test_kit::account::give_to_server;
use test_kit::{Result, ensure, files, seen};
use test_mariadb::Site;
use test_mariadb::rows::{check, wait_for_version};

/// How the error names the cure.
const CURE: &str = "is disabled; gcloud kms keys versions enable 1 --key=db --keyring=databases \
                    --location=europe-west3 --project=keyward-test";

#[test]
fn fake_gcp_the_life_of_a_key_in_kms() -> Result<()> {
    let fake = FakeGcp::start()?;
    let key = format!("{RING}/cryptoKeys/db");
    let site = init(&fake, &fake.url(), &key, "gcp-kms")?;
    let server = life::begin(&site, "encrypts and decrypts")?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    wait_for_version(&server, "test/%", 3)?;
    check(&server, TABLES)?;
    let key_of_account = fake.secrets().pop().ok_or("no secrets")?;
    life::nothing_in_memory(&server, "the private key", key_of_account)?;
    server.stop()?;
    fake.take_actions();
    let server = site.start()?;
    check(&server, TABLES)?;
    let calls = fake.take_actions();
    ensure!(calls == ["decrypt"], "a start called {calls:?}");
    seen!("init made {key}; a start is one call: {calls:?}");
    let server = life::through_a_disabled_key(&site, server, CURE, |enabled| {
        fake.set_version(&key, 1, if enabled { "ENABLED" } else { "DISABLED" });
        Ok(())
    })?;

    fake.take_actions();
    let said = site.keyward(&["keystore", "rewrap", "--new-kek", "gcp-kms"])?.ok()?;
    let made = format!("new wrapping key {key}/cryptoKeyVersions/2");
    ensure!(said.contains(&made) && said.contains("renewed"), "no {made:?} in: {said}");
    let calls = fake.take_actions();
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
    seen!("rewrap --new-kek called {calls:?}");
    Ok(())
}

/// A server's folder, set up by `keyward init` on a new `key` of the KMS at `endpoint`, with credentials of `fake`.
pub(crate) fn init(fake: &FakeGcp, endpoint: &str, key: &str, name: &str) -> Result<Site> {
    let mut site = Site::new(name)?;
    let credentials = site.path("etc/google.json");
    files::write(&credentials, fake.service_account()?.to_string())?;
    files::chmod(&credentials, 0o600)?;
    give_to_server(&credentials)?;
    let folder = site.path("keyward").display().to_string();
    let settings = [
        format!("key={key}"),
        format!("endpoint={endpoint}"),
        format!("credentials_file={}", credentials.display()),
    ];
    let mut words = vec!["init", "--dir", &folder, "--provider", "gcp-kms", "--create-key"];
    words.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    site.keyward(&words)?.ok()?;
    site.load_keyward();
    site.encrypt_everything();
    Ok(site)
}
