//! A real MariaDB whose store key is wrapped in Cloud KMS, set up by `keyward init`.

use test_cloud::FakeGcp;
use test_cloud::gcp::RING;
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
const CURE: &str = "is disabled; gcloud kms keys versions enable 1 --key=db --keyring=databases \
                    --location=europe-west3 --project=keyward-test";

#[test]
fn fake_gcp_the_life_of_a_key_in_kms() -> Result<()> {
    let fake = FakeGcp::start()?;
    let key = format!("{RING}/cryptoKeys/db");
    let site = init(&fake, &key, "gcp-kms")?;
    let server = begin(&site)?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    wait_for_version(&server, "test/%", 3)?;
    check(&server, TABLES)?;
    nothing_in_memory(&server, &fake)?;
    server.stop()?;
    fake.take_actions();
    let server = site.start()?;
    check(&server, TABLES)?;
    let calls = fake.take_actions();
    ensure!(calls == ["decrypt"], "a start called {calls:?}");
    seen!("init made {key}; a start is one call: {calls:?}");
    let server = through_a_disabled_key(&fake, &key, &site, server)?;

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

/// Somebody disables the key while the server runs: what is in memory serves on, nothing is rotated, no
/// start succeeds, and all of it is as before once it is enabled.
fn through_a_disabled_key(
    fake: &FakeGcp,
    key: &str,
    site: &Site,
    server: Server,
) -> Result<Server> {
    fake.set_version(key, 1, "DISABLED");
    let said = server.sql_refused("SET GLOBAL keyward_rotate_key = 1")?;
    ensure!(said.contains("no new key is made"), "{said}");
    ensure!(server.status("Keyward_restart_safe")? == "no", "{}", server.log());
    let degraded = server.status("Keyward_degraded")?;
    let reason = server.status("Keyward_restart_safe_reason")?;
    ensure!(reason.contains(CURE), "{reason}");
    check(&server, TABLES)?;
    seen!("disabled: degraded {degraded}, restart not safe: {reason}");
    server.stop()?;
    let log = site.refusal()?;
    let line = log.lines().find(|line| line.contains("ERROR") && line.contains("keyward"));
    let line = line.ok_or_else(|| format!("no line of keyward's:\n{log}"))?;
    ensure!(line.contains(CURE), "{line}");
    seen!("a start: {line}");
    fake.set_version(key, 1, "ENABLED");
    let server = site.start()?;
    fake.set_version(key, 1, "DISABLED");
    server.sql_refused("SET GLOBAL keyward_rotate_key = 1")?;
    fake.set_version(key, 1, "ENABLED");
    server.sql("SET GLOBAL keyward_rotate_key = 1")?;
    ensure!(server.status("Keyward_degraded")? == "0", "{}", server.log());
    ensure!(server.status("Keyward_restart_safe")? == "yes", "{}", server.log());
    check(&server, TABLES)?;
    Ok(server)
}

/// A server's folder, set up by `keyward init` on a new `key`.
pub(crate) fn init(fake: &FakeGcp, key: &str, name: &str) -> Result<Site> {
    let mut site = Site::new(name)?;
    let credentials = site.path("etc/google.json");
    files::write(&credentials, fake.service_account()?.to_string())?;
    files::chmod(&credentials, 0o600)?;
    give_to_server(&credentials)?;
    let folder = site.path("keyward").display().to_string();
    let settings = [
        format!("key={key}"),
        format!("endpoint={}", fake.url()),
        format!("credentials_file={}", credentials.display()),
    ];
    let mut words = vec!["init", "--dir", &folder, "--provider", "gcp-kms", "--create-key"];
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
    ensure!(said.code == 0 && said.out.contains("encrypts and decrypts"), "{}", said.text());
    let threads = server.threads()?;
    let ours = threads.iter().filter(|(_, name)| name == "keyward").count();
    let tokio = threads.iter().filter(|(_, name)| name.contains("tokio")).count();
    ensure!((ours, tokio) == (1, 0), "{ours} threads of keyward, {tokio} of a runtime");
    Ok(server)
}

/// What a core file would hold has no credentials.
fn nothing_in_memory(server: &Server, fake: &FakeGcp) -> Result<()> {
    let socket = server.socket().display().to_string();
    let [.., key] = &fake.secrets()[..] else { return Err("no secrets".into()) };
    let secret = ("the private key", key.clone());
    let searched = memory::keeps_none(server, socket.as_bytes(), &[secret])?;
    seen!("{} MB of memory: no private key", searched >> 20);
    Ok(())
}
